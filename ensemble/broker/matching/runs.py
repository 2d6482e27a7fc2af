"""Partial matches: where each stands in its pattern, and what brings it on.

Owns the steps: what one event, or one moment, does to one partial match (a run), and to all of one pattern that began at
different events (a crowd). A run knows nothing of keys, and is complete, open or over.

Invariants, between steps:
    crowd.runs is in the order in which they began
    crowd.due_us = least due_us of its runs; nothing happens to it by time alone before that
    every moment up to now has been told by `tick` before an event of now is told by `step`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ensemble.broker.matching.pattern import (
    NO_END,
    AllNode,
    AnyNode,
    Bound,
    Choice,
    Item,
    Kept,
    Leaf,
    Node,
    SeqNode,
    Stage,
    Target,
    WindowNode,
    bind,
    seen,
)
from ensemble.event import Ref

OPEN, DONE, OVER = 0, 1, 2
"""What a step leaves of a run: it waits for more, it is complete, or it can't be complete any more."""


class Run:
    """A partial match. It began with one event, and is complete at most once (a sliding window as long as it has events)."""

    __slots__ = ("begun_us", "bound", "by", "due_us", "offset", "root", "took", "wants")

    node: Node
    goes_on = False
    """Whether it may be complete again."""

    def __init__(self, offset: int, begun_us: int, root: Ref, bound: Bound | None) -> None:
        self.offset = offset
        self.begun_us = begun_us
        self.root = root
        """The first event of the chain of that with which it began."""
        self.took: list[int] = []
        """The events that it is made of, with the leaves that took them: offset * width + number."""
        self.bound = bound
        self.due_us = NO_END
        self.wants = 0
        self.by: str | None = None
        """What its events have in common, where its pattern says so."""

    def step(self, item: Item) -> int:
        """Tell it of an event that has one of the bits that it `wants`."""
        raise NotImplementedError

    def tick(self, now_us: int) -> int:
        """Tell it of the moment at which it is due."""
        raise NotImplementedError

    def inner(self) -> Iterator[Run]:
        """The runs of the patterns inside of it."""
        return iter(())

    def move(self, lies: Callable[[int], int], named: Callable[[Ref], Ref]) -> None:
        """Its events lie elsewhere from now on: at the offsets, and under the names, that these tell."""
        width = self.node.width
        self.offset, self.root = lies(self.offset), named(self.root)
        self.took = [lies(each // width) * width + each % width for each in self.took]
        for run in self.inner():
            run.move(lies, named)

    def offsets(self) -> Iterator[int]:
        """Those of its events, some of them twice."""
        width = self.node.width
        yield self.offset
        yield from (each // width for each in self.took)
        for run in self.inner():
            yield from run.offsets()

    def place(self) -> int | None:
        """Where it stands, if that alone decides what becomes of it."""
        return None

    def dump(self) -> list[Any]:
        return [
            self.offset, self.begun_us, self.root, self.took,
            None if not self.bound else {label: _dump_kept(kept) for label, kept in self.bound.items()},
            self.by,
        ]  # fmt: skip

    def _load(self, fields: Sequence[Any]) -> None:
        self.took, bound, self.by = list(fields[3]), fields[4], fields[5]
        self.bound = None if bound is None else {label: _load_kept(kept) for label, kept in bound.items()}

    def _take(self, leaf: Leaf, item: Item) -> None:
        self.took.append(item.offset * self.node.width + leaf.number)
        if leaf.is_kept:
            self.bound = bind(leaf, item.event, self.bound)

    def _is_ours(self, item: Item) -> bool:
        """Whether an event has in common with the others what the pattern says."""
        return self.node.by is None or self.node.by(item.event) == self.by


class Crowd:
    """All partial matches of one pattern that began at different events. The first that is complete is the one that counts.

    `prunes` gives up those that can never be heard before another; whoever wants every match does not have it.
    """

    __slots__ = ("bound", "due_us", "is_open", "node", "prunes", "runs", "scheduled_us")

    def __init__(self, node: Any, bound: Bound | None, *, prunes: bool = True, is_open: bool = True) -> None:
        self.node = node
        self.bound = bound
        self.runs: list[Run] = []
        self.due_us = NO_END
        self.prunes = prunes and node.can_merge
        self.is_open = is_open
        """Whether more may begin."""
        self.scheduled_us = NO_END
        """When it is to be told of the time, in who keeps it."""

    def step(self, item: Item, *, may_begin: bool = True) -> Sequence[Run]:
        """Tell all of an event. Those that are complete with it, in the order in which they began; they are out."""
        bits, runs = item.bits, self.runs
        done: list[Run] = []
        touched = False
        for run in runs:
            if run.wants & bits:
                touched = True
                came = run.step(item)
                if came:
                    run.wants = 0
                    if came == DONE:
                        done.append(run)
        if touched:
            self._sweep()
        if self.is_open and may_begin and bits & self.node.starts and not (self.node.is_single and self.runs):
            run_ = begin(self.node, item, self.bound)
            if run_ is not None and run_.wants:
                self._add(run_)
            elif run_ is not None:
                done.append(run_)
        return done

    def tick(self, now_us: int) -> Sequence[Run]:
        """Tell those that are due of the moment. Those that are complete, in the order in which they began; they are out."""
        done: list[Run] = []
        for run in self.runs:
            if run.due_us <= now_us:
                came = run.tick(now_us)
                if came == DONE and run.goes_on:
                    done.append(run.part_of())  # type: ignore[attr-defined]
                elif came:
                    run.wants = 0
                    if came == DONE:
                        done.append(run)
        self._sweep()
        return done

    def _add(self, run: Run) -> None:
        if self.prunes and self.runs:
            place = run.place()
            if any(each.place() == place for each in self.runs):
                return
        self.runs.append(run)
        self.due_us = min(self.due_us, run.due_us)

    def _sweep(self) -> None:
        """Let those go that are complete or over, and those that can't come before another."""
        runs = self.runs
        if any(not run.wants for run in runs):
            runs = self.runs = [run for run in runs if run.wants]
        if self.prunes and len(runs) > 1:
            runs = self.runs = list({run.place(): run for run in reversed(runs)}.values())[::-1]
        self.due_us = min([run.due_us for run in runs], default=NO_END)

    def dump(self) -> list[Any]:
        return [self.is_open, [run.dump() for run in self.runs]]

    def load(self, fields: Sequence[Any]) -> Crowd:
        self.is_open = fields[0]
        self.runs = [load(self.node, run) for run in fields[1]]
        self.due_us = min([run.due_us for run in self.runs], default=NO_END)
        return self


def begin(node: Target, item: Item, bound: Bound | None) -> Run | None:
    """A run that begins with an event; one that is complete at once wants nothing more. None: none begins with it."""
    assert not isinstance(node, Choice)
    if not node.starts & item.bits:
        return None
    by = None
    if node.by is not None:
        by = node.by(item.event)
        if by is None:
            return None
    run: Any = _RUNS[type(node)](node, item.offset, item.time_us, item.rows.root(item.ix), bound)
    run.by = by
    came = run.begin(item)
    if came == OVER:
        return None
    if came == DONE:
        run.wants = 0
    return run  # type: ignore[no-any-return]


def load(node: Any, fields: Sequence[Any]) -> Run:
    """A run as it was dumped."""
    run: Any = _RUNS[type(node)](node, fields[0], fields[1], fields[2], None)
    run.load(fields)
    return run  # type: ignore[no-any-return]


class SeqRun(Run):
    """Steps in their order."""

    __slots__ = ("at", "below", "count", "node", "stage", "without")

    def __init__(self, node: SeqNode, offset: int, begun_us: int, root: Ref, bound: Bound | None) -> None:
        super().__init__(offset, begun_us, root, bound)
        self.node: SeqNode = node
        self.at = self.count = 0
        """The step that was taken last, and how often."""
        self.below: dict[int, Crowd] | None = None
        """What is awaited now that is a pattern, by step."""
        self.without: Crowd | None = None
        self.stage: Stage = node.stages[0][0]

    def begin(self, item: Item) -> int:
        target = self.node.steps[0].target
        if isinstance(target, Choice):
            leaf = target.only or target.pick(item.bits, item, self.bound)
            return OVER if leaf is None else self._taken(0, leaf, item)
        first = begin(target, item, self.bound)
        if first is None:
            return OVER
        if not first.wants:
            return self._taken_whole(0, first)
        self.wants = self.stage.wants
        crowd = Crowd(target, self.bound, is_open=False)
        crowd._add(first)
        self.below = {0: crowd}
        self._look_ahead()
        return OPEN

    def step_quick(self, offset: int, bits: int) -> int:
        """`step`, where the stage is `quick`; the event is one that it wants."""
        quick = self.stage.quick
        assert quick is not None
        wanted, number, j, after = quick
        if not bits & wanted:
            return OVER  # what must not come
        self.took.append(offset * self.node.width + number)
        self.at, self.count = j, 1
        if after is None:
            return DONE
        self.stage, self.wants = after, after.wants
        return OPEN

    def step(self, item: Item) -> int:
        if self.node.by is not None and not self._is_ours(item):
            return OPEN
        stage, bits = self.stage, item.bits
        if stage.quick is not None and self.node.is_quick:
            return self.step_quick(item.offset, bits)
        for j, target in stage.awaited:
            if isinstance(target, Choice):
                if target.bits & bits:
                    leaf = target.only or target.pick(bits, item, self.bound)
                    if leaf is not None:
                        came = self._taken(j, leaf, item)
                        if came != OVER:
                            return came
            else:
                assert self.below is not None
                for run in self.below[j].step(item):
                    came = self._taken_whole(j, run)
                    if came != OVER:
                        return came
        without = stage.without
        if without is not None:
            if isinstance(without, Choice):
                if without.bits & bits and without.pick(bits, item, self.bound) is not None:
                    return OVER
            elif self.without is not None and self.without.step(item):
                return OVER
        if stage.is_next and not self._is_begun():
            return OVER
        if stage.has_below:
            if self._has_lost_its_beginning():
                return OVER
            self._look_ahead()
        return OPEN

    def _has_lost_its_beginning(self) -> bool:
        """Whether the pattern with which it began can't be complete any more."""
        return not self.took and self.below is not None and not self.below[0].runs

    def _is_begun(self) -> bool:
        """Whether the strict neighbour, a pattern, began with the event that came; it is the only one that may."""
        for crowd in (self.below or {}).values():
            crowd.is_open = False
            if crowd.runs:
                return True
        return False

    def tick(self, now_us: int) -> int:
        if now_us >= self.begun_us + self.node.within_us:
            if self.stage.may_end and (self.node.ask is None or self.node.ask(None, seen(self.bound))):
                return DONE
            return OVER
        for j, crowd in list((self.below or {}).items()):
            if crowd.due_us <= now_us:
                for run in crowd.tick(now_us):
                    came = self._taken_whole(j, run)
                    if came != OVER:
                        return came
                if self.stage.is_next and not crowd.is_open and not crowd.runs:
                    return OVER
        if self.without is not None and self.without.due_us <= now_us and self.without.tick(now_us):
            return OVER
        if self._has_lost_its_beginning():
            return OVER
        self._look_ahead()
        return OPEN

    def _taken(self, j: int, leaf: Leaf, item: Item) -> int:
        """A step is taken by an event; OVER: it is not, since the whole would not fulfil its condition."""
        node = self.node
        count = self.count + 1 if j == self.at else 1
        is_last = count == node.steps[j].most and j + 1 == len(node.steps) and node.absent is None
        if is_last and node.ask is not None:
            bound = bind(leaf, item.event, self.bound) if leaf.is_kept else self.bound
            if not node.ask(None, seen(bound)):
                return OVER
        self.took.append(item.offset * node.width + leaf.number)
        if leaf.is_kept:
            self.bound = bind(leaf, item.event, self.bound)
        self.at, self.count = j, count
        return DONE if is_last else self._move()

    def _taken_whole(self, j: int, run: Run) -> int:
        """A step is taken by a pattern that is complete; OVER as in `_taken`."""
        node = self.node
        count = self.count + 1 if j == self.at else 1
        bound = run.bound if self.bound is None else {**self.bound, **(run.bound or {})}
        is_last = count == node.steps[j].most and j + 1 == len(node.steps) and node.absent is None
        if is_last and node.ask is not None and not node.ask(None, seen(bound)):
            return OVER
        self.took += run.took
        self.bound = bound
        self.at, self.count = j, count
        return DONE if is_last else self._move()

    def _move(self) -> int:
        """Wait for what comes after the step that was taken."""
        self._set_stage()
        stage = self.stage
        if stage.has_below:
            self.below = {j: Crowd(target, self.bound) for j, target in stage.awaited if not isinstance(target, Choice)}
            without = stage.without
            self.without = None if without is None or isinstance(without, Choice) else Crowd(without, self.bound)
            self._look_ahead()
        else:
            self.below = self.without = None
            self.due_us = self.begun_us + self.node.within_us
        return OPEN

    def _set_stage(self) -> None:
        step = self.node.steps[self.at]
        which = 0 if self.count < step.least else 2 if self.count == step.most else 1
        self.stage = self.node.stages[self.at][which]
        self.wants = self.stage.wants

    def _look_ahead(self) -> None:
        due_us = self.begun_us + self.node.within_us
        for crowd in (self.below or {}).values():
            due_us = min(due_us, crowd.due_us)
        if self.without is not None:
            due_us = min(due_us, self.without.due_us)
        self.due_us = due_us

    def inner(self) -> Iterator[Run]:
        for crowd in (self.below or {}).values():
            yield from crowd.runs
        if self.without is not None:
            yield from self.without.runs

    def place(self) -> int | None:
        step = self.node.steps[self.at]
        count = min(self.count, step.least) if step.most == NO_END else self.count
        return self.at * 2_000_000 + count

    def dump(self) -> list[Any]:
        fields = [*super().dump(), self.at, self.count]
        if self.below or self.without:
            fields.append({j: crowd.dump() for j, crowd in (self.below or {}).items()})
            fields.append(None if self.without is None else self.without.dump())
        return fields

    def load(self, fields: Sequence[Any]) -> None:
        self._load(fields)
        self.at, self.count = fields[6], fields[7]
        self._set_stage()
        if len(fields) > 8:
            self.below = {
                int(j): Crowd(self.node.steps[int(j)].target, self.bound).load(crowd) for j, crowd in fields[8].items()
            }
            if fields[9] is not None:
                self.without = Crowd(self.stage.without, self.bound).load(fields[9])
        self._look_ahead()


class AllRun(Run):
    """Parts in any order, each listened for by itself from the event with which the run began."""

    __slots__ = ("below", "filled", "node")

    def __init__(self, node: AllNode, offset: int, begun_us: int, root: Ref, bound: Bound | None) -> None:
        super().__init__(offset, begun_us, root, bound)
        self.node: AllNode = node
        self.filled = 0
        """The parts that are there, as bits."""
        self.below: dict[int, Crowd] = {
            i: Crowd(part, bound) for i, part in enumerate(node.parts) if not isinstance(part, Choice)
        }

    def begin(self, item: Item) -> int:
        self.wants = self.node.bits
        return self._told(self._offered(item), item)

    def step(self, item: Item) -> int:
        if self.node.by is not None and not self._is_ours(item):
            return OPEN
        return self._told(self._offered(item), item)

    def _offered(self, item: Item) -> list[tuple[int, Leaf | Run]]:
        """The parts that this event completes."""
        fresh: list[tuple[int, Leaf | Run]] = []
        for i, part in enumerate(self.node.parts):
            if self.filled >> i & 1:
                continue
            if isinstance(part, Choice):
                leaf = part.pick(item.bits, item, self.bound) if part.bits & item.bits else None
                if leaf is not None:
                    fresh.append((i, leaf))
            else:
                done = self.below[i].step(item)
                if done:
                    fresh.append((i, done[0]))
        return fresh

    def tick(self, now_us: int) -> int:
        if now_us >= self.begun_us + self.node.within_us:
            return OVER
        fresh: list[tuple[int, Leaf | Run]] = []
        for i, crowd in self.below.items():
            if crowd.due_us <= now_us:
                done = crowd.tick(now_us)
                if done:
                    fresh.append((i, done[0]))
        return self._told(fresh, None)

    def _told(self, fresh: Sequence[tuple[int, Leaf | Run]], item: Item | None) -> int:
        """Take these parts; if that would be all and the condition does not hold, none of them."""
        node = self.node
        if fresh:
            filled = self.filled
            bound = self.bound
            took: list[int] = []
            for i, part in fresh:
                filled |= 1 << i
                if isinstance(part, Run):
                    took += part.took
                    bound = part.bound if bound is None else {**bound, **(part.bound or {})}
                else:
                    assert item is not None
                    took.append(item.offset * node.width + part.number)
                    if part.is_kept:
                        bound = bind(part, item.event, bound)
            is_all = filled & node.needed == node.needed
            if not is_all or node.ask is None or node.ask(None, seen(bound)):
                self.filled, self.bound = filled, bound
                self.took += took
                for i, _ in fresh:
                    self.below.pop(i, None)
                if is_all:
                    began = any(each // node.width == self.offset for each in self.took)
                    return DONE if began else OVER
        if not self.filled and not any(crowd.runs for crowd in self.below.values()):
            return OVER  # nothing of it began, or what did came to nothing
        self.due_us = min(
            [self.begun_us + node.within_us, *(crowd.due_us for crowd in self.below.values())],
        )
        return OPEN

    def inner(self) -> Iterator[Run]:
        for crowd in self.below.values():
            yield from crowd.runs

    def place(self) -> int | None:
        return self.filled

    def dump(self) -> list[Any]:
        return [*super().dump(), self.filled, {i: crowd.dump() for i, crowd in self.below.items()}]

    def load(self, fields: Sequence[Any]) -> None:
        self._load(fields)
        self.filled = fields[6]
        self.wants = self.node.bits
        self.below = {int(i): Crowd(self.node.parts[int(i)], self.bound).load(crowd) for i, crowd in fields[7].items()}
        self._told((), None)


class AnyRun(Run):
    """Patterns that began with the same event, the first of which that is complete counts."""

    __slots__ = ("below", "node")

    def __init__(self, node: AnyNode, offset: int, begun_us: int, root: Ref, bound: Bound | None) -> None:
        super().__init__(offset, begun_us, root, bound)
        self.node: AnyNode = node
        self.below: list[tuple[int, Run]] = []

    def begin(self, item: Item) -> int:
        for i, part in enumerate(self.node.parts):
            if isinstance(part, Choice):
                leaf = part.pick(item.bits, item, self.bound) if part.bits & item.bits else None
                if leaf is not None:
                    self._take(leaf, item)
                    return DONE
            else:
                run = begin(part, item, self.bound)
                if run is not None and not run.wants:
                    return self._became(run)
                if run is not None:
                    self.below.append((i, run))
        return self._left()

    def step(self, item: Item) -> int:
        for _, run in self.below:
            if run.wants & item.bits:
                came = run.step(item)
                if came == DONE:
                    return self._became(run)
                if came == OVER:
                    run.wants = 0
        return self._left()

    def tick(self, now_us: int) -> int:
        for _, run in self.below:
            if run.due_us <= now_us:
                came = run.tick(now_us)
                if came == DONE:
                    return self._became(run)
                if came == OVER:
                    run.wants = 0
        return self._left()

    def inner(self) -> Iterator[Run]:
        return (run for _, run in self.below)

    def _became(self, run: Run) -> int:
        self.took, self.bound = list(run.part_of().took if run.goes_on else run.took), run.bound  # type: ignore[attr-defined]
        return DONE

    def _left(self) -> int:
        self.below = [(i, run) for i, run in self.below if run.wants]
        if not self.below:
            return OVER
        self.wants = 0
        for _, run in self.below:
            self.wants |= run.wants
        self.due_us = min(run.due_us for _, run in self.below)
        return OPEN

    def dump(self) -> list[Any]:
        return [*super().dump(), [[i, run.dump()] for i, run in self.below]]

    def load(self, fields: Sequence[Any]) -> None:
        self._load(fields)
        self.below = [(i, load(self.node.parts[i], run)) for i, run in fields[6]]
        self._left()


class WindowRun(Run):
    """The events of a time."""

    __slots__ = ("node", "times_us")

    def __init__(self, node: WindowNode, offset: int, begun_us: int, root: Ref, bound: Bound | None) -> None:
        super().__init__(offset, begun_us, root, bound)
        self.node: WindowNode = node
        self.times_us: list[int] = []
        """When its events came; of a session, the last only."""
        self.wants = node.of.bits

    @property
    def goes_on(self) -> bool:  # type: ignore[override]
        return bool(self.node.sliding_us)

    def begin(self, item: Item) -> int:
        came = self.step(item)
        return came if self.took else OVER

    def step(self, item: Item) -> int:
        node = self.node
        if node.by is not None and not self._is_ours(item):
            return OPEN
        leaf = node.of.only or node.of.pick(item.bits, item, self.bound)
        if leaf is not None:
            self._take(leaf, item)
            if node.gap_us:
                self.times_us = [item.time_us]
            elif node.sliding_us:
                self.times_us.append(item.time_us)
            if self.due_us == NO_END or node.gap_us:
                self._set_due(item.time_us)
        return OPEN

    def _set_due(self, time_us: int) -> None:
        node = self.node
        if node.gap_us:
            self.due_us = min(time_us + node.gap_us, self.begun_us + node.within_us)
        else:
            self.due_us = (time_us // node.every_us + 1) * node.every_us

    def tick(self, now_us: int) -> int:
        return DONE

    def part_of(self) -> Run:
        """A sliding window that is complete: the events that it has now. It goes on without those that it then has no more."""
        node, end_us = self.node, self.due_us
        whole = WindowRun(node, self.offset, self.begun_us, self.root, self.bound)
        whole.took = list(self.took)
        from_us = end_us + node.every_us - node.sliding_us
        kept = [i for i, time_us in enumerate(self.times_us) if time_us >= from_us]
        self.took = [self.took[i] for i in kept]
        self.times_us = [self.times_us[i] for i in kept]
        if self.took:
            self.offset, self.begun_us = self.took[0] // node.width, self.times_us[0]
            self.due_us = end_us + node.every_us
        else:
            self.wants, self.due_us = 0, NO_END
        return whole

    def dump(self) -> list[Any]:
        return [*super().dump(), self.times_us, self.due_us]

    def load(self, fields: Sequence[Any]) -> None:
        self._load(fields)
        self.times_us, self.due_us = list(fields[6]), fields[7]


_RUNS: dict[type, type] = {SeqNode: SeqRun, AllNode: AllRun, AnyNode: AnyRun, WindowNode: WindowRun}


def _dump_kept(kept: Kept | list[Kept]) -> Any:
    return [each.dump() for each in kept] if isinstance(kept, list) else kept.dump()


def _load_kept(fields: Any) -> Kept | list[Kept]:
    if fields and isinstance(fields[0], list):
        return [Kept(*each) for each in fields]
    return Kept(*fields)

"""All partial matches of one motif, by key, and their timers.

Owns which of them are heard (`after`), how many may be open (`most`), and when the next falls due. It is fed the events of the
log in order, each frame's time first: `advance(time)`, then `hear(rows)`.

Invariants:
    matches and state after  feed(a + b)  =  after  feed(a); dump; load; feed(b)
    open = partial matches of all keys <= most
    a key without a partial match costs nothing
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Any

import msgspec

from ensemble.broker.matching.pattern import NO_END, Item, Pattern, SeqNode
from ensemble.broker.matching.runs import DONE, Crowd, Run, SeqRun, begin
from ensemble.event import Event, Ref, Rows

KEY_MOST = 10_000
"""Partial matches that one key may have open."""


class Match(msgspec.Struct, gc=False):
    """A motif that was heard."""

    key: str
    offsets: list[int]
    """The events that it is made of, in the order of the log."""
    labels: dict[str, int | list[int]]
    """Label -> the offset of its event, or of each."""
    root: Ref
    """The first event of the chain of that with which it began."""
    at_us: int
    """When it was complete."""


class Matcher:
    """One motif, listened for."""

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.open = 0
        """How many partial matches there are."""
        self.given_up = 0
        """How many were given up since there were too many."""
        self._node: Any = pattern.root
        self._skips = pattern.how.after == "skip-past-last"
        self._groups: dict[str, Crowd | SeqRun] = {}
        """By key; where the pattern is quick and there is one partial match only, that alone."""
        self._is_quick = isinstance(self._node, SeqNode) and self._node.is_quick
        self._timers: list[tuple[int, str]] = []
        """When a key is to be told of the time: its crowd's `scheduled_us`, or an entry that is past caring."""

    # Hearing

    def hear(self, rows: Rows, lo: int, time_us: int) -> list[tuple[int, Match]]:
        """Take in the rows from `lo` on, all of this time. What is heard with each, by row."""
        judges = [self.pattern.judge(topic) for topic in rows.topics]
        heard: list[tuple[int, Match]] = []
        if not any(judges):
            return heard
        ix, by = rows.topic_ix, self.pattern.by
        if isinstance(ix, int):
            judge = judges[ix]
            if judge is None:
                return heard
            chosen: Iterator[tuple[int, Any]] = ((row, judge) for row in range(lo, len(rows)))
        else:
            chosen = ((row, judge) for row in range(lo, len(rows)) if (judge := judges[ix[row]]) is not None)
        keys, groups, starts, is_quick = rows.keys, self._groups, self._node.starts, self._is_quick
        for row, (sure, asked) in chosen:
            item: Item | None = None
            bits = sure
            if asked:
                item = Item(rows, row, 0, time_us)
                bits = _asked(bits, asked, item.event)
            key: str | None
            if by is None:
                key = keys[row]
            else:
                item = item or Item(rows, row, 0, time_us)
                key = by(item.event)
                if key is None:
                    continue
            held = groups.get(key)
            if held is None:
                if not bits & starts:
                    continue
                if is_quick and self.open < self.pattern.how.most:
                    self._begin_quick(rows, row, key, time_us)
                    continue
            elif type(held) is SeqRun and not bits & starts:
                if bits & held.wants:
                    came = held.step_quick(rows.offset(row), bits)
                    if came:
                        del groups[key]
                        self.open -= 1
                        if came == DONE:
                            heard.append((row, self._match(key, held, time_us)))
                continue
            if item is None:
                item = Item(rows, row, bits, time_us)
            else:
                item.bits = bits
            done = self._begin(item, key) if held is None else self._step(self._crowd(key), item, key)
            if done is not None:
                heard += [(row, self._match(key, run, time_us)) for run in done]
        return heard

    def _begin_quick(self, rows: Rows, row: int, key: str, time_us: int) -> None:
        """`_begin`, where the pattern is quick: the event is its first step."""
        node = self._node
        offset = rows.offset(row)
        run = SeqRun(node, offset, time_us, rows.root(row), None)
        run.took.append(offset * node.width + node.steps[0].target.only.number)
        run.count = 1
        run.stage = stage = node.stages[0][2]
        run.wants = stage.wants
        if node.within_us != NO_END:
            run.due_us = time_us + node.within_us
            heappush(self._timers, (run.due_us, key))
        self._groups[key] = run
        self.open += 1

    def _crowd(self, key: str) -> Crowd:
        """The partial matches of a key, as several."""
        held = self._groups[key]
        if isinstance(held, Crowd):
            return held
        crowd = self._groups[key] = Crowd(self._node, None, prunes=self._skips)
        crowd.runs.append(held)
        crowd.due_us = crowd.scheduled_us = held.due_us
        return crowd

    def _begin(self, item: Item, key: str) -> Sequence[Run] | None:
        """The first partial match of a key."""
        if self.open >= self.pattern.how.most and not self._make_room():
            return None
        run = begin(self._node, item, None)
        if run is None:
            return None
        if not run.wants:
            return (run,)
        crowd = self._groups[key] = Crowd(self._node, None, prunes=self._skips)
        crowd.runs.append(run)
        crowd.due_us = run.due_us
        self.open += 1
        self._schedule(crowd, key)
        return None

    def _step(self, crowd: Crowd, item: Item, key: str) -> Sequence[Run] | None:
        before = len(crowd.runs)
        may_begin = True
        if item.bits & self._node.starts:
            if before >= KEY_MOST:
                may_begin = self._make_room_in(crowd)
            elif self.open >= self.pattern.how.most:
                may_begin = self._make_room()
                if key not in self._groups:
                    return self._begin(item, key)
        return self._settle(crowd, key, before, crowd.step(item, may_begin=may_begin))

    def advance(self, now_us: int) -> list[Match]:
        """Let time pass up to and with this moment: what is heard by that, in the order of the moments."""
        heard: list[Match] = []
        timers = self._timers
        while timers and timers[0][0] <= now_us:
            due_us, key = heappop(timers)
            held = self._groups.get(key)
            if held is None or (held.due_us if isinstance(held, SeqRun) else held.scheduled_us) != due_us:
                continue
            crowd = self._crowd(key)
            crowd.scheduled_us = NO_END
            if crowd.due_us > due_us:
                self._schedule(crowd, key)
                continue
            before = len(crowd.runs)
            done = self._settle(crowd, key, before, crowd.tick(due_us))
            if done is not None:
                heard += [self._match(key, run, due_us) for run in done]
        return heard

    def _settle(self, crowd: Crowd, key: str, before: int, done: Sequence[Run]) -> Sequence[Run] | None:
        """What is heard of those that are complete, and what is left of the others."""
        if done and self._skips:
            done = done[:1]
            crowd.runs = [run for run in crowd.runs if run.goes_on]
            crowd.due_us = min((run.due_us for run in crowd.runs), default=NO_END)
        self.open += len(crowd.runs) - before
        if not crowd.runs:
            del self._groups[key]
        elif crowd.due_us < crowd.scheduled_us:
            self._schedule(crowd, key)
        return done or None

    def _schedule(self, crowd: Crowd, key: str) -> None:
        if crowd.due_us != NO_END:
            crowd.scheduled_us = crowd.due_us
            heappush(self._timers, (crowd.due_us, key))

    def due_us(self) -> int | None:
        """When time alone next changes something."""
        timers = self._timers
        while timers:
            due_us, key = timers[0]
            held = self._groups.get(key)
            is_current = held is not None and (held.due_us if isinstance(held, SeqRun) else held.scheduled_us) == due_us
            if is_current and held is not None and held.due_us == due_us:
                return due_us
            heappop(timers)
            if is_current:
                assert isinstance(held, Crowd), "that of one alone does not change"
                held.scheduled_us = NO_END  # nothing may be due at all any more, and something again later
                self._schedule(held, key)
        return None

    def _match(self, key: str, run: Run, at_us: int) -> Match:
        width = self.pattern.width
        took = sorted(run.took)
        offsets = [each // width for each in took]
        if len(offsets) > 1 and len(set(offsets)) < len(offsets):  # an event that is several parts
            offsets = sorted(set(offsets))
        labels: dict[str, int | list[int]] = {}
        for each in took:
            leaf = self.pattern.leaves[each % width]
            if leaf.label is None:
                continue
            if leaf.is_many:
                labels.setdefault(leaf.label, []).append(each // width)  # type: ignore[union-attr]
            else:
                labels[leaf.label] = each // width
        return Match(key, offsets, labels, run.root, at_us)

    # Bounds

    def _make_room(self) -> bool:
        """Give up the partial matches of the keys that have had some longest, a hundredth of all; False: the new one goes."""
        if self.pattern.how.overflow == "newest":
            self.given_up += 1
            return False
        for key in list(islice(self._groups, len(self._groups) // 100 + 1)):
            held = self._groups.pop(key)
            count = 1 if isinstance(held, SeqRun) else len(held.runs)
            self.open -= count
            self.given_up += count
        return True

    def _make_room_in(self, crowd: Crowd) -> bool:
        """Give up the oldest partial matches of one key; False: the new one goes."""
        if self.pattern.how.overflow == "newest":
            self.given_up += 1
            return False
        count = len(crowd.runs) // 100 + 1
        del crowd.runs[:count]
        crowd.due_us = min((run.due_us for run in crowd.runs), default=NO_END)
        self.given_up += count
        return True

    # Moving

    def by_key(self) -> Iterator[tuple[str, Sequence[Run]]]:
        """All partial matches."""
        return ((key, held.runs if isinstance(held, Crowd) else (held,)) for key, held in self._groups.items())

    def take_over(self, key: str, runs: Sequence[Run]) -> None:
        """Have these partial matches of a key from now on, which others of this motif had. They began after those here."""
        self.open += len(runs)
        if self._is_quick and len(runs) == 1 and key not in self._groups:
            [run] = runs
            assert isinstance(run, SeqRun)
            self._groups[key] = run
            if run.due_us != NO_END:
                heappush(self._timers, (run.due_us, key))
            return
        if key not in self._groups:
            self._groups[key] = Crowd(self._node, None, prunes=self._skips)
        crowd = self._crowd(key)
        crowd.runs = sorted([*crowd.runs, *runs], key=lambda run: run.offset)
        crowd.due_us = min(run.due_us for run in crowd.runs)
        if crowd.due_us < crowd.scheduled_us:
            self._schedule(crowd, key)

    # Keeping

    def dump(self) -> Any:
        """Everything, as plain data for MessagePack."""
        several = {key: held.dump() for key, held in self._groups.items() if isinstance(held, Crowd)}
        alone = self._dump_quick()
        return [self.given_up, several, alone, list(self._groups) if several and alone else []]

    def _dump_quick(self) -> list[list[Any]]:
        """The partial matches that are alone, in columns: there may be hundreds of thousands."""
        alone = {key: run for key, run in self._groups.items() if isinstance(run, SeqRun)}
        took = [each for run in alone.values() for each in run.took]
        columns = ((run.offset, run.begun_us, run.root, run.at) for run in alone.values())
        return [list(alone), *map(list, zip(*columns, strict=True)), took] if alone else []

    def load(self, fields: Any) -> Matcher:
        """What was dumped, where nothing was heard yet."""
        self.given_up, several, alone, order = fields
        if alone:
            self._load_quick(*alone)
        for key, crowd in several.items():
            loaded = self._groups[key] = Crowd(self._node, None, prunes=self._skips).load(crowd)
            self.open += len(loaded.runs)
            if loaded.due_us != NO_END:
                loaded.scheduled_us = loaded.due_us
                self._timers.append((loaded.due_us, key))
        if order:  # who began first is the first to be given up
            self._groups = {key: self._groups[key] for key in order}
        heapify(self._timers)
        return self

    def _load_quick(
        self,
        keys: Sequence[str],
        offsets: Sequence[int],
        begun_us: Sequence[int],
        roots: Sequence[Ref],
        places: Sequence[int],
        took: Sequence[int],
    ) -> None:
        node, groups = self._node, self._groups
        within_us = node.within_us
        upto = 0
        for key, offset, time_us, root, at in zip(keys, offsets, begun_us, roots, places, strict=True):
            run = SeqRun(node, offset, time_us, root, None)
            lo, upto = upto, upto + at + 1
            run.took = list(took[lo:upto])
            run.at, run.count = at, 1
            run.stage = stage = node.stages[at][2]
            run.wants = stage.wants
            groups[key] = run
            if within_us != NO_END:
                run.due_us = time_us + within_us
                self._timers.append((run.due_us, key))
        self.open += len(keys)


def _asked(bits: int, asked: Sequence[tuple[int, Callable[[Event], bool]]], event: Event) -> int:
    """The bits with those whose conditions hold."""
    for bit, where in asked:
        if where(event):
            bits |= bit
    return bits

"""Whose turn it is: the part of a section that is not durable.

Owns lanes of keys, what waits for another attempt, and what is in flight. All of it follows from the durable state and the
log, so it is lost without harm and built again on opening.

A lane exists while its key is not free: an event of the key is in flight, waits for another attempt, or is held. Later
events of the key are parked in it and come out, in order, when it ends.

Invariants, for the offsets that concern the section:
    o < next             =>  o is dealt with, or in exactly one of: ready, parked in a lane, waiting, due, flying, held
    o in ready, key k    =>  every earlier unheard offset of k is in ready before o, or lane k exists
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush

import msgspec

from ensemble.broker.routing import Heed, Listener
from ensemble.broker.state import SectionState
from ensemble.event import Rows

OPENED_MOST = 1_000
"""Events that are held or parked, of a section that has nothing else, past which its watermark moves at rest."""


class Run(msgspec.Struct, gc=False):
    """Offsets that came off the log together, ascending, with their lanes; those before index `at` are done with."""

    offsets: Sequence[int]
    keys: Sequence[str]
    at: int = 0
    skipped: Sequence[int] = ()


class Lane:
    """Offsets that are parked behind a key that is not free: eight bytes each, since a hot key may have millions."""

    __slots__ = ("_at", "_offsets")

    def __init__(self, offsets: Iterable[int] = ()) -> None:
        self._offsets = array("q", offsets)
        self._at = 0

    def __len__(self) -> int:
        return len(self._offsets) - self._at

    def park(self, offset: int) -> None:
        self._offsets.append(offset)

    def put_back(self, offsets: Iterable[int]) -> None:
        """Park these before all others."""
        self._offsets, self._at = array("q", offsets) + self._offsets[self._at :], 0

    def take(self, count: int) -> list[int]:
        """The first so many, which are parked no more."""
        taken = self._offsets[self._at : self._at + count].tolist()
        self._at += len(taken)
        if self._at > 64 and 2 * self._at > len(self._offsets):
            del self._offsets[: self._at]
            self._at = 0
        return taken


class Batch(msgspec.Struct):
    """Events for one instance to hear, in this order."""

    section: str
    offsets: Sequence[int]
    keys: Sequence[str]
    """The lane of each."""
    attempts: dict[int, int]
    """Offset -> number of this attempt, for those that have been tried before."""
    began_us: int

    def __len__(self) -> int:
        return len(self.offsets)


class Advance(msgspec.Struct):
    """How a section's watermark moves when offsets are dealt with."""

    position: int
    passed: int
    opened: Sequence[int]
    closed: Sequence[int]


class Section:
    """One section's work.

    `overlapping` says that more than one batch may be in flight at a time; then a key in flight has a lane of its own.
    `owns` tells which lanes are heard in this shard, where that does not follow from the key; None: all.
    """

    def __init__(
        self,
        name: str,
        state: SectionState,
        listener: Listener,
        *,
        overlapping: bool,
        owns: Callable[[str], bool] | None = None,
    ) -> None:
        self.name = name
        self.state = state
        self.listener = listener
        self.overlapping = overlapping and listener.order != "all"
        self.keyed = listener.order != "none"
        self.owns = owns
        self.away: deque[tuple[int, str]] = deque()
        """Offsets that are heard in another shard, and their lanes: they are dealt with here by being sent there."""
        self.next = state.position
        """The first offset that has not been looked at."""
        self.reopened: deque[int] = deque(sorted(state.open))
        """Unheard offsets below the position, ascending: on opening they are looked at before anything else."""
        self.flying = 0
        self.is_mixed = False
        """Whether what is in flight may have been handed out in another order than that of the log."""
        self.ready_count = 0
        self._ready: deque[Run] = deque()
        self._lifted: deque[Run] = deque()
        self._passed = 0
        """Events under the section's topics that were looked at after its position with nothing unheard before them."""
        self._lanes: dict[str, Lane | None] = {}
        """The keys that are not free; None: nothing is parked behind."""
        self._freed: dict[str, None] = {}
        """Lanes whose key is free again, and which have events parked: these go before all that came later."""
        self._waiting: list[tuple[int, int, str]] = []
        self._due: deque[tuple[int, str]] = deque()
        self._held: dict[int, str] = {}
        self._declined: list[int] = []
        """Offsets below the position that turned out not to concern it: its next move closes them."""
        self._claims: set[str] = set()
        """Lanes of which an event waits, is due, or is held: one each, the first; these lanes do not end."""

    # What there is to hear

    def look(self, rows: Rows | None, end: int) -> None:
        """Take in the next frame that holds events, from `next` on. `end` is the offset after it."""
        if rows is not None:
            heed = self.listener.heed(rows, max(0, self.next - rows.first))
            if heed.offsets:
                self._lifted.append(Run(heed.offsets, heed.keys, skipped=heed.skipped))
                self._admit(heed if self.owns is None else self._ours(heed))
            elif heed.skipped:
                self._skip(heed.skipped)
        self.next = end

    def look_again(self, rows: Rows, offsets: Sequence[int]) -> None:
        """Take in events of one frame that lie below the position: `reopened`, or dead letters to be heard again."""
        unasked = self.state.unasked
        if unasked:
            declined = [o for o in offsets if o in unasked and not self.listener.concerns(rows, o - rows.first)]
            if declined:
                self._declined += declined
                offsets = [offset for offset in offsets if offset not in set(declined)]
        chosen = [offset - rows.first for offset in offsets]
        heed = Heed(offsets, self.listener.lanes(rows, chosen))
        self._admit(heed if self.owns is None else self._ours(heed))

    def pass_over(self, offset: int) -> None:
        """An unheard offset below the position is not in the log any more: the next move closes it."""
        self._declined.append(offset)

    def reopen(self, offsets: Iterable[int]) -> None:
        """These offsets below the position are unheard again: they are to be looked at, in order, before anything else."""
        self.reopened = deque(sorted({*self.reopened, *offsets}))

    def _ours(self, heed: Heed) -> Heed:
        """What is heard here; the rest is to be sent away."""
        assert self.owns is not None
        here = [self.owns(lane) for lane in heed.keys]
        if all(here):
            return heed
        pairs = list(zip(heed.offsets, heed.keys, strict=True))
        self.away.extend(pair for pair, is_here in zip(pairs, here, strict=True) if not is_here)
        ours = [pair for pair, is_here in zip(pairs, here, strict=True) if is_here]
        return Heed([offset for offset, _ in ours], [lane for _, lane in ours])

    def _admit(self, heed: Heed) -> None:
        if not heed.offsets:
            return
        attempts, held = self.state.attempts, self.state.held
        if not attempts and not held:
            self._make_ready(heed.offsets, heed.keys)
            return
        offsets: list[int] = []
        keys: list[str] = []
        for offset, key in zip(heed.offsets, heed.keys, strict=True):
            if offset in held:
                self._hold(offset, key)
            elif offset in attempts and not (self.keyed and key in self._claims):  # else behind another, whatever its moment
                self._wait(offset, key, attempts[offset][1])
            else:
                offsets.append(offset)
                keys.append(key)
        if offsets:
            self._make_ready(offsets, keys)

    def _skip(self, skipped: Sequence[int]) -> None:
        if self._lifted:
            last = self._lifted[-1]
            last.skipped = [*last.skipped, *skipped]
        else:
            self._passed += len(skipped)

    def _make_ready(self, offsets: Sequence[int], keys: Sequence[str]) -> None:
        self._ready.append(Run(offsets, keys))
        self.ready_count += len(offsets)

    # Handing out

    def wake(self, now_us: int) -> None:
        """Let what waited until now be heard."""
        while self._waiting and self._waiting[0][0] <= now_us:
            _, offset, key = heappop(self._waiting)
            self._due.append((offset, key))

    @property
    def has_work(self) -> bool:
        """Whether `take` may give something now."""
        return bool(self._due or self._freed or self._ready) and (self.overlapping or not self.flying)

    @property
    def due_us(self) -> int | None:
        """When the next retry falls due."""
        return self._waiting[0][0] if self._waiting else None

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._due)

    @property
    def skipped(self) -> int:
        """Events under its topics that it looked at beyond its position, and whose condition does not hold."""
        return self._passed + sum(len(run.skipped) for run in self._lifted) + len(self._declined)

    def rest(self) -> Advance | None:
        """The move of the watermark past what was looked at and concerns nobody; None if there is nothing to move.

        Past what is held, and what is parked behind it, too, where there is nothing else: else one held event would keep all
        that was said since from being taken by retention.
        """
        if self._lifted and not (self.flying or self.ready_count or self.waiting or self.away):
            opened = [offset for run in self._lifted for offset in run.offsets[run.at :]]
            if len(opened) <= OPENED_MOST:
                passed = self._passed + len(opened) + sum(len(run.skipped) for run in self._lifted)
                self._lifted.clear()
                return self._closing(self._reached(passed, opened, ()))
        if self._lifted or self.next == self.state.position:
            return self._closing(Advance(self.state.position, 0, (), ())) if self._declined else None
        return self._closing(self._reached(self._passed, (), ()))

    def take(self, limit: int, now_us: int, lane_most: int | None = None) -> Batch | None:
        """Up to `limit` events whose keys are free, in order; None if there are none. They are in flight from now on.

        Of one lane come `lane_most` at the most, where several batches may be in flight: a hot key must not take up all of one.
        """
        offsets: list[int] = []
        keys: list[str] = []
        self.is_mixed = self.is_mixed or bool(self._due or self._freed)
        while self._due and len(offsets) < limit:  # their lanes are theirs already
            offset, key = self._due.popleft()
            self._claims.discard(key)
            offsets.append(offset)
            keys.append(key)
        while self._freed and len(offsets) < limit:
            self._take_parked(next(iter(self._freed)), offsets, keys, limit)
        batch = self._free(offsets, keys, limit)
        if batch is None:
            return None
        offsets_out, keys_out = batch
        if self.overlapping and self.keyed:
            if lane_most is not None and len(keys_out) > lane_most:
                offsets_out, keys_out = self._park_beyond(lane_most, offsets_out, keys_out)
            for key in keys_out:
                self._lanes.setdefault(key, None)
        self.flying += len(offsets_out)
        attempts = self.state.attempts
        tried = {o: attempts[o][0] + 1 for o in offsets_out if o in attempts} if attempts else {}
        return Batch(self.name, offsets_out, keys_out, tried, now_us)

    def _free(self, offsets: list[int], keys: list[str], limit: int) -> tuple[Sequence[int], Sequence[str]] | None:
        ready, lanes = self._ready, self._lanes
        if not offsets and ready and (not lanes or not self.keyed) and len(ready[0].offsets) - ready[0].at >= limit:
            run = ready[0]  # the fast path: one run is enough, and no key is taken
            lo, hi = run.at, run.at + limit
            self._use(run, hi)
            if lo == 0 and hi == len(run.offsets):
                return run.offsets, run.keys
            return run.offsets[lo:hi], run.keys[lo:hi]
        while ready and len(offsets) < limit:
            run = ready[0]
            lo, hi = run.at, min(len(run.offsets), run.at + limit - len(offsets))
            self._use(run, hi)
            if not lanes or not self.keyed:
                if not offsets and lo == 0 and hi == len(run.offsets) and not ready:
                    return run.offsets, run.keys
                offsets.extend(run.offsets[lo:hi])
                keys.extend(run.keys[lo:hi])
            else:
                for offset, key in zip(run.offsets[lo:hi], run.keys[lo:hi], strict=True):
                    if key in lanes:
                        self._park(key, offset)
                    else:
                        offsets.append(offset)
                        keys.append(key)
        return (offsets, keys) if offsets else None

    def _park_beyond(self, most: int, offsets: Sequence[int], keys: Sequence[str]) -> tuple[Sequence[int], Sequence[str]]:
        """The same without what is too much of any one lane; that is parked again, before what came after it."""
        if len(keys) - len(set(keys)) < most:  # no lane can have more
            return offsets, keys
        kept_offsets: list[int] = []
        kept_keys: list[str] = []
        counts: dict[str, int] = {}
        back: dict[str, list[int]] = {}
        for offset, key in zip(offsets, keys, strict=True):
            counts[key] = count = counts.get(key, 0) + 1
            if count > most:
                back.setdefault(key, []).append(offset)
            else:
                kept_offsets.append(offset)
                kept_keys.append(key)
        for key, parked in back.items():
            lane = self._lanes.get(key) or Lane()
            lane.put_back(parked)
            self._lanes[key] = lane
        return kept_offsets, kept_keys

    def _use(self, run: Run, hi: int) -> None:
        self.ready_count -= hi - run.at
        run.at = hi
        if hi == len(run.offsets):
            self._ready.popleft()

    def _park(self, key: str, offset: int) -> None:
        lane = self._lanes[key]
        if lane is None:
            lane = self._lanes[key] = Lane()
        lane.park(offset)
        if key in self._freed:
            self.ready_count += 1

    def _take_parked(self, key: str, offsets: list[int], keys: list[str], limit: int) -> None:
        """Add what is parked in a lane whose key is free."""
        lane = self._lanes[key]
        assert lane is not None
        taken = lane.take(limit - len(offsets))
        self.ready_count -= len(taken)
        offsets.extend(taken)
        keys.extend([key] * len(taken))
        if self.overlapping:  # the key is in flight now
            self._unfree(key)
        elif not lane:
            del self._lanes[key], self._freed[key]

    def _unfree(self, key: str) -> None:
        """A key that was free is so no more."""
        if key in self._freed:
            del self._freed[key]
            self.ready_count -= len(self._lanes[key] or ())

    def _end_lane(self, key: str) -> None:
        """A key is free again: its lane ends, or what is parked in it comes out."""
        if key not in self._lanes or key in self._freed:
            return
        lane = self._lanes[key]
        if lane:
            self._freed[key] = None
            self.ready_count += len(lane)
        else:
            del self._lanes[key]

    # Coming back

    def settle(
        self,
        keys: Sequence[str],
        count: int,
        *,
        skipped: Sequence[tuple[int, str]] = (),
        waiting: Sequence[tuple[int, str, int]] = (),
        held: Sequence[tuple[int, str]] = (),
    ) -> None:
        """Take `count` events with the lanes `keys` out of flight.

        Shapes: skipped (offset, key): not tried, since an earlier one of their key failed; waiting (offset, key, due_us);
                held (offset, key). All others are dealt with, and their lanes end.
        """
        self.flying -= count
        if not self.flying:
            self.is_mixed = False
        if not (waiting or held or skipped or self._lanes):
            return
        if not self.keyed:
            for offset, key, due_us in waiting:
                heappush(self._waiting, (due_us, offset, key))
            for offset, key in held:
                self._held[offset] = key
            if skipped:  # no lane remembers these: they are ready, before all that came later
                back_offsets, back_keys = zip(*sorted(skipped), strict=True)
                self._ready.appendleft(Run(back_offsets, back_keys))
                self.ready_count += len(skipped)
            return
        back: dict[str, list[int]] = {}
        for offset, key, due_us in sorted(waiting):
            if key in self._claims:
                back.setdefault(key, []).append(offset)
            else:
                self._wait(offset, key, due_us)
        for offset, key in held:
            self._hold(offset, key)
        for offset, key in skipped:
            back.setdefault(key, []).append(offset)
        for key, offsets in back.items():
            self._unfree(key)
            lane = self._lanes.get(key) or Lane()
            lane.put_back(sorted(offsets))
            self._lanes[key] = lane
        for key in dict.fromkeys(keys):
            if key not in self._claims:
                self._end_lane(key)

    def _wait(self, offset: int, key: str, due_us: int) -> None:
        if self.keyed:
            self._unfree(key)
            self._lanes.setdefault(key, None)
            self._claims.add(key)
        heappush(self._waiting, (due_us, offset, key))

    def _hold(self, offset: int, key: str) -> None:
        if self.keyed:
            self._unfree(key)
            self._lanes.setdefault(key, None)
            self._claims.add(key)
        self._held[offset] = key

    def let_go(self, offset: int) -> None:
        """A held event is to be heard again: it is due at once, and its lane is still its own."""
        key = self._held.pop(offset, None)
        if key is not None:  # else it has not been looked at since the opening, and comes in its turn
            self._due.append((offset, key))

    # The watermark

    def advance(self, done: Sequence[int]) -> Advance:
        """Deal with these offsets for good. The caller records the answer, which `State.apply` then folds in."""
        made = self._dealt_with(done)
        return self._closing(made) if self._declined else made

    def _closing(self, made: Advance) -> Advance:
        """The same move, by which what was declined is closed, too."""
        made.closed, self._declined = [*made.closed, *self._declined], []
        return made

    def _dealt_with(self, done: Sequence[int]) -> Advance:
        lifted = self._lifted
        if lifted and lifted[0].at == 0 and lifted[0].offsets == done:
            run = lifted.popleft()  # the fast path: exactly what came next
            return self._reached(len(done) + self._passed + len(run.skipped), (), ())
        before = self.state.position
        top = max(done, default=-1) + 1
        popped: list[int] = []
        passed = self._passed
        while lifted and lifted[0].offsets[lifted[0].at] < top:
            run = lifted[0]
            cut = bisect_left(run.offsets, top, run.at)
            popped.extend(run.offsets[run.at : cut])
            if cut < len(run.offsets):
                run.at = cut
                break
            passed += len(run.skipped)
            lifted.popleft()
        if not popped:
            return Advance(before, 0, (), done)
        finished = set(done)
        opened = [offset for offset in popped if offset not in finished]
        closed = [offset for offset in done if offset < before] if len(popped) - len(opened) < len(done) else ()
        return self._reached(passed + len(popped), opened, closed)

    def _reached(self, passed: int, opened: Sequence[int], closed: Sequence[int]) -> Advance:
        self._passed = 0
        if not self._lifted:
            return Advance(self.next, passed, opened, closed)
        run = self._lifted[0]
        position = run.offsets[run.at]
        if run.skipped:
            skips = bisect_left(run.skipped, position)
            passed += skips
            run.skipped = run.skipped[skips:]
        return Advance(position, passed, opened, closed)

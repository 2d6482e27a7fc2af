"""What the shards of a band know, carried over into another number of shards: what comes where, and what each knows then.

Owns where an event goes, under which names, and how far each section has come there. Pure: rows go in and come out. A copy that
one shard had for a section of another says how far that section has come with the event itself; then it is left out.

It is used in three steps: `look` at the shards that hold copies; `move` each frame, merged over the shards in the order of
their times; `carried` at the end. Kept of an event is a place, and that only where a section has an exception about it, or has
not come to it in one shard while it lay further in another: memory follows what is unheard, not the log.

Invariants, for a section s, an old shard a and an event that lay there at offset o and lies in shard j at offset n now:
    o < a.position(s)        =>  n < j.position(s)
    o unheard before         <=> n unheard now            (n in j.open(s), or n >= j.position(s))
    order of the events of one old shard in j = their order before
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from zlib import crc32

import msgspec

from ensemble.broker.matching.moving import moved_labels
from ensemble.broker.outbox import FORWARDED, Parcel, shard_of
from ensemble.broker.state import Patterns, SectionState, State, Timer, fits
from ensemble.broker.words import Publication, Said
from ensemble.errors import Unavailable
from ensemble.event import Frame, Ref, Rows, decode, encode

Place = tuple[int, int]
"""An old shard, and an offset there."""

FOREVER = 1 << 62
"""Later than any moment at which something expires."""
TABLE_BYTES = 1 << 20
"""How much of a table goes into one frame."""


class Plight(msgspec.Struct):
    """What is particular about the events of one section: by where they lay."""

    unheard: dict[int, array[int]] = {}
    """Shard -> offsets of events that lie there, and that the section has not heard in the shard to which they were sent."""
    tries: dict[Place, tuple[int, int]] = {}
    letters: dict[Place, Place] = {}
    """Dead letter -> the event that tells of it."""
    held: set[Place] = set()
    copies: dict[int, set[int]] = {}
    """Shard -> offsets there that are copies."""


class Progress(msgspec.Struct):
    """How far a section has come in the new shards, while what the old ones have is moved."""

    ends: list[int]
    """Old shard -> the section's position there."""
    patterns: list[Patterns]
    behind: set[int]
    """The old shards of which not all that lies before their position has been moved."""
    position: list[int]
    """New shard -> its position there, as far as that is known."""
    passed: list[int]
    beyond: list[array[int]]
    """New shard -> offsets of its events that lay beyond the position in their old shard, while another shard was behind."""


class Moved(msgspec.Struct):
    """What becomes of one frame in one of the new shards."""

    shard: int
    rows: Rows


class Carrying:
    """From some shards into others. `log_ids` are those of the old logs, `new_ids` of the new."""

    def __init__(self, states: Sequence[State], log_ids: Sequence[str], new_ids: Sequence[str]) -> None:
        self.states = states
        self.log_ids = log_ids
        self.new_ids = new_ids
        self.shards = len(new_ids)
        self.ends = [0] * self.shards
        """The next offset of each new shard."""
        self.names = list(dict.fromkeys(name for state in states for name in state.sections))
        self._plights = {name: Plight() for name in self.names}
        self._wanted: list[array[int]] = []
        self._at: list[int] = [0] * len(states)
        self._lies: list[array[int]] = []
        """Where what was wanted has come to lie: new shard and offset, in one number."""
        self._asked: list[array[int]] = [array("q") for _ in states]
        """The offsets that are wanted beside what the sections have exceptions about: the events that matches are made of."""
        self._milestones: list[list[int]] = [[] for _ in states]
        """Offsets of which it is wanted how many of each new shard's events lay before them."""
        self._reached: dict[Place, list[int]] = {}
        self._progress: dict[str, Progress] = {}
        self._coming_up: list[list[tuple[int, str]]] = [[] for _ in states]
        """Old shard -> position and name of the sections beyond whose position nothing was moved yet; the last is the next."""
        self._beyond: list[list[str]] = [[] for _ in states]
        """Old shard -> the sections that are beyond their position there, and behind in another."""
        self._last = [[0] * self.shards for _ in states]
        """Old shard -> new shard -> the offset after the last event that came from here to there."""
        self._topics: list[dict[str, int]] = [{} for _ in new_ids]
        self._refuse_gaps()

    def _refuse_gaps(self) -> None:
        for here, state in enumerate(self.states):
            for there, box in state.outbox.items():
                taken = self.states[there].inbox.get(here, 0)
                first = min(box.parcels, default=box.next)
                if not first <= taken <= box.next:
                    raise Unavailable(
                        f"shard {there} has taken {taken} parcels of shard {here}, which has made {box.next} and knows that "
                        f"{first} have arrived: one of their logs has lost its end; restore it from a copy of the store"
                    )

    # Looking at copies

    def look(self, shard: int, frames: Iterable[Frame]) -> None:
        """See how far sections have come with the events of which this old shard holds copies, and what matches are made of."""
        if not self.states[shard].motifs and not any(topic.startswith(FORWARDED) for topic in self.states[shard].topics):
            return
        for frame in frames:
            rows = frame.rows
            assert rows is not None
            for ix in rows.extras or ():
                self._asked[shard].extend(rows.parts(ix))
            if any(topic.startswith(FORWARDED) for topic in rows.topics):
                for ix in range(len(rows)):
                    topic = rows.filed(ix)
                    if topic.startswith(FORWARDED):
                        self._look_at(shard, topic.removeprefix(FORWARDED), rows.offset(ix), (rows.extras or {})[ix])

    def _look_at(self, shard: int, name: str, offset: int, extra: Mapping[str, Any]) -> None:
        section = self.states[shard].sections.get(name)
        plight = self._plight(name)
        here, at = extra["at"]
        if section is None:
            section = SectionState()
        is_particular = offset in section.open or offset in section.attempts or offset in section.dead
        if offset < section.position and not is_particular:
            return
        plight.copies.setdefault(shard, set()).add(offset)
        if offset in section.attempts:
            plight.tries[here, at] = section.attempts[offset]
        if offset in section.dead:
            letter = section.dead[offset]
            plight.letters[here, at] = (extra["letter"][2], extra["letter"][3]) if letter == offset else (shard, letter)
            if offset in section.held:
                plight.held.add((here, at))
        if offset >= section.position or offset in section.open:
            plight.unheard.setdefault(here, array("q")).append(at)

    def _plight(self, name: str) -> Plight:
        plight = self._plights.get(name)
        if plight is None:
            plight = self._plights[name] = Plight()
            self.names.append(name)
        return plight

    def _coming(self) -> Iterator[tuple[int, Parcel]]:
        """The parcels that have not arrived, and from which shard they come."""
        for here, state in enumerate(self.states):
            for there, box in state.outbox.items():
                taken = self.states[there].inbox.get(here, 0)
                for number in sorted(box.parcels):
                    if number >= taken:
                        yield here, box.parcels[number]

    # Moving

    def want(self, shard: int, offsets: Iterable[int], milestones: Iterable[int] = ()) -> None:
        """Have it known afterwards where these come to lie, and what lay before those. Before `begin`."""
        self._asked[shard].extend(offsets)
        self._milestones[shard] += milestones

    def lies(self, shard: int, offset: int) -> tuple[int, int]:
        """The new shard and offset of what was wanted, and is moved."""
        wanted = self._wanted[shard]
        where = self._lies[shard][bisect_left(wanted, offset)]
        return where >> 48, where & 0xFFFF_FFFF_FFFF

    def reached(self, shard: int, milestone: int, home: int) -> int:
        """How many of a new shard's events were there when all before an old shard's offset had come; or all."""
        return self._reached.get((shard, milestone), self.ends)[home]

    def begin(self) -> None:
        """All copies have been looked at: what comes now is `move`."""
        for _, parcel in self._coming():
            if parcel.topics[0].startswith(FORWARDED):
                plight = self._plight(parcel.topics[0].removeprefix(FORWARDED))
                for row in range(len(parcel)):
                    extra = (parcel.extras or {})[row]
                    here, at = extra["at"]
                    plight.unheard.setdefault(here, array("q")).append(at)
                    if "tried" in extra:
                        plight.tries[here, at] = tuple(extra["tried"])
                    if "letter" in extra:
                        plight.letters[here, at] = (extra["letter"][2], extra["letter"][3])
                        plight.held.add((here, at))
        for name in self.names:
            for shard, state in enumerate(self.states):
                section = state.sections.get(name)
                if section is not None:
                    self._own(self._plights[name], shard, section)
            self._progress[name] = progress = self._before(name)
            if progress.behind:
                for shard, end in enumerate(progress.ends):
                    self._coming_up[shard].append((end, name))
        for each in self._coming_up:
            each.sort(reverse=True)
        for shard in range(len(self.states)):
            wanted: set[int] = set()
            for name, plight in self._plights.items():
                section = self.states[shard].sections.get(name)
                if section is not None:
                    wanted |= section.open - plight.copies.get(shard, set())
                wanted.update(plight.unheard.get(shard, ()))
                for place in (*plight.tries, *plight.letters, *plight.letters.values()):
                    if place[0] == shard:
                        wanted.add(place[1])
            wanted.update(self._asked[shard])
            self._asked[shard] = array("q")
            self._wanted.append(array("q", sorted(wanted)))
            self._lies.append(array("q", bytes(8 * len(wanted))))

    @staticmethod
    def _own(plight: Plight, shard: int, section: SectionState) -> None:
        """What is particular about events that were not sent away."""
        copies = plight.copies.get(shard, set())
        for offset, tried in section.attempts.items():
            if offset not in copies:
                plight.tries[shard, offset] = tried
        for offset, letter in section.dead.items():
            if offset not in copies:
                plight.letters[shard, offset] = (shard, letter)
                if offset in section.held:
                    plight.held.add((shard, offset))

    def _before(self, name: str) -> Progress:
        known = [state.sections.get(name) for state in self.states]
        first = next(section for section in [*known, SectionState()] if section is not None)
        begins_now = self._begins_now(name)
        ends = []
        for state, section in zip(self.states, known, strict=True):
            ends.append(section.position if section is not None else state.end if begins_now else 0)
        return Progress(
            ends,
            [(first if section is None else section).patterns for section in known],
            {shard for shard, end in enumerate(ends) if end > 0},
            [0] * self.shards,
            [0] * self.shards,
            [array("q") for _ in range(self.shards)],
        )

    def _begins_now(self, name: str) -> bool:
        """Whether a shard that does not know a section yet, since it was killed before, is none of its business so far."""
        for state in self.states:
            spec = ((state.score or {}).get("players") or {}).get(name)
            if isinstance(spec, dict):
                return spec.get("from") == "now"
        return False

    def move(self, shard: int, frame: Frame) -> list[Moved]:
        """The events of the next frame of an old shard, by where they come to lie."""
        rows = frame.rows
        assert rows is not None
        chosen = self._choose(rows)
        self._note_places(shard, rows, chosen)
        done = self._note_progress(shard, rows, chosen)
        moved = []
        for home, ixs in chosen.items():
            moved.append(Moved(home, self._renamed(shard, rows, home, ixs)))
            self._count(home, rows, ixs)
            self.ends[home] += len(ixs)
            self._last[shard][home] = self.ends[home]
        for progress in done:
            self._sum_up(progress)
        return moved

    def _count(self, home: int, rows: Rows, ixs: Sequence[int]) -> None:
        topics, column = self._topics[home], rows.topic_ix
        if isinstance(column, int):
            topic = rows.topics[column]
            topics[topic] = topics.get(topic, 0) + len(ixs)
        else:
            for ix in ixs:
                topic = rows.topics[column[ix]]
                topics[topic] = topics.get(topic, 0) + 1

    def _choose(self, rows: Rows) -> dict[int, Sequence[int]]:
        """New shard -> the rows that go there, ascending; copies go nowhere."""
        count = len(rows)
        left: Sequence[int] = range(count)
        if any(topic.startswith(FORWARDED) for topic in rows.topics):
            left = [ix for ix in left if not rows.filed(ix).startswith(FORWARDED)]
        if self.shards == 1:
            return {0: left} if left else {}
        shards, keys = self.shards, rows.keys
        chosen: dict[int, list[int]] = {}
        for ix in left:
            chosen.setdefault(crc32(keys[ix].encode()) % shards, []).append(ix)
        return dict(sorted(chosen.items()))

    def _note_places(self, shard: int, rows: Rows, chosen: Mapping[int, Sequence[int]]) -> None:
        wanted, at = self._wanted[shard], self._at[shard]
        end = rows.first + len(rows)
        while at < len(wanted) and wanted[at] < end:
            ix = wanted[at] - rows.first
            for home, ixs in chosen.items():
                lies = bisect_left(ixs, ix)
                if lies < len(ixs) and ixs[lies] == ix:
                    self._lies[shard][at] = home << 48 | self.ends[home] + lies
            at += 1
        self._at[shard] = at
        for milestone in self._milestones[shard]:
            if rows.first <= milestone < end:
                self._reached[shard, milestone] = [
                    self.ends[home] + bisect_left(chosen.get(home, ()), milestone - rows.first) for home in range(self.shards)
                ]

    def _note_progress(self, shard: int, rows: Rows, chosen: Mapping[int, Sequence[int]]) -> list[Progress]:
        """Note what lies beyond the position of a section. Those of which all before it is moved with this frame come back."""
        done: list[Progress] = []
        for name in self._beyond[shard]:
            self._note_beyond(self._progress[name], shard, rows, chosen, 0)
        coming_up, end = self._coming_up[shard], rows.first + len(rows)
        while coming_up and coming_up[-1][0] < end:
            _, name = coming_up.pop()
            progress = self._progress[name]
            if not progress.behind:  # what is moved now lies beyond the position anyway
                continue
            below = max(0, progress.ends[shard] - rows.first)
            self._reach(progress, shard)
            for home, ixs in chosen.items():
                if count := bisect_left(ixs, below):
                    progress.position[home] = self.ends[home] + count
            if progress.behind:
                self._beyond[shard].append(name)
            else:
                done.append(progress)
                for each in self._beyond:
                    if name in each:
                        each.remove(name)
            self._note_beyond(progress, shard, rows, chosen, below)
        return done

    def _reach(self, progress: Progress, shard: int) -> None:
        """All that lay before a section's position in an old shard is moved."""
        progress.behind.discard(shard)
        for home, last in enumerate(self._last[shard]):
            if progress.ends[shard]:
                progress.position[home] = max(progress.position[home], last)

    def _note_beyond(
        self, progress: Progress, shard: int, rows: Rows, chosen: Mapping[int, Sequence[int]], begin: int
    ) -> None:
        patterns = progress.patterns[shard]
        fitting = [fits(patterns, topic) for topic in rows.topics]
        if any(fitting):
            column = rows.topic_ix
            for home, ixs in chosen.items():
                first = self.ends[home]
                for at in range(bisect_left(ixs, begin), len(ixs)):
                    if fitting[column if isinstance(column, int) else column[ixs[at]]]:
                        progress.beyond[home].append(first + at)

    def _sum_up(self, progress: Progress) -> None:
        """The positions are known: count what they have passed, and keep of what lay beyond only what they passed unheard."""
        patterns = progress.patterns[0]
        for home, topics in enumerate(self._topics):
            cut = bisect_left(progress.beyond[home], progress.position[home])
            fitting = sum(count for topic, count in topics.items() if fits(patterns, topic))
            progress.passed[home] = fitting - (len(progress.beyond[home]) - cut)
            del progress.beyond[home][cut:]

    def _renamed(self, shard: int, rows: Rows, home: int, ixs: Sequence[int]) -> Rows:
        """Rows of an old log as rows of a new one: each keeps its id, and what it points to goes by its id, too."""
        log_id, first, given = self.log_ids[shard], rows.first, rows.extras or {}
        column, sources = rows.topic_ix, rows.source_ix
        is_whole = len(ixs) == len(rows)
        extras: dict[int, dict[str, Any]] = {}
        data = rows.data if is_whole else [rows.data[ix] for ix in ixs]
        for row, ix in enumerate(ixs):
            extra = given.get(ix)
            extras[row] = {"as": f"{log_id}-{first + ix}"} if extra is None else _kept(extra, log_id, first + ix)
            if extra is not None and "causes" in extra:
                data = data if isinstance(data, list) else list(data)
                data[row] = self._match(shard, home, extras[row], data[row])
        return Rows(
            self.new_ids[home],
            home,
            self.ends[home],
            rows.time_us,
            rows.topics,
            column if isinstance(column, int) or is_whole else [column[ix] for ix in ixs],
            rows.keys if is_whole else [rows.keys[ix] for ix in ixs],
            data,
            rows.sources,
            sources if isinstance(sources, int) or is_whole else [sources[ix] for ix in ixs],
            _named(rows.causes, ixs, log_id),
            _named(rows.roots, ixs, log_id),
            extras,
            versions=rows.versions,
        )

    def _match(self, shard: int, home: int, extra: dict[str, Any], data: bytes) -> bytes:
        """Have a match point to where its events lie now; its data then."""

        def lies(offset: int) -> int:
            there, at = self.lies(shard, offset)
            if there != home:
                raise Unavailable(
                    f"shard {shard} holds a match of events of several keys, {extra.get('as')}: they would lie in several "
                    "shards; such a store can be divided into one shard only"
                )
            return at

        extra["causes"] = [lies(part) for part in extra["causes"]]
        extra["root"] = _name(extra["root"], self.log_ids[shard])
        labels = decode(data).get("labels")
        return encode({"labels": moved_labels(labels, lies)}) if labels else data

    # What the new shards know

    def carried(self) -> list[dict[str, Any]]:
        """The marks with which each new shard knows what the old ones knew, but for the tables. All is moved."""
        for progress in self._progress.values():
            if progress.behind:
                for shard in sorted(progress.behind):
                    self._reach(progress, shard)
                self._sum_up(progress)
        marks: list[dict[str, Any]] = [{"carried": {}} for _ in range(self.shards)]
        for name in self.names:
            for shard, standing in enumerate(self._standings(name)):
                marks[shard]["carried"][name] = standing
            keep_us = max(state.section(name).keep_us for state in self.states)
            if keep_us:
                for each in marks:
                    each.setdefault("kept", {})[name] = keep_us
        timers = sorted(
            (timer.due_us, shard, number, timer)
            for shard, state in enumerate(self.states)
            for number, timer in state.timers.items()
        )
        for _, shard, _, timer in timers:
            marks[shard_of(timer.key, self.shards)].setdefault("later", []).append(self._timer(shard, timer))
        first = self.states[0]
        for each in marks:
            if first.score is not None:
                each["score"] = first.score
            if first.plan:
                each["plan"] = first.plan
        places = {name: place for state in reversed(self.states) for name, place in state.places.items()}
        if places:
            marks[0]["place"] = places
        return marks

    def _timer(self, shard: int, timer: Timer) -> list[Any]:
        log_id = self.log_ids[shard]
        extras = _kept_of_answer(timer.extras, log_id) if timer.extras else None
        cause, root = (_name(ref, log_id) for ref in (timer.cause, timer.root))
        return [timer.due_us, timer.topic, timer.key, timer.data, cause, root, timer.source] + ([extras] if extras else [])

    def _standings(self, name: str) -> list[list[Any]]:
        progress, plight = self._progress[name], self._plights[name]
        known = [state.sections.get(name) for state in self.states]
        open_: list[set[int]] = [set() for _ in range(self.shards)]
        unasked: list[set[int]] = [set() for _ in range(self.shards)]
        for home in range(self.shards):
            unasked[home].update(progress.beyond[home])
            open_[home] |= unasked[home]
        for shard, section in enumerate(known):
            for offset in plight.unheard.get(shard, ()):
                self._put(open_, shard, offset)
            if section is not None:
                for offset in section.open - plight.copies.get(shard, set()):
                    self._put(open_, shard, offset)
                    if offset in section.unasked:
                        self._put(unasked, shard, offset)
        attempts: list[list[Any]] = [[] for _ in range(self.shards)]
        letters: list[list[Any]] = [[] for _ in range(self.shards)]
        held: list[list[int]] = [[] for _ in range(self.shards)]
        for place, (made, due_us) in plight.tries.items():
            home, offset = self.lies(*place)
            attempts[home].append([offset, made, due_us])
        for place, letter in plight.letters.items():
            home, offset = self.lies(*place)
            told_in, told_at = self.lies(*letter)
            assert told_in == home, "a letter has the key of its event"
            letters[home].append([offset, told_at])
            if place in plight.held:
                held[home].append(offset)
        counts = [sum(getattr(section, field) for section in known if section is not None) for field in COUNTS]
        return [
            [
                progress.position[home], progress.passed[home], list(progress.patterns[0]),
                sorted(open_[home]), sorted(unasked[home]), attempts[home], letters[home], held[home],
                *(counts if home == 0 else (0, 0, 0)),
            ]
            for home in range(self.shards)
        ]  # fmt: skip

    def _put(self, sets: list[set[int]], shard: int, offset: int) -> None:
        home, at = self.lies(shard, offset)
        sets[home].add(at)

    def tables(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The tables by the lanes of their keys: new shard and marks, in pieces. What expires first comes first."""
        for name in self.names:
            sections = [state.section(name) for state in self.states]
            expires = {key: due_us for section in sections for key, due_us in section.expires.items()}
            rows = [row for section in sections for row in section.table.items()]
            if expires:
                rows.sort(key=lambda row: expires.get(row[0], FOREVER))
            pieces: list[dict[str, bytes]] = [{} for _ in range(self.shards)]
            sizes = [0] * self.shards
            for key, value in rows:
                home = shard_of(key, self.shards)
                pieces[home][key] = value
                sizes[home] += len(key) + len(value)
                if sizes[home] > TABLE_BYTES:
                    yield home, _table(name, pieces[home], expires)
                    pieces[home], sizes[home] = {}, 0
            yield from ((home, _table(name, piece, expires)) for home, piece in enumerate(pieces) if piece)

    def late(self) -> Iterator[tuple[int, Publication]]:
        """What had not arrived: new shard, and what is to be said there."""
        for _, parcel in self._coming():
            if parcel.topics[0].startswith(FORWARDED):
                continue
            homes = [shard_of(key, self.shards) for key in parcel.keys]
            whole = parcel.publication()
            for home in sorted(set(homes)):
                part: Said = whole.said.pick([row for row, each in enumerate(homes) if each == home])
                yield home, Publication(part, whole.source)


COUNTS = ("heard", "emitted", "failed")


def _table(name: str, piece: dict[str, bytes], expires: Mapping[str, int]) -> dict[str, Any]:
    marks: dict[str, Any] = {"wrote": {name: piece}}
    if expires:
        marks["expiring"] = {name: {key: expires[key] for key in piece if key in expires}}
    return marks


def _kept(extra: dict[str, Any], log_id: str, offset: int) -> dict[str, Any]:
    """What an event has of its own, in a new log."""
    if "id" in extra:
        return {"born": f"{log_id}-{offset}", **_kept_of_answer(extra, log_id)}
    return {"as": f"{log_id}-{offset}", **_kept_of_answer(extra, log_id)}


def _kept_of_answer(extra: dict[str, Any], log_id: str) -> dict[str, Any]:
    cause = extra.get("cause")
    return {**extra, "cause": f"{log_id}-{cause}"} if isinstance(cause, int) else extra


def _named(refs: Sequence[Ref] | None, ixs: Sequence[int], log_id: str) -> list[str] | None:
    return None if refs is None else [_name(refs[ix], log_id) for ix in ixs]


def _name(ref: Ref, log_id: str) -> str:
    return ref if isinstance(ref, str) else f"{log_id}-{ref}"

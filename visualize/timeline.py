"""The timeline of a chain or a key: a stave a player, time from left to right.

Owns which marks there are and where. On a stave each event that the player heard has a row: a thin line while it waited, a bar
while it was worked on, a dashed line between two attempts, a cross where one failed. What was said in answer stands as a dot
at the end of the bar, and drops to those who heard it. A timer is a dotted line from when it was set to when it was due.

Long gaps are shortened, and say how long they are. Invariants, held by tests: time never goes back from left to right; no text
lies over another; every event and every hearing is drawn once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

import msgspec

from ensemble.event import EPOCH, Event, microseconds
from ensemble.history import Hearing, History, Place, hearings_by_place
from ensemble.status import Chain
from visualize.measure import cut, lines, width
from visualize.palette import Role
from visualize.picture import Block, Label, Mark, Outline, Part, Picture, Point, Rect, Stroke

NAME, SMALL, TINY = 12.0, 10.0, 9.0
MARGIN = 24.0
PLOT = 1180.0
"""How wide the time is that all of it took."""
LABELLED = 160
"""With more rows than these their labels are left to the tooltips."""
MOST_ROWS = 60
"""On one stave; what does not fit beside or below shares rows."""
OUTSIDE = "outside"
MOTIFS = "motifs"
"""The staves of what was published from outside, and of matches."""


class Row(msgspec.Struct, frozen=True):
    """An event on the stave of who heard it, or on that of whoever published it."""

    stave: str
    event: Event
    hearings: Sequence[Hearing]
    """In order of their attempts; none where it is only said here."""


def timeline_of_key(past: History, key: str) -> Picture:
    """All that was said of a key, and who heard it."""
    return timeline(past, [event for event in past.events if event.key == key], f"key {key}")


def timeline_of_chain(past: History, chain: Chain) -> Picture:
    """What led to an event and what it led to."""
    found = {(event.shard, event.offset): event for event in chain.causes}
    waiting = [chain.tree]
    for reaction in waiting:
        found[reaction.event.shard, reaction.event.offset] = reaction.event
        waiting.extend(reaction.said)
    events = sorted(found.values(), key=lambda event: (event.written_at, event.offset))
    return timeline(past, events, f"why {chain.event.id}", chosen=chain.event)


def timeline(past: History, events: Sequence[Event], title: str, *, chosen: Event | None = None) -> Picture:
    """The timeline of some events of a history."""
    return _Timeline(past, events, title, chosen).picture()


class Axis:
    """Where a time stands. Gaps that would leave no room for the rest are shortened.

    Units: microseconds since 1970 to units of a picture.
    """

    def __init__(self, times: Iterable[int], room: float) -> None:
        self._times = sorted(set(times)) or [0]
        gaps = [b - a for a, b in zip(self._times, self._times[1:], strict=False)]
        most = _longest(gaps)
        drawn = [min(gap, most) for gap in gaps]
        scale = room / (sum(drawn) or 1)
        self._places = [0.0]
        for gap in drawn:
            self._places.append(self._places[-1] + gap * scale)
        self.cuts = [(self._places[i], self._places[i + 1], gap) for i, gap in enumerate(gaps) if gap > most]
        """Where time is shortened: from, to, and how long it was."""
        self.times = self._times

    def at(self, time_us: int) -> float:
        ix = min(max(bisect_right(self._times, time_us) - 1, 0), len(self._times) - 1)
        if ix == len(self._times) - 1:
            return self._places[ix]
        span = self._times[ix + 1] - self._times[ix]
        share = (time_us - self._times[ix]) / span
        return self._places[ix] + (self._places[ix + 1] - self._places[ix]) * min(max(share, 0.0), 1.0)


def _longest(gaps: Sequence[int]) -> int:
    """How long a gap is drawn at the most: a fifth of all that is drawn, unless half of the gaps are about as long."""
    ranked = sorted(gaps)
    longest = ranked[-1] if ranked else 0
    usual = ranked[(len(ranked) - 1) // 2] * 2 if ranked else 0
    most = longest
    while most > max(usual, 1) and most * 5 > sum(min(gap, most) for gap in gaps):
        most = most * 4 // 5
    return most if most * 2 <= longest else longest


class _Timeline:
    def __init__(self, past: History, events: Sequence[Event], title: str, chosen: Event | None) -> None:
        self._past = past
        self._events = {(event.shard, event.offset): event for event in events}
        self._title = title
        self._chosen = chosen
        self._hearings = hearings_by_place(past)
        self._ids = {event.id: place for place, event in self._events.items()}
        self._answers: dict[tuple[str, str], list[Event]] = {}
        """Player and id of what it heard -> what it said."""
        for place, event in self._events.items():
            speaker, cause = past.speakers.get(place), event.causationid
            if speaker is not None and cause is not None:
                self._answers.setdefault((speaker, cause), []).append(event)
        self._rows = list(self._all_rows())
        self._is_labelled = len(self._rows) <= LABELLED
        self._timers = self._own_timers()
        self._axis = Axis(self._moments(), PLOT)
        self._staves = list(dict.fromkeys(row.stave for row in self._rows))
        self._height = 27.0 if self._is_labelled else 7.0
        self._ends: dict[tuple[str, Place], Point] = {}
        """Where the bar of a hearing ends: what it said stands there."""

    def _all_rows(self) -> Iterator[Row]:
        for place, event in self._events.items():
            speaker = self._past.speakers.get(place)
            if event.causationid is None or speaker is None:
                yield Row(self._stave_of(place), event, ())
            by_player: dict[str, list[Hearing]] = {}
            for hearing in self._hearings.get(place, ()):
                by_player.setdefault(hearing.player, []).append(hearing)
            for player, hearings in by_player.items():
                yield Row(player, event, hearings)

    def _stave_of(self, place: Place) -> str:
        """Where an event is said."""
        return self._past.speakers.get(place) or (MOTIFS if place in self._past.parts else OUTSIDE)

    def _own_timers(self) -> list[tuple[str, Place, int, int, str]]:
        """Player, the event that it answered, set, due, topic."""
        offsets = {event.offset: place for place, event in self._events.items()}
        found = []
        for timer in self._past.timers:
            place = offsets.get(timer.cause) if isinstance(timer.cause, int) else self._ids.get(timer.cause)
            if place is None:
                continue
            for hearing in self._hearings.get(place, ()):
                if hearing.ended_us == timer.set_us:
                    found.append((hearing.player, place, timer.set_us, timer.due_us, timer.topic))
                    break
        return found

    def _moments(self) -> Iterator[int]:
        for event in self._events.values():
            yield _us(event)
        for row in self._rows:
            for hearing in row.hearings:
                yield hearing.ended_us
                if hearing.began_us is not None:
                    yield hearing.began_us
        for _, _, _, due_us, _ in self._timers:
            yield due_us

    def picture(self) -> Picture:
        if not self._events:
            return nothing(self._title)
        gutter = max(width(cut(name, 190, NAME, bold=True), NAME, bold=True) for name in self._staves) + 22
        left = MARGIN + gutter
        wide = left + PLOT + MARGIN + 30
        begin = min(self._axis.times)
        when = (EPOCH + timedelta(microseconds=begin)).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        count = f"{len(self._events):,} event{'' if len(self._events) == 1 else 's'}"
        span = short(max(self._axis.times) - begin)
        told = f"{count} in {span}, from {when} UTC"
        if not self._is_labelled:
            told += "; what each row is, its tooltip tells"
        head: list[Mark] = [
            Label(at=Point(MARGIN, MARGIN + 8), text=cut(self._title, 1000, 18, bold=True), size=18, bold=True, anchor="start"),
            Label(
                at=Point(MARGIN, MARGIN + 32),
                text=cut(told, wide - 2 * MARGIN, SMALL),
                size=SMALL,
                colour="muted",
                anchor="start",
            ),
        ]
        top = MARGIN + 74
        parts = [Part(marks=head, kind="title")]
        rows, bottoms = self._placed(top)
        y = top
        for i, name in enumerate(self._staves):
            parts.append(self._stave(name, Rect(MARGIN, y, wide - 2 * MARGIN, bottoms[name] - y), even=i % 2 == 0))
            y = bottoms[name]
        parts += self._time(left, top, y)
        drawn = [self._row(row, left, at) for row, at in rows]
        parts += self._drops(rows, left)
        parts += drawn
        parts += self._timer_parts(rows, left)
        parts.append(Part(marks=_legend(Point(MARGIN, y + 20), bool(self._timers)), kind="legend"))
        return Picture(width=wide, height=y + 52, parts=parts, title=self._title)

    def _placed(self, top: float) -> tuple[list[tuple[Row, float]], dict[str, float]]:
        """Each row with the middle of its line, and where each stave ends. Rows share a line where there is room for both."""
        placed: list[tuple[Row, float]] = []
        bottoms = {}
        by_stave: dict[str, list[Row]] = {name: [] for name in self._staves}
        for row in self._rows:
            by_stave[row.stave].append(row)
        y = top
        for name in self._staves:
            free: list[float] = []
            for row in sorted(by_stave[name], key=lambda row: _us(row.event)):
                begin, end = self._extent(row)
                line = next((i for i, until in enumerate(free) if until <= begin), None)
                if line is None:
                    line = len(free) if len(free) < MOST_ROWS else min(range(len(free)), key=free.__getitem__)
                    if line == len(free):
                        free.append(end)
                free[line] = max(free[line], end)
                placed.append((row, y + 6 + self._height * (line + 0.5)))
            y += max(1, len(free)) * self._height + 12
            bottoms[name] = y
        return placed, bottoms

    def _extent(self, row: Row) -> tuple[float, float]:
        """From where to where a row needs its line for itself, its label with it."""
        begin, end = self._axis.at(_us(row.event)), self._axis.at(self._end(row))
        own = (row.stave, _place(row.event))
        due = [self._axis.at(due) for player, place, _, due, _ in self._timers if (player, place) == own]
        if not self._is_labelled:
            return begin - 2, max([end, *due]) + 3
        left, text = self._label_at(row, begin)
        return min(begin, left) - 7, max([end + 7, left + width(text, TINY), *due]) + 9

    def _label_at(self, row: Row, begin: float) -> tuple[float, str]:
        text = cut(self._label(row), 260, TINY)
        return min(begin, PLOT - width(text, TINY) + 16), text

    def _label(self, row: Row) -> str:
        """What was heard, in how many attempts, and what of the answer nobody hears."""
        last = row.hearings[-1] if row.hearings else None
        tried = f" ({last.attempt} attempts)" if last is not None and last.attempt > 1 else ""
        said = [event.topic for event in self._said_by(row) if not self._is_heard(event)]
        return f"{row.event.topic}{tried}" + (f" → {', '.join(dict.fromkeys(said))}" if said else "")

    def _said_by(self, row: Row) -> list[Event]:
        return self._answers.get((row.stave, row.event.id), [])

    def _is_heard(self, event: Event) -> bool:
        return bool(self._hearings.get(_place(event)))

    def _end(self, row: Row) -> int:
        return max([_us(row.event), *(hearing.ended_us for hearing in row.hearings)])

    # What is drawn

    def _stave(self, name: str, at: Rect, *, even: bool) -> Part:
        text = cut(name, 190, NAME, bold=True)
        marks: list[Mark] = [
            Block(at=at, fill="lane" if even else None, line="lane.line"),
            Label(at=Point(at.x + 10, at.centre.y), text=text, size=NAME, bold=True, anchor="start"),
        ]
        return Part(marks=marks, kind="stave", title=name)

    def _time(self, left: float, top: float, bottom: float) -> Iterator[Part]:
        """The axis: ticks since the beginning, and where time is shortened."""
        begin = min(self._axis.times)
        cuts: list[Mark] = []
        taken: list[Rect] = []
        for a, b, gap in self._axis.cuts:
            text = short(gap)
            mid = left + (a + b) / 2
            label = Label(at=Point(mid, top - 26), text=text, size=TINY, colour="muted")
            if any(label.room.grown(4).overlaps(each) for each in taken):
                continue
            taken.append(label.room)
            cuts += [
                Block(at=Rect(left + a + (b - a) * 0.3, top, (b - a) * 0.4, bottom - top), fill="faint"),
                label,
                Stroke(points=[Point(left + a, top - 16), Point(left + b, top - 16)], line="wait", dash=(2, 3)),
            ]
        ticks: list[Mark] = []
        for i in range(9):
            x = PLOT * i / 8
            if any(a + 1 < x < b - 1 for a, b, _ in self._axis.cuts):
                continue
            text = f"+{short(self._time_at(x) - begin)}" if i else "0"
            label = Label(at=Point(left + x, top - 10), text=text, size=TINY, colour="muted")
            if any(label.room.grown(3).overlaps(each) for each in taken):
                continue
            taken.append(label.room)
            ticks += [label, Stroke(points=[Point(left + x, top - 3), Point(left + x, bottom)], line="faint")]
        yield Part(marks=cuts, kind="cuts")
        yield Part(marks=ticks, kind="axis")

    def _time_at(self, x: float) -> int:
        low, high = min(self._axis.times), max(self._axis.times)
        for _ in range(48):
            mid = (low + high) // 2
            low, high = (mid, high) if self._axis.at(mid) < x else (low, mid)
        return high

    def _row(self, row: Row, left: float, y: float) -> Part:
        line_y = y + (5.0 if self._is_labelled else 0.0)
        tall = 7.0 if self._is_labelled else 4.0
        x = left + self._axis.at(_us(row.event))
        marks: list[Mark] = []
        last_us = _us(row.event)
        for hearing in row.hearings:
            began = hearing.began_us if hearing.began_us is not None else hearing.ended_us
            a, b, c = (left + self._axis.at(time) for time in (last_us, began, hearing.ended_us))
            is_again = hearing.attempt > 1
            if b - a > 0.3:
                waiting: Role = "retry" if is_again else "wait"
                dash: tuple[float, ...] = (3, 3) if is_again else ()
                marks.append(Stroke(points=[Point(a, line_y), Point(b, line_y)], line=waiting, line_width=1.4, dash=dash))
            bar = Rect(b, line_y - tall / 2, max(c - b, 2.0), tall)
            marks.append(Block(at=bar, fill="work" if hearing.outcome == "heard" else "retry", radius=1.0))
            if hearing.outcome != "heard":
                marks += _failed(Point(bar.right, line_y), tall * 0.6, is_dead=hearing.outcome == "dead")
            last_us = hearing.ended_us
            self._ends[row.stave, _place(row.event)] = Point(bar.right, line_y)
        if not row.hearings:
            marks.append(_dot(Point(x, line_y), 4.0 if self._is_labelled else 2.2, "event.line"))
            self._ends.setdefault((row.stave, _place(row.event)), Point(x, line_y))
        elif self._said_by(row):
            marks.append(_dot(self._ends[row.stave, _place(row.event)], 3.4 if self._is_labelled else 1.8, "event.line"))
        if self._is_labelled:
            at, text = self._label_at(row, self._axis.at(_us(row.event)))
            is_chosen = self._chosen is not None and row.event == self._chosen
            label = Label(
                at=Point(left + at, y - 6), text=text, size=TINY, colour="ink" if is_chosen else "muted", anchor="start"
            )
            marks.append(Block(at=label.room.grown(0.5), fill="page"))
            if is_chosen:
                marks.append(Block(at=label.room.grown(1.5), line="feedback", line_width=1.2, radius=3))
            marks.append(label)
        kind = "hearing" if row.hearings else "said"
        return Part(marks=marks, kind=kind, id=f"{row.stave}:{row.event.id}", title=self._told(row))

    def _told(self, row: Row) -> str:
        event = row.event
        told = [f"{event.topic}  {event.key}", event.id, f"said {event.written_at:%Y-%m-%d %H:%M:%S.%f} UTC"]
        last_us = _us(event)
        for hearing in row.hearings:
            began = hearing.began_us if hearing.began_us is not None else hearing.ended_us
            times = f"waited {short(began - last_us)}, worked {short(hearing.ended_us - began)}"
            error = f"; {hearing.error}" if hearing.error else ""
            told.append(f"{row.stave}, attempt {hearing.attempt}: {hearing.outcome}; {times}{error}")
            last_us = hearing.ended_us
        return "\n".join(told)

    def _drops(self, rows: Sequence[tuple[Row, float]], left: float) -> Iterator[Part]:
        """From what was said to who heard it: straight down or up, at the time at which it was said."""
        timed = {(player, place) for player, place, *_ in self._timers}
        begins = {(row.stave, _place(row.event)): y + (5.0 if self._is_labelled else 0.0) for row, y in rows}
        for row, _ in rows:
            event, place = row.event, _place(row.event)
            if not row.hearings and place not in self._past.parts:
                continue
            speaker = self._past.speakers.get(place)
            cause = self._ids.get(event.causationid or "")
            if row.stave == MOTIFS:  # from what made it whole
                last = self._past.parts[place][-1]
                cause = self._ids.get(self._events[last].causationid or "") if last in self._events else None
                start = self._ends.get((self._stave_of(last), cause or last))
            else:
                start = self._ends.get((speaker, cause)) if speaker is not None and cause is not None else None
                start = start or self._ends.get((self._stave_of(place), place))
            if start is None:
                continue
            x, y = left + self._axis.at(_us(event)), begins[row.stave, place]
            points = [Point(x, start.y), Point(x, y)] if abs(start.y - y) > 6 else [Point(x - 1, y), Point(x, y)]
            if abs(start.x - x) > 1 and (speaker, cause) not in timed:
                points.insert(0, start)
            origin = self._stave_of(self._past.parts[place][-1] if row.stave == MOTIFS else place)
            title = f"{event.topic}\n{origin} → {row.stave}"
            head = 5.0 if self._is_labelled else 0.0
            marks: list[Mark] = [Stroke(points=points, line="event.line", line_width=1.0, head=head, radius=3)]
            yield Part(marks=marks, kind="arrow", title=title)

    def _timer_parts(self, rows: Sequence[tuple[Row, float]], left: float) -> Iterator[Part]:
        for player, place, set_us, due_us, topic in self._timers:
            start = self._ends.get((player, place))
            if start is None:
                continue
            x = left + self._axis.at(due_us)
            marks: list[Mark] = [
                Stroke(points=[start, Point(x, start.y)], line="timer", line_width=1.4, dash=(1.5, 3)),
                Outline(points=_hourglass(Point(x, start.y)), fill="timer"),
            ]
            yield Part(marks=marks, kind="timer", title=f"{topic}, {short(due_us - set_us)} later")


def _hourglass(at: Point) -> list[Point]:
    x, y = at
    return [Point(x - 4, y - 4), Point(x + 4, y - 4), at, Point(x + 4, y + 4), Point(x - 4, y + 4), at]


def _legend(at: Point, has_timers: bool) -> list[Mark]:
    x, y = at
    marks: list[Mark] = []
    signs: list[tuple[str, list[Mark]]] = [
        ("said", [_dot(Point(13, 0), 4.0, "event.line")]),
        ("waits", [Stroke(points=[Point(0, 0), Point(26, 0)], line="wait", line_width=1.4)]),
        ("works", [Block(at=Rect(0, -3.5, 26, 7), fill="work", radius=1)]),
        ("failed", [Block(at=Rect(0, -3.5, 18, 7), fill="retry", radius=1), *_failed(Point(20, 0), 4.2, is_dead=False)]),
        ("waits for another attempt", [Stroke(points=[Point(0, 0), Point(26, 0)], line="retry", line_width=1.4, dash=(3, 3))]),
        ("dead letter", _failed(Point(13, 0), 4.2, is_dead=True)),
    ]
    if has_timers:
        signs.append(("timer", [Stroke(points=[Point(0, 0), Point(26, 0)], line="timer", line_width=1.4, dash=(1.5, 3))]))
    signs.append(("time shortened", [Block(at=Rect(4, -6, 18, 12), fill="faint")]))
    for word, sign in signs:
        for mark in sign:
            marks.append(_shifted(mark, Point(x, y)))
        marks.append(Label(at=Point(x + 33, y), text=word, size=SMALL, colour="muted", anchor="start"))
        x += 33 + width(word, SMALL) + 18
    return marks


def _shifted(mark: Mark, by: Point) -> Mark:
    if isinstance(mark, Block):
        return msgspec.structs.replace(mark, at=Rect(mark.at.x + by.x, mark.at.y + by.y, mark.at.width, mark.at.height))
    if isinstance(mark, Label):
        return msgspec.structs.replace(mark, at=Point(mark.at.x + by.x, mark.at.y + by.y))
    return msgspec.structs.replace(mark, points=[Point(each.x + by.x, each.y + by.y) for each in mark.points])


def _dot(at: Point, radius: float, fill: Role) -> Mark:
    return Block(at=Rect(at.x - radius, at.y - radius, 2 * radius, 2 * radius), radius=radius, fill=fill)


def _failed(at: Point, far: float, *, is_dead: bool) -> list[Mark]:
    cross: list[Mark] = [
        Stroke(points=[Point(at.x - far, at.y - far), Point(at.x + far, at.y + far)], line="retry", line_width=1.6),
        Stroke(points=[Point(at.x - far, at.y + far), Point(at.x + far, at.y - far)], line="retry", line_width=1.6),
    ]
    if is_dead:
        box = Rect(at.x - far - 3, at.y - far - 3, 2 * far + 6, 2 * far + 6)
        return [Block(at=box, fill="page", line="retry", line_width=1.4, radius=2), *cross]
    return cross


def nothing(title: str) -> Picture:
    told = lines(f"Nothing was said: {title}.", 600, NAME, most=2)
    marks: list[Mark] = [
        Label(at=Point(MARGIN, 40 + 18 * i), text=line, size=NAME, anchor="start") for i, line in enumerate(told)
    ]
    return Picture(width=660, height=90, parts=[Part(marks=marks, kind="title")], title=title)


def _place(event: Event) -> Place:
    return event.shard, event.offset


def _us(event: Event) -> int:
    return microseconds(event.written_at)


def short(us: int) -> str:
    """A duration with its largest unit alone: 1.25 s."""
    for unit, size in (("d", 86_400e6), ("h", 3_600e6), ("min", 60e6), ("s", 1e6), ("ms", 1e3)):
        if us >= size:
            return f"{us / size:.3g} {unit}"
    return f"{us} µs"

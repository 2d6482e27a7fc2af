"""A band over time, player by player: how much it heard, how far it was behind, how long events took.

Owns what is counted into which stretch of time, and the small charts. Throughput is events heard a second; the lag is that of
the log; latency is from when an event was written until its outcome was, retries and waiting among it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from ensemble.event import EPOCH, microseconds
from ensemble.history import History
from visualize.measure import cut, width
from visualize.palette import Role
from visualize.picture import Block, Label, Mark, Part, Picture, Point, Rect, Stroke
from visualize.timeline import nothing, short

MARGIN = 24.0
CHART = Rect(0, 0, 330, 66)
STRETCHES = 66
NAME, SMALL, TINY = 12.0, 10.0, 9.0
PERCENTILES: Sequence[tuple[int, Role]] = ((50, "series.1"), (95, "series.2"), (99, "series.3"))


def overview(past: History, title: str) -> Picture:
    """Throughput, lag and latency of each player over time."""
    players = [name for name, each in past.sections.items() if each.heard or each.failed or each.lag]
    if not players:
        return nothing(title)
    span = max(1, past.until_us - past.begin_us)
    names = [cut(name, 190, NAME, bold=True) for name in players]
    gutter = max(width(name, NAME, bold=True) for name in names) + 20
    heads = ("heard a second", "lag, events", "latency")
    wide = 2 * MARGIN + gutter + 3 * (CHART.width + 62)
    begin = (EPOCH + timedelta(microseconds=past.begin_us)).strftime("%Y-%m-%d %H:%M:%S")
    events = sum(past.topics.values())
    told = f"{events:,} events in {short(span)}, from {begin} UTC"
    marks: list[Mark] = [
        Label(at=Point(MARGIN, MARGIN + 8), text=cut(title, 900, 18, bold=True), size=18, bold=True, anchor="start"),
        Label(at=Point(MARGIN, MARGIN + 32), text=told, size=SMALL, colour="muted", anchor="start"),
    ]
    lefts = [MARGIN + gutter + 52 + i * (CHART.width + 62) for i in range(3)]
    top = MARGIN + 78
    for left, head in zip(lefts, heads, strict=True):
        marks.append(Label(at=Point(left, top - 20), text=head, size=SMALL, bold=True, anchor="start"))
    x = lefts[2] + CHART.width
    for percent, role in reversed(PERCENTILES):
        text = f"p{percent}"
        marks.append(Label(at=Point(x, top - 20), text=text, size=TINY, colour="muted", anchor="end"))
        x -= width(text, TINY) + 6
        marks.append(Stroke(points=[Point(x - 14, top - 20), Point(x, top - 20)], line=role, line_width=2))
        x -= 24
    parts = [Part(marks=marks, kind="title")]
    y = top
    for name, shown in zip(players, names, strict=True):
        parts.append(_player(past, name, shown, [Rect(left, y, CHART.width, CHART.height) for left in lefts]))
        y += CHART.height + 26
    ticks: list[Mark] = []
    for left in lefts:
        for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
            at = Point(left + CHART.width * share, y - 12)
            text = "0" if not share else f"+{short(round(span * share))}"
            ticks.append(Label(at=at, text=text, size=TINY, colour="muted", anchor=anchor))  # type: ignore[arg-type]
    parts.append(Part(marks=ticks, kind="axis"))
    return Picture(width=wide, height=y + 12, parts=parts, title=title)


def _player(past: History, name: str, shown: str, charts: Sequence[Rect]) -> Part:
    at = charts[0]
    span = max(1, past.until_us - past.begin_us)
    marks: list[Mark] = [Label(at=Point(MARGIN, at.centre.y), text=shown, size=NAME, bold=True, anchor="start")]
    counts, latencies = _heard(past, name)
    seconds = span / 1e6 / STRETCHES
    marks += _chart(charts[0], [("series.1", [count / seconds for count in counts])], _count)
    lags = [(time_us, lag.get(name, 0)) for time_us, lag in past.lags]
    marks += _chart(charts[1], [("series.1", _stepped(lags, past.begin_us, span))], _count)
    lines = [(role, [_percentile(each, percent) for each in latencies]) for percent, role in PERCENTILES]
    marks += _chart(charts[2], lines, lambda us: short(round(us)))
    each = past.sections[name]
    title = f"{name}: {each.heard:,} heard, {each.failed:,} failed, {each.dead:,} dead, lag {each.lag:,}"
    return Part(marks=marks, kind="player", id=f"player:{name}", title=title)


def _heard(past: History, name: str) -> tuple[list[int], list[list[int]]]:
    """How many events it heard in each stretch of time, and how long each had taken, in microseconds."""
    written = {(event.shard, event.offset): microseconds(event.written_at) for event in past.events}
    span = max(1, past.until_us - past.begin_us)
    counts = [0] * STRETCHES
    latencies: list[list[int]] = [[] for _ in counts]
    for hearing in past.hearings:
        if hearing.player != name or hearing.outcome == "failed" or hearing.place not in written:
            continue
        ix = min(STRETCHES - 1, (hearing.ended_us - past.begin_us) * STRETCHES // span)
        counts[ix] += 1
        latencies[ix].append(hearing.ended_us - written[hearing.place])
    return counts, latencies


def _stepped(samples: Sequence[tuple[int, int]], begin_us: int, span: int) -> list[float]:
    """The most of each stretch; where nothing was told, what was told last."""
    most: list[float | None] = [None] * STRETCHES
    for time_us, value in samples:
        ix = min(STRETCHES - 1, (time_us - begin_us) * STRETCHES // span)
        most[ix] = max(most[ix] or 0.0, float(value))
    filled = [0.0]
    for told in most:
        filled.append(filled[-1] if told is None else told)
    return filled[1:]


def _percentile(values: Sequence[int], percent: int) -> float | None:
    """The nearest rank; None of nothing."""
    if not values:
        return None
    ranked = sorted(values)
    return float(ranked[min(len(ranked) - 1, -(-len(ranked) * percent // 100) - 1)])


def _chart(at: Rect, series: Sequence[tuple[Role, Sequence[float | None]]], told: Callable[[float], str]) -> list[Mark]:
    """Lines over time from 0 to the most, which stands beside."""
    most = max((value for _, values in series for value in values if value is not None), default=0.0)
    marks: list[Mark] = [Block(at=at, fill="lane", line="lane.line")]
    text = cut(told(most), 48, TINY)
    marks.append(Label(at=Point(at.x - 6, at.y + 6), text=text, size=TINY, colour="muted", anchor="end"))
    marks.append(Label(at=Point(at.x - 6, at.bottom - 5), text="0", size=TINY, colour="muted", anchor="end"))
    step = at.width / STRETCHES
    for role, values in series:
        run: list[Point] = []
        for i, value in enumerate([*values, None]):
            if value is None:
                if run:
                    marks.append(Stroke(points=run, line=role, line_width=1.5, radius=0))
                run = []
                continue
            y = at.bottom - 1 - (at.height - 5) * (value / most if most else 0.0)
            run += [Point(at.x + i * step, y), Point(at.x + (i + 1) * step, y)]
    return marks


def _count(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"

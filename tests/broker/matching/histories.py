"""Random motifs and random histories, and how a matcher hears these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from ensemble.broker.matching import Match, Matcher, Pattern
from ensemble.event import Rows, encode
from ensemble.motif import Motif, parse
from ensemble.score.condition import parse as check_condition
from ensemble.score.units import duration_us
from tests.broker.matching.oracle import Heard, Said

MINUTE = 60_000_000
TOPICS = ("A", "B", "C")


def read(document: Any, **motifs: Any) -> Motif:
    return parse(document, duration_us=duration_us, check_where=check_condition, motifs=motifs)


def minutes(least: int, most: int) -> st.SearchStrategy[str]:
    return st.integers(least, most).map(lambda count: f"{count}m")


@st.composite
def documents(draw: st.DrawFn, most_deep: int = 3) -> Any:
    """A motif as a score would write it; some are refused when they are read."""
    labels: list[str] = []
    made = draw(st.sampled_from(("seq", "seq", "all", "count", "every", "gap", "any")))
    document = _form(draw, str(made), most_deep, labels, [])
    if draw(st.integers(0, 3)) == 0 and "any" not in document:
        document["by"] = "card"
    if draw(st.integers(0, 1)):
        document["after"] = "no-skip"
    return document


def _leaf(draw: st.DrawFn, labels: list[str], before: list[str]) -> Any:
    topic = draw(st.sampled_from((*TOPICS, "*")))
    if draw(st.integers(0, 2)):
        return topic
    leaf: dict[str, Any] = {"event": topic}
    if draw(st.booleans()):
        leaf["as"] = f"l{len(labels)}"
        labels.append(leaf["as"])
    if before != [] and draw(st.booleans()):
        leaf["where"] = f"data.x {draw(st.sampled_from(('==', '>', '!=')))} {draw(st.sampled_from(before))}.data.x"
    elif draw(st.booleans()):
        leaf["where"] = f"data.x {draw(st.sampled_from(('==', '>')))} {draw(st.integers(1, 2))}"
    return leaf


def _part(draw: st.DrawFn, deep: int, labels: list[str], before: list[str]) -> Any:
    if deep <= 0 or draw(st.integers(0, 9)) < 6:
        return _leaf(draw, labels, before)
    return _form(draw, draw(st.sampled_from(("seq", "all", "count", "every", "gap", "any"))), deep - 1, labels, before)


def _form(draw: st.DrawFn, kind: str, deep: int, labels: list[str], before: list[str]) -> dict[str, Any]:
    form: dict[str, Any]
    outside = len(labels)
    if kind == "seq":
        parts: list[Any] = [_part(draw, deep, labels, before)]
        known = [*before, *labels[outside:]]
        for _ in range(draw(st.integers(1, 3))):
            role = draw(st.sampled_from(("", "", "", "not", "next", "optional", "times")))
            start = len(labels)
            part = _part(draw, deep, labels, known)
            if role == "times":
                part = {"count": part, "times": draw(st.sampled_from((2, "1..2", "2..3", "2..")))}
            parts.append({role: part} if role in ("not", "next", "optional") else part)
            if role not in ("not", "times"):
                known += labels[start:]
        form = {"seq": parts}
    elif kind == "all":
        parts = [_part(draw, deep, labels, before) for _ in range(draw(st.integers(2, 3)))]
        if draw(st.integers(0, 3)) == 0:
            parts.append({"optional": _part(draw, deep, labels, before)})
        form = {"all": parts}
    elif kind == "any":
        return {"any": [_part(draw, deep, labels, before) for _ in range(2)]}
    elif kind == "count":
        form = {"count": _part(draw, deep, labels, before), "times": draw(st.sampled_from((1, 2, 3, "1..2", "2..3", "2..")))}
    elif kind == "gap":
        form = {"gap": draw(minutes(1, 3)), "of": _leaf(draw, labels, before)}
        if draw(st.booleans()):
            form["within"] = draw(minutes(3, 6))
    else:
        form = {"every": draw(minutes(1, 3)), "of": _leaf(draw, labels, before)}
        if draw(st.booleans()):
            form["sliding"] = draw(minutes(3, 6))
    if kind in ("seq", "all"):
        inside = labels[outside:]
        if len(inside) >= 2 and draw(st.booleans()):
            a, b = draw(st.lists(st.sampled_from(inside), min_size=2, max_size=2, unique=True))
            form["where"] = f"{a}.data.x {draw(st.sampled_from(('<', '==', '!=')))} {b}.data.x"
    if kind in ("seq", "all", "count") and draw(st.integers(0, 3)):
        form["within"] = draw(minutes(1, 8))
    if draw(st.integers(0, 7)) == 0:
        form["by"] = "card"
    return form


@st.composite
def histories(draw: st.DrawFn, most: int = 12) -> list[Said]:
    """Events one after the other; several may have one time."""
    time_us = 0
    said = []
    for at in range(draw(st.integers(0, most))):
        time_us += draw(st.sampled_from((0, 1, 1, 1, 2, 3))) * MINUTE
        data = {"x": draw(st.integers(1, 3)), "card": draw(st.sampled_from((7, 7, 8)))}
        if draw(st.integers(0, 9)) == 0:
            data = {}
        topic = draw(st.sampled_from((*TOPICS, "A", "B")))
        said.append(Said(at, time_us, topic, draw(st.sampled_from(("k", "k", "k", "l"))), data))
    return said


def frames(history: Sequence[Said]) -> list[list[Said]]:
    """The events of one time together."""
    made: list[list[Said]] = []
    for said in history:
        if made and made[-1][0].time_us == said.time_us:
            made[-1].append(said)
        else:
            made.append([said])
    return made


def rows_of(said: Sequence[Said]) -> Rows:
    topics = list(dict.fromkeys(each.topic for each in said))
    return Rows(
        "test", 0, said[0].at, said[0].time_us, topics, [topics.index(each.topic) for each in said],
        [each.key for each in said], [encode(each.data) for each in said], ["/test"], 0,
    )  # fmt: skip


def hear(motif: Motif, history: Sequence[Said], now_us: int, *, torn: int = -1) -> list[Heard]:
    """What a matcher hears of a history; before frame `torn` it is written down, and read again."""
    matcher = Matcher(Pattern(motif, "_heard"))
    heard: list[Match] = []
    for number, frame in enumerate(frames(history)):
        if number == torn:
            kept = msgspec.msgpack.decode(msgspec.msgpack.encode(matcher.dump()), strict=False)
            matcher = Matcher(Pattern(motif, "_heard")).load(kept)
        heard += matcher.advance(frame[0].time_us)
        heard += [match for _, match in matcher.hear(rows_of(frame), 0, frame[0].time_us)]
    heard += matcher.advance(now_us)
    return [_told(match) for match in heard]


def _told(match: Match) -> Heard:
    labels = {label: (at,) if isinstance(at, int) else tuple(sorted(at)) for label, at in match.labels.items()}
    return Heard(match.key, match.at_us, tuple(match.offsets), tuple(sorted(labels.items())))

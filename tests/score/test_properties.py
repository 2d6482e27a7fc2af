"""Whatever is done to a good score, what comes of it is a score or a ScoreError, never another exception."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import ensemble
from ensemble.errors import ScoreError
from ensemble.motif import (
    AllOf,
    AnyOf,
    Count,
    Motif,
    Not,
    Seq,
    Topic,
    Window,
    document,
    leaves,
    matches,
    overlap,
    parse,
    topics,
)
from ensemble.score import check
from ensemble.score.units import duration_us, rate, size_bytes
from tests.effort import some

GOOD = """\
# A score with everything in it.
ensemble: 1
name: everything
about: "What there is: all of it."
x-retry: &retry {attempts: 3, first: 10ms, most: 1s}
events:
  order.placed:
    key: order_id
    schema: {type: object, required: [order_id], properties: {order_id: {type: string}, total: {type: number}}}
  payment.*: {key: order_id}
motifs:
  paid: [payment.captured, {event: payment.declined, where: data.total > 100 && key != ""}]
  ready: {seq: [order.placed, {not: payment.declined}, payment.captured], within: 30m, by: order_id}
players:
  payment:
    play: parts.good:shout
    on: order.placed
    emits: [payment.captured, payment.declined]
    with: {currency: EUR, limits: [1, 2.5, true, null]}
    section: {min: 1, max: 16, batch: 500, linger: 5ms, idle: 30s, cpus: 0.5, gpus: 0, memory: 1GiB}
    retry: {<<: *retry, factor: 2, jitter: 0.1}
    timeout: 5s
    on_failure: {emit: payment.failed}
    order: key
    by: customer.id
    from: now
  books: {play: "parts.good:shout", on: paid, on_failure: hold}
sources:
  checkout: {file: orders.jsonl, topic: order.placed, rate: 500/s}
  nightly: {every: 24h, topic: books.close, data: {a: 1}}
stage: {kind: solo}
store: {url: "memory:", durability: memory, dedupe: 24h}
silence:
  - {code: unheard-event, at: "events[books.close]", reason: people read it}
costs: {payment: 0.2}
"""

ODD = st.sampled_from([
    "\t", "\0", "\x07", "'", '"', "{", "}", "[", "]", ":", ": ", "- ", "&a ", "*a", "!x ", "|", ">", "#", "%", "@", "`", "\n",
    "${", "${A}", "$${", "\ufeff", "\u2028", "é", "🎷", "---\n", "<<: ", "~", "? ", "1e999", "0x", ".inf", "\\",
])  # fmt: skip
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


def loaded_or_refused(source: Any) -> None:
    try:
        score = ensemble.load(source)
    except ScoreError as error:
        told = [str(finding) for finding in error.findings]
    else:
        assert ensemble.load(score.document) == score
        told = [str(finding) for finding in check(score, imports=False)] or ["nothing is wrong"]
    assert told
    assert all(told)


@settings(max_examples=some(300), deadline=None)
@given(st.data())
def test_a_good_text_with_characters_changed_is_a_score_or_is_refused(data: st.DataObject) -> None:
    text = GOOD
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        upto = min(len(text), at + data.draw(st.integers(0, 4)))
        text = text[:at] + data.draw(ODD | st.text(max_size=3)) + text[upto:]

    loaded_or_refused(text + "\n")


@settings(max_examples=some(200), deadline=None)
@given(st.data())
def test_a_good_text_with_lines_moved_is_a_score_or_is_refused(data: st.DataObject) -> None:
    lines = GOOD.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        line = lines.pop(data.draw(st.integers(0, len(lines) - 1)))
        for _ in range(data.draw(st.integers(0, 2))):
            lines.insert(data.draw(st.integers(0, len(lines))), " " * data.draw(st.integers(0, 3)) + line)

    loaded_or_refused("\n".join(lines) + "\n")


@settings(max_examples=some(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_good_document_with_values_replaced_is_a_score_or_is_refused(data: st.DataObject) -> None:
    whole = msgspec.json.decode(msgspec.json.encode(ensemble.load(GOOD).document))
    for _ in range(data.draw(st.integers(1, 3))):
        place = whole
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(place[key], (dict, list)) and data.draw(st.integers(0, 3)):
                place = place[key]
                continue
            place[key] = data.draw(PLAIN)
            if isinstance(place, dict) and data.draw(st.booleans()):
                place[data.draw(st.text(max_size=6))] = data.draw(PLAIN)
            break

    loaded_or_refused(whole)


@settings(max_examples=some(200), deadline=None)
@given(st.binary(max_size=200))
def test_a_file_of_any_bytes_is_a_score_or_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)

    loaded_or_refused(path)


@settings(max_examples=some(100), deadline=None)
@given(PLAIN)
def test_a_mapping_of_anything_is_a_score_or_is_refused(value: Any) -> None:
    loaded_or_refused({"name": "x", "players": value, "events": value, "motifs": {"m": value}, "store": value})


# Motifs

TOKENS = st.sampled_from(["a", "b", "order", "placed", "_band", "x-1"])
PATTERNS = st.builds(
    lambda tokens, last: ".".join([*tokens, *last]),
    st.lists(TOKENS | st.just("*"), min_size=1, max_size=3),
    st.sampled_from([[], [">"]]),
)
TOPICS = st.lists(TOKENS, min_size=1, max_size=4).map(".".join)
US = st.integers(1, 10**12)
BY = st.none() | st.sampled_from(["id", "customer.id"])
CELS = st.none() | st.sampled_from(["data.x > 1", "key == 'a'"])


def parts(inner: st.SearchStrategy[Any], size: int) -> st.SearchStrategy[tuple[Any, ...]]:
    """Parts of which no two are the same topic."""
    return st.lists(inner, min_size=size, max_size=3, unique_by=str).map(tuple)


def between(ends: tuple[Any, Any], absent: Any, within: int | None) -> Seq:
    return Seq((ends[0], Not(absent), ends[1]), within)


def followed_by_none(first: Any, absent: Any, within: int) -> Seq:
    return Seq((first, Not(absent)), within)


def composed(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    two = st.lists(inner, min_size=2, max_size=2, unique_by=str).map(tuple)
    return st.one_of(
        st.builds(AnyOf, parts(inner, 1)),
        st.builds(AllOf, parts(inner, 2), st.none() | US, BY, CELS),
        st.builds(Count, inner, st.integers(1, 99), st.none() | US, BY),
        st.builds(Window, st.builds(Topic, PATTERNS, CELS), US, BY),
        st.builds(lambda of, gap, by: Window(of, None, by, None, gap), st.builds(Topic, PATTERNS, CELS), US, BY),
        st.builds(Count, inner, st.integers(1, 9), US, BY, st.sampled_from([9, 0])),
        st.builds(between, two, inner, st.none() | US),
        st.builds(followed_by_none, inner, inner, US),
    )


def takes_its_time(motif: Motif) -> bool:
    """Whether no part of it is over before what it holds can be, which is refused."""
    try:
        parse(document(motif), duration_us=duration_us)
    except ValueError as error:
        return "is over before" not in str(error)
    return True


MOTIFS: st.SearchStrategy[Any] = st.recursive(st.builds(Topic, PATTERNS, CELS), composed, max_leaves=5)


@settings(max_examples=some(300), deadline=None)
@given(MOTIFS)
def test_a_motif_written_down_is_read_as_the_same_motif(motif: Motif) -> None:
    assume(takes_its_time(motif))
    written = document(motif)

    read = parse(written, duration_us=duration_us)

    assert read == motif
    assert topics(read) == topics(motif)
    assert leaves(read) == leaves(motif)


def slow_matches(pattern: list[str], topic: list[str]) -> bool:
    """The meaning of a pattern, written down once more: token by token, without the rule for the band's own."""
    if not pattern:
        return not topic
    if pattern == [">"]:
        return len(topic) >= 1
    return bool(topic) and pattern[0] in ("*", topic[0]) and slow_matches(pattern[1:], topic[1:])


@settings(max_examples=some(500), deadline=None)
@given(PATTERNS, TOPICS)
def test_a_topic_fits_a_pattern_token_by_token(pattern: str, topic: str) -> None:
    is_own = topic.startswith("_") and pattern.partition(".")[0] != topic.partition(".")[0]

    assert matches(pattern, topic) == (not is_own and slow_matches(pattern.split("."), topic.split(".")))


@settings(max_examples=some(500), deadline=None)
@given(PATTERNS, PATTERNS, TOPICS)
def test_patterns_that_share_a_topic_overlap(a: str, b: str, topic: str) -> None:
    if matches(a, topic) and matches(b, topic):
        assert overlap(a, b)
    if overlap(a, b):
        assert overlap(b, a)


# Units


@given(st.text(max_size=12) | st.sampled_from(["5s", "1h30m", "64KiB", "5/s"]) | st.floats() | st.integers() | st.booleans())
def test_a_unit_is_read_or_refused_with_a_sentence(value: Any) -> None:
    for read in (duration_us, size_bytes, rate):
        told = ""
        try:
            assert read(value) >= 0
        except ValueError as error:
            told = str(error)
        assert told == "" or "is not a" in told or "out of bounds" in told


def test_the_score_of_these_properties_is_a_good_one(tmp_path: Path) -> None:
    path = tmp_path / "everything.yaml"
    path.write_text(GOOD)

    score = ensemble.load(path)

    assert set(score.players) == {"payment", "books"}
    assert score.players["payment"].retry.attempts == 3

"""Motifs: what each form means as a tree, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest

from ensemble.motif import AllOf, AnyOf, Count, Motif, Not, Seq, Topic, Window, leaves, matches, overlap, parse, topics
from ensemble.score.units import duration_us

MINUTE = 60_000_000


def read(value: Any, **motifs: Any) -> Motif:
    return parse(value, duration_us=duration_us, motifs=motifs)


@pytest.mark.parametrize(
    ("written", "motif"),
    [
        ("a.b", Topic("a.b")),
        (["a.b", "c.>"], AnyOf((Topic("a.b"), Topic("c.>")))),
        ({"event": "a", "where": "data.x > 1", "as": "first"}, Topic("a", "data.x > 1", "first")),
        ({"all": ["a", "b"], "within": "30m"}, AllOf((Topic("a"), Topic("b")), 30 * MINUTE)),
        (
            {"seq": ["a", {"not": "b"}, "c"], "by": "order.id"},
            Seq((Topic("a"), Not(Topic("b")), Topic("c")), None, "order.id"),
        ),
        ({"seq": ["a", {"not": ["b", "c"]}], "within": "1m"}, Seq((Topic("a"), Not(AnyOf((Topic("b"), Topic("c"))))), MINUTE)),
        ({"count": "a", "times": 5, "within": "1m"}, Count(Topic("a"), 5, MINUTE)),
        ({"every": "10s", "of": ["a", "b"]}, Window(AnyOf((Topic("a"), Topic("b"))), 10_000_000)),
        (
            {"all": [{"count": "a", "times": 2}, {"seq": ["b", "c"]}]},
            AllOf((Count(Topic("a"), 2), Seq((Topic("b"), Topic("c"))))),
        ),
        ({"event": "a", "x-note": "mine"}, Topic("a")),
    ],
    ids=str,
)  # fmt: skip
def test_each_form_is_read_as_what_it_means(written: Any, motif: Motif) -> None:
    assert read(written) == motif


def test_a_name_stands_for_its_motif_and_that_of_a_composite_one_for_the_event_that_it_is() -> None:
    named = {"paid": ["a", "b"], "done": {"seq": ["paid", "c"]}}

    assert read({"all": ["done", "d"]}, **named) == AllOf((Topic("done"), Topic("d")))
    assert read({"seq": ["paid", "c"]}, **named) == Seq((AnyOf((Topic("a"), Topic("b"))), Topic("c")))


def test_all_faults_are_told_together_each_with_its_place() -> None:
    with pytest.raises(ValueError, match=r"seq\.1: .*") as caught:
        read({"seq": ["a..b", 7, {"count": "c"}], "within": 5.5, "bye": "x"})

    places = [line.partition(": ")[0] for line in str(caught.value).splitlines()]
    assert places == ["bye", "seq.0", "seq.1", "seq.2"]


def test_motifs_that_name_each_other_in_a_circle_are_refused() -> None:
    with pytest.raises(ValueError, match="in a circle: a -> b -> a"):
        read("a", a=["b", "x"], b={"seq": ["a", "y"]})


def test_the_leaves_of_a_simple_motif_are_its_topics_and_a_composite_one_has_none() -> None:
    assert leaves(read(["a", ["b", {"event": "c", "where": "true"}]])) == (Topic("a"), Topic("b"), Topic("c", "true"))
    assert leaves(read(["a", {"all": ["b", "c"]}])) is None


def test_topics_are_all_patterns_in_a_motif_each_once() -> None:
    assert topics(read({"seq": ["a", {"not": "b"}, {"count": ["a", "c.*"], "times": 2}]})) == ("a", "b", "c.*")


@pytest.mark.parametrize(
    ("pattern", "topic", "fits"),
    [
        ("order.placed", "order.placed", True),
        ("order.placed", "order", False),
        ("order.*", "order.placed", True),
        ("order.*", "order.placed.late", False),
        ("order.>", "order.placed.late", True),
        ("order.>", "order", False),
        (">", "order", True),
        ("*", "_band", False),
        (">", "_band.dead", False),
        ("_band.>", "_band.dead", True),
        ("_band.*", "_band.dead", True),
    ],
)
def test_a_star_is_one_token_and_the_rest_is_one_or_more_and_the_bands_own_is_spelled_out(
    pattern: str, topic: str, fits: bool
) -> None:
    assert matches(pattern, topic) is fits


@pytest.mark.parametrize(
    ("a", "b", "meet"),
    [
        ("a.b", "a.b", True),
        ("a.*", "*.b", True),
        ("a.>", "*.b.c", True),
        ("a.>", "a", False),
        ("a.*", "b.*", False),
        (">", "_band.dead", False),
        ("*.b", "a.b.c", False),
    ],
)
def test_patterns_overlap_where_a_topic_fits_both(a: str, b: str, meet: bool) -> None:
    assert overlap(a, b) is meet
    assert overlap(b, a) is meet

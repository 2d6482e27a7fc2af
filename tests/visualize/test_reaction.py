"""The picture of a reaction graph: every node once, nothing over anything else, every text where it belongs."""

from __future__ import annotations

import time
from collections import Counter

import pytest

import ensemble
from tests.effort import some
from tests.visualize.geometry import faults
from tests.visualize.scores import random_score, score_of_all_kinds
from visualize.graph import links, reaction_graph
from visualize.layout import layout
from visualize.reaction import reaction_picture

REPERTOIRE = ("acme_fitness", "hello", "quakes")


@pytest.mark.parametrize("name", REPERTOIRE)
def test_in_the_repertoire_no_text_or_line_is_over_another(name: str) -> None:
    picture = reaction_picture(reaction_graph(ensemble.load(f"scores/{name}.yaml")))

    assert faults(picture) == []


@pytest.mark.parametrize(
    "begin", [0, *(pytest.param(begin, marks=pytest.mark.everywhere("as the others")) for begin in (20, 40, 60))]
)
def test_in_random_scores_no_text_or_line_is_over_another(begin: int) -> None:
    for seed in range(begin, begin + some(20)):
        picture = reaction_picture(reaction_graph(random_score(seed), imports=False))

        assert faults(picture) == [], f"seed {seed}"


def test_each_node_and_each_edge_is_drawn_once() -> None:
    graph = reaction_graph(score_of_all_kinds(), imports=False)

    drawn = Counter(part.id for part in reaction_picture(graph).parts if part.id)

    assert set(drawn.values()) == {1}
    lines = {f"{a}>{b}" for a, b, link in links(graph) if link.is_drawn and link.kind not in ("keeps", "dies")}
    assert set(drawn) == set(graph) | lines


def test_every_kind_of_node_is_drawn_without_a_fault() -> None:
    picture = reaction_picture(reaction_graph(score_of_all_kinds(), imports=False))

    assert faults(picture) == []
    assert {"event", "player", "motif", "source", "dead", "lane", "legend"} <= {part.kind for part in picture.parts}


def test_a_circle_is_drawn_with_its_feedback() -> None:
    picture = reaction_picture(reaction_graph(score_of_all_kinds(), imports=False))

    assert any("feedback" in part.kind for part in picture.parts)


@pytest.mark.parametrize("document", [{}, {"events": {"a.b": {}}}, {"players": {"p": {"play": "nowhere:p", "on": "a.b"}}}])
def test_the_smallest_scores_are_drawn(document: dict[str, object]) -> None:
    score = ensemble.load({"ensemble": 1, "name": "small", **document})

    assert faults(reaction_picture(reaction_graph(score, imports=False))) == []


def test_a_hundred_and_fifty_nodes_are_laid_out_and_drawn_within_three_seconds() -> None:
    from visualize.svg import svg

    score = random_score(4, size=150)
    began_s = time.process_time()  # whatever else the machine does

    text = svg(reaction_picture(reaction_graph(score, imports=False)))

    assert time.process_time() - began_s < 3
    assert text.count('class="player"') == 50


def test_the_same_score_is_laid_out_the_same() -> None:
    sizes = dict.fromkeys("abcdef", (80.0, 20.0))
    edges = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("e", "e")]

    one, two = layout(sizes, edges, {"a": "x", "b": "y"}), layout(sizes, edges, {"a": "x", "b": "y"})

    assert one == two
    assert len(one.feedback - {("e", "e")}) == 1

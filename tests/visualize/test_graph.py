"""The reaction graph's nodes and edges, and what is known of them, exactly."""

from __future__ import annotations

import networkx as nx  # type: ignore[import-untyped]
import pytest

import ensemble
from tests.visualize.scores import random_score, score_of_all_kinds
from visualize.graph import Graph, focus, links, nodes, reaction_graph


def edges(graph: Graph, *kinds: str) -> set[tuple[str, str]]:
    return {(a, b) for a, b, link in links(graph) if link.kind in kinds}


@pytest.fixture(scope="module")
def all_kinds() -> Graph:
    return reaction_graph(score_of_all_kinds(), imports=False)


def test_players_and_sources_lead_to_what_they_say(all_kinds: Graph) -> None:
    assert edges(all_kinds, "says") == {
        ("source:clock", "event:day.ended"),
        ("player:shipping", "event:order.shipped"),
        ("player:payment", "event:order.paid"),
        ("player:again", "event:order.placed"),
        ("player:remind", "event:customer.reminded"),
    }


def test_events_lead_to_who_hears_them_through_motifs(all_kinds: Graph) -> None:
    heard = edges(all_kinds, "hears")

    assert {b for a, b in heard if a == "event:order.placed"} == {
        "player:payment", "player:audit", "player:all", "motif:too-late", "motif:great", "motif:@sums",
    }  # fmt: skip
    assert {(a, b) for a, b in heard if a.startswith("motif:")} == {
        ("motif:too-late", "player:remind"),
        ("motif:great", "player:remind"),
        ("motif:@both", "player:both"),
        ("motif:@many", "player:many"),
        ("motif:@sums", "player:sums"),
    }


def test_a_motif_tells_its_operator_and_its_parts(all_kinds: Graph) -> None:
    motifs = {id: (node.name, *node.lines) for id, node in nodes(all_kinds) if node.kind == "motif"}

    assert motifs == {
        "motif:too-late": ("too-late", "seq within 15m", "1. order.placed", "2. no order.shipped"),
        "motif:great": ("great", "where data.total > 1000"),
        "motif:@both": ("all within 1h30m", "+ order.paid", "+ day.ended"),
        "motif:@many": ("5 times within 1m", "payment.failed where data.total > 100"),
        "motif:@sums": ("every 10s", "order.placed or order.paid"),
    }


def test_what_must_not_come_is_marked(all_kinds: Graph) -> None:
    assert [(a, b) for a, b, link in links(all_kinds) if link.is_negated] == [("event:order.shipped", "motif:too-late")]


def test_a_failure_leads_to_what_is_said_of_it_or_to_the_dead_letters(all_kinds: Graph) -> None:
    assert edges(all_kinds, "fails") == {("player:payment", "event:payment.failed")}
    assert all_kinds.nodes["dead:again"]["node"].name == "dead letters, held"
    assert "dead:payment" not in all_kinds


def test_a_pattern_that_many_topics_fit_is_a_node_and_draws_one_line() -> None:
    topics = [f"order.e{i}" for i in range(9)]
    score = {"ensemble": 1, "name": "wide", "events": {topic: {} for topic in topics}, "players": {"audit": {"on": "order.*"}}}

    graph = reaction_graph(ensemble.load(score), imports=False)

    assert edges(graph, "hears") == {("event:order.*", "player:audit")}
    assert edges(graph, "fits") == {(f"event:{topic}", "event:order.*") for topic in topics}
    assert not any(link.is_drawn for _, _, link in links(graph) if link.kind == "fits")


def test_events_stand_in_the_group_of_who_says_them_else_of_who_hears_them(all_kinds: Graph) -> None:
    groups = {id: node.group for id, node in nodes(all_kinds)}

    assert (groups["event:order.shipped"], groups["event:order.paid"]) == ("back", "front")


def test_tables_code_places_schemas_and_warnings_are_known() -> None:
    graph = reaction_graph(ensemble.load("scores/acme_fitness.yaml"))

    stock, invoice = graph.nodes["player:stock"]["node"], graph.nodes["event:invoice.recorded"]["node"]
    assert edges(graph, "keeps") >= {("player:stock", "table:stock"), ("player:cart", "table:cart")}
    assert "table:mail" not in graph
    assert stock.facts["code"].startswith("players/acme_fitness/stock.py:")
    assert stock.facts["in the score"].startswith("scores/acme_fitness.yaml:")
    assert invoice.facts["schema"]["required"] == ["invoice", "customer", "country", "items"]
    slip = {"ensemble": 1, "name": "slip", "players": {"p": {"on": "a.b", "play": "nowhere:p"}}}
    assert "nowhere" in reaction_graph(ensemble.load(slip)).nodes["player:p"]["node"].warnings[0]


def test_a_callable_takes_the_place_of_play() -> None:
    def count(event: ensemble.Event, ctx: ensemble.Context) -> None:
        ctx.state["n"] = 1

    score = ensemble.load({"ensemble": 1, "name": "given", "players": {"count": {"on": "a.b"}}})

    graph = reaction_graph(score, players={"count": count})

    assert edges(graph, "keeps") == {("player:count", "table:count")}
    assert "test_graph.py" in graph.nodes["player:count"]["node"].facts["code"]


def test_events_from_outside_and_those_that_nobody_hears_are_told_apart(all_kinds: Graph) -> None:
    score = {"ensemble": 1, "name": "ends", "events": {"a.b": {}}, "players": {"p": {"on": "a.b", "emits": ["c.d"]}}}

    graph = reaction_graph(ensemble.load(score), imports=False)

    ends = {node.name: (node.is_outside, node.is_unheard) for _, node in nodes(graph) if node.kind == "event"}
    assert ends == {"a.b": (True, False), "c.d": (False, True)}


def test_every_table_and_dead_letter_has_one_edge_from_its_player() -> None:
    for seed in range(30):
        graph = reaction_graph(random_score(seed), imports=False)
        for id, node in nodes(graph):
            if node.kind in ("table", "dead"):
                assert list(graph.predecessors(id)) == [f"player:{id.partition(':')[2]}"], f"seed {seed}"
                assert not list(graph.successors(id)), f"seed {seed}"


def test_focus_keeps_what_leads_there_and_where_it_leads() -> None:
    graph = reaction_graph(ensemble.load("scores/acme_fitness.yaml"))

    near = focus(graph, "payment", depth=2)

    assert set(near) == {
        "player:payment", "event:order.payment.requested", "event:payment.card.validated", "event:payment.failed",
        "player:order", "table:order", "dead:order",
    }  # fmt: skip
    assert set(focus(graph, "payment", depth=0)) == {"player:payment"}
    assert nx.is_weakly_connected(near)


def test_focus_on_a_name_that_there_is_not_says_which_was_meant() -> None:
    graph = reaction_graph(ensemble.load("scores/hello.yaml"))

    with pytest.raises(KeyError, match="did you mean greet"):
        focus(graph, "gret")

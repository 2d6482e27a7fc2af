"""The graph as text: Mermaid, DOT and SVG, escaped wherever names are odd; and the HTML file around an SVG."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import msgspec
import pytest

import ensemble
from tests.visualize.scores import random_score, score_of_all_kinds
from visualize.dot import dot
from visualize.graph import Graph, nodes, reaction_graph
from visualize.mermaid import mermaid
from visualize.page import page
from visualize.palette import DARK, LIGHT, ROLES
from visualize.reaction import reaction_picture
from visualize.svg import svg

SVG = "{http://www.w3.org/2000/svg}"
ODD = "</script><b onload='x'>&\"quoted\" \\ ]]> {{title}} \x07 ﷽"

HELLO_MERMAID = """\
flowchart LR
  n0>"door<br>code"]:::source
  n1(["guest.arrived"]):::event
  n2(["greeting.said"]):::event
  n3["greet"]:::player
  n4[/"dead letters"/]:::dead
  n5["voice"]:::player
  n6[/"dead letters"/]:::dead
  n0 --> n1
  n1 --> n3
  n2 --> n5
  n3 --> n2
  n3 --- n4
  n5 --- n6
  classDef source fill:#ccece3,stroke:#087c60,color:#1c2430
  classDef event fill:#ddf0fb,stroke:#468cb5,color:#1c2430
  classDef player fill:#faeccc,stroke:#ad7d0d,color:#1c2430
  classDef dead fill:#f7dfcc,stroke:#a14e0d,color:#1c2430
"""

HELLO_DOT = """\
digraph "hello" {
  rankdir=LR
  node [fontname="DejaVu Sans", fontsize=11, style=filled]
  "source:door" [label="door\\ncode", shape=cds, fillcolor="#ccece3", color="#087c60"]
  "event:guest.arrived" [label="guest.arrived", shape=box, fillcolor="#ddf0fb", color="#468cb5", style="filled,rounded"]
  "event:greeting.said" [label="greeting.said", shape=box, fillcolor="#ddf0fb", color="#468cb5", style="filled,rounded"]
  "player:greet" [label="greet", shape=box, fillcolor="#faeccc", color="#ad7d0d"]
  "dead:greet" [label="dead letters", shape=note, fillcolor="#f7dfcc", color="#a14e0d"]
  "player:voice" [label="voice", shape=box, fillcolor="#faeccc", color="#ad7d0d"]
  "dead:voice" [label="dead letters", shape=note, fillcolor="#f7dfcc", color="#a14e0d"]
  "source:door" -> "event:guest.arrived"
  "event:guest.arrived" -> "player:greet"
  "event:greeting.said" -> "player:voice"
  "player:greet" -> "event:greeting.said"
  "player:greet" -> "dead:greet" [dir=none]
  "player:voice" -> "dead:voice" [dir=none]
}
"""


@pytest.fixture(scope="module")
def odd() -> Graph:
    """A graph whose every text is odd."""
    graph = reaction_graph(score_of_all_kinds(), imports=False)
    graph.graph.update(name=ODD, about=ODD)
    for id, node in nodes(graph):
        graph.nodes[id]["node"] = msgspec.structs.replace(
            node, name=ODD + id, about=ODD, lines=(ODD,), group=ODD, warnings=(ODD,), facts={ODD: ODD}
        )
    return graph


def test_hello_in_mermaid_and_in_dot() -> None:
    graph = reaction_graph(ensemble.load("scores/hello.yaml"))

    assert mermaid(graph) == HELLO_MERMAID
    assert dot(graph) == HELLO_DOT


def test_mermaid_and_dot_have_each_node_once() -> None:
    for seed in range(20):
        graph = reaction_graph(random_score(seed), imports=False)

        assert len(re.findall(r"^\s+n\d+[\[(>{].*:::\w+$", mermaid(graph), re.MULTILINE)) == len(graph), f"seed {seed}"
        assert len(re.findall(r'^\s+"(?:\w+:[^"]+)" \[label=', dot(graph), re.MULTILINE)) == len(graph), f"seed {seed}"


def test_odd_names_end_no_quotes_in_mermaid_and_dot(odd: Graph) -> None:
    for line in mermaid(odd).splitlines():
        inside = re.sub(r"#\d+;|<br>", "", line).split('"')
        assert len(inside) in (1, 3), line
        assert len(inside) == 1 or not re.search(r"[<>&'\\`]", inside[1]), line
    for line in dot(odd).splitlines():
        assert re.sub(r"\\.", "", line).count('"') % 2 == 0, line


def test_svg_is_whole_whatever_names_are_in_it(odd: Graph) -> None:
    root = ElementTree.fromstring(svg(reaction_picture(odd)))

    ids = [group.get("data-id") for group in root.iter(f"{SVG}g") if group.get("data-id")]
    assert len(ids) == len(set(ids))
    assert {id for id, _ in nodes(odd)} <= set(ids)


def test_texts_keep_to_their_measured_room_in_any_font() -> None:
    root = ElementTree.fromstring(svg(reaction_picture(reaction_graph(ensemble.load("scores/acme_fitness.yaml")))))

    texts = list(root.iter(f"{SVG}text"))
    assert len(texts) > 70
    assert all(text.get("textLength") for text in texts)


def test_a_page_needs_no_other_file_and_is_forbidden_any() -> None:
    graph = reaction_graph(ensemble.load("scores/acme_fitness.yaml"))

    text = page(reaction_picture(graph), graph)

    assert "default-src 'none'" in text
    assert not re.search(r"(?:src|href)=|url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    assert "{{" not in text


def test_a_page_tells_schema_code_place_and_warnings_of_each_node(odd: Graph) -> None:
    graph = reaction_graph(ensemble.load("scores/acme_fitness.yaml"))

    for each in (graph, odd):
        text = page(reaction_picture(each), each)
        scripts = re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)
        data = json.loads(scripts[0])
        assert [node["id"] for node in data["nodes"]] == list(each)
        assert len(data["edges"]) == each.number_of_edges()
        assert len(scripts) == 2
        assert "<b onload" not in text
    assert "players/acme_fitness/stock.py" in page(reaction_picture(graph), graph)


def test_a_page_of_a_hundred_and_fifty_nodes_stays_below_a_megabyte_and_a_half() -> None:
    graph = reaction_graph(random_score(4, size=150), imports=False)

    assert len(page(reaction_picture(graph), graph).encode()) < 1_500_000


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_theme_has_a_colour_for_every_role_and_its_text_can_be_read(theme: object) -> None:
    assert theme in (LIGHT, DARK)
    colours = LIGHT.colours if theme is LIGHT else DARK.colours

    assert set(colours) == set(ROLES)
    for fill in ("page", "event.fill", "player.fill", "motif.fill", "source.fill", "table.fill", "dead.fill", "lane"):
        assert contrast(colours["ink"], colours[fill]) > 7, fill
        assert contrast(colours["muted"], colours[fill]) > 3, fill


def contrast(a: str, b: str) -> float:
    """As WCAG 2 has it."""
    one, two = sorted((_luminance(a), _luminance(b)))
    return (two + 0.05) / (one + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

"""The reaction graph as Mermaid text, which GitHub, GitLab and many editors draw by themselves."""

from __future__ import annotations

from collections.abc import Sequence

from visualize.graph import Graph, Node, links, nodes
from visualize.palette import LIGHT

SHAPES = {
    "event": ("([", "])"), "player": ("[", "]"), "motif": ("{{", "}}"), "source": (">", "]"), "table": ("[(", ")]"),
    "dead": ("[/", "/]"),
}  # fmt: skip
_CODES = {ord(each): f"#{ord(each)};" for each in "\"'<>&`|[](){}#;\\"}


def mermaid(graph: Graph) -> str:
    """A flowchart, each node once, in the order of the score."""
    numbers = {id: f"n{number}" for number, (id, _) in enumerate(nodes(graph))}
    told = ["flowchart LR"]
    groups: dict[str, list[Node]] = {}
    for _, node in nodes(graph):
        groups.setdefault(node.group, []).append(node)
    for number, (group, members) in enumerate(groups.items()):
        inset = "  "
        if group:
            told.append(f'  subgraph g{number}["{_text(group)}"]')
            inset = "    "
        told += [f"{inset}{_node(numbers[node.id], node)}" for node in members]
        told += ["  end"] if group else []
    for a, b, link in links(graph):
        arrow = {"fails": "-.->", "fits": "-.-", "keeps": "---", "dies": "---"}.get(link.kind, "-->")
        if link.is_drawn:
            told.append(f"  {numbers[a]} {arrow}{'|not|' if link.is_negated else ''} {numbers[b]}")
    return "\n".join([*told, *_classes(graph, numbers), ""])


def _node(number: str, node: Node) -> str:
    left, right = SHAPES[node.kind]
    text = "#10;".join(_text(line) for line in (node.name, *node.lines)).replace("#10;", "<br>")
    return f'{number}{left}"{text}"{right}:::{node.kind}'


def _classes(graph: Graph, numbers: object) -> Sequence[str]:
    kinds = dict.fromkeys(node.kind for _, node in nodes(graph))
    colours = LIGHT.colours
    return [
        f"  classDef {kind} fill:{colours[f'{kind}.fill']},stroke:{colours[f'{kind}.line']},color:{colours['ink']}"  # type: ignore[index]
        for kind in kinds
    ]


def _text(text: str) -> str:
    """Text in quotes: what Mermaid would take for its own, as codes."""
    return "".join(each if each.isprintable() else " " for each in text).translate(_CODES)

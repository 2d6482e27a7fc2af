"""`ensemble graph` and `timeline`: pictures of a score, and of what was played.

The one part of `ensemble` that knows `visualize`, beside the hooks of notebooks; it is imported when something is drawn.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from ensemble.cli.options import moment, store_url, usage
from ensemble.cli.terminal import result, sized, talk

Out = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE", help="Where to; its ending says what to draw.", show_default=False),
]
Dark = Annotated[bool, typer.Option("--dark", help="Light lines on a dark page.", show_default=False)]

NEEDED = {"svg": ("graphlay",), "html": ("graphlay",), "png": ("graphlay", "matplotlib"), "pdf": ("graphlay", "matplotlib")}
"""Packages of the extra `draw` that a form needs."""


def graph(
    score: Annotated[Path, typer.Argument(metavar="SCORE", help="The score, a YAML file.", show_default=False)],
    output: Out = None,
    focus: Annotated[
        str | None,
        typer.Option("--focus", metavar="NAME", help="Only what lies around this node, by its name.", show_default=False),
    ] = None,
    depth: Annotated[int, typer.Option("--depth", metavar="N", min=0, help="How many lines around it.")] = 2,
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="URL", help="Lay over it what was played into this store.", show_default=False),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="WHEN", help="With --store: as it stood then; as --since of events.", show_default=False),
    ] = None,
    dark: Dark = False,
) -> None:
    """Draw who says what and who hears it.

    FILE ends in .svg, .png, .pdf, .html (to click through), .mmd (Mermaid) or .dot. Without -o it is written as Mermaid text.
    With --store: width is traffic, colour the failure rate; what was never seen is pale, what was never declared is red.
    """
    import ensemble

    if at is not None and store is None:
        usage("--at says when in a store; say in which with --store URL")
    if depth != 2 and focus is None:
        usage("--depth says how far around a node; say around which with --focus NAME")
    form = None if output is None else _ready(output, with_texts=True)
    loaded = ensemble.load(score)
    from visualize.graph import focus as focused
    from visualize.graph import reaction_graph

    drawn = reaction_graph(loaded)
    played = None
    if store is not None:
        from visualize.played import lay_over

        with ensemble.read(store_url(store)) as reader:
            drawn, played = lay_over(drawn, reader.history(until=moment(at, "--at")))
    if focus is not None:
        drawn = focused(drawn, focus, depth)
    if output is None:
        from visualize.mermaid import mermaid

        result(mermaid(drawn).rstrip("\n"))
        talk(f"as a picture: ensemble graph {score} -o FILE, which ends in .svg, .png, .pdf or .html", sign="note")
        return
    if played is not None and form in ("mmd", "dot"):
        usage(f"what was played is drawn in .svg, .png, .pdf and .html; .{form} has the score alone: leave out --store")
    from visualize.files import write
    from visualize.palette import DARK
    from visualize.reaction import reaction_picture

    size = write(output, lambda: reaction_picture(drawn, played), graph=drawn, theme=DARK if dark else None)
    result(f"{output}: {len(drawn)} nodes, {sized(size)}")


def _ready(output: Path, *, with_texts: bool) -> str:
    """The form to draw, once there is all that it needs."""
    from ensemble.errors import EnsembleError
    from visualize.files import form_of

    form = form_of(output, with_texts=with_texts)
    missing = [name for name in NEEDED.get(form, ()) if importlib.util.find_spec(name) is None]
    if missing:
        what = " and ".join(missing)
        raise EnsembleError(f"to draw .{form} needs {what}, which is not installed here: pip install 'ensemble-band[draw]'")
    return form


COMMANDS = (("graph", graph, "ensemble graph scores/acme_fitness.yaml -o acme.svg"),)

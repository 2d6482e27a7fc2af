"""`ensemble graph` and `timeline`: pictures of a score, and of what was played.

The one part of `ensemble` that knows `visualize`, beside the hooks of notebooks; it is imported when something is drawn.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ensemble.cli.options import Store, Take, moment, store_url, usage
from ensemble.cli.terminal import quoted, result, sized, talk

if TYPE_CHECKING:
    from ensemble.history import History
    from ensemble.reader import Reader
    from ensemble.status import Chain
    from visualize.picture import Picture

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
    form = None if output is None else ready(output, with_texts=True)
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


def timeline(
    store: Store = None,
    take: Take = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="K", help="What happened to this key.", show_default=False)
    ] = None,
    why: Annotated[
        str | None,
        typer.Option("--why", metavar="EVENT-ID", help="What led to this event, and what it led to.", show_default=False),
    ] = None,
    output: Out = None,
    dark: Dark = False,
) -> None:
    """Draw what was played, over time.

    Of a key or a chain: a stave a player, with waiting, work, retries and timers. Of all: throughput, lag and latency.
    FILE ends in .svg, .png, .pdf or .html; without -o it is timeline.svg.
    """
    import ensemble

    if key is not None and why is not None:
        usage("--key and --why ask for two pictures; give one of them")
    output = output or Path("timeline.svg")
    ready(output)
    url = store_url(store, take)
    with ensemble.read(url) as reader:
        past = reader.history()
        if why is not None:
            draw_chain(past, chain_of(reader, why), output, dark=dark)
            return
        from visualize.timeline import timeline_of_key

        if key is None:
            from visualize.overview import overview

            _write(overview(past, reader.name), output, dark=dark)
            return
        count = sum(event.key == key for event in past.events)
        if not count:
            raise KeyError(
                f"nothing was said of the key {key!r} in {url}; `ensemble events --store {quoted(url)}` lists the events"
            )
        _write(timeline_of_key(past, key), output, dark=dark)


def chain_of(reader: Reader, id: str) -> Chain:
    """The chain of an event that is named by its id or its offset.

    Errors: OffsetError if there is no such event.
    """
    from ensemble.errors import OffsetError

    try:
        return reader.why(id)
    except OffsetError as unknown:
        if id.isdecimal() and int(id) < reader.status().events:
            return reader.why(f"{reader.id}-{id}")
        if next(reader.events(key=id), None) is not None:
            raise OffsetError(
                f"there is no event {id!r}, but {id} is a key; `ensemble events --key {quoted(id)} --store "
                f"{quoted(reader.url)}` lists its events, each with the offset by which `ensemble why` finds it"
            ) from None
        if not id.isdecimal():
            raise unknown
        return reader.why(f"{reader.id}-{id}")


def draw_chain(past: History, chain: Chain, output: Path, *, dark: bool) -> None:
    """Write the picture of a chain."""
    from visualize.timeline import timeline_of_chain

    _write(timeline_of_chain(past, chain), output, dark=dark)


def _write(picture: Picture, output: Path, *, dark: bool) -> None:
    from visualize.files import write
    from visualize.palette import DARK

    size = write(output, lambda: picture, theme=DARK if dark else None)
    result(f"{output}: {sized(size)}")


def ready(output: Path, *, with_texts: bool = False) -> str:
    """The form to draw, once there is all that it needs."""
    from ensemble.errors import EnsembleError
    from visualize.files import form_of

    form = form_of(output, with_texts=with_texts)
    missing = [name for name in NEEDED.get(form, ()) if importlib.util.find_spec(name) is None]
    if missing:
        what = " and ".join(missing)
        raise EnsembleError(f"to draw .{form} needs {what}, which is not installed here: pip install 'ensemble-band[draw]'")
    return form


COMMANDS = (
    ("graph", graph, "ensemble graph scores/acme_fitness.yaml -o acme.svg"),
    ("timeline", timeline, "ensemble timeline --store .ensemble/acme-fitness --key 573744 -o order.svg"),
)

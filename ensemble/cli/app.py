"""The commands and their groups, put together."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

import typer

from ensemble.cli import (
    audit,
    cluster,
    dead,
    draw,
    forget,
    hear,
    look,
    new,
    play,
    publish,
    rebuild,
    replay,
    score,
    stores,
    stories,
    takes,
)

ABOUT = "Event-driven choreography: players hear events and react with events, over a durable log. Nobody conducts."
FIRST = "First steps:\n\n  ensemble run scores/hello.yaml\n\n  ensemble new my-band"


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"ensemble {version('ensemble-band')}")
        except PackageNotFoundError:
            print("ensemble, of a checkout that is not installed; make setup installs it")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.", show_default=False)
    ] = False,
) -> None:
    pass


def _add(to: Any, commands: Any) -> None:
    for name, function, example in commands:
        to.command(name, epilog=f"Example:\n\n  {example}")(function)


def command() -> Any:
    """All of the command line, as one command."""
    # Boxes and colours for a person; for a pipe plain text, which also takes half the time.
    markup: Literal["rich"] | None = "rich" if sys.stdout.isatty() else None
    app = typer.Typer(
        help=ABOUT, epilog=FIRST, rich_markup_mode=markup, pretty_exceptions_enable=False, no_args_is_help=True
    )  # fmt: skip
    app.callback()(root)
    for group in (play, score, draw, publish, look, hear, stories, rebuild, audit, forget, cluster, stores, replay, new):
        _add(app, group.COMMANDS)
    _add(app, takes.ROLLBACK)
    groups = (("dead", dead.ABOUT, dead.COMMANDS), ("take", takes.ABOUT, (*takes.COMMANDS, *replay.OF_TAKES)))
    for name, about, commands in groups:
        below = typer.Typer(help=about, rich_markup_mode=markup, no_args_is_help=True)
        _add(below, commands)
        app.add_typer(below, name=name)
    return typer.main.get_command(app)

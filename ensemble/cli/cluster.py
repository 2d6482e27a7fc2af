"""`ensemble up`, `down`, `join`, `leave` and `scale`: bands that play on a Ray cluster without this process.

Owns how a band is named there: `ray:NAME` for all other commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensemble.cli.options import usage
from ensemble.cli.terminal import counted, result, talk

Score = Annotated[Path, typer.Argument(metavar="SCORE", help="The score, a YAML file.", show_default=False)]
Name = Annotated[str, typer.Argument(metavar="BAND", help="The band's name.", show_default=False)]
Address = Annotated[
    str | None,
    typer.Option(
        "--address", metavar="HOST:PORT", help="The Ray cluster; left out: the one of this machine.", show_default=False
    ),
]


def up(
    score: Score,
    address: Address = None,
    store: Annotated[
        str | None, typer.Option("--store", metavar="URL", help="Where the log is kept.", show_default=False)
    ] = None,
) -> None:
    """Bring a band up on a Ray cluster, where it plays on by itself.

    If it is up already it changes over to this score: its players are replaced one by one, each when it has nothing in flight.
    """
    import ensemble

    with ensemble.up(score, address=address, store=store) as band:
        now = band.status()
        result(f"{now.name}: up, with {counted(len(now.sections), 'player')}; {counted(now.events, 'event')} in its log")
        for note in now.notes:
            talk(note, sign="note", style="yellow")
        where = f"ray:{now.name}" + (f"@{address}" if address else "")
        result(f"next  ensemble status --store {where}")


def down(name: Name, address: Address = None) -> None:
    """End a band that is up. What it has in flight is finished; its store has all the rest."""
    import ensemble

    ensemble.down(name, address=address)
    result(f"{name}: down")


def join(name: Name, score: Score, address: Address = None) -> None:
    """Have the players of another score join a band that is up; nobody who plays there is stopped."""
    import ensemble

    loaded = ensemble.load(score)
    ensemble.join(name, loaded, address=address)
    result(f"{name}: joined by {loaded.name}, with {', '.join(loaded.players) or 'no players'}")


def leave(
    name: Name,
    joined: Annotated[str, typer.Argument(metavar="NAME", help="The name of the score that joined.", show_default=False)],
    address: Address = None,
) -> None:
    """Have a score that joined a band leave it again."""
    import ensemble

    ensemble.leave(name, joined, address=address)
    result(f"{name}: left by {joined}")


def scale(
    name: Name,
    player: Annotated[str, typer.Argument(metavar="PLAYER", help="Whose section.", show_default=False)],
    count: Annotated[
        str, typer.Argument(metavar="N", help="How many instances; auto: as many as there is work for.", show_default=False)
    ],
    address: Address = None,
) -> None:
    """Give a player so many instances, whatever there is to do."""
    from ensemble.stage.on_ray.stage import attach

    if count != "auto" and not count.isdecimal():
        usage(f"{count!r} is no number of instances; write 0, 1, 2 ... or auto")
    stage = attach(name, address)
    try:
        stage.scale(player, None if count == "auto" else int(count))
    finally:
        stage.close()
    result(f"{name}: {player} has {'as many instances as there is work for' if count == 'auto' else count} from now on")


COMMANDS = (
    ("up", up, "ensemble up scores/acme_fitness.yaml --address 10.0.0.7:6379"),
    ("down", down, "ensemble down acme-fitness"),
    ("join", join, "ensemble join acme-fitness loyalty.yaml"),
    ("leave", leave, "ensemble leave acme-fitness loyalty"),
    ("scale", scale, "ensemble scale acme-fitness payment 4"),
)

"""`ensemble rebuild`: tables made anew from the log by the code of now, compared with those that are there."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from ensemble.cli.codes import Code
from ensemble.cli.options import Json, Store, store_url
from ensemble.cli.terminal import counted, json_text, result, result_columns, result_json, shown, talk, width

if TYPE_CHECKING:
    from ensemble.rebuilding import Comparison

ROWS = 20
"""How many keys that differ are shown."""


def rebuild(
    score: Annotated[str, typer.Argument(metavar="SCORE", help="The score that names the code of now.", show_default=False)],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PLAYER]...", help="Whose tables; left out: of all that keep one.", show_default=False),
    ] = None,
    store: Store = None,
    switch: Annotated[
        bool,
        typer.Option(
            "--switch",
            help="Put the rebuilt tables in place; of a band that is up (--store ray:NAME) the code, too, while it plays. A "
            "store must not be played.",
            show_default=False,
        ),
    ] = False,
    skip_unheard: Annotated[
        bool,
        typer.Option("--skip-unheard", help="Leave out what the code of now can't hear, and switch.", show_default=False),
    ] = False,
    json: Json = False,
) -> None:
    """Make players' tables anew from the log, and compare them with those that are there.

    Their code of now hears all that they have heard so far once more, beside the band, which may play meanwhile: what they say
    is compared with what was said and goes nowhere. Exit code 3 if they can't hear some of these events.
    """
    import ensemble
    from ensemble.opening import of_ray
    from ensemble.ready import ready
    from ensemble.rebuilding import Rebuilding, is_kept_inside, keeps_state, rewrite

    url = store_url(score if store is None else store)
    players = ready(score, None).players
    with ensemble.read(url) as reader:
        played = reader.status().sections
        for name in names or ():
            reader._check_player(name)
            if name not in players:
                raise KeyError(f"score {score} has no player {name!r}; it has {', '.join(players)}")
        able = [name for name, player in players.items() if name in played and keeps_state(player)]
        chosen = names or [name for name in able if is_kept_inside(players[name])]
        if left_out := [] if names else [name for name in able if name not in chosen]:
            talk(f"{', '.join(left_out)}: left out, since outside: in the score says not to call it here", sign="note")
        if not chosen:
            talk(f"no player of {score} that keeps a table has played in {url}; there is nothing to rebuild", sign="note")
        is_unheard = False
        for name in chosen:
            if switch and url.startswith("ray:"):
                from ensemble.deployment import rebuild as beside

                band, address = of_ray(url)
                with beside(band, score, name, address=address) as rebuilding:
                    compared = rebuilding.switch(skip_unheard=skip_unheard)
            elif switch:
                compared = rewrite(url, players[name], skip_unheard=skip_unheard)
            else:
                with Rebuilding(players[name], [shard.log for shard in reader._shards]) as rebuilding:
                    compared = rebuilding.compare()
            _tell(compared, json=json, is_switched=switch)
            is_unheard = is_unheard or bool(compared.unheard)
    if is_unheard:
        raise typer.Exit(Code.DEAD)


def _tell(compared: Comparison, *, json: bool, is_switched: bool) -> None:
    if json:
        import msgspec

        result_json({**msgspec.structs.asdict(compared), "same": compared.is_same, "switched": is_switched})
        return
    result(compared.summary, style="bold")
    if compared.changes:
        room = width()
        most = None if room is None else max(20, (room - 28) // 2)
        rows = [
            (shown(key, 24), shown(json_text(then), most), shown(json_text(now), most))
            for key, (then, now) in islice(compared.changes.items(), ROWS)
        ]
        result()
        result_columns(("key", "as it was" if is_switched else "as it is", "rebuilt"), rows)
        if len(compared.changes) > ROWS:
            talk(f"{counted(len(compared.changes) - ROWS, 'key')} more; --json has all", sign="note")
    for line in compared.oddities():
        result(shown(line, width()))
    if is_switched:
        result("the rebuilt table is in place")  # and, of a band that is up, the code of now plays
    elif compared.changes:
        talk("nothing was changed; --switch puts the rebuilt table in place", sign="note")


COMMANDS = (("rebuild", rebuild, "ensemble rebuild scores/acme_fitness.yaml books"),)

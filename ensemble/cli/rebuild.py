"""`ensemble rebuild`: a player's table made anew from the log by the code of now, compared with the one that is there."""

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
    player: Annotated[str, typer.Argument(metavar="PLAYER", help="Whose table.", show_default=False)],
    score: Annotated[str, typer.Argument(metavar="SCORE", help="The score that names its code of now.", show_default=False)],
    store: Store = None,
    switch: Annotated[
        bool, typer.Option("--switch", help="Put the rebuilt table in place. Nobody may play the store.", show_default=False)
    ] = False,
    skip_unheard: Annotated[
        bool,
        typer.Option("--skip-unheard", help="Leave out what the code of now can't hear, and switch.", show_default=False),
    ] = False,
    json: Json = False,
) -> None:
    """Make a player's table anew from the log, and compare it with the one that is there.

    Its code of now hears all that it has heard so far once more, beside the band, which may play meanwhile: what it says is
    compared with what was said and goes nowhere. Exit code 3 if it can't hear some of these events.
    """
    import ensemble
    from ensemble.ready import ready
    from ensemble.rebuilding import Rebuilding, rewrite

    url = store_url(store or score)
    players = ready(score, None).players
    with ensemble.read(url) as reader:
        reader._check_player(player)
        if player not in players:
            raise KeyError(f"score {score} has no player {player!r}; it has {', '.join(players)}")
        if not switch:
            with Rebuilding(players[player], [shard.log for shard in reader._shards]) as rebuilding:
                compared = rebuilding.compare()
    if switch:
        compared = rewrite(url, players[player], skip_unheard=skip_unheard)
    _tell(compared, json=json, is_switched=switch)
    if compared.unheard:
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
        result("the rebuilt table is in place")
    elif compared.changes:
        talk("nothing was changed; --switch puts the rebuilt table in place", sign="note")


COMMANDS = (("rebuild", rebuild, "ensemble rebuild books scores/acme_fitness.yaml"),)

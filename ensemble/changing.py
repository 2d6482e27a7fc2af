"""What a band changes of itself while it plays: players that join, and tables that are rebuilt; solo, and on Ray.

Owns how one player of a changed score is made ready and comes to the stage. What a band lets its user ask is `band.py`'s, how a
table is rebuilt `rebuilding.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ensemble.player import Player
from ensemble.ready import Ready, ready
from ensemble.score import Score, load
from ensemble.stage.inbox import Role

if TYPE_CHECKING:
    from ensemble.band import Band
    from ensemble.rebuilding import Rebuilding, Writes
    from ensemble.stage.loop import Loop
    from ensemble.stage.on_ray.stage import RayStage
    from ensemble.stage.solo import SoloCrew

Call = Callable[..., Any]


def in_one_process(band: Band, loop: Loop, crew: SoloCrew, calls: dict[str, Call], *, is_live: bool) -> None:
    """Let a band change that is played here. `calls` are the callables that were given for its score."""
    folder = band.score.folder

    def add(document: dict[str, Any], name: str, call: Call | None) -> Score:
        given = _with(calls, name, call)
        changed = _ready(document, folder, given, is_live=is_live)
        _put(calls, given)
        crew.players[name] = changed.players[name]
        loop.rescore(document, roles_of(changed), {name})
        return changed.score

    def rebuild(document: dict[str, Any], name: str, call: Call | None) -> Rebuilding:
        from ensemble.rebuilding import Rebuilding

        given = calls if call is None and "play" not in document["players"][name] else _with(calls, name, call)
        changed = _ready(document, folder, given, is_live=is_live)

        def switch(writes: Callable[[int], Writes]) -> None:
            before = crew.players[name]
            crew.players[name] = changed.players[name]
            try:
                loop.rescore(document, roles_of(changed), {name}, writes={name: lambda: writes(0)})
            except BaseException:
                crew.players[name] = before
                raise
            _put(calls, given)
            band.score = changed.score

        return Rebuilding(changed.players[name], [loop.log], switch)

    band._adding, band._rebuilding = add, rebuild


def on_ray(band: Band, stage: RayStage, calls: dict[str, Call]) -> Band:
    """Let a band change that plays on Ray, and is spoken to from here. `calls` as above."""
    from ensemble.stage.on_ray.plan import Plan, plan_of

    folder = band.score.folder

    def own(document: dict[str, Any], name: str, call: Call | None, given: dict[str, Call]) -> tuple[Ready, Plan]:
        """The changed score made ready, and a plan that has this player."""
        changed = _ready(document, folder, given, is_live=stage.is_live())
        plan = plan_of(changed.score, given if call is None else {name: call}, changed.players, "")
        plan.folders = {name: str(Path(folder).resolve())}
        return changed, plan

    def add(document: dict[str, Any], name: str, call: Call | None) -> Score:
        given = _with(calls, name, call)
        changed, plan = own(document, name, call, given)
        stage.add(name, plan)
        _put(calls, given)
        return changed.score

    def rebuild(document: dict[str, Any], name: str, call: Call | None) -> Rebuilding:
        from ensemble.rebuilding import Rebuilding

        given = calls if call is None and "play" not in document["players"][name] else _with(calls, name, call)
        changed, plan = own(document, name, call, dict(given))

        def switch(writes: Callable[[int], Writes]) -> None:
            stage.switch(name, plan, writes)
            _put(calls, given)
            band.score = changed.score

        return Rebuilding(changed.players[name], [shard.log for shard in stage.shards], switch)

    band._adding, band._rebuilding = add, rebuild
    return band


def _ready(document: dict[str, Any], folder: str, calls: Mapping[str, Call], *, is_live: bool) -> Ready:
    return ready(msgspec.structs.replace(load(document), folder=folder), calls, is_live=is_live)


def _with(calls: Mapping[str, Call], name: str, call: Call | None) -> dict[str, Call]:
    """The callables with this one for a player, or none."""
    return {**{each: what for each, what in calls.items() if each != name}, **({} if call is None else {name: call})}


def _put(calls: dict[str, Call], given: Mapping[str, Call]) -> None:
    """From now on these are the callables that were given."""
    kept = dict(given)
    calls.clear()
    calls.update(kept)


def role_of(player: Player) -> Role:
    """What a stage needs to know of a player."""
    return Role(player.spec, player.shape.is_async, player.shape.batch)


def roles_of(prepared: Ready) -> dict[str, Role]:
    """The same of all players of a score."""
    return {name: role_of(player) for name, player in prepared.players.items()}

"""What can be known of `reads:` and `enrich:` from the score alone.

Owns the findings about lookups; `check` gives them their places.
"""

from __future__ import annotations

from collections.abc import Iterator

from ensemble.motif import is_pattern
from ensemble.score import reactions
from ensemble.score.code_check import Add
from ensemble.score.finding import Where
from ensemble.score.model import Lookup, PlayerSpec, Score


def say_of_lookups(score: Score, add: Add) -> None:
    """Tell `add` what is wrong with a score's lookups, or can't be right."""
    for name, player in score.players.items():
        for i, other in enumerate(player.reads):
            where: Where = ("players", name, "reads", i)
            if other not in score.players:
                _say_unknown(score, other, where, add)
                continue
            if (player.order == "all") != (score.players[other].order == "all"):
                whole, by_key = (name, other) if player.order == "all" else (other, name)
                wrong = f"{whole} has order: all, and so one lane for everything; {by_key} goes by the keys of its events"
                cure = "let both have order: all, or neither; or look it up by a path, with enrich:"
                add("reads-other-key", where, wrong, cure)
                continue
            ours, theirs = _keyed_by(score, player), _keyed_by(score, score.players[other])
            if ours and theirs and ours.isdisjoint(theirs):
                wrong = f"{name} goes by {_listed(ours)}, and {other} keeps its state by {_listed(theirs)}"
                cure = f"look it up by a path: enrich: {{{other}: '{other}[data.{min(theirs)}]'}}; or let both go by one key"
                add("reads-other-key", where, wrong, cure)
        for field, lookup in player.enrich.items():
            _say_of_field(score, player, field, lookup, add)


def _say_of_field(score: Score, player: PlayerSpec, field: str, lookup: Lookup, add: Add) -> None:
    where: Where = ("players", player.name, "enrich", field)
    if lookup.player not in score.players:
        _say_unknown(score, lookup.player, where, add)
    if score.stage.shards > 1 and not _is_here(score, player, lookup):
        path = lookup.path or "the event's key"
        wrong = f"in {score.stage.shards} shards what {lookup.player} keeps for {path} may lie in another than the event"
        cure = f"write by: {lookup.path}, which brings the event there" if lookup.path else "remove by:, or look up by its path"
        add("enrich-elsewhere", where, wrong, cure)
    for heard in reactions.heard_by(score, player.name):
        spec = None if is_pattern(heard.pattern) else score.event_spec(heard.pattern)
        fields = (spec.schema or {}).get("properties") if spec is not None else None
        if isinstance(fields, dict) and field in fields:
            wrong = f"{heard.pattern} has a field {field!r} of its own, which this player would not see"
            add("enrich-covers", where, wrong, "give the lookup another name")
            break


def _say_unknown(score: Score, name: str, where: Where, add: Add) -> None:
    cure = "if it is one of a band that this score joins, silence this with a reason"
    add("lookup-unknown", where, f"there is no player {name!r}", cure, word=name, known=score.players)


def _is_here(score: Score, player: PlayerSpec, lookup: Lookup) -> bool:
    """Whether what is looked up lies in the shard in which the event is heard."""
    if lookup.path is None:
        return player.order != "all" and player.by is None
    if player.by is not None:
        return player.by.removeprefix("data.") == lookup.path
    return player.order != "all" and _keyed_by(score, player) == {lookup.path}


def _keyed_by(score: Score, player: PlayerSpec) -> set[str]:
    """The paths of the keys by which a player goes; none where they are not all known."""
    if player.order == "all":
        return set()
    if player.by is not None:
        return {player.by.removeprefix("data.")}
    paths = set(_key_paths(score, player))
    return set() if None in paths else {path for path in paths if path is not None}


def _key_paths(score: Score, player: PlayerSpec) -> Iterator[str | None]:
    for heard in reactions.heard_by(score, player.name):
        spec = None if is_pattern(heard.pattern) else score.event_spec(heard.pattern)
        yield None if spec is None or spec.key is None else spec.key.removeprefix("data.")


def _listed(paths: set[str]) -> str:
    return " and ".join(sorted(paths))

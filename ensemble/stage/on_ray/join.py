"""Scores and players that join a band, and scores that leave it again: plans made of plans.

Owns what goes together: no player, source, motif or event of one score may be another of the other.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ensemble.errors import ScoreError, Unavailable
from ensemble.score import Score, load
from ensemble.stage.on_ray.plan import Plan

KINDS = ("events", "motifs", "players", "sources")


def joined(plan: Plan, score: Score, own: Plan) -> tuple[Plan, list[str]]:
    """The plan of a band with another score in it, and the players that are replaced: none but that score's own.

    A score that has joined before takes its own place.
    Errors: ScoreError where the two do not go together.
    """
    if score.name in plan.joined:
        plan, _ = left(plan, score.name)
    document = _merged(plan.document, {kind: own.document.get(kind, {}) for kind in KINDS})
    players = list(score.players)
    theirs = {kind: [name for name in own.document.get(kind, {}) if name not in plan.document.get(kind, {})] for kind in KINDS}
    new = msgspec.structs.replace(
        plan,
        document=document,
        calls={**plan.calls, **own.calls},
        kinds={**plan.kinds, **own.kinds},
        folders={**plan.folders, **dict.fromkeys(players, score.folder)},
        joined={**plan.joined, score.name: theirs},
    )
    return new, players


def added(plan: Plan, name: str, own: Plan) -> Plan:
    """The plan of a band with one more player in it, or with another in the place of the one of its name.

    Shapes: `own` is a plan that has this player; what else is in it does not count.
    Errors: ScoreError where the player does not go together with the rest.
    """
    document = {**plan.document, "players": {**plan.document.get("players", {}), name: own.document["players"][name]}}
    load(document)
    calls = {each: call for each, call in plan.calls.items() if each != name}
    return msgspec.structs.replace(
        plan,
        document=document,
        calls={**calls, name: own.calls[name]} if name in own.calls else calls,
        kinds={**plan.kinds, name: own.kinds[name]},
        folders={**plan.folders, **({name: own.folders[name]} if name in own.folders else {})},
    )


def carried(old: Plan, new: Plan) -> Plan:
    """A new plan of a band that is up, with the scores in it that had joined the old one.

    Errors: ScoreError where they do not go together with the new one; Unavailable if its store is another: then it is another
    band, which happens to have this name.
    """
    if new.url != old.url:
        name = old.document["name"]
        raise Unavailable(
            f"band {name} is up and keeps its log in {old.url}; this score would have it in {new.url}: give this one another "
            f"name, or say --store {old.url} to change the band that is up, or take that one down first (ensemble down {name})"
        )
    new = msgspec.structs.replace(new, run=old.run, called=old.called)
    for name, theirs in old.joined.items():
        parts = {kind: {each: old.document[kind][each] for each in theirs[kind]} for kind in KINDS}
        players = theirs["players"]
        new = msgspec.structs.replace(
            new,
            document=_merged(new.document, parts),
            calls={**new.calls, **{each: old.calls[each] for each in players if each in old.calls}},
            kinds={**new.kinds, **{each: old.kinds[each] for each in players}},
            folders={**new.folders, **{each: folder for each, folder in old.folders.items() if each in players}},
            joined={**new.joined, name: theirs},
        )
    return new


def _merged(document: dict[str, Any], parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A score's document with these parts in it; it is loaded once, so that what is wrong with the whole is found."""
    merged = dict(document)
    clashes = []
    for kind, theirs in parts.items():
        mine = dict(document.get(kind, {}))
        for name, value in theirs.items():
            if name in mine and not (kind == "events" and mine[name] == value):
                clashes.append(f"{kind}.{name}: the band {document['name']} has another already; give one of them another name")
            mine[name] = value
        if mine:
            merged[kind] = mine
    if clashes:
        raise ScoreError(clashes)
    load(merged)
    return merged


def left(plan: Plan, name: str) -> tuple[Plan, list[str]]:
    """The plan of a band without a score that had joined it.

    Errors: KeyError if no such score has joined.
    """
    if name not in plan.joined:
        raise KeyError(f"no score {name!r} has joined; those that have: {', '.join(plan.joined) or 'none'}")
    gone = plan.joined[name]
    document = {
        kind: {each: what for each, what in value.items() if each not in gone[kind]} if kind in KINDS else value
        for kind, value in plan.document.items()
    }
    players = set(gone["players"])
    new = msgspec.structs.replace(
        plan,
        document={kind: value for kind, value in document.items() if value or kind not in KINDS},
        calls={each: call for each, call in plan.calls.items() if each not in players},
        kinds={each: kind for each, kind in plan.kinds.items() if each not in players},
        folders={each: folder for each, folder in plan.folders.items() if each not in players},
        joined={each: what for each, what in plan.joined.items() if each != name},
    )
    return new, []

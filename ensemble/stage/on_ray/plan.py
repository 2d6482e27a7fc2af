"""What an actor is made from: all that it needs to begin, and to begin again after a crash.

Owns the plan and how players are made ready from it, the same way on every node. A plan holds no object reference: one that
was evicted would keep an actor from restarting.
"""

from __future__ import annotations

import platform
import secrets
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from ensemble.errors import PlayerError, Unavailable
from ensemble.event import encode
from ensemble.log import take_of
from ensemble.log.takes import MAIN, current, split
from ensemble.player import Player
from ensemble.player.outside import stand_in
from ensemble.score import Score, load
from ensemble.score.callable import find, function_of, types_of
from ensemble.score.model import PlayerSpec
from ensemble.score.vocabulary import Vocabulary
from ensemble.stage.door import store_folder
from ensemble.stage.on_ray.cluster import check_installed

INLINE_MOST = 90_000
"""Bytes that Ray carries inside a call; what is larger it would put into its object store, as a reference."""


class Versions(msgspec.Struct, frozen=True):
    """What has to be the same everywhere: pickled players and frames are read on the other side."""

    ensemble: str
    python: str
    ray: str


class Kind(msgspec.Struct, frozen=True):
    """What kind of callable a player is."""

    is_async: bool = False
    hears_batches: bool = False
    is_class: bool = False
    """One that can't be built is told of before anything is played."""


class Plan(msgspec.Struct):
    """What to play, and where."""

    document: dict[str, Any]
    url: str
    """The store, whose current take is played, whichever that is when an actor begins; or URL#NAME: another take of it."""
    run: str = msgspec.field(default_factory=lambda: secrets.token_hex(6))
    """The same for as long as the band is up, whatever changes: by it an actor that is made anew knows what was recorded."""
    calls: dict[str, bytes] = {}
    """Callables that were given for players and sources by name, pickled."""
    durability: str = "disk"
    kinds: dict[str, Kind] = {}
    """What kind of callable each player is: who plans knows it without the code."""
    again: bool = False
    strict: bool = False
    breaking: bool = False
    """Whether to play also what the store has in versions that can't be lifted."""
    inputs: list[str] = []
    versions: Versions = Versions("", "", "")
    home: str = ""
    """The working directory of who plays: the score's files are named from there. Empty: the actor's own, which Ray brought."""
    folders: dict[str, str] = {}
    """The folder of a player's code, where it is another than the score's."""
    joined: dict[str, dict[str, list[str]]] = {}
    """Scores that have joined: what of the document is theirs, by kind."""
    runtime_env: dict[str, Any] = {}
    """What Ray brings to the nodes on which instances run."""
    shards: int = 1
    called: list[str] = []
    """The names of the shards' actors, by which they find each other, and instances find them."""

    def dump(self) -> bytes:
        return encode(self)

    @property
    def is_live(self) -> bool:
        """Whether what players do outside counts: so it is in the current take."""
        return split(self.url)[1] is None

    @classmethod
    def load(cls, data: bytes) -> Plan:
        return msgspec.msgpack.decode(data, type=cls)


def plan_of(
    score: Score,
    calls: Mapping[str, Callable[..., Any]],
    players: Mapping[str, Player],
    url: str,
    durability: str | None = None,
) -> Plan:
    """What the actors of a score are made from. `calls` are the callables that were given by name.

    Errors: PlayerError if one of them can't travel; Unavailable if Ray is not installed.
    """
    check_installed()
    return Plan(
        dict(score.document),
        _absolute(url) if url else "",
        calls={name: pickled(name, call) for name, call in calls.items()},
        kinds={
            name: Kind(player.shape.is_async, player.shape.batch, player.shape.kind == "class")
            for name, player in players.items()
        },
        durability=durability or score.store.durability,
        runtime_env=dict(score.stage.runtime_env),
        shards=score.stage.shards,
    )


def _absolute(url: str) -> str:
    """The url of a store as other processes find it. The current take goes without its name, whatever it is called."""
    store, take = take_of(url, is_wanted=True)
    if take != MAIN and store.startswith("memory:"):
        raise Unavailable(
            f"store {store}: it is in the memory of this process, and so are its takes: take {take!r} is played with "
            "stage='solo'; a store in a directory or an object store has takes that play on Ray"
        )
    if store.startswith("objects:"):
        place = f"objects:{Path(store.removeprefix('objects:')).absolute()}"
    else:
        folder = store_folder(f"{store}#{MAIN}")
        place = store if folder is None or store.startswith("file:") else str(folder.absolute())
    return place if take == current(store) else f"{place}#{take}"


def versions() -> Versions:
    """Those of this process."""
    import ray

    return Versions(version("ensemble-band"), platform.python_version(), ray.__version__)


def check_versions(plan: Plan, where: str) -> None:
    """Unavailable if this process is not what the driver is."""
    here = versions()
    wrong = [
        f"{name} {getattr(here, name)} there, {getattr(plan.versions, name)} here"
        for name in Versions.__struct_fields__
        if getattr(here, name) != getattr(plan.versions, name)
    ]
    if wrong:
        raise Unavailable(f"{where} does not have the versions of this process: {'; '.join(wrong)}; install the same on both")


class _Travelling:
    """A callable on its way, with the types that its annotations name as text.

    What is pickled by value takes only those names of its module along that its code uses, and annotations are no code.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __reduce__(self) -> Any:
        return _arrived, (self._call, types_of(self._call))


def _arrived(call: Callable[..., Any], types: dict[str, Any]) -> Callable[..., Any]:
    if types:
        function_of(call.__call__ if isinstance(call, type) else call).__annotations__.update(types)
    return call


def pickled(name: str, call: Callable[..., Any]) -> bytes:
    """A callable as bytes.

    Errors: PlayerError if it can't travel.
    """
    from ray import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(_Travelling(call))  # type: ignore[no-untyped-call]
    except Exception as error:
        raise PlayerError(
            f"player {name} can't be sent to the cluster: {error}; a lock, a file or a connection can't be pickled: make it in "
            "the player's class, in __init__, or name the player by play: module:function"
        ) from error
    if len(data) > INLINE_MOST:
        raise PlayerError(
            f"player {name} has {len(data):,} bytes when pickled, more than the {INLINE_MOST:,} that travel with an actor; "
            "load what is large in the player's class, in __init__"
        )
    return data


def call_of(plan: Plan, spec: PlayerSpec, folder: str) -> Callable[..., Any]:
    """A player's code. PlayerError if this node can't import it."""
    given = plan.calls.get(spec.name)
    if given is None:
        assert spec.play is not None, "a player without code does not get this far"
        try:
            call: Callable[..., Any] = find(spec.play, plan.folders.get(spec.name, folder))
        except PlayerError as error:
            raise PlayerError(f"player {spec.name} can't be imported on {platform.node()}: {error}") from error
        return call
    import pickle

    try:
        call = pickle.loads(given)
    except Exception as error:
        raise PlayerError(
            f"player {spec.name} can't be unpickled on {platform.node()}: {type(error).__name__}: {error}; its module must be "
            "there too: name its folder in stage: {runtime_env: {working_dir: ...}}"
        ) from error
    return call


def player_of(plan: Plan, name: str) -> Player:
    """A player made ready, with its code, or with that of who stands in for it. PlayerError if this node does not have it."""
    score = load(plan.document)
    spec = score.players[name]
    call = None if plan.is_live else stand_in(spec, plan.folders.get(name, score.folder))
    if call is None:
        call = call_of(plan, spec, score.folder)
    return Player(spec, call, Vocabulary(score), is_live=plan.is_live or spec.outside == "allow")

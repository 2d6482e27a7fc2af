"""How a band comes about: its store is opened and folded, its stage set; and how one that plays already is read and spoken to.

Owns `open`, `read` and `connect`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ensemble.band import Band
from ensemble.changing import in_one_process, on_ray, role_of
from ensemble.errors import Unavailable
from ensemble.event import digest
from ensemble.log import LogReader, count_shards, has_log, linger_us, open_log, read_log
from ensemble.log.takes import is_current, split
from ensemble.player import Player
from ensemble.reader import FoldedView, Reader
from ensemble.ready import Ready, ready
from ensemble.score import Score, load
from ensemble.score.personal import personal
from ensemble.score.vocabulary import Vocabulary
from ensemble.stage.base import HandClock, Shard, Stage
from ensemble.stage.begin import begin, encrypt_as_recorded
from ensemble.stage.door import Guest, knock, store_folder
from ensemble.stage.inlet import Inlet
from ensemble.stage.solo import SoloCrew


def open(  # noqa: A001 - ensemble.open(...)
    score: Score | str | os.PathLike[str] | Mapping[str, Any],
    *,
    stage: str | None = None,
    store: str | None = None,
    take: str | None = None,
    players: Mapping[str, Callable[..., Any]] | None = None,
    clock: HandClock | None = None,
    again: bool = False,
    strict: bool = False,
    inputs: Sequence[str] = (),
    durability: Literal["disk", "memory"] | None = None,
    address: str | None = None,
    breaking: bool = False,
) -> Band:
    """Begin to play a score, or go on where its store says.

    Shapes: `players` gives callables for players and sources of the score by name; `inputs` are JSON Lines files that take
            the place of the score's `file:` sources; `again` plays finished files once more; `strict` stops at the first
            line that is refused; `address` is that of a Ray cluster; `clock` is an `ensemble.testing.ManualClock`,
            under which players are called in the caller's thread, where nothing can interrupt a function: its `timeout:` is not
            kept there. `breaking` plays also where the store has events that the score can't lift, or of whose schema it made
            another.
            `take` names a take of the store, which is played for itself: unless it is the current one, `ctx.live` is False.
    Errors: ScoreError; PlayerError if an instance can't be built; Unavailable if the store can't be used.
    """
    score = score if isinstance(score, Score) else load(score)
    url = with_take((score.store.url or f".ensemble/{score.name}") if store is None else store, take)
    is_live = is_current(url)
    made = ready(score, players, is_live=is_live)
    how = _How(durability, again, strict, inputs, breaking)
    kind = stage or score.stage.kind
    if kind not in ("solo", "ray"):
        raise Unavailable(f"stage {kind!r}: there is no such stage; write solo or ray")
    if kind == "ray":
        if clock is not None:
            raise TypeError("a clock moved by hand plays solo: leave clock= out, or play with stage='solo'")
        return _play_on_ray(made, url, how, address)
    return _play_here(made, url, how, clock, is_live=is_live)


class _How(NamedTuple):
    """What who opens a band says of how it is played: see `open`."""

    durability: Literal["disk", "memory"] | None
    again: bool
    strict: bool
    inputs: Sequence[str]
    breaking: bool


def _play_on_ray(made: Ready, url: str, how: _How, address: str | None) -> Band:
    from ensemble.stage.on_ray.plan import plan_of
    from ensemble.stage.on_ray.stage import play

    score, calls, vocabulary, prepared = made
    plan = plan_of(score, calls, prepared, url, how.durability)
    if "-" in how.inputs:
        raise Unavailable("stage ray: the input - can't be read in another process; write it to a file, or play solo")
    plan.breaking = how.breaking
    plan.again, plan.strict, plan.inputs = how.again, how.strict, [str(Path(file).resolve()) for file in how.inputs]
    plan.home, plan.folders = str(Path.cwd()), dict.fromkeys(score.players, str(Path(score.folder).resolve()))
    stage = play(score, plan, address or score.stage.address)
    return on_ray(Band(score, stage, inlet_of(vocabulary, f"/{score.name}", stage), url), stage, calls)


def _play_here(made: Ready, url: str, how: _How, clock: HandClock | None, *, is_live: bool) -> Band:
    score, calls, vocabulary, prepared = made
    log = open_log(
        url,
        name=score.name,
        durability=how.durability or score.store.durability,
        personal=personal(score, vocabulary),
        blob_above=score.store.blob_above,
        **_log_options(clock, score),
    )
    crew = SoloCrew(prepared, by_hand=clock is not None)
    loop = begin(
        score,
        log,
        {name: role_of(player) for name, player in prepared.items()},
        crew,
        overlapping=[name for name, player in prepared.items() if _overlaps(player, clock)],
        calls=calls,
        inputs=how.inputs,
        again=how.again,
        strict=how.strict,
        clock=clock,
        linger_us=linger_us(url, score.store.linger_us),
        breaking=how.breaking,
    )
    band = Band(score, loop, inlet_of(vocabulary, loop.broker.source(), loop), url)
    in_one_process(band, loop, crew, calls, is_live=is_live)
    if clock is None:
        _open_door(band)
    return band


def _open_door(band: Band) -> None:
    """Let other processes publish to a band; else it would go on playing, with nobody to hold it: then it is closed."""
    try:
        band._open_door()
    except BaseException as error:
        band.close()
        if isinstance(error, OSError):
            raise Unavailable(
                f"store {band.url}: its door, by which other processes publish, can't be opened: {error.strerror or error}; "
                "make room, or see what is in the way"
            ) from error
        raise


def connect(url: str, *, take: str | None = None) -> Band | Guest:
    """The speaking half of a band: `publish`, `publish_many`, `retry_dead`, from any process.

    Shapes: `ray:NAME` is a band that is up on this machine's Ray cluster, `ray:NAME@HOST:PORT` one on another.
    If nobody plays the store, it is opened for writing: what is published waits there for who plays it next.
    Errors: Unavailable if there is no such store or band.
    """
    url = with_take(url, take)
    if url.startswith("ray:"):
        from ensemble.stage.on_ray.stage import attach

        stage = attach(*of_ray(url))
        score = load(stage.score())
        return Band(score, stage, inlet_of(Vocabulary(score), f"/{score.name}", stage), url)
    folder = store_folder(url)
    guest = None if folder is None else knock(folder, url)
    if guest is not None:
        return guest
    shards = count_shards(url) or 1
    if shards > 1:
        raise Unavailable(
            f"store {url}: it has {shards} shards, which only a band on Ray writes; speak to that band as ray:NAME, or "
            "bring it up first: ensemble up SCORE"
        )
    log = open_log(url, name="", create=False, takes_over=False)
    try:
        known = FoldedView(log).score()
        score = load(known) if known else Score(name=log.name)
        encrypt_as_recorded(log, known)
    except BaseException:
        log.close()
        raise
    # Nobody plays here: neither the players nor the sources of the score, and what it keeps of ids is as it was recorded.
    loop = begin(Score(name=log.name, store=score.store), log, {}, SoloCrew({}, by_hand=False))
    return Band(score, loop, inlet_of(Vocabulary(score), loop.broker.source(), loop), url)


def read(url: str, *, take: str | None = None) -> Reader:
    """The reading half of a band, from its store; whoever plays it is not disturbed. `ray:NAME` as in `connect`.

    Shapes: `take` names a take of the store, as `URL#NAME` does; without one it is the current take.
    Errors: Unavailable if there is no such store or band; LogCorrupt.
    """
    url = with_take(url, take)
    if url.startswith("ray:"):
        band = connect(url)
        assert isinstance(band, Reader)
        return band
    logs = _on_ray(url) or [read_log(url, shard) for shard in range(count_shards(url) or 1)]
    return Reader([Shard(log, FoldedView(log)) for log in logs], url)


def with_take(url: str, take: str | None) -> str:
    """The url of a take of a store. TypeError if the url names another, or is none."""
    if not isinstance(url, str):
        raise TypeError(f"{url!r:.80} is no url of a store; give a str, such as '.ensemble/shop'")
    if take is None:
        return url
    store, named = split(url)
    if named not in (None, take):
        raise TypeError(f"{url!r} names the take {named!r}, and take={take!r} is asked for; name one")
    return f"{store}#{take}"


def inlet_of(vocabulary: Vocabulary, source: str, stage: Stage) -> Inlet:
    """The way into a stage, for one that holds a band."""
    logs = [shard.log for shard in stage.shards]
    return Inlet(vocabulary, source, *(log.id for log in logs), *(before for log in logs for _, before in log.past))


def of_ray(url: str) -> tuple[str, str | None]:
    """Name and address of `ray:NAME@ADDRESS`."""
    name, _, address = url.removeprefix("ray:").partition("@")
    if not name:
        raise Unavailable(f"{url!r}: no band is named; write ray:NAME")
    return name, address or None


def _on_ray(url: str) -> Sequence[LogReader]:
    """The log of this url, shard by shard, in the memory of a Ray cluster that this process has joined; or none."""
    if not url.startswith("memory:") or has_log(url) or "ray" not in sys.modules:
        return ()
    from ensemble.stage.on_ray.line import find_logs

    return find_logs(url)


def _overlaps(player: Player, clock: HandClock | None) -> bool:
    return clock is None and (player.shape.is_async or player.spec.section.max > 1)


def _log_options(clock: HandClock | None, score: Score) -> dict[str, Any]:
    """Under a manual clock the log gets the same id each time, so that the same input gives the same bytes."""
    return {} if clock is None else {"id": digest(score.name, 6)}

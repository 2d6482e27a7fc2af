"""How a shard begins to play: its log is folded, its broker and its sources made, its loop started.

Owns what is the same on every stage, the first time and after a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ensemble.broker import Broker, Opening, State
from ensemble.evolution import recorded, refuse
from ensemble.listening import listener, motives, offset_at, policy
from ensemble.log.base import EventLog, LogReader
from ensemble.log.retention import Rules
from ensemble.score import load
from ensemble.score.lifts import Lifts
from ensemble.score.model import Score, SourceSpec
from ensemble.score.personal import personal
from ensemble.score.vocabulary import Vocabulary
from ensemble.stage.base import Clock, Crew, HandClock
from ensemble.stage.inbox import Role
from ensemble.stage.inlet import Inlet
from ensemble.stage.loop import Loop
from ensemble.stage.post import Carry
from ensemble.stage.sources import Source, open_source


def begin(
    score: Score,
    event_log: EventLog,
    roles: Mapping[str, Role],
    crew: Crew,
    *,
    overlapping: Sequence[str] = (),
    calls: Mapping[str, Callable[..., Any]] | None = None,
    inputs: Sequence[str] = (),
    again: bool = False,
    strict: bool = False,
    clock: HandClock | None = None,
    plan: bytes = b"",
    shards: int = 1,
    carry: Carry | None = None,
    linger_us: int = 0,
    breaking: bool = False,
) -> Loop:
    """A loop that plays the score over the log, from where the log ends. If it can't be, the log is closed.

    Shapes: `overlapping` are the players of which several batches may be in flight; `calls` gives the code of sources that
            only speak; `carry` brings what goes to other shards there, where there are several; `linger_us` is how long a
            commit waits for more; `breaking` plays also what the store has in versions that can't be lifted; the rest as in
            `ensemble.open`.
    Errors: ScoreError if the store has what the score can't play.
    """
    sources: list[Source] = []
    try:
        state = recover(event_log)
        vocabulary = Vocabulary(score)
        if not breaking:
            refuse(state, score, vocabulary)
        broker = Broker(
            state,
            log_id=event_log.id,
            name=score.name,
            shard=event_log.shard,
            shards=shards,
            listeners={name: listener(role.spec, shards) for name, role in roles.items()},
            policies={name: policy(role.spec, vocabulary) for name, role in roles.items()},
            overlapping=overlapping,
            past=event_log.past,
        )
        inlet = Inlet(vocabulary, broker.source(), event_log.id, *(before for _, before in event_log.past))
        now_us = (clock or Clock()).now_us()
        for spec in _sources(score, inputs) if event_log.shard == 0 else ():  # what others are to have, it sends them
            place = None if again and spec.file else state.places.get(spec.name)
            call = (calls or {}).get(spec.name)
            source = open_source(
                spec, inlet, place,
                folder=score.folder, now_us=now_us, is_strict=strict, is_live=clock is None, call=call,
            )  # fmt: skip
            sources.append(source)
        loop = Loop(broker, event_log, roles, sources, crew, clock, carry, Lifts(vocabulary), linger_us, Rules(score, shards))
        if score.audit is not None:
            from ensemble.stage.anchoring import Anchoring

            loop.anchoring = Anchoring(event_log, score.audit, is_timed=clock is None)
    except BaseException:
        for source in sources:
            source.close()
        event_log.close()
        raise
    begins = {name: offset_at(event_log, role.spec.from_us) for name, role in roles.items()}
    loop.open(
        Opening(
            recorded(score, vocabulary) or None,
            [name for name, begin in begins.items() if begin is None],
            (score.store.dedupe_us, score.store.dedupe_most),
            plan,
            motives(score, partial(offset_at, event_log)),
            {name: begin for name, begin in begins.items() if begin},
        )
    )
    return loop


def recover(log: LogReader) -> State:
    """The state that a log adds up to: its newest snapshot, and the frames since."""
    snapshot = log.snapshot()
    state = State() if snapshot is None else State.load(snapshot.state)
    for frame in log.frames(0 if snapshot is None else snapshot.at.seq):
        state.apply(frame)
    return state


def encrypt_as_recorded(log: EventLog, document: Mapping[str, Any] | None) -> None:
    """Have what is personal by the score that was played last encrypted, in a log in which people can be forgotten."""
    from ensemble.log.forgetting import forgetting_of

    forgetting = forgetting_of(log)
    if document and forgetting is not None:
        score = load(document)
        forgetting.encrypt(personal(score, Vocabulary(score)))


def _sources(score: Score, inputs: Sequence[str]) -> list[SourceSpec]:
    if not inputs:
        return list(score.sources.values())
    kept = [spec for spec in score.sources.values() if spec.file is None]
    return kept + [
        SourceSpec(name=file if file == "-" else str(Path(file).resolve()), file=file if file == "-" else str(Path(file)))
        for file in inputs
    ]

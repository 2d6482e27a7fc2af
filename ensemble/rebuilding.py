"""A player's table made anew from the log, beside the one that plays; compared with it; and put in its place.

Owns how a table is rebuilt as its user sees it: progress, comparison, switch. What a shadow hears is `stage.shadow`'s to say,
how the switch becomes one frame the loop's. Nothing is written before `switch`: whatever ends before it leaves nothing behind.

    rebuilding -> caught up -> switched, or closed
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self

import msgspec

from ensemble.broker import Broker
from ensemble.errors import EnsembleError, PlayerError, Unavailable
from ensemble.event import decode
from ensemble.log import count_shards, open_log
from ensemble.log.base import LogReader
from ensemble.player import Player
from ensemble.shown import Shown
from ensemble.stage.base import Clock
from ensemble.stage.begin import encrypt_as_recorded, recover
from ensemble.stage.shadow import Saying, Shadow, Unheard

FRAMES_AT_ONCE = 16
"""How far a shadow goes before somebody else may look at it."""
FOLLOW_S = 0.02
"""How often the log is looked at for more."""
SHOWN = 10
"""How many keys that differ are shown as text."""

Writes = dict[str, bytes | None]
Switch = Callable[[Callable[[int], Writes]], None]
"""Puts a table in the place of another: asks for what is to be written to a shard when nothing more comes to it there."""


class Comparison(msgspec.Struct, Shown, frozen=True):
    """A rebuilt table beside the one that plays, as of one moment."""

    player: str
    heard: int
    """Events that both were made of."""
    keys: int
    """Of the rebuilt table."""
    changes: Mapping[str, tuple[Any, Any]]
    """Key -> the state that the band has, and the rebuilt one; None: there is none."""
    answered: int
    """Events that were answered, then or now."""
    differing: int
    """Those of them whose answers differ. What was said stays said."""
    sayings: tuple[Saying, ...]
    """The first of these."""
    unheard: tuple[Unheard, ...]
    """Events that the player can't hear now, though it heard them then."""
    undone: tuple[str, ...] = ()
    """Keys that differ and that a promoted take has set: the rebuilt table has lost what was corrected there."""

    @property
    def is_same(self) -> bool:
        """Whether nothing differs."""
        return not (self.changes or self.differing or self.unheard)

    @property
    def summary(self) -> str:
        """All of it in one line."""
        return (
            f"{self.player}: {self.heard:,} events heard again; {len(self.changes):,} keys differ, and the answers to "
            f"{self.differing:,} of {self.answered:,} events"
        )

    def oddities(self, most: int = 3) -> list[str]:
        """The first answers that differ, and the first events that can't be heard now, a line each."""
        return [
            *(f"{each.event} was answered {_words(each.then)}; now {_words(each.now)}" for each in self.sayings[:most]),
            *(f"{each.event} (key {each.key!r}) can't be heard now: {each.error}" for each in self.unheard[:most]),
            *([f"of the keys that differ {len(self.undone):,} {_UNDONE}"] if self.undone else []),
        ]

    def __str__(self) -> str:
        changed = [f"{key}: {then!r} -> {now!r}" for key, (then, now) in islice(self.changes.items(), SHOWN)]
        more = [f"and {len(self.changes) - SHOWN:,} more"] if len(self.changes) > SHOWN else []
        return "\n  ".join([self.summary, *changed, *more, *self.oddities()])


_UNDONE = (
    "were corrected by `ensemble take promote`, which a rebuild can't know of: it hears what was said then; "
    "replay instead (ensemble replay SCORE --from …), and promote that"
)


def _words(said: Sequence[tuple[str, str, Any]]) -> str:
    return ", ".join(f"{topic} {data!r:.80}" for topic, _, data in said) or "nothing"


class Rebuilding(Shown):
    """A table on its way: it follows the log on a thread of its own, until `switch` or `close`.

    `switch` puts its writes in place; None: it is only looked at.
    """

    def __init__(self, player: Player, logs: Sequence[LogReader], switch: Switch | None = None) -> None:
        _refuse(player)
        self.player = player.spec.name
        self._logs = logs
        self._switch = switch
        self._lock = threading.RLock()
        """Held by whoever moves the shadows, or looks at them."""
        self._moved = threading.Condition()
        self._error: BaseException | None = None
        self._is_closed = False
        self._shadows = [Shadow(player, log, len(logs)) for log in logs]
        self._thread = threading.Thread(target=self._run, name=f"ensemble-rebuild-{self.player}", daemon=True)
        self._thread.start()

    @property
    def heard(self) -> int:
        """How many events were heard again so far."""
        return sum(shadow.heard for shadow in self._shadows)

    @property
    def is_caught_up(self) -> bool:
        """Whether all frames that are in the log now were followed."""
        return all(shadow.seq >= log.end().seq for shadow, log in zip(self._shadows, self._logs, strict=True))

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until it has caught up with the log as it is now.

        Errors: TimeoutError; Unavailable if it was closed; what made it impossible.
        """
        ends = [log.end().seq for log in self._logs]
        until = None if timeout is None else time.monotonic() + timeout
        with self._moved:
            while any(shadow.seq < end for shadow, end in zip(self._shadows, ends, strict=True)):
                self._check()
                left_s = None if until is None else until - time.monotonic()
                if left_s is not None and left_s <= 0:
                    raise TimeoutError(f"the table of {self.player} is not rebuilt in {timeout} s: {self.heard:,} events heard")
                self._moved.wait(1.0 if left_s is None else min(1.0, left_s))
        self._check()
        return self

    def compare(self) -> Comparison:
        """What differs between the table as it is and the rebuilt one, once it has caught up."""
        self.wait()
        with self._lock:
            changes = {
                key: (_state(shadow.section.table.get(key)), _state(state))
                for shadow in self._shadows
                for key, state in shadow.writes().items()
            }
            return Comparison(
                self.player,
                self.heard,
                sum(len(shadow.table) for shadow in self._shadows),
                changes,
                sum(shadow.said for shadow in self._shadows),
                sum(shadow.differing for shadow in self._shadows),
                tuple(each for shadow in self._shadows for each in shadow.sayings),
                tuple(each for shadow in self._shadows for each in shadow.unheard),
                self._undone(),
            )

    def switch(self, *, skip_unheard: bool = False) -> Comparison:
        """Put the rebuilt table, and the code that made it, in the place of what plays. Returns what differed before.

        It is one frame in each shard: nobody sees a mixture there, and no event is lost or heard twice.
        Errors: EnsembleError where events could not be heard by the new code, unless these are to be left out of its table
                (`skip_unheard`), and where it would undo what a promoted take has corrected; Unavailable if nothing is played
                here. Then nothing has changed.
        """
        if self._switch is None:
            raise Unavailable(
                f"the table of {self.player} is only looked at here; open the band, and rebuild with band.rebuild"
            )
        compared = self.compare()
        self._refuse_unheard(skip_unheard)
        if compared.undone:  # nor can more come: nobody promotes to a log that is played
            raise EnsembleError(f"player {self.player}: of the keys that differ {len(compared.undone):,} {_UNDONE}")

        def writes(shard: int) -> Writes:
            shadow = self._shadows[shard]
            with self._lock:
                while shadow.follow(FRAMES_AT_ONCE):
                    pass
                self._refuse_unheard(skip_unheard)
                return shadow.writes()

        self._switch(writes)
        self.close()
        return compared

    def close(self) -> None:
        """Let it go; the table that plays is as it was."""
        self._is_closed = True
        if self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        how = "closed" if self._is_closed else "caught up" if self.is_caught_up else "on its way"
        return f"Rebuilding({self.player!r}, {self.heard:,} events heard, {how})"

    def _run(self) -> None:
        try:
            while not self._is_closed:
                with self._lock:
                    moved = sum(shadow.follow(FRAMES_AT_ONCE) for shadow in self._shadows)
                with self._moved:
                    self._moved.notify_all()
                    if not moved:
                        self._moved.wait(FOLLOW_S)
        except BaseException as error:
            if not self._is_closed:  # else its log may have gone before it
                self._error = error
        finally:
            with self._lock:
                for shadow in self._shadows:
                    shadow.close()
            with self._moved:
                self._moved.notify_all()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._is_closed:
            raise Unavailable(f"the rebuilding of {self.player} was closed; begin another")

    def _undone(self) -> tuple[str, ...]:
        return tuple(key for shadow in self._shadows if shadow.corrected for key in shadow.writes() if key in shadow.corrected)

    def _refuse_unheard(self, skip_unheard: bool) -> None:
        unheard = [each for shadow in self._shadows for each in shadow.unheard]
        if unheard and not skip_unheard:
            first = unheard[0]
            raise EnsembleError(
                f"player {self.player}: its new code can't hear {len(unheard):,} of the events that it heard before, the first "
                f"of them {first.event} (key {first.key!r}): {first.error}; mend it and rebuild again, or leave them out of "
                "its table: switch(skip_unheard=True), --skip-unheard"
            )


def _state(data: bytes | None) -> Any:
    return None if data is None else decode(data)


def keeps_state(player: Player) -> bool:
    """Whether a player can have a table."""
    return not player.shape.batch and player.spec.order != "none"


def is_kept_inside(player: Player) -> bool:
    """Whether a player is called where nothing is to be done outside: it has nobody in its place."""
    return player.spec.outside in ("", "allow")


def _refuse(player: Player) -> None:
    if not is_kept_inside(player):
        raise PlayerError(
            f"player {player.spec.name} is not called where nothing is to be done outside (outside: {_how(player)}), so its "
            "table can't be made anew; let its code ask ctx.live, and leave outside: out"
        )
    if not keeps_state(player):
        why = "hears whole batches" if player.shape.batch else "has order: none"
        raise PlayerError(f"player {player.spec.name} {why}, so it keeps no state, and there is no table to rebuild")


def _how(player: Player) -> str:
    return "mute" if player.spec.outside == "mute" else "{stub: …}"


def rewrite(url: str, player: Player, *, skip_unheard: bool = False) -> Comparison:
    """Rebuild a table of a store that nobody plays, and put it in place: a frame in each shard. What differed comes back.

    Ended between two shards, the first have the new table and the others the old; done once more, all have the new.
    Errors: Unavailable if somebody plays it; as `Rebuilding.switch`.
    """
    shards = count_shards(url) or 1
    logs = []
    try:
        for shard in range(shards):
            logs.append(open_log(url, name="", create=False, shard=shard, shards=shards, takes_over=False))

        def put(writes: Callable[[int], Writes]) -> None:
            for shard, log in enumerate(logs):
                if each := writes(shard):
                    state = recover(log)
                    encrypt_as_recorded(log, state.score)
                    broker = Broker(
                        state, log_id=log.id, name=log.name, shard=log.shard, shards=shards, listeners={}, policies={}
                    )
                    log.append([log.seal(broker.rewrite(player.spec.name, each, Clock().now_us()))])

        with Rebuilding(player, logs, put) as rebuilding:
            return rebuilding.switch(skip_unheard=skip_unheard)
    finally:
        for log in logs:
            log.close()

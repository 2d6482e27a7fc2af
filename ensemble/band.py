"""The band: a score being played, as its user holds it.

Owns the public face of what plays. Must not know how a stage plays.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from ensemble.broker.outbox import shard_of
from ensemble.errors import InvalidEvent, ScoreError, Unavailable
from ensemble.event import Receipt, rfc3339
from ensemble.log import linger_us
from ensemble.progress import Bar, settle_seen
from ensemble.reader import FOLLOW_S, Reader
from ensemble.score.model import Score
from ensemble.shown import live
from ensemble.stage.base import Answer, Stage
from ensemble.stage.door import Door, store_folder
from ensemble.stage.inlet import Inlet

if TYPE_CHECKING:
    from ensemble.rebuilding import Rebuilding

OUTSTANDING = 8
"""How many publications of many events wait to become durable: more only pile up where commits are quick."""
OUTSTANDING_LINGERING = 32
"""The same where a commit lingers: enough to fill it."""
OUTSTANDING_BYTES = 32 << 20
"""How much data at the most."""


def _plain(value: Any) -> Any:
    """A setting as a score would have it."""
    return rfc3339(value) if isinstance(value, datetime) else value


class Band(Reader):
    """A score being played. Made by `ensemble.open`; any thread may use it."""

    def __init__(self, score: Score, stage: Stage, inlet: Inlet, url: str) -> None:
        super().__init__(stage.shards, url)
        self.score = score
        self._stage = stage
        self._inlet = inlet
        self._closed = False
        self._door: Any = None
        self._live: Any = None
        self._rebuilds: list[Rebuilding] = []
        self._adding: Callable[[dict[str, Any], str, Callable[..., Any] | None], Score] | None = None
        """How a player joins: what has it play by another score."""
        self._rebuilding: Callable[[dict[str, Any], str, Callable[..., Any] | None], Rebuilding] | None = None
        """How a player's table is made anew: what has it heard again, and then play, by another score."""

    def publish(
        self,
        topic: str,
        data: Any = None,
        *,
        key: str | None = None,
        id: str | None = None,
        time: datetime | str | None = None,
        wait: bool = True,
    ) -> Receipt:
        """Say one event; returns once it is durable.

        Shapes: the same `id` within the dedupe window is the same event and gives the same receipt.
        Errors: InvalidEvent, and nothing is written; Overloaded if too much waits and `wait` is False; Unavailable;
                EnsembleError in a player of this band while it hears an event: it answers with `emit`.
        """
        batch = self._inlet.batch()
        batch.add(topic, data, key=key, id=id, time=time)
        publication = self._inlet.publication(batch)
        offset = self._stage.publish(publication, wait=wait).wait()[0]
        shard = shard_of(publication.said.keys[0], len(self._shards))
        return Receipt(id or f"{self._shards[shard].log.id}-{offset}", shard, offset)

    def publish_many(self, items: Iterable[Any], *, topic: str | None = None, wait: bool = True, progress: bool = False) -> int:
        """Say many events, in batches; returns how many, once all are durable.

        Shapes: each item is the data alone where `topic` is given, else a mapping with topic, data, key, id, time, or a
                CloudEvent. `progress` shows a bar, on a terminal or in a notebook.
        Errors: as `publish`; those before the one that is wrong are said, and the error says how many.
        """
        if not isinstance(items, Iterable):
            raise TypeError(f"publish_many({items!r:.80}): give the events as a list, or anything that can be gone through")
        if progress:
            with Bar(f"{self.name}: publish") as bar:
                return self.publish_many(bar.over(items), topic=topic, wait=wait)
        count = 0
        most, most_bytes = self._stage.publication_most
        lingers = linger_us(self.url, self.score.store.linger_us) > 0
        outstanding = OUTSTANDING_LINGERING if lingers else OUTSTANDING
        replies: deque[tuple[Answer, int]] = deque()
        waiting = 0
        batch = self._inlet.batch(topic)
        try:
            for item in items:
                batch.add_item(item)
                if len(batch) >= most or batch.size > most_bytes:
                    replies.append((self._stage.publish(self._inlet.publication(batch), wait=wait), batch.size))
                    count += len(batch)
                    waiting += batch.size
                    batch = self._inlet.batch(topic)
                    while len(replies) > outstanding or waiting > OUTSTANDING_BYTES:
                        reply, size = replies.popleft()
                        reply.wait()
                        waiting -= size
        except InvalidEvent as error:
            said = count + len(batch)
            self._finish(batch, replies, wait)
            raise InvalidEvent(f"item {said + 1}: {error} ({said} before it were published)") from error
        count += len(batch)
        self._finish(batch, replies, wait)
        return count

    def _finish(self, batch: Any, replies: Iterable[tuple[Answer, int]], wait: bool) -> None:
        last = [self._stage.publish(self._inlet.publication(batch), wait=wait)] if len(batch) else []
        for reply in (*(reply for reply, _ in replies), *last):
            reply.wait()

    def add(self, name: str, call: Callable[..., Any] | None = None, /, **says: Any) -> None:
        """Let one more player join, or take the place of the one of its name; nobody else is stopped. Returns when it plays.

        Shapes: `says` is what the score would say of it: `on`, `emits`, `by`, ... with `from_` for `from:` (start, now, or a
                time) and `with_` for `with:`. `call` is its code; None: `play` names it.
        Errors: ScoreError; PlayerError if it can't be built; Unavailable.
        """
        if self._adding is None:
            raise Unavailable(f"band {self.name} is played elsewhere; let a score join it: ensemble join NAME SCORE")
        spec = {key.removesuffix("_"): _plain(value) for key, value in says.items()}
        players = {**self.score.document.get("players", {}), name: spec}
        self.score = self._adding({**self.score.document, "players": players}, name, call)

    def rebuild(self, name: str, call: Callable[..., Any] | None = None, /, **says: Any) -> Rebuilding:
        """Make a player's table anew from the log by other code, beside the one that plays (docs/rebuild.md).

        Shapes: `call` is its code; None: `play` names it, or that of the score hears again. `says` is what the score is to say
                of it from the switch on, as in `add`: `play`, `with_`, `state`, ...; what it listens for stays.
        Errors: KeyError if there is no such player; ScoreError; PlayerError if it can't be built or has no state; Unavailable.
        """
        if self._rebuilding is None:
            raise Unavailable(
                f"band {self.name} was not opened or brought up here, so its players' code is not at hand; for one that is up "
                "on Ray write ensemble rebuild SCORE PLAYER --switch --store ray:NAME"
            )
        if name not in self.score.players:
            raise KeyError(f"no player {name!r} plays here; there are {', '.join(self.score.players) or 'none'}")
        says = {key.removesuffix("_"): _plain(value) for key, value in says.items()}
        if fixed := says.keys() & {"on", "by", "order", "from"}:
            raise ScoreError(
                f"players.{name}.{min(fixed)}: a table is rebuilt from what its player has heard, so this stays as it is; to "
                "hear other events, let a player of another name join: band.add"
            )
        spec = {**self.score.document["players"][name], **says}
        if call is not None:
            spec.pop("play", None)
        players = {**self.score.document["players"], name: spec}
        made = self._rebuilding({**self.score.document, "players": players}, name, call)
        self._rebuilds.append(made)
        return made

    def settle(self, timeout: float | None = None, *, progress: bool = False) -> None:
        """Wait until nothing is left to react to: sources that end have ended, all is heard, no retry is pending.

        Held events, timers and `every:` sources are not waited for. Under a manual clock: play all that is due now.
        Shapes: `progress` shows a bar, on a terminal or in a notebook.
        Units:  `timeout` in seconds.
        Errors: TimeoutError, which says what is left; Unavailable; what a source raised.
        """
        if timeout is not None and (not isinstance(timeout, (int, float)) or math.isnan(timeout)):
            raise TypeError(f"settle(timeout={timeout!r:.80}): a timeout is in seconds, as a number, or None")
        try:
            if progress:
                settle_seen(self._stage.settle, self.status, f"{self.name}: play", timeout)
            else:
                self._stage.settle(timeout)
        except TimeoutError:
            raise TimeoutError(f"band {self.name} did not settle in {timeout} s: {self._left()}") from None

    def _left(self) -> str:
        status = self.status()
        left = [
            f"{name} has {section.lag} to hear" + (f", {section.waiting} of them between attempts" * bool(section.waiting))
            for name, section in status.sections.items()
            if section.lag - section.held > 0
        ]
        left += [f"source {name} is not done" for name, source in status.sources.items() if not source.done]
        return "; ".join(left) or "events are on their way"

    def live(self, every_s: float = 0.5) -> Any:
        """A picture of the band that moves while it plays, with a button that closes the band: for notebooks.

        Shapes: a band has one; the one before is taken away. As text it is how the band stands.
        Errors: ModuleNotFoundError, with what to install; Unavailable if the band is closed; ValueError.
        """
        if not isinstance(every_s, (int, float)) or not 0.05 <= every_s <= 3600:
            raise ValueError(f"live(every_s={every_s!r:.80}): it looks every so many seconds, from 0.05 to 3600")
        made = live(self, every_s)
        if self._live is not None:
            self._live.close()
        self._live = made
        return made

    def forget(self, subject: str) -> int:
        """Make a subject's data unreadable for good: its keys are destroyed, and what is in memory is dropped. How many keys.

        It waits for what is in flight. docs/forget.md says what is forgotten, and what is read then.
        Errors: KeyError if there is no data of such a subject.
        """
        return self._stage.forget(subject)

    def retry_dead(self, player: str | None = None, id: str | None = None) -> int:
        """Have dead letters heard again, their attempts counted anew: all, those of a player, or those of an id. How many.

        Errors: KeyError if there is no such player; OffsetError if there is no such event.
        """
        if player is not None:
            self._check_player(player)
        if id is None:
            return self._stage.again(player, None)
        first = self.event(id)
        places = {(first.shard, first.offset)}
        # Others may have the same id: that of another source, or its copy in the shard that hears it.
        if len(self._shards) > 1 or (first._rows.extra(first._ix, "source") is not None and id == first.id):
            dead = {
                (ix, offset)
                for ix, shard in enumerate(self._shards)
                for _, offset, name in shard.view.dead()
                if player in (None, name)
            }
            places.update(place for place in dead if self._at(place).id == id)
        return sum(self._stage.again(player, place) for place in sorted(places))

    def _notes(self) -> tuple[str, ...]:
        if self.name == self.score.name:
            return tuple(self._stage.notes)
        other = (
            f"store {self.url} was made for {self.name}, and {self.score.name} is played into it: both are in one log now; if "
            "that is not meant, give each score a store of its own"
        )
        return (other, *self._stage.notes)

    def _follow(self, offsets: Sequence[int]) -> bool:
        return self._stage.wait_beyond(offsets, FOLLOW_S)

    def close(self) -> None:
        """Finish what is in flight; the rest is heard when the band is opened again."""
        if self._closed:
            return
        if self._door is not None:
            self._door.close()
        for rebuilding in self._rebuilds:
            rebuilding.close()
        try:
            if self._live is not None:  # as long as the band can be asked
                self._live.look()
        finally:
            self._stage.close()
            self._closed = True
            if self._live is not None:
                self._live.ended()

    def _open_door(self) -> None:
        """Let other processes speak to this band."""
        folder = store_folder(self.url)
        if folder is not None:
            self._door = Door(
                folder,
                {
                    "publish": lambda **given: msgspec.structs.astuple(self.publish(**given)),
                    "publish_many": self.publish_many,
                    "retry_dead": self.retry_dead,
                    "forget": self.forget,
                    "tables": lambda: [shard.view.digests() for shard in self._shards],
                },
            )

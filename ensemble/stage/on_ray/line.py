"""How a process speaks to the actor of a shard, and how the shard's log and state look through it.

Owns the questions as they are put from afar; `shard.py` answers them. A shard whose process died is made anew by Ray: who asks
meanwhile waits, and asks again.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from ensemble import errors
from ensemble.errors import OffsetError, Unavailable
from ensemble.event import Frame, Past, decode, written_in
from ensemble.log.base import Fork, Position, Snapshot
from ensemble.log.blobs import Claim
from ensemble.stage.base import View
from ensemble.stage.on_ray import cluster
from ensemble.stage.on_ray.wire import unpack_frame
from ensemble.status import Standing

PATIENCE_S = 60.0
"""How long a question is put again while the shard's process is being made anew."""
PAUSE_S = 0.2
PIECE_BYTES = 4 << 20
"""How much of the log one answer carries at the most."""
FIRST_BYTES = 32 << 10
"""How much the first one does: many read a frame or two."""

log = logging.getLogger("ensemble.stage")


class Moved(Unavailable):
    """The shard plays another log than the one that is asked about."""


class Lost(Unavailable):
    """The shard's process died before it answered, and is being made anew."""


class Line:
    """The line to one shard's actor. Any thread may speak."""

    def __init__(self, actor: Any, name: str) -> None:
        self.actor = actor
        self.name = name

    def call(self, verb: str, *given: Any) -> Any:
        """Put a question, and don't wait: an object reference comes back."""
        return self.actor.ask.remote(verb, *given)

    def ask(self, verb: str, *given: Any) -> Any:
        """Put a question that does no harm when put twice, and wait for the answer."""
        return self.wait(self.call(verb, *given), verb, *given)

    def wait(self, ref: Any, verb: str, *given: Any, timeout: float | None = None) -> Any:
        """The answer to a call. If the shard's process died before it came, the question is put again.

        Errors: what the shard says; TimeoutError; Unavailable if the shard does not come back, or can't begin.
        """
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self.wait_once(ref, timeout)
            except Lost as lost:
                if time.monotonic() > until:
                    raise Unavailable(_gone(self.name, lost)) from lost
                time.sleep(PAUSE_S)
                ref = self.call(verb, *given)

    def wait_once(self, ref: Any, timeout: float | None = None) -> Any:
        """The answer to a call that must not be put again as it was.

        Errors: as `wait`; Lost if the shard's process died before it came.
        """
        import ray.exceptions

        try:
            with telling_if_gone(self.name):
                data = self._get(ref, timeout)
            return self._answer(data)
        except ray.exceptions.GetTimeoutError:
            raise TimeoutError from None
        except ray.exceptions.RuntimeEnvSetupError as error:
            why = cluster.cause_of_no_environment(error)
            raise Unavailable(f"band {self.name}: the nodes can't have what stage.runtime_env says: {why}") from error
        except ray.exceptions.RayActorError as error:
            if _is_for_good(error):
                raise Unavailable(_gone(self.name, error)) from error
            raise Lost(str(error)) from error

    @staticmethod
    def _get(ref: Any, timeout: float | None) -> Any:
        import ray

        return ray.get(ref, timeout=timeout)

    @staticmethod
    def _answer(data: bytes) -> Any:
        answer = decode(data)
        if len(answer) == 1:
            return answer[0]
        kinds: dict[str, type[Exception]] = {"KeyError": KeyError, "TimeoutError": TimeoutError, "Moved": Moved}
        kind: Any = kinds.get(answer[0]) or getattr(errors, answer[0], Unavailable)
        raise kind(answer[1])


UNREFERENCED = ("all references to the actor were removed", "Actor creation cancelled")
"""What Ray says of an actor whose owner it takes for gone, once it had begun and before: the process that made it has ended, or
can't be reached."""


@contextmanager
def telling_if_gone(name: str) -> Iterator[None]:
    """Say it in a sentence where Ray takes this process for gone while an actor of it is being made. Unavailable."""
    import ray.exceptions

    try:
        yield
    except ray.exceptions.RaySystemError as error:
        if not _is_unreferenced(error):
            raise
        raise Unavailable(_gone(name, error)) from error


def _is_for_good(error: BaseException) -> bool:
    """Whether Ray will not make the actor anew."""
    text = str(error)
    return _is_unreferenced(error) or any(words in text for words in ("ray.kill", "max_restarts", "fate", "owner", "Owner"))


def _is_unreferenced(error: BaseException) -> bool:
    text = str(error)
    return any(words in text for words in UNREFERENCED)


def _gone(name: str, error: BaseException) -> str:
    """What to say of a shard that does not come back."""
    if not _is_unreferenced(error):
        return (
            f"band {name}: the process that plays it is gone, and Ray does not start it again; open the band again: what was "
            "durable is in its store"
        )
    # Ray itself sets the variable where it starts a cluster, and can't take it back within a process.
    mode = os.environ.get("RAY_AUTH_MODE", "not set")
    return (
        f"band {name}: Ray has ended the process that plays it, since it takes the one that opened the band for gone. Either "
        "it is, or the cluster's nodes can't reach it: through a firewall, or since RAY_AUTH_MODE is not the same here "
        f"({mode}) and at the cluster; open the band again: what was durable is in its store"
    )


def find_logs(url: str) -> list[RemoteLog]:
    """The log of this url in the memory of the cluster that this process has joined, shard by shard; none if there is none."""
    import ray

    logs = []
    for name in cluster.log_names(url) if ray.is_initialized() else ():
        actor = cluster.find(name)
        if actor is not None:
            line = Line(actor, url)
            logs.append(RemoteLog(line, line.ask("log", "")))
    return logs


class RemoteView:
    """A shard's state: `View`, through a line; once the band is closed, from what it left."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._left: Callable[[], View] | None = None

    def leave(self, left: Callable[[], View]) -> None:
        """Ask the shard no more."""
        self._left = left

    def _ask(self, verb: str, *given: Any) -> Any:
        return self._line.ask(verb, *given) if self._left is None else getattr(self._left(), verb)(*given)

    def sections(self) -> list[str]:
        return list(self._ask("sections"))

    def seen(self, id: str) -> int | None:
        offset: int | None = self._ask("seen", id)
        return offset

    def dead(self) -> list[tuple[int, int, str]]:
        return [(letter, offset, name) for letter, offset, name in self._ask("dead")]

    def table_keys(self, name: str) -> list[str]:
        return list(self._ask("table_keys", name))

    def table_value(self, name: str, key: str) -> bytes | None:
        value: bytes | None = self._ask("table_value", name, key)
        return value

    def table_items(self, name: str, prefix: str = "") -> Mapping[str, bytes]:
        items: dict[str, bytes] = self._ask("table_items", name, prefix)
        return items

    def digests(self) -> tuple[int, Mapping[str, str]]:
        frames, tables = self._ask("digests")
        return frames, tables

    def standing(self) -> Standing:
        return msgspec.convert(self._ask("standing"), type=Standing)


class RemoteLog:
    """A shard's log: `LogReader`, through a line.

    Where the band plays another take by now it is the log of that one from then on; who asks by an offset or a number of the
    one before gets an error first.
    """

    def __init__(self, line: Line, hello: Mapping[str, Any]) -> None:
        self._line = line
        self._is_closed = False
        self._be(hello)

    def _be(self, about: Mapping[str, Any]) -> None:
        self.id: str = about["id"]
        self.name: str = about["name"]
        self.shard: int = about["shard"]
        self.fork: Fork | None = Fork.of(about["fork"])
        self.past: Past = tuple((end, before) for end, before in about["past"])

    def renew(self) -> None:
        """Be the log that the shard plays now: it was rolled back, or plays another take."""
        self._be(self._line.ask("log", ""))

    def begin(self) -> Position:
        return Position(*self._ask_any("begin"))

    def base(self) -> Snapshot | None:
        return _snapshot(self._ask_any("base"))

    def end(self) -> Position:
        return Position(*self._ask_any("end"))

    def frames(self, seq: int = 0) -> Iterator[Frame]:
        end = self._end_after(seq).seq
        return self._pieces("frames", seq, end)

    def rows(self, offset: int = 0) -> Iterator[Frame]:
        end = self._end_after(offset).offset
        if not 0 <= offset <= end:
            raise OffsetError(f"log {self.name!r}: offset {offset} lies outside; it has the offsets 0 to {end - 1}")
        return self._pieces("rows", offset, end)

    def _end_after(self, at: int) -> Position:
        """The end, for who reads from a place on; the beginning is the same in all takes."""
        return Position(*self._ask("end")) if at else self.end()

    def _pieces(self, verb: str, at: int, end: int) -> Iterator[Frame]:
        """Frames from a place on, a piece at a time, until the end as it was."""
        most = FIRST_BYTES
        while at < end:
            for data in self._ask(verb, at, most):
                frame = self._frame(data)
                at = frame.seq + 1 if verb == "frames" else frame.end
                yield frame
                if at >= end:
                    return
            most = min(4 * most, PIECE_BYTES)

    def frame_at(self, offset: int) -> Frame:
        return self._frame(self._ask("frame_at", offset))

    def snapshot(self, upto: int | None = None) -> Snapshot | None:
        return _snapshot((self._ask_any if upto is None else self._ask)("snapshot", upto))

    def forgotten(self) -> int:
        return int(self._ask_any("forgotten"))

    def size_bytes(self) -> int:
        return int(self._ask_any("size_bytes"))

    def requests(self) -> Mapping[str, int]:
        asked: dict[str, int] = self._ask_any("requests")
        return asked

    def grows_beyond(self, offset: int, timeout: float) -> bool:
        """Whether it is durable beyond an offset, now or within a timeout, in seconds."""
        return bool(self._ask("beyond", offset, timeout))

    def close(self) -> None:
        self._is_closed = True

    def _ask(self, verb: str, *given: Any) -> Any:
        if self._is_closed:
            raise Unavailable(f"band {self.name} is closed; open it again, or read its store with ensemble.read")
        try:
            return self._line.ask(verb, self.id, *given)
        except Moved:
            self.renew()
            raise

    def _ask_any(self, verb: str, *given: Any) -> Any:
        try:
            return self._ask(verb, *given)
        except Moved:
            return self._ask(verb, *given)

    def _frame(self, data: bytes) -> Frame:
        frame = unpack_frame(data, self.id, self.shard, self._fetch)
        if frame.rows is not None:
            frame.rows.log_id, frame.rows.past = written_in(self.past, self.id, frame.first)
        return frame

    def _fetch(self, claim: Claim) -> bytes:
        data: bytes = self._ask("data", claim.offset)
        return data


def _snapshot(kept: Any) -> Snapshot | None:
    return None if kept is None else Snapshot(Position(*kept[0]), kept[1])

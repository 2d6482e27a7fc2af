"""The object store as the protocol and the log see it: a handful of calls, and how many of each there were.

Owns names, retries and the sentences for what a store refuses. What has no answer is `Unknown`, never an exception: only the
protocol knows what to do about it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    NotSupportedError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import ObjectStore, from_url

from ensemble.errors import Unavailable
from ensemble.log.objects import codec
from ensemble.log.objects.protocol import (
    Absent,
    Answer,
    Call,
    Done,
    Entry,
    Follow,
    Found,
    Merge,
    Name,
    Open,
    Put,
    Taken,
    Unknown,
)

if TYPE_CHECKING:
    from obstore.store import RetryConfig

RETRIES: RetryConfig = {
    "max_retries": 6,
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
    "retry_timeout": timedelta(seconds=30),
}
"""What obstore makes again by itself: 5xx, 503 SlowDown among them, lost connections, timeouts of reads."""

PATIENCE = 4
"""A call without an answer after all that is made so many times. A create, too: the protocol knows its own."""

REFUSED = (PermissionDeniedError, UnauthenticatedError, NotSupportedError)
"""No use in asking again."""


T = TypeVar("T")


class Objects:
    """The objects below one prefix. Any thread."""

    def __init__(self, store: ObjectStore, where: str, *, pause: Callable[[float], None] = time.sleep) -> None:
        self.where = where
        self.requests: Counter[str] = Counter()
        """By kind: put, get, head, delete, list. What obstore made again by itself is not seen here."""
        self._store = store
        self._pause = pause

    def path(self, name: Name) -> str:
        return f"{'log' if name.kind == 'entry' else 'segments'}/{name.number:020d}"

    def call(self, call: Call) -> Answer:
        """Make a call of the protocol.

        Errors: Unavailable where the store refuses for good; LogCorrupt where what was got is damaged.
        """
        path = self.path(call.name)
        try:
            match call.verb:
                case "create":
                    assert call.value is not None
                    is_entry = isinstance(call.value, Entry)
                    data = codec.encode_entry(call.value) if is_entry else codec.encode_segment(call.value)  # type: ignore[arg-type]
                    self.create(path, data)
                    return Done()
                case "delete":
                    self.delete(path)
                    return Done()
                case "look":
                    self.requests["head"] += 1
                    obstore.head(self._store, path)
                    return Found()
                case "get":
                    data = self.get(path)
                    at = f"{self.where}/{path}"
                    return Found(codec.decode_entry(at, data) if call.name.kind == "entry" else codec.decode_segment(at, data))
        except (AlreadyExistsError, FileExistsError):
            return Taken()
        except (NotFoundError, FileNotFoundError) as error:
            if call.verb == "create":  # there is no such bucket (any more)
                raise self.refusal(error) from error
            return Done() if call.verb == "delete" else Absent()
        except REFUSED as error:
            raise self.refusal(error) from error
        except (BaseError, OSError):
            return Unknown()

    def create(self, path: str, data: bytes) -> None:
        self.requests["put"] += 1
        obstore.put(self._store, path, data, mode="create", use_multipart=False)

    def put(self, path: str, data: bytes) -> None:
        self.requests["put"] += 1
        obstore.put(self._store, path, data)

    def get(self, path: str) -> bytes:
        self.requests["get"] += 1
        return bytes(obstore.get(self._store, path).bytes())

    def delete(self, path: str) -> None:
        self.requests["delete"] += 1
        obstore.delete(self._store, path)

    def folders(self, prefix: str) -> list[str]:
        """The names that stand between this prefix and a further slash."""
        self.requests["list"] += 1
        found = obstore.list_with_delimiter(self._store, prefix)
        return sorted(each.rstrip("/").rpartition("/")[2] for each in found["common_prefixes"])

    def list(self, prefix: str) -> list[str]:
        self.requests["list"] += 1
        return sorted(meta["path"] for chunk in obstore.list(self._store, prefix or None) for meta in chunk)

    def patiently(self, attempt: Callable[[], T]) -> T | None:
        """What a call gives that may be made again without harm; None where there is no such object.

        Errors: Unavailable.
        """
        for trial in range(PATIENCE):
            try:
                return attempt()
            except (NotFoundError, FileNotFoundError):
                return None
            except (AlreadyExistsError, FileExistsError):
                raise
            except REFUSED as error:
                raise self.refusal(error) from error
            except (BaseError, OSError) as error:
                if trial + 1 == PATIENCE:
                    raise self.refusal(error) from error
                self.wait(trial)
        raise AssertionError("the last trial returns or raises")

    def ask(self, step: Follow | Put | Open | Merge) -> Answer:
        """What the call is answered that a step waits for; again and again where there is no answer.

        Errors: Unavailable; LogCorrupt.
        """
        for trial in range(PATIENCE):
            answer = self.call(step.wants())
            if not isinstance(answer, Unknown):
                return answer
            if trial + 1 < PATIENCE:
                self.wait(trial)
        raise self.silence()

    def wait(self, trial: int) -> None:
        self._pause(0.1 * 2**trial)

    def refusal(self, error: object) -> Unavailable:
        why = str(error).partition("\n")[0].partition(": <?xml")[0]
        return Unavailable(f"store {self.where}: the object store refuses: {why}; check bucket, region, rights and network")

    def silence(self) -> Unavailable:
        return Unavailable(f"store {self.where}: the object store gave no answer {PATIENCE} times; try later")


def objects_at(url: str) -> Objects:
    """The objects below a url: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix.

    Credentials and region come from the environment, as each cloud's own tools have them.
    Errors: Unavailable if the url, or what the environment says, can't be right.
    """
    try:
        return Objects(from_url(url, retry_config=RETRIES), url.rstrip("/"))
    except (BaseError, UnknownConfigurationKeyError, ValueError) as error:
        raise Unavailable(f"store {url!r}: {str(error).partition(chr(10))[0]}") from error

"""The object store as the protocol and the log see it: a handful of calls, and how many of each there were.

Owns names, retries and the sentences for what a store refuses. What has no answer is `Unknown`, never an exception: only the
protocol knows what to do about it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from datetime import timedelta
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log.objects import codec
from ensemble.log.objects.proposal import NO, YES, Propose, Settle
from ensemble.log.objects.protocol import (
    STUB,
    Absent,
    Answer,
    Call,
    Done,
    Entry,
    Find,
    Follow,
    Found,
    Held,
    Merge,
    Name,
    Open,
    Put,
    Replace,
    Seen,
    Segment,
    Taken,
    Unknown,
)
from ensemble.log.url import environment

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ClientConfig, RetryConfig

RETRIES: RetryConfig = {
    "max_retries": 6,
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
    "retry_timeout": timedelta(seconds=30),
}
"""What obstore makes again by itself: 5xx, 503 SlowDown among them, lost connections, timeouts of reads."""

PATIENCE = 4
"""A call without an answer after all that is made so many times. A create, too: the protocol knows its own."""

BESIDE = 16
"""So many calls are made side by side at the most."""

AHEAD = 4
"""So many steps of reading are carried out at a time, for who will need them next."""

MANIFEST = "ensemble.json"

FOLDERS = {
    "entry": "log", "segment": "segments", "pack": "packs", "past": "past", "proposal": "pending", "decision": "decided",
}  # fmt: skip
"""Below which part of the prefix what the protocol names lies."""

PAGE = 1000
"""So many names come with one answer to a list."""

FOLDER = "objects"
"""The scheme of a local folder that is used as an object store: objects:PATH."""

REFUSED = (PermissionDeniedError, UnauthenticatedError, NotSupportedError)
"""No use in asking again."""


class Cloud(NamedTuple):
    """What is set in the environment, as it is called for that cloud (docs/object-log.md, "Clouds")."""

    credentials: str
    endpoint: str


CLOUDS = {
    "s3": Cloud("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"),
    "gs": Cloud("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_BASE_URL"),
    "az": Cloud("AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ENDPOINT"),
}
"""By the scheme of a url."""

CAUSES = (
    (
        ("NoSuchBucket", "bucket does not exist", "ContainerNotFound"),
        "there is no such bucket; make it first, or correct the url",
    ),
    (
        ("/latest/api/token", "/latest/meta-data", "169.254.", "metadata.google.internal"),
        "no credentials were found; set {credentials} (or what your cloud's own tools take) in the environment, or give this "
        "machine a role",
    ),
    (
        (
            *("InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthenticationFailed", "InvalidAuthenticationInfo"),
            *("NoAuthenticationInformation", "AuthenticationRequired", "invalid_grant", "invalid_client", "401 Unauthorized"),
        ),
        "it does not take these credentials; check {credentials}",
    ),
    (
        ("ExpiredToken", "InvalidToken"),
        "the credentials are over, or their token is another's; set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
        "AWS_SESSION_TOKEN, all three of them",
    ),
    (
        ("PermanentRedirect", "AuthorizationHeaderMalformed", "redirect without LOCATION", "IncorrectEndpoint"),
        "the bucket is in another region; set AWS_REGION to that of the bucket",
    ),
    (
        ("AccessDenied", "403 Forbidden", "permission", "Permission"),
        "these credentials, or this user, may not do that; who plays needs the rights to get, put, delete and list what is "
        "below the prefix, who reads those to get and list",
    ),
    (
        ("Connection refused", "dns error", "error trying to connect", "tcp connect", "error sending request"),
        "it can't be reached; check the network, and {endpoint} if it is not the cloud's own",
    ),
)
"""What stands in an error, and what to say of it."""

FOR_GOOD = 5
"""So many of these causes, the first, are not asked again about."""


T = TypeVar("T")


class Part(NamedTuple):
    """Some bytes of an object."""

    data: bytes
    size: int
    """Of the whole object."""
    tag: str | None
    """What tells it from any other object that had its name, or will have it; None where the store has none."""


class Objects:
    """The objects below one prefix, or below a part of it (`below`). Any thread."""

    def __init__(self, store: ObjectStore, where: str, *, pause: Callable[[float], None] = time.sleep) -> None:
        self.where = where
        self.requests: Counter[str] = Counter()
        """By kind: put, get, head, delete, list. What obstore made again by itself is not seen here."""
        self._store = store
        self._under = ""
        self._pause = pause
        self._counting = Lock()
        self._silence = ""
        """Why the last call had no answer."""
        self._beside: ThreadPoolExecutor | None = None
        self._ahead: ThreadPoolExecutor | None = None

    def below(self, folder: str) -> Objects:
        """The objects below a part of the prefix. The manifest that the protocol looks at stays that of the whole."""
        part = copy(self)
        part.where, part._under = f"{self.where}/{folder}", f"{self._under}{folder}/"
        part.requests, part._counting, part._beside, part._ahead = Counter(), Lock(), None, None
        return part

    def path(self, name: Name) -> str:
        folder = FOLDERS[name.kind]
        if name.kind == "past":
            return f"{folder}/{name.log}/{name.generation:020d}"
        if name.kind in ("proposal", "decision"):
            return f"{folder}/{name.log}"
        number = f"{folder}/{name.log}/{name.number:020d}"
        return f"{number}.{name.generation:010d}" if name.kind == "pack" else number

    def call(self, call: Call) -> Answer:
        """Make a call of the protocol.

        Errors: Unavailable where the store refuses for good; LogCorrupt where what was got is damaged.
        """
        name = call.name
        try:
            match call.verb:
                case "create":
                    assert call.value is not None
                    self.create(self.path(name), _encoded(call.value))
                    return Done()
                case "stub":
                    self.put(self.path(name), codec.encode_segment(STUB))
                    return Done()
                case "list" if name.kind == "proposal":
                    return Found(tuple(path.rpartition("/")[2] for path in self.list(FOLDERS[name.kind])))
                case "list":
                    return Found(tuple(each.generation for each in self.packs(name) if each.number == name.number))
                case "delete" if call.also:
                    self.delete_all([self.path(each) for each in (name, *call.also)])
                    return Done()
                case "delete":
                    self.delete(self.path(name))
                    return Done()
                case "look":
                    self._count("head")
                    obstore.head(self._store, self._under + self.path(name))
                    return Found()
                case "get" if name.kind == "manifest":
                    return Found(self.root_manifest())
                case "get":
                    data = self.get(self.path(name))
                    return Found(_decoded(f"{self.where}/{self.path(name)}", name, data))
        except (AlreadyExistsError, FileExistsError):
            return Taken()
        except (NotFoundError, FileNotFoundError) as error:
            if call.verb in ("create", "stub", "list") or _cause(error) == CAUSES[0][1]:  # there is no such bucket (any more)
                raise self.refusal(error) from error
            return Done() if call.verb == "delete" else Absent()
        except REFUSED as error:
            raise self.refusal(error) from error
        except (BaseError, OSError) as error:
            if is_for_good(error):
                raise self.refusal(error) from error
            self._silence = _short(error)
            return Unknown()

    def create(self, path: str, data: bytes) -> None:
        self._count("put")
        obstore.put(self._store, self._under + path, data, mode="create", use_multipart=False)

    def put(self, path: str, data: bytes) -> None:
        self._count("put")
        obstore.put(self._store, self._under + path, data)

    def get(self, path: str) -> bytes:
        self._count("get")
        return bytes(obstore.get(self._store, self._under + path).bytes())

    def root_manifest(self) -> bytes:
        """What the manifest of the whole prefix says."""
        self._count("get")
        return bytes(obstore.get(self._store, MANIFEST).bytes())

    def delete(self, path: str) -> None:
        self._count("delete")
        obstore.delete(self._store, self._under + path)

    def delete_all(self, paths: Sequence[str]) -> None:
        """Delete these, in any order. Where a store minds that one is not there, the others are deleted one by one."""
        try:
            self._count("delete")
            obstore.delete(self._store, [self._under + path for path in paths])
        except (NotFoundError, FileNotFoundError):
            for path in paths:
                try:
                    self.delete(path)
                except (NotFoundError, FileNotFoundError):
                    continue

    def folders(self, prefix: str) -> list[str]:
        """The names that stand between this prefix and a further slash."""
        self._count("list")
        found = obstore.list_with_delimiter(self._store, self._under + prefix)
        return sorted(each.rstrip("/").rpartition("/")[2] for each in found["common_prefixes"])

    def list(self, prefix: str, most: int | None = None) -> list[str]:
        """The paths below a prefix, in order; if there are more than `most`, so many of them."""
        self._count("list")
        found = obstore.list(self._store, (self._under + prefix) or None, chunk_size=most or 1000)
        paths = (meta["path"].removeprefix(self._under) for chunk in found for meta in chunk)
        return sorted(islice(paths, most))

    def sizes(self, folder: str, after: str | None = None, most: int | None = None) -> dict[str, int]:
        """The paths in a folder, in order, and how large each is: those after a path, if that is given; at most so many."""
        self._count("list")
        offset = None if after is None else self._under + after
        found = obstore.list(self._store, self._under + folder, offset=offset, chunk_size=PAGE)
        metas = ((meta["path"].removeprefix(self._under), meta["size"]) for chunk in found for meta in chunk)
        if after is not None:  # there are stores that do not heed where a list is to begin
            metas = ((path, size) for path, size in metas if path > after)
        if isinstance(self._store, LocalStore):  # which lists in no order
            return dict(sorted(metas)[:most])
        return dict(islice(metas, most))

    def packs(self, row: Name, most: int | None = PAGE) -> dict[Name, int]:
        """The packs of a row, and of the rows after it, in order, and how large each is; at most so many."""
        folder = f"{FOLDERS[row.kind]}/{row.log}"
        after = f"{folder}/{row.number:020d}" if row.kind == "pack" else None
        found = {}
        for path, size in self.sizes(folder, after, most).items():
            number, _, generation = path.rpartition("/")[2].rpartition(".")
            if generation.isdecimal() and (number.isdecimal() if row.kind == "pack" else not number):
                found[Name(row.kind, int(number or 0), row.log, int(generation))] = size
        return found

    def get_range(self, path: str, start: int, size: int) -> bytes:
        """Some bytes of an object; fewer where it ends before."""
        self._count("get")
        return bytes(obstore.get_range(self._store, self._under + path, start=start, length=size))

    def get_part(self, path: str, start: int, size: int, tag: str | None = None) -> Part | None:
        """Some bytes of an object, and what the whole of it is; None if it is not the one with this tag any more."""
        self._count("get")
        options: GetOptions = {"range": (start, start + size)}
        if tag is not None:
            options["if_match"] = tag
        try:
            found = obstore.get(self._store, self._under + path, options=options)
            return Part(bytes(found.bytes()), found.meta["size"], found.meta["e_tag"])
        except PreconditionError:
            return None

    def take_folders(self) -> Sequence[str]:
        """The takes below the whole prefix that have a manifest."""
        self._count("list")
        found = obstore.list_with_delimiter(self._store, "takes")
        return [each for each in found["common_prefixes"] if self._has(f"{each.rstrip('/')}/{MANIFEST}")]

    def _has(self, path: str) -> bool:
        self._count("head")
        try:
            obstore.head(self._store, path)
        except (NotFoundError, FileNotFoundError):
            return False
        return True

    def patiently(self, attempt: Callable[[], T]) -> T | None:
        """What a call gives that may be made again without harm; None where there is no such object.

        Errors: Unavailable.
        """
        for trial in range(PATIENCE):
            try:
                return attempt()
            except (NotFoundError, FileNotFoundError) as error:
                if _cause(error) == CAUSES[0][1]:
                    raise self.refusal(error) from error
                return None
            except (AlreadyExistsError, FileExistsError):
                raise
            except REFUSED as error:
                raise self.refusal(error) from error
            except (BaseError, OSError) as error:
                if trial + 1 == PATIENCE or is_for_good(error):
                    raise self.refusal(error) from error
                self.wait(trial)
        raise AssertionError("the last trial returns or raises")

    def ask(self, step: Follow | Put | Open | Merge | Find | Replace | Propose | Settle) -> Answer:
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

    def follow(self, step: Follow) -> Seen:
        """Carry a step of reading out. Entries are got side by side: as many as are known to be there, else more and more.

        Errors: Unavailable; LogCorrupt.
        """
        coming: dict[Name, Future[Answer]] = {}
        wide = 1 if step.until is None else BESIDE
        seen: Follow | Seen = step
        while isinstance(seen, Follow):
            call = seen.wants()
            if seen.phase != "read":
                seen = seen.told(self.ask(seen))
                continue
            if call.name not in coming:
                first = call.name.number
                until = min(first + wide, seen.log.end_of_block(first), seen.until or first + wide)
                if until - first == 1:
                    seen = seen.told(self.ask(seen))
                    wide = min(2 * wide, BESIDE)
                    continue
                names = [seen.log.entry(number) for number in range(first, until)]
                coming = {name: self.beside(self.call, Call("get", name)) for name in names}
                wide = min(2 * wide, BESIDE)
            answer = coming[call.name].result()
            seen = seen.told(self.ask(seen) if isinstance(answer, Unknown) else answer)
        return seen

    def beside(self, call: Callable[..., T], *given: object) -> Future[T]:
        """Have something done on a thread beside this one."""
        with self._counting:
            if self._beside is None:
                self._beside = ThreadPoolExecutor(BESIDE, thread_name_prefix="ensemble-beside")
            return self._beside.submit(call, *given)

    def ahead(self, step: Follow) -> Future[Seen]:
        """Have a step of reading carried out while something else is done."""
        with self._counting:  # threads of its own: it waits for those of `beside`
            if self._ahead is None:
                self._ahead = ThreadPoolExecutor(AHEAD, thread_name_prefix="ensemble-ahead")
            return self._ahead.submit(self.follow, step)

    def close(self) -> None:
        """Let go of what was used to make calls side by side."""
        with self._counting:
            pools, self._beside, self._ahead = (self._ahead, self._beside), None, None
        for pool in pools:
            if pool is not None:
                pool.shutdown(wait=False)

    def _count(self, kind: str) -> None:
        with self._counting:
            self.requests[kind] += 1

    def wait(self, trial: int) -> None:
        self._pause(0.1 * 2**trial)

    def refusal(self, error: object) -> Unavailable:
        cause, cloud = _cause(error), CLOUDS.get(self.where.partition(":")[0])
        if cause is None:
            return Unavailable(
                f"store {self.where}: the object store refuses: {_short(error)}; check bucket, region, rights and network"
            )
        cause = cause if cloud is None else cause.format(**cloud._asdict())
        return Unavailable(f"store {self.where}: the object store refuses: {cause} (it said: {_short(error)})")

    def silence(self) -> Unavailable:
        said = f" ({self._silence})" if self._silence else ""
        return Unavailable(f"store {self.where}: the object store gave no answer {PATIENCE} times{said}; try later")


def objects_at(url: str, *, make: bool = False) -> Objects:
    """The objects below a url: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, or objects:PATH, a folder.

    Credentials and region come from the environment, as each cloud's own tools have them. A folder is made only if `make`; one
    that is not there is a store without objects.
    Errors: Unavailable if the url, or what the environment says, can't be right.
    """
    scheme, _, rest = url.partition(":")
    if scheme == FOLDER:
        folder = Path(rest).absolute()
        try:
            if not make and not folder.is_dir():
                return Objects(MemoryStore(), url)
            return Objects(LocalStore(folder, mkdir=True), url)
        except (BaseError, OSError) as error:
            raise Unavailable(f"store {url!r}: {_short(error)}; choose another folder") from error
    options: ClientConfig = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=30)}
    if any("http://" in value for value in environment(url).values()):  # who names such an endpoint means it
        options["allow_http"] = True
    try:
        return Objects(from_url(url, retry_config=RETRIES, client_options=options), url.rstrip("/"))
    except (BaseError, UnknownConfigurationKeyError, ValueError) as error:
        said, credentials = str(error).partition("\n")[0].rstrip("."), CLOUDS[scheme].credentials
        raise Unavailable(f"store {url!r}: {said}; check the url, and {credentials} in the environment") from error


def _encoded(value: Entry | Segment | Held | bytes | None) -> bytes:
    """What is created, as bytes."""
    assert value is not None, "something is created"
    if isinstance(value, bytes):
        return value
    if isinstance(value, Entry):
        return codec.encode_entry(value)
    return codec.encode_pack(*value) if isinstance(value, Held) else codec.encode_segment(value)


def _decoded(path: str, name: Name, data: bytes) -> Entry | Segment | Held | bytes:
    """What was got under a name. LogCorrupt."""
    if name.kind == "decision" and data not in (YES, NO):
        raise LogCorrupt(f"{path}: byte 0: {data[:40]!r} is no decision; restore this object from a copy of the store")
    if name.kind in ("proposal", "decision"):
        return data
    if name.kind == "entry":
        return codec.decode_entry(path, data)
    return codec.decode_segment(path, data) if name.kind == "segment" else codec.decode_pack(path, data)


def is_for_good(error: object) -> bool:
    """Whether it is no use to ask again."""
    text = str(error)
    return any(word in text for words, _ in CAUSES[:FOR_GOOD] for word in words)


def _cause(error: object) -> str | None:
    text = str(error)
    return next((cure for words, cure in CAUSES if any(word in text for word in words)), None)


def _short(error: object) -> str:
    """The line of an error that says what happened, without the body of an answer."""
    return " ".join(str(error).partition("\n\nDebug source")[0].partition("<?xml")[0].split()).rstrip(" :")

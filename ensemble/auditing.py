"""A store audited: all its shards, what was anchored of them outside, who said what, and whether the tables follow from it.

Owns what is asked of a whole store; what the bytes of one log prove is `ensemble.log.audit`'s. docs/audit.md has the meaning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from ensemble.broker.outbox import is_copy
from ensemble.broker.state import State
from ensemble.errors import LogCorrupt, Unavailable
from ensemble.event import EPOCH, REMOVED, Rows
from ensemble.log import count_shards, lost_current, place_of, read_log, takes
from ensemble.log.audit import Audited, Finding, audit_log, of_error
from ensemble.log.base import LogReader, Position
from ensemble.log.cut import goes_through
from ensemble.log.own import own_at
from ensemble.shown import data_frame
from ensemble.stage.door import knock, store_folder
from ensemble.stage.view import table_digest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from ensemble.log.audit.anchor import Anchor
    from ensemble.log.audit.anchors import Anchors

DIFFERENT_MOST = 20
"""Keys of a table that are told one by one where they differ."""


class Count(msgspec.Struct, frozen=True):
    """What one source said under one topic."""

    source: str
    topic: str
    events: int
    first: datetime
    last: datetime
    """When the first and the last of them were written, UTC."""


class Anchored(msgspec.Struct, frozen=True):
    """What came of comparing a store with its anchors."""

    url: str
    checked: int
    added: int
    key: str | None
    """The key by which all had to be signed; None: any was taken."""
    newest: str | None
    """When the newest of them was made, RFC 3339."""


class Archived(msgspec.Struct, frozen=True):
    """What came of looking at the archive of a shard, from whose end on the log goes on."""

    url: str
    shard: int
    begin: Position
    end: Position
    bytes: int
    """Of its packs."""


class Audit(msgspec.Struct, frozen=True):
    """What came of an audit."""

    url: str
    logs: tuple[Audited, ...]
    """Each shard of each take: `main` first."""
    findings: tuple[Finding, ...]
    """All that is wrong; none: all that was looked at is as it was written."""
    notes: tuple[str, ...]
    took_s: float
    anchored: Anchored | None = None
    who: tuple[Count, ...] = ()
    tables: Mapping[str, int] = {}
    """Player -> how many keys of its table were compared."""
    archives: tuple[Archived, ...] = ()
    """The archives that were looked at: of each shard the one in which its past lies."""

    @property
    def is_whole(self) -> bool:
        return not self.findings

    @property
    def name(self) -> str:
        return next((log.name for log in self.logs if log.name), "")

    @property
    def events(self) -> int:
        return sum(log.end.offset - log.begin.offset for log in self.logs)

    @property
    def frames(self) -> int:
        return sum(log.end.seq - log.begin.seq for log in self.logs)

    @property
    def bytes(self) -> int:
        return sum(log.bytes for log in self.logs)

    def frame(self) -> Any:
        """Who said what, as a pandas DataFrame."""
        return data_frame([msgspec.structs.asdict(each) for each in self.who])


def audit(
    url: str,
    *,
    anchor: str | None = None,
    sign: str | Path | None = None,
    key: str | None = None,
    who: bool = False,
    tables: bool = False,
    archive: str | None = None,
) -> Audit:
    """Look at every byte of a store and its takes, and tell all that is not as it was written.

    Nothing is changed, nobody disturbed. Who said what, and the tables, are those of the take that `url` means. What retention
    archived is looked at too, where the log says that it lies, or at `archive`.
    Shapes: `anchor` is where the heads of its logs are kept, outside of it: all are checked. With `sign`, a file with a private
            key, the heads as of now are added if nothing is wrong. `key` is the public key by which all must be signed; left
            out: that
            of `sign`.
    Errors: Unavailable if there is no such store, or if it, the anchors or `archive` can't be read; ValueError where `sign` or
            `key` stand without `anchor`. What is wrong with the store is no error: it is in `findings`.
    """
    began_s = monotonic()
    if anchor is None and (sign or key):
        raise ValueError("sign= and key= are about anchors: say where these are, anchor=")
    if url.startswith("ray:"):
        raise Unavailable(f"store {url}: this is a band that is up on Ray; name the store that it plays")
    held = None if anchor is None else _Held(anchor, sign, key)
    findings, notes = [] if held is None else list(held.findings), list[str]()
    store, take = takes.split(url)
    lost = _of_pointer(store)
    try:
        # Of any take; where there is none, that is told when it is looked at.
        shards = count_shards(f"{store}#{takes.MAIN}" if lost else url) or 1
        findings += _of_division(store)
    except LogCorrupt as error:
        return Audit(url, (), (of_error(error, str(error).partition(": byte ")[0]),), (), monotonic() - began_s)
    logs: list[Audited] = []
    for log in _logs(store, shards, held):
        logs.append(log)
        findings += log.findings
        notes += log.notes
    if not findings:
        findings += _of_forks(store, logs)
    findings += lost
    archives = []
    for past in _pasts(store, logs, archive):
        findings += past.findings
        notes += past.notes
        archives += past.archived
    unseen = sum(len(log.unseen) for log in logs)
    if unseen:
        told = "one anchored place" if unseen == 1 else f"{unseen} anchored places"
        notes.append(f"{told} can't be looked at any more: retention took what lay there")
    if held is not None:
        findings += held.judge(logs)
    counts: tuple[Count, ...] = ()
    compared: Mapping[str, int] = {}
    if (who or tables) and take is None and lost:
        notes.append("there is no current take, so who said what and the tables are not told; name one: STORE#main")
    elif who or tables:
        try:
            with closing(_Readers(url, shards)) as readers:
                counts = tuple(_counted(readers.logs)) if who else ()
                if tables:
                    folded = _Tables(url, readers.logs)
                    findings += folded.findings
                    notes += folded.notes
                    compared = folded.compared
        except LogCorrupt as error:
            if not findings:  # it was changed since
                findings.append(of_error(error, str(error).partition(": byte ")[0]))
            notes.append("what is damaged can't be read, so who said what and the tables are not told")
    added = held.add(logs) if held is not None and not findings else 0
    return Audit(
        url, tuple(logs), tuple(findings), tuple(notes), monotonic() - began_s,
        None if held is None else held.told(added), counts, compared, tuple(archives),
    )  # fmt: skip


def _logs(store: str, shards: int, held: _Held | None) -> Iterator[Audited]:
    """Each shard of each take, looked at."""
    for take in (takes.MAIN, *takes.names(store)):
        at = takes.place(store, take)
        for shard in range(shards):
            log = audit_log(at, shard, (lambda log_id, shard: ()) if held is None else held.places)
            log.take = take
            yield log


def _pasts(store: str, logs: Sequence[Audited], archive: str | None) -> Iterator[_Past]:
    """The archives of the logs that have one, looked at: where each says that it lies, or at `archive`."""
    for log in logs:
        lies = archive or log.archive
        if lies and log.id and log.fork is None:
            yield _Past(lies, takes.place(store, log.take), log, is_asked_for=archive is not None)


class _Past:
    """The archive in which the past of a log lies: whether it is whole, and the log goes on from its end."""

    def __init__(self, url: str, store: str, log: Audited, *, is_asked_for: bool) -> None:
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self.archived: list[Archived] = []
        try:
            found = audit_log(url, log.shard, lambda log_id, shard: [*log.unseen, log.begin])
        except Unavailable as error:
            if is_asked_for:
                raise
            self.notes.append(f"the archive of this log was not looked at: {error}; or name where it is: --archive URL")
            return
        self.findings += found.findings
        self.notes += found.notes
        if found.findings or (not found.id and not log.archive):  # of this shard nothing was archived yet
            return
        if found.id != log.id:
            wrong = f"it is of log {found.id}, and the past of log {log.id} should be here"
            if not found.id:
                wrong = f"the past of log {log.id} should be here, and nothing of it is"
            self.findings.append(Finding(url, 0, wrong))
            return
        self.archived.append(Archived(url, log.shard, found.begin, found.end, found.bytes))
        try:
            self._join(url, store, log, found)
        except LogCorrupt as error:
            if not log.findings:  # it was changed since
                self.findings.append(of_error(error, str(error).partition(": byte ")[0]))
        log.verdicts.update((place, found.verdicts[place]) for place in log.unseen)
        log.verdicts.update(dict.fromkeys(found.unseen, "held"))
        log.unseen = [place for place in log.unseen if place in found.unseen]

    def _join(self, url: str, store: str, log: Audited, found: Audited) -> None:
        """One chain from the first frame of the archive to the last of the log."""
        begin, end = log.begin, found.end
        if found.verdicts[begin] != "held":
            wrong = f"it should lead to frame {begin.seq}, with which the log begins now; it ends before frame {end.seq}"
            if found.verdicts[begin] == "other":
                wrong = f"the frames before frame {begin.seq} are others here than those that the log goes on from"
            self.findings.append(Finding(url, 0, wrong))
            return
        with closing(own_at(store).read(log.shard)) as reader:
            if reader.begin().seq > end.seq:  # it was put there first, behind the end that was found
                self.notes.append(
                    f"{url}: more of the log was archived while this was looked at; audit again to have it looked at"
                )
            elif not goes_through(reader, end):
                wrong = f"it ends before frame {end.seq}, and the log was never there"
                self.findings.append(Finding(url, 0, wrong))
            elif begin.seq < end.seq:  # of some that lies there, events are still here
                with closing(own_at(url).read(log.shard)) as archive:
                    self.findings += (Finding(store, 0, wrong) for wrong in _otherwise(reader, archive, begin.seq, end.seq))


def _otherwise(log: LogReader, archive: LogReader, seq: int, stop: int) -> Iterator[str]:
    """Where what is left of a frame that lost events is not what it was: the archive has it whole."""
    archived = archive.frames(seq)
    for left in log.frames(seq):
        if left.seq >= stop:
            return
        if left.removed is None or left.rows is None:  # it is whole, so the chain of hashes proves it
            continue
        whole = next(frame for frame in archived if frame.seq == left.seq)
        if left.marks != whole.marks:
            yield f"what is left of frame {left.seq} says other things beside its events than the frame that was archived"
        for ix in range(left.count):
            if left.rows.filed(ix) != REMOVED and (whole.rows is None or _row(left.rows, ix) != _row(whole.rows, ix)):
                yield f"the event with offset {left.first + ix}, of a frame that lost others, is not what was archived"


def _row(rows: Rows, ix: int) -> tuple[Any, ...]:
    """All that is said of an event in its frame."""
    causes, roots = (None if column is None else column[ix] for column in (rows.causes, rows.roots))
    return rows.filed(ix), rows.keys[ix], rows.data[ix], rows.source(ix), causes, roots, (rows.extras or {}).get(ix)


def _of_forks(store: str, logs: Sequence[Audited]) -> Iterator[Finding]:
    """Takes that leave their parents where these never were."""
    for log in logs:
        if log.fork is not None:
            with closing(read_log(f"{store}#{log.fork.take}", log.shard)) as parent:
                if not goes_through(parent, log.fork.at):
                    wrong = f"take {log.take} leaves {log.fork.take} before frame {log.fork.at.seq}, which was never so there"
                    yield Finding(takes.place(store, log.take), 0, wrong)


def _of_pointer(store: str) -> list[Finding]:
    """What is wrong with what says which take is current."""
    place = f"{store}/{takes.CURRENT}"
    try:
        wrong = lost_current(store)
    except LogCorrupt as error:
        return [of_error(error, place)]
    return [] if wrong is None else [Finding(place, 0, wrong)]


def _of_division(url: str) -> list[Finding]:
    """What is wrong with the file that says how a store is divided, though it can be read."""
    kind, place = place_of(url)
    if kind != "directory":
        return []
    from ensemble.log import division
    from ensemble.log.audit.directory import written_otherwise

    path = Path(place).absolute() / division.NAME
    return written_otherwise(path) if path.exists() else []


# Anchors


class _Held:
    """What was anchored of a store, and what is to be."""

    def __init__(self, url: str, sign: str | Path | None, key: str | None) -> None:
        from ensemble.log.audit import anchor
        from ensemble.log.audit.anchors import anchors_at

        self.url = url
        self.findings: list[Finding] = []
        self._anchors: Anchors = anchors_at(url)
        self._private: Ed25519PrivateKey | None = None if sign is None else anchor.private_key(Path(sign))
        self._key = None if key is None else anchor.public_name(key)
        if self._private is not None:
            own = anchor.name_of(self._private.public_key())
            if self._key not in (None, own):
                raise Unavailable(
                    f"key {sign}: its public key is {own}, and {self._key} is to have signed; give the key of these anchors"
                )
            self._key = own
        self._read: list[tuple[str, Anchor]] = []
        for where, text in self._anchors.read():
            try:
                found = anchor.read(text)
            except ValueError as error:
                self.findings.append(Finding(where, 0, str(error)))
                continue
            if self._key not in (None, found.key):
                self.findings.append(Finding(where, 0, f"it was signed by {found.key}, not by {self._key}"))
            self._read.append((where, found))
        if not self._read and not self.findings and self._private is None:
            raise Unavailable(f"anchors {url}: there are none; give the key that is to sign the first: --sign FILE")

    def places(self, log_id: str, shard: int) -> Sequence[Position]:
        """Where that log was when it was anchored."""
        return [each.head for _, each in self._read if (each.log, each.shard) == (log_id, shard)]

    def judge(self, logs: Sequence[Audited]) -> Iterator[Finding]:
        """What the anchors say of these logs."""
        known = {(log.id, log.shard): log for log in logs}
        for where, anchor in self._read:
            log = known.get((anchor.log, anchor.shard))
            if log is None:
                if all(each.id for each in logs):
                    yield Finding(
                        where, 0, f"it is of shard {anchor.shard} of log {anchor.log}, which is not in this store any more"
                    )
                continue
            seq, offset = anchor.head.seq, anchor.head.offset
            match log.verdicts[anchor.head]:
                case "other":
                    wrong = f"on {anchor.at} the frames before frame {seq} were others: the log was written anew since"
                    yield Finding(where, 0, wrong)
                case "beyond":
                    wrong = (
                        f"on {anchor.at} the log went to frame {seq}, offset {offset}; now it ends before frame "
                        f"{log.end.seq}, offset {log.end.offset}: its end was cut off"
                    )
                    yield Finding(where, 0, wrong)
                case "unread":
                    yield Finding(where, 0, f"damage hides whether the frames before frame {seq} are those of {anchor.at}")
                case "held":
                    pass

    def add(self, logs: Sequence[Audited]) -> int:
        """Anchor the heads that are further than before; how many."""
        from ensemble.log.audit import anchor

        if self._private is None:
            return 0
        added = 0
        for log in logs:
            if log.end.seq > max((place.seq for place in self.places(log.id, log.shard)), default=0):
                text = anchor.sign(log.id, log.shard, log.end, self._private)
                made = anchor.read(text)
                self._anchors.add(text, made)
                self._read.append((self.url, made))
                added += 1
        return added

    def told(self, added: int) -> Anchored:
        newest = max((anchor.at for _, anchor in self._read), default=None)
        return Anchored(self.url, len(self._read) - added, added, self._key, newest)


# What the log says


class _Readers:
    """The logs of a store, open to read."""

    def __init__(self, url: str, shards: int) -> None:
        self.logs: list[LogReader] = []
        try:
            for shard in range(shards):
                self.logs.append(read_log(url, shard))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for log in self.logs:
            log.close()


def _counted(logs: Sequence[LogReader]) -> list[Count]:
    """Who said what. A copy that lies in a shard only to be heard there was said elsewhere."""
    found: dict[tuple[str, str], list[int]] = {}
    for log in logs:
        for frame in log.rows():
            rows = frame.rows
            assert rows is not None
            if rows.extras is None and isinstance(rows.topic_ix, int) and isinstance(rows.source_ix, int):
                _add(found, rows.sources[rows.source_ix], rows.topics[rows.topic_ix], len(rows), frame.time_us)
                continue
            for row in range(len(rows)):
                if not is_copy(rows, row):
                    _add(found, rows.source(row), rows.topic(row), 1, frame.time_us)
    return [
        Count(source, topic, count, EPOCH + timedelta(microseconds=first), EPOCH + timedelta(microseconds=last))
        for (source, topic), (count, first, last) in sorted(found.items())
    ]


def _add(found: dict[tuple[str, str], list[int]], source: str, topic: str, count: int, time_us: int) -> None:
    known = found.setdefault((source, topic), [0, time_us, time_us])
    known[0] += count
    known[1] = min(known[1], time_us)
    known[2] = max(known[2], time_us)


class _Tables:
    """The state of each shard, folded from the first frame, held against what a band goes on from and against one that
    plays."""

    def __init__(self, url: str, logs: Sequence[LogReader]) -> None:
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self.compared: dict[str, int] = {}
        folder = store_folder(url)
        guest = None if folder is None else knock(folder, url)
        live: Sequence[tuple[int, Mapping[str, str]]] = ()
        if guest is not None:
            with guest:
                live = guest.tables()
        for shard, log in enumerate(logs):
            self._compare(f"{url} shard {shard}" if len(logs) > 1 else url, log, live[shard] if shard < len(live) else None)
        if live and not self.findings:
            self.notes.append("what the band that plays has in memory is the same")

    def _compare(self, where: str, log: LogReader, live: tuple[int, Mapping[str, str]] | None) -> None:
        snapshot = log.snapshot()
        stop = log.end().seq if live is None else live[0]
        base = log.base()
        folded = _fold(State(), log, 0, stop) if base is None else _fold(State.load(base.state), log, base.at.seq, stop)
        for name, section in folded.sections.items():
            self.compared[name] = self.compared.get(name, 0) + len(section.table)
        if snapshot is None or snapshot.at.seq > stop:
            self.notes.append(f"{where}: there is no snapshot to compare with: a band begins with the first frame")
        else:
            kept = _fold(State.load(snapshot.state), log, snapshot.at.seq, stop)
            self.findings += [
                Finding(where, 0, f"by the snapshot of frame {snapshot.at.seq}, {wrong}")
                for wrong in _differences(folded, kept)
            ]
        if live is not None:
            for name in {**folded.sections, **dict.fromkeys(live[1])}:
                table = folded.sections[name].table if name in folded.sections else {}
                if live[1].get(name) != table_digest(table):
                    wrong = f"the band that plays has another table of player {name} in memory than its log adds up to"
                    self.findings.append(Finding(where, 0, wrong))


def _fold(state: State, log: LogReader, seq: int, stop: int) -> State:
    for frame in log.frames(seq):
        if frame.seq >= stop:
            break
        state.apply(frame)
    return state


def _differences(folded: State, kept: State) -> Iterator[str]:
    """Where two states differ: tables key by key, all else by name. How far motifs have come is in snapshots only."""
    for name in dict.fromkeys([*folded.sections, *kept.sections]):
        ours, theirs = folded.sections.get(name), kept.sections.get(name)
        if ours is None or theirs is None:
            yield f"player {name} {'has' if ours is None else 'has not'} played"
            continue
        keys = [key for key in {**ours.table, **theirs.table} if ours.table.get(key) != theirs.table.get(key)]
        for key in keys[:DIFFERENT_MOST]:
            yield f"the table of player {name} has another state for the key {key!r:.80} than the log adds up to"
        if len(keys) > DIFFERENT_MOST:
            yield f"the table of player {name} has another state for {len(keys) - DIFFERENT_MOST} more keys"
        for field in ours.__struct_fields__:
            before, now = getattr(theirs, field), getattr(ours, field)
            if field != "table" and before != now:
                yield f"{field} of player {name} is {before!r:.80}, and the log adds up to {now!r:.80}"
    for field in folded.__struct_fields__:
        if field not in ("sections", "motifs") and getattr(folded, field) != getattr(kept, field):
            yield f"{field} is another than the log adds up to"

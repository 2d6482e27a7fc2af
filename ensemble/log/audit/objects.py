"""Auditing a log in an object store: every object that is part of it, and all that is wrong with them.

Owns going on after damage, with the next entry, and finding what is missing: to who only reads, an entry that was removed looks
like the end of the log. So this lists names, once it has come to an end.

    what an entry and a group must be is said by who reads them (`reading.ObjectFrames`)
"""

from __future__ import annotations

from contextlib import closing
from hashlib import sha256

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log.audit import Audited, Finding, Known, of_error, pass_over, tell_unsaid
from ensemble.log.audit.named import Named
from ensemble.log.base import Position
from ensemble.log.files import Gone, corrupt
from ensemble.log.group import RECORD_BYTES
from ensemble.log.objects import codec
from ensemble.log.objects.blobs import ObjectBlobs
from ensemble.log.objects.codec import Kept, Manifest
from ensemble.log.objects.log import manifest_of, part_of, read_root
from ensemble.log.objects.packs import ObjectPack
from ensemble.log.objects.protocol import Absent, Call, Entry, Follow, Seen
from ensemble.log.objects.reading import ObjectFrames, ObjectReader, View, snapshots_of
from ensemble.log.objects.store import BESIDE, MANIFEST, Objects
from ensemble.log.remnant import is_remnant
from ensemble.log.segment import Damage


def audit_objects(objects: Objects, shard: int, known: Known) -> Audited:
    """Everything of one log below a prefix. Unavailable if there is none, or it can't be read."""
    found = Audited(findings=[], notes=[], verdicts={})
    path = f"{objects.where}/{MANIFEST}"
    try:
        root = read_root(objects)
        if root is None:
            raise Unavailable(f"store {objects.where}: there is no store; check the url, or play a score with this store first")
        if not isinstance(root.means, Manifest):
            if root.data != codec.encode_division(root.means):
                found.findings.append(Finding(path, 0, OTHERWISE))
            path = f"{objects.where}/generation-{root.means.generation}/{shard}/{MANIFEST}"
        manifest, archive = manifest_of(objects, root, shard)
        objects = part_of(objects, root, shard)
    except LogCorrupt as error:
        found.findings.append(of_error(error, path))
        return found
    if manifest is None and archive is None:
        raise Unavailable(f"store {objects.where}: this shard was never begun")
    if manifest is not None and objects.patiently(lambda: objects.get(MANIFEST)) != codec.encode_manifest(manifest):
        found.findings.append(Finding(path, 0, OTHERWISE))
    if archive is not None:
        from ensemble.log.audit.archive import audit_archive
        from ensemble.log.shelf import ObjectShelf

        looked = audit_archive(ObjectShelf(objects), archive, known)
        looked.findings[:0] = found.findings
        return looked
    assert manifest is not None, "else it is an archive, or was refused"
    found.id, found.name, found.shard, found.fork = manifest.id, manifest.name, manifest.shard, manifest.fork
    found.begin = found.end = manifest.begin
    found.verdicts = dict.fromkeys(known(manifest.id, manifest.shard), "unread")
    with closing(_Walk(objects, manifest, found)) as walk:
        walk.all()
    if walk.lost and not found.findings:
        packs = []
        for pack in walk.lost:
            data = objects.patiently(lambda pack=pack: objects.get(objects.path(pack.name)))  # type: ignore[misc]
            packs.append((pack, sha256(data or b"").digest()))
        with closing(ObjectReader(objects, manifest)) as reader:
            tell_unsaid(packs, reader.frames(), found)
    walk.named.judge(ObjectBlobs(objects), lambda offset: ObjectReader(objects, manifest).frame_at(offset), found)
    return found


OTHERWISE = "it says what it should, but is not written as Ensemble writes it: it was changed"


class _Walk(ObjectFrames):
    """Through all entries, once, in order, taking nothing from a snapshot. What comes of it goes to `found`."""

    def __init__(self, objects: Objects, manifest: Manifest, found: Audited) -> None:
        super().__init__(objects, manifest)
        self._known, self._end = None, manifest.begin
        self._number = self._epoch = self._merged = 0
        self._found = found
        self._kept = None
        self._expected = manifest.begin.seq
        self._snapshots: list[tuple[str, Kept]] = []
        self._look_at_snapshots()
        places = [*found.verdicts, *(kept.snapshot.at for _, kept in self._snapshots)]
        self._places: dict[int, set[Position]] = {}
        for place in places:
            self._places.setdefault(place.seq, set()).add(place)
        self._verdicts = dict(found.verdicts) | dict.fromkeys(places, "unread")
        self._begins = {kept.begins: range(0) for _, kept in self._snapshots}
        """The frames with which snapshots say that the log goes on, and the entries that may be meant."""
        self._is_ended = False
        """Whether the entry before says that its writer has closed the log: then a beginning comes next."""
        self._after = 0
        """The entry after the last group."""
        self.named = Named(found.id, found.shard)
        self._is_hidden = False
        """Whether a pack is damaged so that nobody knows which blocks it holds."""
        self.lost: list[ObjectPack] = []
        """Packs out of which something was taken."""

    def _view(self) -> View:
        return self._whole()

    def _note(self, number: int, entry: Entry, begin: Position, end: Position) -> None:
        """Only the place: an audit looks at each entry once, and looks nothing up."""
        self._end = end

    def all(self) -> None:
        self._judge(self._manifest.begin)
        while not (self._follow() and self._is_end()):
            pass
        for place, verdict in self._verdicts.items():
            if verdict == "unread" and place.seq > self._expected:
                self._verdicts[place] = "beyond"
        for path, kept in self._snapshots:
            self._judge_snapshot(path, kept)
        self._found.verdicts = {place: self._verdicts[place] for place in self._found.verdicts}

    # Entries

    def _follow(self) -> bool:
        """Look at the entries from here to the end of their block or of the log. Whether that was the end of the log."""
        try:
            block, rest = divmod(self._number, self._log.block)
            pack = None if rest else self._packs.of(block)
        except LogCorrupt as error:  # of what is past each block would tell of it
            pack, self._is_hidden = None, True
            finding = of_error(error, str(error).partition(": byte ")[0])
            if finding not in self._found.findings:
                self._found.findings.append(finding)
        if pack is not None:
            self._pack(pack)
            return False
        try:
            return self._look(self.objects.follow(Follow(self._number, self._log)))
        except LogCorrupt:  # of one of them: one by one, then
            while True:
                number = self._number
                try:
                    if self._look(self.objects.follow(Follow(number, self._log, until=number + 1))):
                        return True
                except LogCorrupt as error:
                    segment = f"{self.objects.where}/{self.objects.path(self._log.segment(number // self._log.block))}"
                    is_segment = str(error).startswith(segment)
                    entry = f"{self.objects.where}/{self.objects.path(self._log.entry(number))}"
                    beyond = self._log.end_of_block(number) if is_segment else number + 1
                    self._pass(error, segment if is_segment else entry, beyond)
                    return False

    def _pass(self, error: LogCorrupt, path: str, number: int) -> None:
        """Tell of damage, and go on behind it."""
        self._found.findings.append(of_error(error, path))
        self._end, self._epoch, self._number = None, 0, number  # the place is not known

    def _pack(self, pack: ObjectPack) -> None:
        """Look at a pack, which holds what comes next."""
        has_lost = pack.is_past or bool(pack.head.removals)
        try:
            if self._end is not None and pack.begin != self._end:
                raise Damage(pack.path, 0, f"it does not follow frame {self._expected - 1}: frames were changed or lost")
            pack.state()
            for item in pack.items():
                self._judge(item.after)
                has_lost = has_lost or is_remnant(item.data)
                self.named.note(item.data)
        except Gone:  # by who writes it anew
            self._packs.forget()
            return
        except Damage as damage:
            self._found.findings.append(of_error(corrupt(damage.path, damage.place, damage.why), str(damage.path)))
        self._look_at_stubs(pack)
        if has_lost:
            self.lost.append(pack)
        if pack.is_past:
            self._found.begin = pack.end
            pass_over(pack, self._verdicts, self._found)
        self._judge(pack.end)
        self._found.bytes += pack.bytes
        self._end = self._found.end = pack.end
        self._expected, self._epoch, self._is_ended = pack.end_seq, 0, False
        self._number = pack.end_block * self._log.block
        self._after = (pack.end_block - 1) * self._log.block  # or later: a pack does not say where its last group was
        self._merged = max(self._merged, pack.end_block)

    def _look_at_stubs(self, pack: ObjectPack) -> None:
        """The names of the segments must stay taken, so that who stalled finds them (docs/object-log.md)."""
        for first in range(pack.first_block, pack.end_block, BESIDE):
            blocks = range(first, min(first + BESIDE, pack.end_block))
            names = [self._log.segment(block) for block in blocks]
            coming = [self.objects.beside(self.objects.call, Call("get", name)) for name in names]
            for block, name, each in zip(blocks, names, coming, strict=True):
                try:
                    is_missing = isinstance(each.result(), Absent)
                except LogCorrupt as error:
                    self._found.findings.append(of_error(error, f"{self.objects.where}/{self.objects.path(name)}"))
                    continue
                # Who died before he made the stub of a block that was never merged left its entries.
                if is_missing and isinstance(self.objects.call(Call("look", self._log.entry(block * self._log.block))), Absent):
                    self._tell(self.objects.path(name), "the stub of a block that was packed is missing")

    def _look(self, seen: Seen) -> bool:
        number = self._number
        if seen.is_packed:
            path = self.objects.path(self._log.segment(number // self._log.block))
            if not self._is_hidden:
                self._tell(path, "its entries were packed, and no pack holds them: a pack is missing")
            self._end, self._epoch, self._number = None, 0, self._log.end_of_block(number)
            return False
        if seen.is_merged and number + len(seen.entries) != self._log.end_of_block(number):
            path = self.objects.path(self._log.segment(number // self._log.block))
            self._tell(path, f"it should have {self._log.block} entries")
        for entry in seen.entries:
            self._entry(entry, is_merged=seen.is_merged)
        return seen.is_end

    def _entry(self, entry: Entry, *, is_merged: bool) -> None:
        number, before, epoch = self._number, self._end, self._epoch
        if is_merged:
            self._merged = max(self._merged, number // self._log.block + 1)
        if self._is_ended and not entry.is_begin:
            self._tell(self.objects.path(self._log.entry(number)), "it stands after the end of its writer")
        self._is_ended = not entry.is_group and not entry.is_begin
        try:
            if before is None and not entry.is_group:
                if entry.epoch < epoch + entry.is_begin:
                    raise self._corrupt(number, f"it is of epoch {entry.epoch}, after epoch {epoch}")
                self._epoch, self._number = entry.epoch, number + 1
            else:
                self._take((entry,), is_merged=False)
        except LogCorrupt as error:
            name = self._log.segment(number // self._log.block) if is_merged else self._log.entry(number)
            self._found.findings.append(of_error(error, f"{self.objects.where}/{self.objects.path(name)}"))
            self._end, self._epoch, self._number = None, max(epoch, entry.epoch), number + 1
            return
        if entry.is_group:
            self._note_places(number, entry, before)

    def _note_places(self, number: int, entry: Entry, before: Position | None) -> None:
        """Judge the places through which a group that is whole goes, and tell which frames are missing before it."""
        header = self._first(number, entry.body)
        if header.seq > self._expected:
            self._tell(self.objects.path(self._log.entry(number)), f"frames {self._expected} to {header.seq - 1} are missing")
        if header.seq in self._begins:
            self._begins[header.seq] = range(self._after, number + 1)
        at = before or Position(header.seq, header.first, header.prev, header.time_us)
        for _, _, after in list(self._frames_of(number, entry.body, at)):
            self._judge(after)
            at = after
        self._expected, self._found.end, self._after = at.seq, at, number + 1
        self.named.note(entry.body, RECORD_BYTES)
        self._found.bytes += len(entry.body)

    def _is_end(self) -> bool:
        """Whether nothing is kept beyond this entry; else what is missing is told, and the walk goes on behind it."""
        log, number = self._log, self._number
        paths = self.objects.patiently(lambda: self.objects.list(f"log/{log.id}/")) or []
        later = [n for n in map(_number_of, paths) if n >= number]
        paths = self.objects.patiently(lambda: self.objects.list(f"segments/{log.id}/")) or []
        later += [n * log.block for n in map(_number_of, paths) if n * log.block >= number]
        if not later:
            return True
        if min(later) > number:
            missing = f"{min(later) - number} entries from here on are missing, and later ones are there"
            self._tell(self.objects.path(log.entry(number)), missing)
            self._end, self._epoch, self._number = None, 0, min(later)
        return False  # it was written just now, or is to be looked at

    # Places and snapshots

    def _judge(self, at: Position) -> None:
        for known in self._places.get(at.seq, ()):
            self._verdicts[known] = "held" if known == at else "other"

    def _look_at_snapshots(self) -> None:
        for path in snapshots_of(self.objects, self.id):
            data = self.objects.patiently(lambda path=path: self.objects.get(path))  # type: ignore[misc]
            if data is None:  # the writer drops the oldest
                continue
            where = f"{self.objects.where}/{path}"
            try:
                kept = codec.decode_snapshot(where, data, self.id)
            except LogCorrupt as error:
                self._found.findings.append(of_error(error, where))
                continue
            self._snapshots.append((path, kept))
            if path != codec.snapshot_path(self.id, kept.snapshot.at.seq):
                self._tell(path, f"this snapshot is of frame {kept.snapshot.at.seq}, and is named after another")

    def _judge_snapshot(self, path: str, kept: Kept) -> None:
        seq, verdict = kept.snapshot.at.seq, self._verdicts[kept.snapshot.at]
        if verdict == "other":
            self._tell(path, f"the frames before frame {seq} are not those of which this snapshot was kept")
        elif verdict == "beyond":
            wrong = f"the log ends before frame {self._expected}, and this snapshot is of frame {seq}: the log's end is missing"
            self._tell(path, wrong)
        elif verdict == "held" and self._begins[kept.begins] and kept.number not in self._begins[kept.begins]:
            self._tell(path, f"frame {kept.begins} is not in entry {kept.number}, as this snapshot says")

    def _tell(self, path: str, wrong: str) -> None:
        self._found.findings.append(Finding(f"{self.objects.where}/{path}", 0, wrong))


def _number_of(path: str) -> int:
    name = path.rpartition("/")[2]
    return int(name) if name.isdecimal() else -1

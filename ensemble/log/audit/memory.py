"""Auditing a log in this process's memory."""

from __future__ import annotations

from hashlib import sha256

from ensemble.errors import LogCorrupt
from ensemble.log.audit import Audited, Finding, Known, of_error, pass_over, tell_unsaid
from ensemble.log.audit.named import Named
from ensemble.log.base import Position, begin_of
from ensemble.log.blobs import MemoryBlobs
from ensemble.log.chain import follow
from ensemble.log.files import corrupt
from ensemble.log.frame import check
from ensemble.log.memory import MemoryReader, MemoryStore
from ensemble.log.pack import Pack
from ensemble.log.segment import Damage


def audit_memory(store: MemoryStore, known: Known) -> Audited:
    """Each frame's checksum, and the chain of all. What stands for a file is the frame's number."""
    at = begin = begin_of(store.id, store.shard, store.fork)
    found = Audited(store.id, store.name, store.shard, fork=store.fork, begin=begin, findings=[], notes=[])
    wanted = set(known(store.id, store.shard))
    found.verdicts = {place: "held" if place == at else "unread" for place in wanted}

    def judge(at: Position) -> None:
        found.verdicts.update((place, "held" if place == at else "other") for place in wanted if place.seq == at.seq)

    held = store.held
    first, end = held.ends[0].seq, held.ends[-1].seq
    packs = {pack.seq: pack for pack in held.packs}
    while at.seq < end:
        pack = packs.get(at.seq)
        if pack is not None:
            for place in _places(pack, at, found):
                judge(place)
            at = pack.end
            found.bytes += pack.whole
            if pack.is_past:
                found.begin = at
                pass_over(pack, found.verdicts, found)
            continue
        ix = at.seq - first
        data = held.data[ix]
        try:
            at = follow(at, check(data), data)
        except LogCorrupt as error:
            found.findings.append(Finding(f"memory:{store.name}: frame {at.seq}", 0, str(error)))
            at = held.ends[ix + 1]
        found.bytes += len(data)
        judge(at)
    found.verdicts.update((place, "beyond") for place in wanted if place.seq > at.seq)
    found.end = at
    if not found.findings:
        # In memory nothing is packed but where something is taken out.
        lost = [(pack, sha256(pack.data()).digest()) for pack in held.packs]
        tell_unsaid(lost, MemoryReader(store).frames(), found)
        named = Named(store.id, store.shard)
        for pack in held.packs:
            for item in pack.items():
                named.note(item.data)
        for data in held.data:
            named.note(data)
        named.judge(MemoryBlobs(store.blobs), MemoryReader(store).frame_at, found)
    return found


def _places(pack: Pack, at: Position, found: Audited) -> list[Position]:
    """The places after what is left in a pack; what is wrong with it goes to `found`."""
    places = [pack.end]
    try:
        if pack.begin != at:
            raise Damage(pack.path, 0, f"it does not follow frame {at.seq - 1}: frames were changed or lost")
        pack.state()
        places += [item.after for item in pack.items()]
    except Damage as damage:
        found.findings.append(of_error(corrupt(damage.path, damage.place, damage.why), damage.path))
    return places

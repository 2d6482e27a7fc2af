"""Auditing a log in this process's memory."""

from __future__ import annotations

from ensemble.errors import LogCorrupt
from ensemble.log.audit import Audited, Finding, Known
from ensemble.log.audit.named import Named
from ensemble.log.base import begin_of
from ensemble.log.blobs import MemoryBlobs
from ensemble.log.chain import follow
from ensemble.log.frame import check
from ensemble.log.memory import MemoryReader, MemoryStore


def audit_memory(store: MemoryStore, known: Known) -> Audited:
    """Each frame's checksum, and the chain of all. What stands for a file is the frame's number."""
    at = begin = begin_of(store.id, store.shard, store.fork)
    found = Audited(store.id, store.name, store.shard, fork=store.fork, begin=begin, findings=[], notes=[])
    wanted = set(known(store.id, store.shard))
    found.verdicts = {place: "held" if place == at else "unread" for place in wanted}
    for n, data in enumerate(store.data[: store.ends[-1].seq - begin.seq]):
        try:
            at = follow(at, check(data), data)
        except LogCorrupt as error:
            found.findings.append(Finding(f"memory:{store.name}: frame {begin.seq + n}", 0, str(error)))
            at = store.ends[n + 1]
        found.bytes += len(data)
        found.verdicts.update((place, "held" if place == at else "other") for place in wanted if place.seq == at.seq)
    found.verdicts.update((place, "beyond") for place in wanted if place.seq > at.seq)
    found.end = at
    if not found.findings:
        named = Named(store.id, store.shard)
        for data in store.data:
            named.note(data)
        named.judge(MemoryBlobs(store.blobs), MemoryReader(store).frame_at, found)
    return found

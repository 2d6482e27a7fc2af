"""How fast a store is audited, beside how fast the same bytes are only read and hashed.

    python benchmarks/audit.py [--mb N] [--events N] [--store FOLDER]

Writes a directory store of about so many megabytes, in frames of `--events` events of about 100 bytes (default 100), then
audits it. Prints one
JSON line on stdout:
    audit_mb_per_s    bytes of the log by the time of `ensemble.audit`, nothing but the log looked at
    bare_mb_per_s     the same files read in pieces of 1 MB, CRC-32 and SHA-256 over each: the machine's yardstick
    hashed_mb_per_s   SHA-256 of each frame alone, the bytes at hand: what the chain of hashes takes at the least
    ratio             the first by the second, in the same run
    to_hashed         the first by the third
    cpu_mb_per_s      as the first, by the processor's time: what it would be if nothing else ran
    mb, frames        what was audited
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import ensemble
from ensemble.event import Frame, Rows, encode
from ensemble.log import open_log
from ensemble.log.group import RECORD_BYTES

PIECE = 1 << 20


def write(url: str, size: int, events: int) -> int:
    """Fill a log; how many frames it has."""
    log = open_log(url, name="bench", durability="memory")
    payload = encode(
        {"order_id": "o-1234567", "customer": "c-123", "total": 39.5, "items": ["mat", "bottle"], "note": "x" * 30}
    )
    written, at = 0, log.end()
    while written < size:
        group = []
        for _ in range(20):
            keys = [f"o-{at.offset + n}" for n in range(events)]
            rows = Rows(log.id, 0, at.offset, 0, ["order.placed"], 0, keys, [payload] * events, ["/bench"], 0)
            frame = Frame(at.offset, at.time_us + 1, rows, {})
            group.append(log.seal(frame))
            at = at._replace(seq=frame.seq + 1, offset=frame.end, time_us=frame.time_us)
        log.append(group)
        written += sum(map(len, group))
    log.close()
    return at.seq


def bare(folder: Path) -> float:
    """Seconds to read and hash all segments."""
    began = time.perf_counter()
    for path in sorted((folder / "shard-0").glob("*.seg")):
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                crc32(piece)
                sha256(piece)
    return time.perf_counter() - began


def hashed(folder: Path) -> float:
    """Seconds to hash all frames, each by itself."""
    took = 0.0
    for path in sorted((folder / "shard-0").glob("*.seg")):
        data, place, bounds = path.read_bytes(), 0, []
        while place < len(data):
            if data[place] == 0x95:  # a group's record
                place += RECORD_BYTES
                continue
            bounds.append((place, place := place + int.from_bytes(data[place + 2 : place + 6], "big")))
        began = time.perf_counter()
        for begin, end in bounds:
            sha256(data[begin:end]).digest()
        took += time.perf_counter() - began
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast a store is audited.")
    parser.add_argument("--mb", type=int, default=400)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--store", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.store) as folder:
        store = Path(folder, "store")
        frames = write(str(store), given.mb * 1_000_000, given.events)
        seconds = [bare(store)]
        chained = [hashed(store)]
        began, cpu = time.perf_counter(), time.process_time()
        audit = ensemble.audit(str(store))
        took, worked = time.perf_counter() - began, time.process_time() - cpu
        seconds.append(bare(store))  # the machine's mood before and after
        chained.append(hashed(store))
        assert audit.is_whole, audit.findings
    mb = audit.bytes / 1e6
    told = {
        "audit_mb_per_s": round(mb / took),
        "bare_mb_per_s": round(mb / (sum(seconds) / 2)),
        "hashed_mb_per_s": round(mb / (sum(chained) / 2)),
        "ratio": round(sum(seconds) / 2 / took, 2),
        "to_hashed": round(sum(chained) / 2 / took, 2),
        "cpu_mb_per_s": round(mb / worked),
        "mb": round(mb),
        "frames": frames,
        "events_a_frame": given.events,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()

"""How fast a store is audited, beside how fast the same bytes are only read and hashed.

    python benchmarks/audit.py [--mb N] [--events N] [--store FOLDER]

Writes a directory store of about so many megabytes, in frames of `--events` events of about 100 bytes (default 100), then
audits it. Prints one
JSON line on stdout:
    audit_mb_per_s    bytes of the log by the time of `ensemble.audit`, nothing but the log looked at
    bare_mb_per_s     the same files read in pieces of 1 MB, CRC-32 and SHA-256 over each: the machine's yardstick
    ratio             the first by the second, in the same run
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
        began = time.perf_counter()
        audit = ensemble.audit(str(store))
        took = time.perf_counter() - began
        seconds.append(bare(store))  # the machine's mood before and after
        assert audit.is_whole, audit.findings
    mb = audit.bytes / 1e6
    told = {
        "audit_mb_per_s": round(mb / took),
        "bare_mb_per_s": round(mb / (sum(seconds) / 2)),
        "ratio": round(sum(seconds) / 2 / took, 2),
        "mb": round(mb),
        "frames": frames,
        "events_a_frame": given.events,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()

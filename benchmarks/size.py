"""What packing a log saves and costs: `python benchmarks/size.py [STORE ...]`.

Takes each store's segments (or those of a made-up log of orders), packs them once without and once with zstd, and reads them
back: all of it, and one event at a time.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from ensemble.event import Frame, Rows, encode
from ensemble.log.base import Snapshot
from ensemble.log.directory import DirectoryLog, open_directory

EVENTS = 300_000
LOOKS = 300


def made_up(folder: Path) -> None:
    """Orders of some 150 bytes, a thousand to a frame."""
    chance = random.Random(1)
    log = open_directory(folder, name="shop", log_id="log", segment_bytes=8 << 20)
    for first in range(0, EVENTS, 1000):
        data = [
            encode({
                "order_id": f"o-{first + i}", "customer": f"c-{chance.randrange(20_000)}",
                "total": round(chance.random() * 300, 2),
                "items": [{"sku": f"{chance.randrange(4_000):05}", "quantity": chance.randrange(1, 9)} for _ in range(3)],
            })
            for i in range(1000)
        ]  # fmt: skip
        keys = [f"o-{first + i}" for i in range(1000)]
        rows = Rows("", 0, first, 0, ["order.placed"], 0, keys, data, ["/shop"], 0)
        log.append([log.seal(Frame(first, log.end().time_us + 1, rows, {}))])
    log.close()


def measured(store: Path, *, compress: bool) -> dict[str, float]:
    """What packing all finished segments of a copy of it comes to."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(store, Path(scratch) / "store"))
        (folder / "lock").write_text("free\n")
        log = open_directory(folder, name="", log_id="", create=False, segment_bytes=1)
        log.append([log.seal(Frame(log.end().offset, log.end().time_us, None, {}))])  # ends the last segment
        for _ in range(2):
            log.save(Snapshot(log.end(), b"x" * log.end().seq))
            log.append([log.seal(Frame(log.end().offset, log.end().time_us, None, {}))])
        packing = log.packing()
        before = _read(log)
        took_s = size = 0.0
        for part in packing.parts():
            size += part.size
            began_s = perf_counter()
            packing.put(packing.pack([part], None, compress=compress))
            took_s += perf_counter() - began_s
        packed = sum(path.stat().st_size for path in folder.glob("shard-0/*.pack"))
        after = _read(log)
        log.close()
    return {
        "bytes": size, "share": packed / size, "packed_mb_s": size / took_s / 1e6,
        "events_s_before": before[0], "events_s_after": after[0], "look_ms_before": before[1], "look_ms_after": after[1],
    }  # fmt: skip


def _read(log: DirectoryLog) -> tuple[float, float]:
    """Events read a second, and milliseconds for one event at a random place."""
    began_s = perf_counter()
    count = sum(frame.count for frame in log.rows())
    each = count / (perf_counter() - began_s)
    chance = random.Random(2)
    began_s = perf_counter()
    for _ in range(LOOKS):
        log.frame_at(chance.randrange(count))
    return each, (perf_counter() - began_s) / LOOKS * 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stores", nargs="*", type=Path)
    stores: list[Path] = parser.parse_args().stores
    with tempfile.TemporaryDirectory() as scratch:
        if not stores:
            made_up(Path(scratch) / "orders")
            stores = [Path(scratch) / "orders"]
        for store in stores:
            for compress in (False, True):
                print(json.dumps({"store": store.name, "zstd": compress, **measured(store, compress=compress)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

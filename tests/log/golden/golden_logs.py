"""The history of the golden log. `python tests/log/golden/golden_logs.py` writes what is not there, for a new format only."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))

from ensemble.event import Frame
from ensemble.log import Snapshot
from ensemble.log.base import Packing, Part, Removal, Taken
from ensemble.log.directory import open_directory
from ensemble.log.manifest import FIRST_FORMAT, PACKED_FORMAT
from tests.log.log_samples import frame, rows

HERE = Path(__file__).parent / f"format-{FIRST_FORMAT}"
PACKED = Path(__file__).parent / f"format-{PACKED_FORMAT}-packed"


def build(folder: Path) -> None:
    """A store with two segments, a snapshot, and every form that a column can have."""
    for part in range(2):
        log = open_directory(folder, name="golden", log_id="k3vm2p9qxw7d", segment_bytes=1000)
        for _ in range(2):
            at = log.end()
            first = Frame(at.offset, at.time_us + 1_700_000_000_000_000 * (not at.seq), None, {"joined": {"pay": [0, 0]}})
            log.append([log.seal(first)])
            at = log.end()
            n = at.offset
            place = {"place": {"f": {"byte": 7, "done": None}}}
            one = frame(at, 3, place, keys=["k", "ключ", ""], topics=["a", "b.c", "d"], topic_ix=range(3))
            two = Frame(
                n + 3,
                at.time_us + 2,
                rows(
                    3,
                    n + 3,
                    topics=["order.placed", "payment.captured"],
                    topic_ix=[0, 1, 1],
                    keys=["k", "k", "k"],
                    sources=["/band/a", "/band/b"],
                    source_ix=[0, 0, 1],
                    causes=range(n, n + 3),
                    roots=[n, "elsewhere-7", n],
                    extras={1: {"id": "mine", "time_us": 5, "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}},
                ),
                {"heard": {"pay": [n + 3, 3, [], [], [], 3, 3, 5]}, "wrote": {"pay": {"k": b"\xc0", "gone": None}}},
            )
            log.append([log.seal(one), log.seal(two)])
        if not part:
            log.save(Snapshot(log.end(), b"the broker's state"))
        log.close()


def build_packed(folder: Path, *, is_done: bool = True) -> None:
    """A store that begins after a pack of what is past, and has one of which rows went; before that, if it is not done."""
    log = open_directory(folder, name="golden", log_id="k3vm2p9qxw7d", segment_bytes=400)
    for _ in range(9):
        at = log.end()
        made = rows(2, at.offset, topics=["a", "b"], topic_ix=[0, 1], keys=["k", "l"], causes=[at.offset, "elsewhere-7"])
        log.append([log.seal(Frame(at.offset, at.time_us + 1, made, {"wrote": {"pay": {"k": b"\xc0"}}}))])
        log.save(Snapshot(log.end(), b"the broker's state"))
    packing = log.packing()
    for part in packing.parts() if is_done else ():
        _pack(packing, part, is_past=part.seq == 0)
    log.close()


def _pack(packing: Packing, part: Part, *, is_past: bool) -> None:
    removals = [Removal("retain: {time: 1d}", 1_700_000_000_000_000, part.first, part.end, 2)]
    packing.put(
        packing.pack(
            [part],
            lambda kept: Taken([1], has_marks=not is_past),
            lambda: removals,
            state=(lambda: b"the state there") if is_past else None,
            compress=not is_past,
        )
    )


if __name__ == "__main__":
    for folder, write in ((HERE, build), (PACKED, build_packed)):
        if not folder.exists() or "anew" in sys.argv:
            shutil.rmtree(folder, ignore_errors=True)
            write(folder)
            (folder / "lock").write_text("free\n")

"""A process that appends to a store until it is killed: `python log_writer.py STORE SEED`.

After each group that was acknowledged it prints the number of the next frame. What a frame holds follows from its
number alone, so that whoever reads the log afterwards knows what must be in it.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))

from ensemble.errors import Unavailable
from ensemble.event import Frame
from ensemble.log import EventLog, Position, Snapshot, open_log
from tests.log.log_samples import plain, rows


def expected(seq: int, first: int) -> Frame:
    chance = random.Random(seq)
    count = chance.randrange(4)
    data = [chance.randbytes(chance.choice((5, 50, 20_000))) for _ in range(count)]
    return Frame(first, seq, rows(count, first, data=data) if count else None, {"n": seq}, seq=seq)


def write(log: EventLog, seed: int) -> None:
    chance = random.Random(seed)
    at = log.end()
    print(at.seq, flush=True)
    while True:
        sealed = []
        for _ in range(chance.randrange(1, 6)):
            frame = expected(at.seq, at.offset)
            sealed.append(log.seal(frame))
            at = Position(at.seq + 1, frame.end, b"", at.time_us)
        try:
            log.append(sealed)
            if chance.random() < 0.1:
                log.save(Snapshot(log.end(), b"%d" % at.seq))
        except Unavailable as error:
            print(error, flush=True)
            return
        print(at.seq, flush=True)


def check(frames: list[Frame]) -> None:
    """That these are the frames from 0 on, as they were written."""
    first = 0
    for seq, frame in enumerate(frames):
        assert plain(frame) == plain(expected(seq, first))
        first = frame.end


if __name__ == "__main__":
    write(open_log(sys.argv[1], name="band"), int(sys.argv[2]))

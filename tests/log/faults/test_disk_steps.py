"""Every single step that a store takes on the disk, failing once, or pulling the plug there.

Promise: what was acknowledged is there afterwards; what was not is there whole or not at all.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from ensemble.errors import Unavailable
from ensemble.log import Snapshot
from ensemble.log.directory import DirectoryLog, open_directory, read_directory
from tests.log.log_samples import Failing, Plug, Quick, append, contents, flat, frame

SEGMENT_BYTES = 400


def open_on(disk: Quick, folder: Path) -> DirectoryLog:
    return open_directory(folder, name="band", log_id="log", files=disk, segment_bytes=SEGMENT_BYTES)


class History:
    """Appends, saves and reopenings, and what of it was acknowledged, what was tried."""

    def __init__(self) -> None:
        self.acknowledged: list[list[dict[str, Any]]] = []
        self.tried: list[dict[str, Any]] = []
        self.saved: list[Snapshot] = []
        self.log: DirectoryLog | None = None

    def play(self, disk: Quick, folder: Path) -> None:
        for part in range(3):
            self.log = log = open_on(disk, folder)
            for group in ([1], [2, 1], [1]):
                at = log.end()
                self.tried = [{"first": at.offset, "count": count} for count in group]
                self.acknowledged += append(log, group)
                self.tried = []
            state = Snapshot(log.end(), b"%d" % part)
            log.save(state)
            self.saved.append(state)
            log.close()


def check_what_is_left(history: History, folder: Path) -> None:
    for log in (read_directory(folder), open_on(Quick(), folder)):
        kept = contents(log)
        sure = flat(history.acknowledged)
        assert kept[: len(sure)] == sure
        assert len(kept) - len(sure) in (0, len(history.tried)), "a group is there whole or not at all"
        found = log.snapshot()
        assert found is None or found.at.seq <= len(kept)
        assert not history.saved or (found is not None and found.at.seq >= history.saved[-1].at.seq)
        if isinstance(log, DirectoryLog):
            log.append([log.seal(frame(log.end(), 1))])
        log.close()


@pytest.mark.parametrize("error", [errno.ENOSPC, None], ids=["fails", "plug pulled"])
def test_whatever_step_fails_what_was_acknowledged_is_there(tmp_path: Path, error: int | None) -> None:
    for step in range(1, 1000):
        folder = tmp_path / str(step)
        disk, history = Failing(step, error), History()
        try:
            history.play(disk, folder)
        except (Unavailable, Plug):
            if history.log is not None and not history.log._is_closed:
                history.log._lock.release()  # as the death of the process does; nothing else is cleaned up
            if (folder / "ensemble.json").exists():
                check_what_is_left(history, folder)
            else:
                open_on(Quick(), folder).close()
        else:
            check_what_is_left(history, folder)
            assert disk.done > 60
            return
    pytest.fail("the history took more than 999 steps")

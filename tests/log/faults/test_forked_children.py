"""A process that plays a store forks a child, and is killed. Promise: the child does not hold the store."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from ensemble.log.directory import open_directory
from tests.log.log_samples import contents

CODE = """
import os, sys
from ensemble.log.directory import open_directory
from tests.log.log_samples import append
log = open_directory(sys.argv[1], name="band", log_id="log")
append(log, [1])
if os.fork() == 0:
    print("forked", flush=True)
    sys.stdin.read()
    os._exit(0)
os.waitpid(-1, 0)
"""


def test_a_store_can_be_opened_when_who_played_it_was_killed_and_its_child_lives(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CODE, str(tmp_path)]
    pipe, root = subprocess.PIPE, Path(__file__).parents[3]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=root) as player:
        assert player.stdin is not None
        assert player.stdout is not None
        assert player.stdout.readline() == "forked\n"
        player.send_signal(signal.SIGKILL)
        assert player.wait(30) == -signal.SIGKILL

        log = open_directory(tmp_path, name="band", log_id="log")

        assert [kept["seq"] for kept in contents(log)] == [0]
        log.close()

"""Who plays comes before who is starting, where the system allows it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ensemble.stage.on_ray import precedence
from tests.conformance.stand import eventually

pytestmark = pytest.mark.skipif(not precedence._may_take(), reason="this system lets nobody take precedence")

PROGRAM = """
import os, threading
from ensemble.stage.on_ray import precedence

os.nice(15)
before = os.getpriority(os.PRIO_PROCESS, 0)
came, go = threading.Event(), threading.Event()
def wait():
    came.set()
    go.wait()
thread = threading.Thread(target=wait)
thread.start()
came.wait()
precedence.take(is_shard={is_shard})
after = [os.getpriority(os.PRIO_PROCESS, each) for each in (0, thread.native_id)]
print("as before" if after == [before, before] else after)
go.set()
"""


def niceness(*, is_shard: bool, **env: str) -> str:
    """That of the main thread, and of one that was there before, once precedence was taken."""
    kept = {name: value for name, value in os.environ.items() if name != precedence.OURS}
    program = PROGRAM.format(is_shard=is_shard)
    return subprocess.run(
        [sys.executable, "-c", program], env={**kept, **env}, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_shard_and_in_our_own_ray_an_instance_take_normal_precedence_in_all_their_threads() -> None:
    assert niceness(is_shard=True) == "[0, 0]"
    assert niceness(is_shard=False, **{precedence.OURS: "1"}) == "[0, 0]"


def test_in_the_ray_of_others_an_instance_stays_as_nice_as_they_have_it() -> None:
    assert niceness(is_shard=False) == "as before"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that says nothing of it; what is set there is gone afterwards."""
    for name in (precedence.RAYS_OWN, precedence.OURS):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def ours(bare: pytest.MonkeyPatch) -> None:
    """As in a process of a Ray that Ensemble started."""
    precedence.prepare()


@contextmanager
def newborn(then: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A process that begins, and for each line that it's sent says its policies: of the main thread, and of one begun since."""
    program = f"""if True:
        import os, sys, threading
        from ensemble.stage.on_ray import precedence
        precedence.BIRTH_S = 0.5
        precedence.begin()
        go = threading.Event()
        thread = threading.Thread(target=go.wait, daemon=True)
        thread.start()
        for line in sys.stdin:
            {then or "pass"}
            print(*(os.sched_getscheduler(each) for each in (0, thread.native_id)), flush=True)
    """
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.communicate()


def policies(process: subprocess.Popen[bytes]) -> list[int]:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"go\n")
    process.stdin.flush()
    return [int(each) for each in process.stdout.readline().split()]


@pytest.mark.usefixtures("ours")
def test_who_is_born_holds_back_until_it_takes_precedence() -> None:
    with newborn("if line: precedence.take(is_shard=False)") as process:
        eventually(lambda: os.sched_getscheduler(process.pid) == os.SCHED_IDLE)

        assert policies(process) == [os.SCHED_OTHER, os.SCHED_OTHER]


@pytest.mark.usefixtures("ours")
def test_who_is_no_player_holds_back_for_a_while_only() -> None:
    with newborn() as process:
        eventually(lambda: os.sched_getscheduler(process.pid) == os.SCHED_IDLE)

        eventually(lambda: policies(process) == [os.SCHED_OTHER, os.SCHED_OTHER])


@pytest.mark.usefixtures("ours")
def test_who_has_given_precedence_back_keeps_to_it() -> None:
    with newborn("precedence.take(is_shard=False); precedence.give_back()") as process:
        assert policies(process) == [os.SCHED_IDLE, os.SCHED_IDLE]

        time.sleep(0.7)  # longer than BIRTH_S there: nothing may have let it go

        assert policies(process) == [os.SCHED_IDLE, os.SCHED_IDLE]


@pytest.mark.usefixtures("bare")
def test_in_the_ray_of_others_nobody_is_held_back() -> None:
    with newborn() as process:
        assert policies(process) == [os.SCHED_OTHER, os.SCHED_OTHER]


def test_who_is_let_go_gives_precedence_back(bare: pytest.MonkeyPatch) -> None:
    precedence.prepare()
    program = "import os; from ensemble.stage.on_ray import precedence; precedence.give_back(); print(os.sched_getscheduler(0))"

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert int(said) == os.SCHED_IDLE


def test_workers_begin_behind_those_who_play(bare: pytest.MonkeyPatch) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)

    precedence.prepare()

    assert (os.environ[precedence.RAYS_OWN], os.environ[precedence.OURS]) == ("15", "1")
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_what_the_environment_says_of_workers_stays(bare: pytest.MonkeyPatch) -> None:
    bare.setenv(precedence.RAYS_OWN, "7")

    precedence.prepare()

    assert os.environ[precedence.RAYS_OWN] == "7"


def test_where_nobody_may_take_precedence_all_begin_alike(bare: pytest.MonkeyPatch) -> None:
    def refuse(*given: int) -> None:
        raise PermissionError

    bare.setattr(os, "setpriority", refuse)

    precedence.prepare()
    precedence.take(is_shard=True)

    assert os.environ[precedence.RAYS_OWN] == "0"

"""Who plays comes before who is starting, where the system allows it."""

from __future__ import annotations

import os
import subprocess
import sys
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
def child(program: str = "import sys; sys.stdin.read()") -> Iterator[subprocess.Popen[bytes]]:
    """A process that this one starts, and ends."""
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.communicate()


def policy(process: subprocess.Popen[bytes]) -> int:
    return os.sched_getscheduler(process.pid)


def node() -> precedence.Births:
    return precedence.Births(os.getpid())


@pytest.mark.usefixtures("ours")
def test_a_process_that_is_born_is_held_back_until_it_takes_precedence() -> None:
    births = node()
    program = """if True:
        import sys
        from ensemble.stage.on_ray import precedence
        sys.stdin.readline()
        precedence.take(is_shard=False)
        print("taken", flush=True)
        sys.stdin.read()
    """
    with child() as elder:
        births.expect()
        with child(program) as newborn:
            eventually(lambda: policy(newborn) == os.SCHED_IDLE)
            assert policy(elder) == os.SCHED_OTHER

            assert newborn.stdin is not None and newborn.stdout is not None
            newborn.stdin.write(b"go\n")
            newborn.stdin.flush()
            assert newborn.stdout.readline() == b"taken\n"

            assert policy(newborn) == os.SCHED_OTHER


@pytest.mark.usefixtures("ours")
def test_who_is_held_back_too_long_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precedence, "STUCK_S", 0.3)
    monkeypatch.setattr(precedence, "BIRTH_S", 0.2)
    births = node()
    births.expect()
    with child() as newborn:
        eventually(lambda: policy(newborn) == os.SCHED_IDLE)
        eventually(lambda: policy(newborn) == os.SCHED_OTHER)
        eventually(lambda: not births._looks)

    births.expect()
    with child() as next_one:
        eventually(lambda: policy(next_one) == os.SCHED_IDLE)


def test_in_the_ray_of_others_nobody_is_held_back(bare: pytest.MonkeyPatch) -> None:
    births = node()
    births.expect()

    assert not births._looks


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

"""A process may take what its node has left, and not more: it gets a MemoryError before Ray has to end somebody."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ensemble.stage.on_ray import memory
from ensemble.stage.on_ray.memory import LEAST_BYTES, SHARE, Bound, free_bytes, node_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the bound is one of Linux")

MIB = 1 << 20


@pytest.fixture(autouse=True)
def bounds_end_with_the_test() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    yield
    resource.setrlimit(resource.RLIMIT_DATA, before)


def bound() -> int:
    return resource.getrlimit(resource.RLIMIT_DATA)[0]


def test_most_of_what_is_free_can_be_taken_and_not_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 200 * MIB)

    Bound().set()

    assert len(bytearray(100 * MIB)) == 100 * MIB
    with pytest.raises(MemoryError):
        bytearray(200 * MIB)


def test_on_a_node_that_has_nothing_left_nobody_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    before = bound()
    monkeypatch.setattr(memory, "free_bytes", lambda: LEAST_BYTES - 1)

    Bound().set()

    assert bound() == before


def test_a_bound_that_somebody_else_has_set_is_never_widened(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = memory._data_bytes() + 300 * MIB
    resource.setrlimit(resource.RLIMIT_DATA, (mine, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    monkeypatch.setattr(memory, "free_bytes", lambda: 1000 * MIB)

    Bound().set()

    assert bound() == mine


def test_a_bound_is_found_anew_for_a_later_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    free = 1000 * MIB
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    monkeypatch.setattr(memory, "free_bytes", lambda: free)
    mine = Bound()
    mine.set()
    first = bound()

    free = 2000 * MIB
    now_s += memory.REFRESH_S / 2
    mine.set()
    assert bound() == first
    now_s += memory.REFRESH_S
    mine.set()

    assert bound() - first == pytest.approx(SHARE * 1000 * MIB, abs=50 * MIB)


def test_what_is_free_goes_by_the_threshold_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "node_bytes", lambda: (1000, 400))
    monkeypatch.delenv("RAY_memory_usage_threshold", raising=False)

    assert free_bytes() == 550
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.5")
    assert free_bytes() == 100


@pytest.mark.parametrize(
    "names",
    [
        ("memory.max", "memory.current", "memory.stat", "inactive_file", "max"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
            str(1 << 62),
        ),
    ],
    ids=["cgroup 2", "cgroup 1"],
)
def test_a_container_has_what_its_group_may_have(
    names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    machine, _ = node_bytes()
    limit, used, stat, cache, unlimited = names
    for name, text in ((limit, "1000000"), (used, "700000"), (stat, f"anon 5\n{cache} 200000\n")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    assert node_bytes() == (1_000_000, 500_000)
    (tmp_path / limit).write_text(unlimited)
    assert node_bytes()[0] == machine

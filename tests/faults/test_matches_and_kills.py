"""Kill -9 with half-open matches and pending timers: "order placed, no payment within 15 minutes" is told once an order.

The sentence is two lines of reminders.yaml. The quarter of an hour is a few seconds here, and runs on while nobody plays.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import ensemble
from tests.conformance.stand import eventually
from tests.faults.reminders import ORDERS, write_orders

ROOT = Path(__file__).parents[2]
SCORE = ROOT / "tests/faults/reminders.yaml"
CHILD = ROOT / "tests/faults/play_and_be_killed.py"
WITHIN_S = 4.0
KILLS = 5


@pytest.fixture(autouse=True)
def orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_orders(tmp_path / "orders.jsonl")
    for name, value in {"ORDERS": str(tmp_path / "orders.jsonl"), "WITHIN": f"{WITHIN_S:g}s"}.items():
        monkeypatch.setenv(name, value)


def faults(reader: Any) -> list[str]:
    """What is wrong with what was told, by the times at which things were written."""
    written: dict[str, dict[str, Any]] = {topic: {} for topic in ("order.placed", "order.packed", "payment.captured")}
    for topic, found in written.items():
        found.update((event.key, event.written_at) for event in reader.events(topic))
    placed, paid = written["order.placed"], written["payment.captured"]
    late = [key for key, at in placed.items() if key not in paid or paid[key] - at >= timedelta(seconds=WITHIN_S)]
    both = [key for key in paid if key in written["order.packed"]]
    wrong = [] if len(placed) == ORDERS else [f"{len(placed)} orders were placed"]
    for topic, keys in (("unpaid", late), ("order.reminded", late), ("ready", both), ("order.shipped", both)):
        if Counter(event.key for event in reader.events(topic)) != Counter(keys):
            wrong.append(f"{topic} is not there once for each of the {len(keys)}")
    return wrong


def is_told(reader: Any) -> bool:
    """Whether every order that is not paid was reminded of: then no timer is pending."""
    return len({event.key for event in reader.events("order.reminded")}) >= ORDERS / 3


@pytest.mark.patience(120)
def test_killed_while_matches_are_half_open_and_timers_pending_each_is_told_once(
    tmp_path: Path, chance: random.Random
) -> None:
    store = str(tmp_path / "store")
    for _ in range(KILLS):
        with subprocess.Popen(
            [sys.executable, str(CHILD), str(SCORE), store], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()  # it plays
            time.sleep(chance.uniform(0.1, 0.6))  # it is killed at any moment, whatever it is at
            assert process.poll() is None, "it came to its end"
            process.kill()

    with ensemble.open(SCORE, store=store) as band:
        eventually(lambda: is_told(band) and not faults(band), "one reminder of each that is late")
        band.settle(20)
        assert faults(band) == []
    with ensemble.open(SCORE, store=store) as band:  # and nothing is told again
        band.settle(20)
        assert faults(band) == []


@pytest.mark.everywhere("test_ray_faults.py kills shards, the test before it timers")
@pytest.mark.patience(300)
def test_on_ray_too_a_shard_that_is_killed_with_timers_pending_tells_each_once(cluster: None, tmp_path: Path) -> None:
    chance, store = random.Random(1), str(tmp_path / "store")
    with ensemble.open(SCORE, stage="ray", store=store) as band:
        stage: Any = band._stage
        for _ in range(2):
            time.sleep(chance.uniform(0.5, 1.0))  # at any moment, too
            with suppress(ProcessLookupError):
                os.kill(int(stage._lines[0].ask("hello")["pid"]), signal.SIGKILL)
        eventually(lambda: is_told(band) and not faults(band), "one reminder of each that is late", 60)
        band.settle(60)
        assert faults(band) == []
    with ensemble.read(store) as reader:
        assert faults(reader) == []

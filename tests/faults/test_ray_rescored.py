"""Kill -9 of who changes the score of a band in several shards, when some of them play by the new one and some do not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble.broker.outbox import shard_of
from tests.conformance.stand import eventually
from tests.faults.rescore_and_be_killed import SHARDS, document, first, second

ROOT = Path(__file__).parents[2]
NAME = "rescored"
KEYS = [next(f"k-{n}" for n in range(99) if shard_of(f"k-{n}", SHARDS) == shard) for shard in range(SHARDS)]


def plans(band: ensemble.Band) -> list[bytes]:
    """What each shard plays by."""
    stage: Any = band._stage
    return [line.ask("plan") for line in stage._lines]


def said_by(band: ensemble.Band, key: str) -> list[str]:
    return [event.data["by"] for event in band.events("heard", key=key)]


@pytest.fixture
def store(cluster: None, tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path / "store")
    ensemble.down(NAME)


def changes_and_is_killed(band: ensemble.Band, store: str, folder: Path) -> None:
    """Shard 1 still hears when the score is changed, which waits for it there; who changes it is killed while it waits."""
    import ray

    before, sign = plans(band), folder / "go"
    band.publish("came", {"wait": str(sign)}, key=KEYS[1])
    eventually(Path(f"{sign}-came").exists, "the hearing in shard 1", 60)
    address = ray.get_runtime_context().gcs_address
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.rescore_and_be_killed", address, NAME, store],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: plans(band)[0] != before[0], "the change of shard 0", 90)
    finally:
        os.kill(driver.pid, signal.SIGKILL)
    out, _ = driver.communicate()
    assert out == b"", "it was killed before all had changed over"
    sign.touch()
    eventually(lambda: plans(band)[1] == plans(band)[0], "the change of shard 1, which had been asked", 60)
    assert plans(band)[2] == before[2]


@pytest.mark.everywhere("tests/cli/test_cluster.py changes a score")
@pytest.mark.patience(240)
def test_what_a_change_of_the_score_left_half_done_is_told_and_mended_by_the_next_up(store: str, tmp_path: Path) -> None:
    with ensemble.up(document(NAME), store=store, players={"hear": first}) as band:
        changes_and_is_killed(band, store, tmp_path)
        for key in KEYS:
            band.publish("came", {"wait": None}, key=key)
        band.settle(60)
        assert [said_by(band, key) for key in KEYS] == [["second"], ["first", "second"], ["first"]], "each by what it knows"

    with ensemble.up(document(NAME), store=store, players={"hear": second}) as band:
        notes = band.status().notes
        assert len(set(plans(band))) == 1
        band.publish("came", {"wait": None}, key=KEYS[2])
        band.settle(60)
        assert said_by(band, KEYS[2]) == ["first", "second"]
        assert len(list(band.events("heard"))) == len(list(band.events("came"))), "each once"
    with ensemble.up(document(NAME), store=store, players={"hear": second}) as band:
        told_again = band.status().notes

    [note] = [note for note in notes if "half way" in note]
    assert note.startswith(f"band {NAME}: an earlier change of its score had stopped half way, and shard 2 of 3 still played")
    assert not [note for note in told_again if "half way" in note]


@pytest.mark.everywhere("the test before it says the same of the next up")
@pytest.mark.patience(240)
def test_who_joins_after_a_change_that_was_left_half_done_mends_it_too(
    store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = {"ensemble": 1, "name": "other", "players": {"see": {"on": "heard", "section": {"cpus": 0.1}}}}
    with ensemble.up(document(NAME), store=store, players={"hear": first}) as band:
        changes_and_is_killed(band, store, tmp_path)

        ensemble.join(NAME, other, players={"see": print})

        assert len(set(plans(band))) == 1
        band.publish("came", {"wait": None}, key=KEYS[2])
        band.settle(60)
        assert said_by(band, KEYS[2]) == ["second"]
    assert [message for message in caplog.messages if "shard 2 of 3 still played" in message]

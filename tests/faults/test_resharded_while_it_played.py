"""The ACME shop plays on Ray in two shards, is killed half-way, is divided anew into three, and plays on: all adds up."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble.errors import EnsembleError
from ensemble.log import count_shards
from ensemble.resharding import reshard
from tests.conformance.stand import eventually
from tests.faults.test_killed_again_and_again import PLENTY, SCORE, Shopkeeper, part_of_the_month, products_and_rest

BEFORE, AFTER = 2, 3


def in_shards(count: int) -> ensemble.Score:
    return ensemble.load({**ensemble.load(SCORE).document, "stage": {"kind": "ray", "shards": count}})


def kill_half_way(store: Path, products: str, rest: str) -> None:
    """Play until about half of the orders are in, and kill all shards at once."""
    import ray

    with ensemble.open(in_shards(BEFORE), store=str(store), inputs=[products]) as band:
        band.settle(100)
    band = ensemble.open(in_shards(BEFORE), store=str(store), inputs=[rest])
    stage: Any = band._stage
    pids = [int(line.ask("hello")["pid"]) for line in stage._lines]
    eventually(lambda: band.status().events > 5000)
    for line in stage._lines:  # as who takes the cluster away: Ray makes none of them anew
        ray.kill(line.actor, no_restart=True)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with suppress(EnsembleError):
        band.close()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "their end")


@pytest.mark.patience(900)
@pytest.mark.everywhere("half a minute; tests/test_resharding.py and the properties divide stores in seconds")
def test_a_shop_that_was_killed_and_divided_anew_plays_on_as_if_nothing_had_happened(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = part_of_the_month(tmp_path)
    for name, value in {"ACME_INPUT": str(file), "ACME_SPARE": str(PLENTY), "ACME_FLAKY": "0.2"}.items():
        monkeypatch.setenv(name, value)
    shop = Shopkeeper(tmp_path / "store", spare=PLENTY, file=file)

    products, rest = products_and_rest(tmp_path, file)
    kill_half_way(tmp_path / "store", products, rest)
    with ensemble.read(str(shop.store)) as reader:
        before = {event.id for event in reader.events()}
        left = sum(section.lag for section in reader.status().sections.values())
    done = reshard(str(shop.store), AFTER)
    with ensemble.read(str(shop.store)) as reader:
        kept = {event.id for event in reader.events()}
    with ensemble.open(in_shards(AFTER), store=str(shop.store), inputs=[rest]) as band:
        band.settle(600)

    assert left, "all was heard before it was killed"
    assert kept >= before
    assert (done.before, count_shards(str(shop.store))) == (BEFORE, AFTER)
    assert shop.shop_faults() == []

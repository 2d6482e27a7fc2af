"""Kill -9 in a band of several shards: any shard's process, at random, while events cross from one to another.

`--kills N` says how often (default 2), `--seed N` draws the same moments again.
"""

from __future__ import annotations

import os
import random
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import ensemble
from tests.faults.kept import Kept
from tests.faults.test_killed_again_and_again import PLENTY, SCORE, Shopkeeper, part_of_the_month, products_and_rest

SHARDS = 3
PAUSE_MOST_S = 2.0


def shard_pids(stage: Any) -> list[int]:
    return [int(line.ask("hello")["pid"]) for line in stage._lines]


@pytest.mark.everywhere("it takes half a minute; the tests around it kill shards at moments that are known")
@pytest.mark.patience(1800)
def test_shards_killed_at_random_moments_lose_and_repeat_nothing_of_what_crosses_between_them(
    cluster: None,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kept: Kept,
    chance: random.Random,
) -> None:
    wanted = request.config.getoption("--kills") or 1
    print(f"--kills {wanted}")
    file = part_of_the_month(tmp_path)
    for name, value in {"ACME_INPUT": str(file), "ACME_SPARE": str(PLENTY), "ACME_FLAKY": "0.2"}.items():
        monkeypatch.setenv(name, value)
    score = ensemble.load({**ensemble.load(SCORE).document, "stage": {"kind": "ray", "shards": SHARDS}})
    shop = Shopkeeper(kept.url, spare=PLENTY, file=file)
    kills = 0

    products, rest = products_and_rest(tmp_path, file)
    with ensemble.open(score, store=str(shop.store), inputs=[products]) as band:
        band.settle(100)
    with ensemble.open(score, store=str(shop.store), inputs=[rest]) as band:
        stage: Any = band._stage
        while kills < wanted:
            with suppress(TimeoutError):
                band.settle(chance.uniform(0.05, PAUSE_MOST_S))
                break  # all is heard
            for pid in chance.sample(shard_pids(stage), chance.choice([1, 1, 2])):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
        band.settle(400)

    assert kills, "all was heard before anything was killed"
    assert shop.shop_faults() == []

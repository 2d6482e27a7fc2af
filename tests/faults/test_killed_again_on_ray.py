"""Kill -9 at any moment on Ray: the shard's process or instances, at random, while the ACME shop plays; at the end all adds up.

`--kills N` says how often (default 3), `--seed N` draws the same moments again.
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
from tests.faults.test_killed_again_and_again import PLENTY, SCORE, Shopkeeper, part_of_the_month

PAUSE_MOST_S = 2.0
"""How long it plays between kills, at the most: an instance that was killed takes about a second to be there again."""


def play_and_kill(shop: Shopkeeper, wanted: int, chance: random.Random) -> int:
    """Play a store to the end, and kill meanwhile as often as there is time for; how often that was."""
    kills = 0
    with ensemble.open(SCORE, stage="ray", store=str(shop.store)) as band:
        stage: Any = band._stage
        while kills < wanted:
            with suppress(TimeoutError):
                band.settle(chance.uniform(0.05, PAUSE_MOST_S))
                break  # all is heard
            pids = [shard_pid(stage)]
            if chance.random() > 1 / 3:
                pids = [pid for name in sorted(band.status().sections) for pid in stage.pids(name)]
            if pids:
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(pids), signal.SIGKILL)
                    kills += 1
        band.settle(400)
    return kills


def shard_pid(stage: Any) -> int:
    return int(stage._lines[0].ask("hello")["pid"])


@pytest.mark.patience(1800)
@pytest.mark.everywhere("test_ray_shards.py kills shards that play the same shop, test_ray_faults.py shards and instances")
def test_killed_at_random_moments_on_ray_every_order_has_one_outcome_and_all_adds_up(
    cluster: None,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kept: Kept,
    chance: random.Random,
) -> None:
    wanted = request.config.getoption("--kills") or int(os.environ.get("ENSEMBLE_KILLS_ON_RAY", "3"))
    print(f"--kills {wanted}")
    file = part_of_the_month(tmp_path)
    for name, value in {"ACME_INPUT": str(file), "ACME_SPARE": str(PLENTY), "ACME_FLAKY": "0.2"}.items():
        monkeypatch.setenv(name, value)
    kills = stores = 0

    while kills < wanted:
        shop = Shopkeeper(f"{kept.url}-{stores}", spare=PLENTY, file=file)
        kills += play_and_kill(shop, wanted - kills, chance)
        assert shop.faults()[:20] == [], f"after {kills} kills, in store {stores}"
        stores += 1
        print(f"store {stores}: {kills} kills so far")

"""Kill -9 at any moment: the ACME shop is killed while it plays real orders, again and again, and at the end all adds up.

`--kills N` says how often (15 with --everywhere, else 3), `--seed N` draws the same moments again. CI may ask for 200.
"""

from __future__ import annotations

import contextlib
import copy
import gzip
import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble.broker.state import fits
from ensemble.event import Frame
from ensemble.listening import listener
from ensemble.log import read_log
from tests.effort import some
from tests.faults.witness import effect_faults, events_of
from tests.players.oracle import Shop, care_faults, faults, read_input

ROOT = Path(__file__).parents[2]
SCORE = ROOT / "scores/acme_fitness.yaml"
MONTH = ROOT / "scores/data/acme_november_2011.jsonl.gz"
SMALL = ROOT / "scores/data/acme_small.jsonl.gz"
CHILD = Path(__file__).parent / "play_and_be_killed.py"
TABLES = ("users", "catalog", "cart", "order", "stock", "books")
KILLS_A_STORE_MOST = 70
WHOLE_MONTH_FROM = 100
"""With fewer kills than that a part of the month is played."""
PART_LINES = 4000
KILLS_OVER_OBJECTS = 6
PLENTY = 1_000_000
"""With so many pieces nothing runs short, and no table depends on whose order is heard first."""


class Shopkeeper:
    """A store, and the processes that play it, one after the other."""

    def __init__(self, store: Path | str, *, spare: int, file: Path = MONTH, sabotage: str = "") -> None:
        self.store = store
        self.kills = 0
        self.spare = spare
        self.file = file
        self._command = [sys.executable, str(CHILD), str(SCORE), str(store), *([sabotage] if sabotage else [])]
        self._env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "ACME_INPUT": str(file),
            "ACME_SPARE": str(spare),
            "ACME_FLAKY": "0.2",
        }

    def play_and_kill(self, chance: random.Random) -> bool:
        """Start a process and kill it, most often while it plays; whether it was killed before it was done."""
        with self._started() as process:
            assert process.stdout is not None
            if chance.random() < 1 / 8:
                pause = chance.uniform(0.05, 0.3)  # in the middle of opening, or even before
            else:
                first = process.stdout.readline()
                assert first == "playing\n", f"it said {first!r} and {self._complaint(process)}"
                pause = chance.uniform(0.02, 0.2)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(pause)
            process.kill()  # signal 9, to this process alone, unless it has ended
            is_killed = process.wait(30) == -signal.SIGKILL
            self.kills += is_killed
            return is_killed

    def play_to_the_end(self) -> None:
        with self._started() as process:
            out, err = process.communicate(timeout=100)
        assert (process.returncode, out) == (0, "playing\ndone\n"), err

    @contextlib.contextmanager
    def _started(self) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            self._command, env=self._env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            with process:
                yield process
        finally:
            process.kill()

    def _complaint(self, process: subprocess.Popen[str]) -> str:
        process.wait(30)
        assert process.stderr is not None
        return process.stderr.read()

    # What must hold at the end

    def frames(self) -> list[Frame]:
        with closing(read_log(str(self.store))) as log:
            return list(log.frames())  # which verifies each checksum and the chain of hashes

    def faults(self) -> list[str]:
        """What is wrong with the store, in sentences; empty if nothing is."""
        return self.shop_faults() + self.log_faults()

    def shop_faults(self) -> list[str]:
        """By what the shop promises: orders, stock, money, and the tables of a run that was never killed."""
        with ensemble.read(str(self.store)) as reader:
            wrong = faults(reader, Shop(spare=self.spare).run(read_input(self.file)))
            wrong += care_faults(reader)
            status = reader.status()
            wrong += [f"dead letter of {letter.player}: {letter.error}" for letter in reader.dead()]
            wrong += [f"{name} has {section.lag} left to hear" for name, section in status.sections.items() if section.lag]
            if self.spare:
                expected = tables_of_a_quiet_run(self.file)
                wrong += [f"the table of {name} differs" for name in TABLES if dict(reader.table(name)) != expected[name]]
        return wrong

    def log_faults(self) -> list[str]:
        """By what the engine promises: each line published once, each event heard once, with its effects."""
        lines, frames = read_input(self.file), self.frames()
        wrong = effect_faults(frames, listens())
        from_outside = [event for frame in frames for event in events_of(frame) if event.causationid is None]
        published = [(event.topic, event.data) for event in from_outside if not event.topic.startswith("_band.")]
        if published != [(line["topic"], line["data"]) for line in lines]:
            wrong.append(f"{len(published)} lines were published, and not each of the {len(lines)} once and in order")
        return wrong


def part_of_the_month(folder: Path) -> Path:
    """The products and the first orders, in a file."""
    with gzip.open(MONTH, "rb") as lines:
        text = b"".join(itertools.islice(lines, PART_LINES))
    part = folder / "part.jsonl.gz"
    part.write_bytes(gzip.compress(text))
    return part


def products_and_rest(folder: Path, file: Path) -> tuple[str, str]:
    """The same in two files. In several shards what is done about an order may overtake the listing of its product, which comes
    another way: whoever needs both in order waits for the first.
    """
    lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
    products, rest = folder / "products.jsonl.gz", folder / "rest.jsonl.gz"
    products.write_bytes(gzip.compress(b"".join(line for line in lines if b'"product.listed"' in line)))
    rest.write_bytes(gzip.compress(b"".join(line for line in lines if b'"product.listed"' not in line)))
    return str(products), str(rest)


def listens() -> Mapping[str, Any]:
    return {name: partial(fits, listener(spec).patterns) for name, spec in ensemble.load(SCORE).players.items()}


@cache
def tables_of_a_quiet_run(file: Path) -> dict[str, dict[str, Any]]:
    """The tables of a run that nobody kills, whose providers never fail."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACME_INPUT", str(file))
        patch.setenv("ACME_SPARE", str(PLENTY))
        with ensemble.open(SCORE, store="memory:") as band:
            band.settle(100)
            return {name: dict(band.table(name)) for name in TABLES}


@pytest.mark.patience(1200)
def test_killed_at_random_moments_every_order_has_one_outcome_and_all_adds_up(
    request: pytest.FixtureRequest, tmp_path: Path, chance: random.Random
) -> None:
    wanted = request.config.getoption("--kills") or int(os.environ.get("ENSEMBLE_KILLS", some(15, 3)))
    print(f"--kills {wanted}")
    file = MONTH if wanted >= WHOLE_MONTH_FROM else part_of_the_month(tmp_path)
    kills, stores = 0, 0

    while kills < wanted:
        shop = Shopkeeper(tmp_path / f"store-{stores}", spare=PLENTY if stores % 2 == 0 else 0, file=file)
        is_playing = True
        while is_playing and shop.kills < min(KILLS_A_STORE_MOST, wanted - kills):
            is_playing = shop.play_and_kill(chance)
        shop.play_to_the_end()
        assert shop.faults()[:20] == [], f"after {shop.kills} kills of store {stores}"
        kills += shop.kills
        stores += 1
        print(f"store {stores}: {shop.kills} kills")

    assert kills >= wanted


@pytest.mark.everywhere("tests/log kills writers of object stores; this one plays the whole shop")
@pytest.mark.patience(600)
def test_killed_at_random_moments_over_an_object_store_it_comes_to_the_same(tmp_path: Path, chance: random.Random) -> None:
    shop = Shopkeeper(f"objects:{tmp_path / 'store'}", spare=PLENTY, file=part_of_the_month(tmp_path))

    while shop.kills < KILLS_OVER_OBJECTS and shop.play_and_kill(chance):
        pass
    shop.play_to_the_end()

    assert shop.kills > 1
    assert shop.faults()[:20] == []


@pytest.mark.patience(300)
@pytest.mark.parametrize(
    ("sabotage", "caught"),
    [
        ("forget places", "lines were published"),
        pytest.param("hear again", "again in frame", marks=pytest.mark.everywhere("as the other")),
    ],
)
def test_these_tests_can_fail_a_band_that_forgets_is_caught(tmp_path: Path, sabotage: str, caught: str) -> None:
    chance = random.Random(7)
    shop = Shopkeeper(tmp_path / "store", spare=PLENTY, file=SMALL, sabotage=sabotage)
    for _ in range(12):
        shop.play_and_kill(chance)
    if sabotage == "forget places":  # the other leaves timers behind that the end would wait for
        shop.play_to_the_end()

    assert any(caught in fault for fault in shop.log_faults())


def test_these_tests_can_fail_the_witness_sees_effects_that_are_torn_doubled_or_missing(tmp_path: Path) -> None:
    shop = Shopkeeper(tmp_path / "store", spare=PLENTY, file=SMALL)
    shop.play_to_the_end()
    frames = shop.frames()
    assert effect_faults(frames, listens()) == []
    answers = next(ix for ix, frame in enumerate(frames) if "heard" in frame.marks and frame.count)

    torn, deaf = copy.copy(frames[answers]), copy.copy(frames[answers])
    torn.marks = {}
    deaf.marks = {name: mark for name, mark in deaf.marks.items() if name != "heard"}
    deaf.rows = None

    for spoiled in ([torn], [frames[answers]] * 2, [deaf], []):
        history = [*frames[:answers], *spoiled, *frames[answers + 1 :]]
        assert effect_faults(history, listens()) != []

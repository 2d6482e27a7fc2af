"""For random histories of saying, saving, trimming by random rules and being killed: between them the archive and the store
have all that was ever said, byte for byte."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ensemble.errors import EnsembleError
from ensemble.log import archive as archives
from ensemble.log import shelf as shelves
from ensemble.log.audit import audit_log
from ensemble.log.retention import Retention
from tests.log.archive_samples import Trimmed, is_all_there, ruled
from tests.log.log_samples import Failing, Plug, Quick

RULES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"time": "30s"}, {}),
    ({"size": "2KB"}, {"b": {"compact": True}}),
    ({}, {"a": {"retain": {"time": "10s"}}}),
    ({}, {"a": {"retain": {"size": "200B"}}, "b": {"compact": True}}),
    ({"size": "4KB"}, {"c": {"retain": {"time": "5s"}}}),
]


def history(folder: Path, seed: int, patch: pytest.MonkeyPatch) -> int:
    """Play one, and look after each step; how often something went."""
    chance = random.Random(seed)
    cold = folder / "cold"
    patch.setattr(shelves, "Files", Quick)
    kept = Trimmed(folder / "store")
    took = 0
    for _ in range(8):
        kept.say(chance.randrange(1, 14), chance.choice("ac"))
        kept.save(chance.randrange(3))
        which = ruled(cold, *chance.choice(RULES))
        which.compress = chance.random() < 0.5
        end = kept.log.end().offset
        needed = range(chance.randrange(end), end, chance.randrange(5, 30)) if chance.random() < 0.5 else ()
        floor = end - chance.randrange(min(end, 10))
        disk = Failing(10_000, None)
        if is_killed := chance.random() < 0.4:
            kept.log.close()
            kept.log = kept.opened(disk)
            disk.fails_at = disk.done + chance.randrange(1, 60)
            patch.setattr(shelves, "Files", lambda disk=disk: disk)
        with suppress(Plug):
            took += any(packed.removals for packed in kept.trim(which, *needed, floor=floor))
        if is_killed:
            patch.setattr(shelves, "Files", Quick)
            kept.come_back()
        if (cold / "ensemble.json").exists():
            assert is_all_there(kept, cold)
            assert audit_log(str(cold)).findings == []
        else:
            assert kept.lies() == kept.sealed
    kept.log.close()
    return took


def many(folder: Path, seeds: range, patch: pytest.MonkeyPatch) -> int:
    return sum(history(folder / str(seed), seed, patch) for seed in seeds)


def test_the_archive_and_the_store_have_all_that_was_ever_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert many(tmp_path, range(12), monkeypatch) > 12


@pytest.mark.everywhere("the test before it plays some")
def test_the_same_for_many_histories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many(tmp_path, range(100, 300), monkeypatch)


def archive_only_what_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Retention, "_keep", lambda self, packing, part: None)


def leave_a_part_out(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = archives.Archive._add

    def add(self: Any, shelf: Any, packing: Any, part: Any) -> None:
        if self._end is None or part.seq % 3:
            whole(self, shelf, packing, part)

    monkeypatch.setattr(archives.Archive, "_add", add)


def archive_after_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Retention._keep
    monkeypatch.setattr(
        Retention, "_keep", lambda self, packing, part: kept(self, packing, packing.parts()[0]._replace(end_seq=part.seq))
    )


@pytest.mark.parametrize("bug", [archive_only_what_goes, leave_a_part_out, archive_after_it_is_taken])
def test_the_comparison_fails_when_a_bug_is_planted(
    bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bug(monkeypatch)

    with pytest.raises((AssertionError, EnsembleError)):
        many(tmp_path, range(20), monkeypatch)

"""What the tests share whose bands let go of the past."""

from __future__ import annotations

import pytest

from ensemble.log.directory import open_directory
from ensemble.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock("2026-01-01T00:00:00Z")


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments, blocks and snapshots every few events: what is finished may be taken from a log."""
    monkeypatch.setattr("ensemble.stage.loop.SNAPSHOT_BYTES", 2_000)
    monkeypatch.setitem(open_directory.__kwdefaults__ or {}, "segment_bytes", 2_000)
    monkeypatch.setattr("ensemble.log.memory_packing.PART_BYTES", 2_000)
    monkeypatch.setattr("ensemble.log.objects.codec.BLOCK", 8)

"""The door of a band that plays: how it opens, and what a guest may rely on."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import ensemble
from ensemble import Unavailable

SCORE = {"ensemble": 1, "name": "test"}


def test_a_band_whose_door_can_not_be_opened_does_not_play(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    ensemble.open(SCORE, store=str(folder)).close()
    (folder / "door").mkdir()

    with pytest.raises(Unavailable, match=r"its door, .* can't be opened: Is a directory"):
        ensemble.open(SCORE, store=str(folder))

    assert (folder / "lock").read_text() == "free\n"
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("ensemble-loop")]
    (folder / "door").rmdir()
    with ensemble.open(SCORE, store=str(folder)) as band:
        band.publish("said")

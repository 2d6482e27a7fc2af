"""The door of a band that plays: how it opens, and what a guest may rely on."""

from __future__ import annotations

import gc
import socket
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import Unavailable
from ensemble.stage import door

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


@pytest.mark.parametrize("host", ["", "localhost"])
def test_the_door_is_where_the_url_of_a_file_says(tmp_path: Path, host: str) -> None:
    url = f"file://{host}{tmp_path}/a%20store"
    with ensemble.open(SCORE, store=url) as band, ensemble.connect(url) as guest:
        guest.publish("said", 1)

        assert [event.data for event in band.events()] == [1]
        assert (tmp_path / "a store/door").exists()


def test_who_knocks_where_the_band_was_killed_leaves_no_socket_open(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    ensemble.open(SCORE, store=str(folder)).close()
    path = tmp_path / "door.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(path))
    (folder / door.ADDRESS).write_text(f"{path}\n")

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert door.knock(folder, str(folder)) is None
        gc.collect()

    assert [each.message for each in told] == []


def test_a_guest_that_was_interrupted_before_its_answer_takes_no_other_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path / "store")
    with ensemble.open(SCORE, store=folder) as band, ensemble.connect(folder) as guest:
        guest.publish("said", 1, id="one")

        receive, who_asks = door._receive, threading.get_ident()

        def interrupted(connection: socket.socket) -> Any:
            if threading.get_ident() == who_asks:  # the band receives in a thread of its own, and goes on
                raise KeyboardInterrupt
            return receive(connection)

        with monkeypatch.context() as patch:
            patch.setattr(door, "_receive", interrupted)
            with pytest.raises(KeyboardInterrupt):
                guest.publish("said", 2, id="two")

        with pytest.raises(Unavailable, match="interrupted before its answer; connect again"):
            guest.publish("said", 3, id="three")
        with ensemble.connect(folder) as other:
            assert other.publish("said", 3, id="three").id == "three"
        assert "three" in [event.id for event in band.events()]

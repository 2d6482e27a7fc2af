"""Slips of who writes Python are told in a sentence, and what is held says what it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import ensemble
from tests.conformance.stand import Stand, part


@pytest.mark.parametrize("value", [3, "three", [1]])
def test_a_state_that_is_no_mapping_is_told_of(stand: Stand, value: Any) -> None:
    def keep(event: ensemble.Event, ctx: ensemble.Context) -> None:
        ctx.state = value

    band = stand.play({"keep": part(keep, "said", retry={"attempts": 1})})
    band.publish("said")
    band.settle(10)

    [letter] = band.dead()
    assert letter.error == f"TypeError: ctx.state = {value!r}: a state is a mapping; write ctx.state['...'] = {value!r}"


@pytest.mark.parametrize("timeout", ["10", b"1", [1]])
def test_a_timeout_that_is_no_number_is_told_of(stand: Stand, timeout: Any) -> None:
    band = stand.play()

    with pytest.raises(TypeError, match=r"settle\(timeout=.*\): a timeout is in seconds, as a number, or None"):
        band.settle(timeout)


@pytest.mark.parametrize(
    "data", [math.inf, b"\x00", {1: "one", None: "none", b"b": 1.5}, datetime(2018, 2, 1, tzinfo=UTC), {"deep": [None, True]}]
)
def test_data_is_what_messagepack_has(stand: Stand, data: Any) -> None:
    band = stand.play()

    receipt = band.publish("said", data)

    assert band.event(receipt.id).data == data


def test_not_a_number_is_data_too(stand: Stand) -> None:
    band = stand.play()

    assert math.isnan(band.event(band.publish("said", math.nan).id).data)


@pytest.mark.parametrize("data", [1j, object(), 1 << 64, "\ud800"])
def test_what_is_no_data_is_refused_with_what_is(stand: Stand, data: Any) -> None:
    band = stand.play()

    with pytest.raises(ensemble.InvalidEvent, match=r"use what MessagePack has: None, bool, int .*, float, text, bytes"):
        band.publish("said", data)


def test_a_band_and_a_reader_show_what_they_are(stand: Stand) -> None:
    band = stand.play()
    band.publish("said", 1)

    assert repr(band) == f"Band('test', {stand.url!r}, 1 event)"
    with stand.reader() as reader:
        assert repr(reader) == f"Reader('test', {stand.url!r}, 1 event)"
    stand.leave()
    assert repr(band) == f"Band('test', {stand.url!r}, closed)"


def test_a_store_that_is_nowhere_is_not_the_one_that_the_score_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ensemble.Unavailable, match="store ''"):
        ensemble.open({"ensemble": 1, "name": "shop"}, store="")

    assert not list(tmp_path.iterdir())


SHOP = {"ensemble": 1, "name": "shop"}


@pytest.mark.parametrize("use", [ensemble.read, ensemble.connect, lambda url: ensemble.open(SHOP, store=url)])
def test_what_is_no_url_is_told_of(tmp_path: Path, use: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="is no url of a store; give a str"):
        use(tmp_path / "store")

"""Slips of who writes Python are told in a sentence, and what is held says what it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime
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


def three_said(stand: Stand) -> ensemble.Band:
    band = stand.play({"keep": part(lambda event, ctx: ctx.state.update(n=1), "said")})
    band.publish("said", key="k")
    band.settle(10)
    return band


@pytest.mark.parametrize("place", [5.5, True, date(2026, 11, 30), b"1", math.nan, object()])
def test_what_is_no_place_in_a_log_is_told_of_wherever_one_is_asked_for(stand: Stand, place: Any) -> None:
    band = three_said(stand)

    for what, ask in (
        ("since=", lambda: next(band.events(since=place))),
        ("until=", lambda: next(band.events(until=place))),
        ("since=", lambda: next(band.tail(since=place))),
        ("until=", lambda: band.history(until=place)),
        ("at=", lambda: band.table("keep", at=place)),
        ("at=", lambda: band.at(place)),
    ):
        with pytest.raises(TypeError, match=rf"{what}.* is no place in a log; give an offset \(int\), a time \(datetime, with"):
            ask()
    with pytest.raises(TypeError, match="is no offset; of several shards give one"):
        band.at([place])


def test_a_place_that_is_neither_is_told_with_what_there_is(stand: Stand) -> None:
    band = three_said(stand)

    with pytest.raises(ensemble.OffsetError, match=r"no event '-30m' in .*; a place is an offset .*, a time .*, or the id"):
        band.at("-30m")


def test_a_player_that_had_not_played_by_then_is_told_so(stand: Stand) -> None:
    band = three_said(stand)

    with pytest.raises(KeyError, match=r"no player 'keep' has played in .* by then; there are none"):
        band.table("keep", at=datetime(2001, 1, 1, tzinfo=UTC))
    with pytest.raises(KeyError, match=r"no player 'nobody' has played in [^ ]*; there are keep"):
        band.table("nobody")


def test_arguments_of_the_wrong_kind_are_told_of(stand: Stand) -> None:
    band = three_said(stand)
    given: Any = 5

    for wrong, ask in (
        ("5 is no id of an event; give a str", lambda: band.why(given)),
        ("key=5: the key of an event is a str", lambda: list(band.events(key=given))),
        ("pattern 5 is no text; give a str", lambda: list(band.events(given))),
        (r"publish_many\(5\): give the events as a list", lambda: band.publish_many(given)),
        (r"settle\(timeout=nan\): a timeout is in seconds, as a number", lambda: band.settle(math.nan)),
        ("5 is no mapping; the code of players is given by their names", lambda: ensemble.open(SHOP, players=given)),
    ):
        with pytest.raises(TypeError, match=wrong):
            ask()
    with pytest.raises(KeyError, match=r"no player \[5\] has played"):
        band.table([given])  # type: ignore[arg-type]


@pytest.mark.parametrize("use", [ensemble.read, ensemble.connect, ensemble.audit, lambda url: ensemble.open(SHOP, store=url)])
def test_a_url_with_what_no_path_has_is_refused(use: Callable[[Any], Any]) -> None:
    with pytest.raises(ensemble.Unavailable, match="has a NUL in it"):
        use("shop\0")

"""A live picture: what its front end is sent, when it ends, and that it takes nothing with it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ensemble
from visualize.live import Live
from visualize.live_counts import ROOM

SCORE = """
ensemble: 1
name: shop
sources:
  door: {play: "players.hello:guests", emits: [guest.arrived]}
players:
  charge: {on: "order.*", emits: [payment.captured]}
  rich: {on: {count: payment.captured, times: 2}}
"""


def charge(order: ensemble.Event) -> Any:
    if order.data == "bad":
        raise ensemble.Reject("no money")
    return ensemble.emit("payment.captured")


def opened() -> ensemble.Band:
    return ensemble.open(SCORE, store="memory:", players={"charge": charge, "rich": lambda match: None})


@pytest.fixture
def band() -> Iterator[ensemble.Band]:
    with opened() as band:
        yield band


def play(band: ensemble.Band) -> None:
    band.publish("order.placed", 1, key="a")
    band.publish("order.placed", 2, key="a")
    band.publish("order.placed", "bad", key="b")
    band.settle(timeout=10)


def once(is_so: Callable[[], bool], live: Live) -> None:
    """Wait until the picture tells something: its thread looks by itself."""
    changed = threading.Event()
    live.observe(lambda _: changed.set(), names="told")
    while not is_so():
        assert changed.wait(10), f"it still tells {live.told}"
        changed.clear()


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("ensemble live")]


def test_the_front_end_is_sent_counts_by_node(band: ensemble.Band) -> None:
    live = band.live(every_s=3600)

    play(band)
    live.look()

    texts, counts = live.told["texts"], live.told["counts"]
    assert live.told["state"] == "playing"
    assert live.told["line"].startswith("shop: ") and live.told["line"].endswith("1 dead letter")
    assert texts["event:order.*"] == "3"
    assert texts["event:payment.captured"] == "2"
    assert texts["player:charge"] == "2 heard · 1 failed"
    assert texts["dead:charge"] == "1 dead letter" and counts["dead:charge"] == 1
    assert texts["source:door"] == "3 said"
    assert texts["motif:@rich"] == "1 match"


def test_the_picture_keeps_a_place_for_all_that_is_told(band: ensemble.Band) -> None:
    live = band.live(every_s=3600)

    play(band)
    live.look()

    kinds = {id.partition(":")[0] for id in live.told["texts"]}
    assert kinds == {"event", "motif", "player", "source", "dead"}
    for id in live.told["texts"]:
        assert f'data-id="{id}"' in live.picture
    for id, room in live.rooms.items():
        assert room == ROOM[id.partition(":")[0]]
        assert f">{room}</text>" in live.picture
    assert "never seen" not in live.picture


def test_a_band_that_plays_is_looked_at_again_and_again(band: ensemble.Band) -> None:
    live = band.live(every_s=0.05)

    play(band)

    once(lambda: live.told["counts"]["event:payment.captured"] == 2, live)


def test_lag_is_told_while_a_player_is_busy() -> None:
    gate = threading.Event()
    with ensemble.open(
        {"ensemble": 1, "name": "slow", "players": {"wait": {"on": "a"}}},
        store="memory:",
        players={"wait": lambda event: gate.wait(30)},
    ) as band:
        live = band.live(every_s=3600)
        band.publish_many([1, 2, 3], topic="a")

        live.look()

        gate.set()
        assert live.told["texts"]["player:wait"] == "0 heard · lag 3"


def test_the_button_closes_the_band_and_the_picture_tells_how_it_stood_last(band: ensemble.Band) -> None:
    live = band.live(every_s=3600)
    play(band)

    live._handle_custom_msg({"ask": "stop"}, [])

    with pytest.raises(ensemble.Unavailable):
        band.publish("order.placed", 1)
    assert live.told["state"] == "closed"
    assert live.told["line"].endswith("1 dead letter · closed")
    assert live.told["texts"]["event:payment.captured"] == "2"
    assert threads() == []


@pytest.mark.parametrize("message", [{"ask": "play"}, {}, None, "stop", ["stop"]])
def test_what_the_front_end_may_not_ask_is_not_done(band: ensemble.Band, message: Any) -> None:
    live = band.live(every_s=3600)

    live._handle_custom_msg(message, [])

    band.publish("order.placed", 1)
    assert live.told["state"] == "playing"


def test_a_cell_that_is_run_again_takes_the_picture_before_away(band: ensemble.Band) -> None:
    first = band.live(every_s=3600)
    second = band.live(every_s=3600)

    assert len(threads()) == 1
    play(band)
    first.look()
    second.look()
    assert first.told["counts"]["event:payment.captured"] == 0
    assert second.told["counts"]["event:payment.captured"] == 2


def test_a_picture_that_is_closed_leaves_the_band_playing(band: ensemble.Band) -> None:
    live = band.live(every_s=0.05)

    live.close()

    assert threads() == []
    play(band)


def test_a_player_that_joins_is_drawn(band: ensemble.Band) -> None:
    live = band.live(every_s=3600)

    band.add("audit", lambda event: None, on="payment.captured")
    live.look()

    assert 'data-id="player:audit"' in live.picture
    assert live.rooms["player:audit"] == ROOM["player"]
    assert live.told["texts"]["player:audit"] == "0 heard"


def test_a_band_that_can_not_be_asked_says_why_and_is_asked_again(band: ensemble.Band, monkeypatch: pytest.MonkeyPatch) -> None:
    live = band.live(every_s=3600)

    def gone() -> Any:
        raise ensemble.Unavailable("the shard is being made anew")

    with monkeypatch.context() as patched:
        patched.setattr(band, "status", gone)
        live.look()
        assert (live.told["state"], live.told["trouble"]) == ("lost", "the shard is being made anew")
    live.look()

    assert (live.told["state"], live.told["trouble"]) == ("playing", "")


def test_a_closed_band_has_no_live_picture(band: ensemble.Band) -> None:
    band.close()

    with pytest.raises(ensemble.Unavailable, match="closed"):
        band.live()
    assert threads() == []


@pytest.mark.parametrize("every_s", [0, -1, 0.01, 3601, float("nan"), "1", None])
def test_a_time_that_is_none_is_refused(band: ensemble.Band, every_s: Any) -> None:
    with pytest.raises(ValueError, match="every so many seconds"):
        band.live(every_s=every_s)


@pytest.mark.parametrize("missing", ["anywidget", "graphlay"])
def test_without_the_packages_it_says_what_to_install(
    band: ensemble.Band, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("visualize.live", "visualize.layout", "visualize.reaction", "visualize.live_counts"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(ModuleNotFoundError, match=r"pip install 'ensemble-band\[notebook\]'"):
        band.live()
    assert threads() == []


def test_what_shows_no_widgets_gets_text_and_a_still_picture(band: ensemble.Band) -> None:
    live = band.live(every_s=3600)
    play(band)
    live.look()

    bundle, _ = live._repr_mimebundle_()

    assert bundle["text/plain"] == repr(live)
    assert repr(live).splitlines()[1].split() == ["player", "heard", "lag", "dead", "instances"]
    assert repr(live).splitlines()[2].split()[:4] == ["charge", "2", "0", "1"]
    assert "<svg" in bundle["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_a_process_that_forgets_to_close_still_ends() -> None:
    script = (
        "import ensemble\n"
        "band = ensemble.open({'ensemble': 1, 'name': 'x', 'players': {'a': {'on': 'b'}}}, store='memory:', "
        "players={'a': print})\n"
        "band.live(every_s=0.05)\n"
    )

    python = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(python, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")

"""What a notebook shows: never an error, always plain text, and a picture or a table where there is one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree

import pytest

import ensemble
from ensemble.magic import play, register
from ensemble.replay import Change, Difference, TableChange
from visualize.timeline import timeline_of_key

SCORE = """
ensemble: 1
name: shop
players:
  charge: {on: order.placed, emits: [payment.captured]}
"""


def charge(order: ensemble.Event, ctx: ensemble.Context) -> Any:
    ctx.state["n"] = ctx.state.get("n", 0) + 1
    return ensemble.emit("payment.captured", html="<b>&")


@pytest.fixture
def band() -> Iterator[ensemble.Band]:
    with ensemble.open(SCORE, store="memory:", players={"charge": charge}) as band:
        band.publish("order.placed", {"name": "<script>"}, key="<k>")
        band.settle(timeout=10)
        yield band


def shown(thing: Any) -> dict[str, str]:
    bundle: dict[str, str] = thing._repr_mimebundle_()
    return bundle


def test_a_score_shows_its_graph() -> None:
    bundle = shown(ensemble.load(SCORE))

    assert set(bundle) == {"text/plain", "image/svg+xml"}
    assert "payment.captured" in bundle["image/svg+xml"]
    ElementTree.fromstring(bundle["image/svg+xml"])


def test_a_band_shows_its_sections_and_what_it_played(band: ensemble.Band) -> None:
    bundle = shown(band)

    assert '<td style="text-align:left">charge</td>' in bundle["text/html"]
    assert "1 heard" in bundle["text/html"]


def test_functions_of_a_notebook_are_drawn_with_their_state_and_without_warnings(band: ensemble.Band) -> None:
    assert "state by key" in shown(band)["text/html"]
    assert "it has no play:" not in shown(band)["text/html"]

    band.add("audit", lambda event: None, on="payment.captured")

    assert "it has no play:" not in shown(band)["text/html"]


def test_what_is_drawn_shows_itself(band: ensemble.Band) -> None:
    drawn = timeline_of_key(band.history(), "<k>")._repr_svg_()

    ElementTree.fromstring(drawn)
    assert "charge" in drawn


def test_events_chains_tables_and_statuses_show_themselves_escaped(band: ensemble.Band) -> None:
    event = next(band.events())
    things = (event, band.why(event.id), band.table("charge"), band.status())

    for thing in things:
        bundle = shown(thing)
        assert set(bundle) == {"text/plain", "text/html"}
        assert "<script>" not in bundle["text/html"] and "<k>" not in bundle["text/html"]
    assert "payment.captured" in shown(things[1])["text/html"]
    assert "&lt;k&gt;" in shown(things[2])["text/html"]


def test_of_two_takes_a_few_changes_of_each_player_show_what_differs_and_nothing_else(band: ensemble.Band) -> None:
    order = {"note": "x" * 600, "lines": [{"sku": n, "price": 100} for n in range(40)]}
    dearer = order | {"lines": [*order["lines"][:-1], {"sku": 39, "price": 177}]}
    band.publish_many([order, dearer], topic="price.told")
    was, now = band.events("price.told")
    changes = [Change("different", "pricing", was, now)] * 60 + [Change("gone", "billing", was, None)]
    tables = [TableChange("books", f"k-{n}", {"sum": 8, "of": order}, {"sum": 9, "of": order}) for n in range(60)]

    drawn = shown(Difference(same=1, events=changes, tables=tables))["text/html"]

    assert drawn.count("{&#x27;lines&#x27;: [&#x27;…&#x27;, {&#x27;price&#x27;: 177}]}") == 5
    assert "61 changes in all" in drawn and "60 keys in all" in drawn
    assert drawn.count(">billing<") == 2 and drawn.count(">{&#x27;sum&#x27;: 9}<") == 5


def test_a_closed_band_shows_itself_as_text(band: ensemble.Band) -> None:
    band.close()

    assert shown(band) == {"text/plain": "Band('shop', 'memory:', closed)"}


def test_without_the_packages_that_draw_there_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "graphlay", None)

    assert set(shown(ensemble.load(SCORE))) == {"text/plain"}


def test_what_a_notebook_asks_for_is_given(band: ensemble.Band) -> None:
    assert set(band.status()._repr_mimebundle_(include={"text/html"})) == {"text/html"}
    assert set(band.status()._repr_mimebundle_(exclude={"text/html"})) == {"text/plain"}


def test_a_frame_without_pandas_says_what_to_install(band: ensemble.Band, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "polars", None)

    for make in (band.frame, band.status().frame, band.table("charge").frame):
        with pytest.raises(ModuleNotFoundError, match="pip install pandas"):
            make()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_frame_has_a_row_an_event_a_key_and_a_player(
    band: ensemble.Band, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    class Library:
        DataFrame: Any = staticmethod(list)

    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, library, Library)

    assert [row["topic"] for row in band.frame("order.*")] == ["order.placed"]
    assert band.table("charge").frame() == [{"key": "<k>", "n": 1}]
    assert band.status().frame()[0]["player"] == "charge"


class Shell:
    """What IPython is to the magic."""

    def __init__(self) -> None:
        self.user_ns: dict[str, Any] = {"charge": charge}
        self.magics: dict[str, Callable[[str, str], Any]] = {}

    def register_magic_function(self, call: Callable[[str, str], Any], magic_kind: str, magic_name: str) -> None:
        assert magic_kind == "cell"
        self.magics[magic_name] = call


def test_a_cell_that_is_a_score_is_played_with_the_notebooks_players() -> None:
    shell = Shell()
    ensemble.load_ipython_extension(shell)

    band = shell.magics["score"]("shop", SCORE)

    with band:
        assert shell.user_ns["shop"] is band
        band.publish("order.placed", 1)
        band.settle(timeout=10)
        assert band.status().sections["charge"].heard == 1


def test_a_cell_that_is_run_again_closes_the_band_before() -> None:
    shell = Shell()
    register(shell)

    first = shell.magics["score"]("", SCORE)
    second = shell.magics["score"]("", SCORE)

    with second:
        assert shell.user_ns["band"] is second
        with pytest.raises(ensemble.EnsembleError):
            first.publish("order.placed", 1)


def test_a_score_with_a_mistake_leaves_the_band_before_as_it_was() -> None:
    names: dict[str, Any] = {"charge": charge}
    with play(names, "band", SCORE) as band:
        with pytest.raises(ensemble.ScoreError):
            play(names, "band", SCORE.replace("emits", "emit"))
        with pytest.raises(ValueError, match="no name of a variable"):
            play(names, "two words", SCORE)

        assert names["band"] is band
        band.publish("order.placed", 1)

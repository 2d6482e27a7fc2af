"""The front end of a live picture in a real browser: it writes what it is told where it belongs, its button asks for an end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import ensemble
from tests.visualize.browser import BROWSER, said_by_page
from visualize.live_counts import live_graph, live_svg, rooms, told

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium is installed")

SCORE = """
ensemble: 1
name: shop
players:
  charge: {play: "players.hello:greet", on: "order.>", emits: [payment.captured]}
  audit: {play: "players.hello:greet", on: order.placed}
"""

PAGE = """<!doctype html><meta charset="utf-8"><div id="el"></div><pre id="said"></pre>
<script type="module">
const data = %(data)s, heard = {}, sent = [], said = {};
const model = {
  get: name => data[name], send: message => sent.push(message),
  on: (what, call) => { heard[what] = call; }, off: (what, call) => { if (heard[what] === call) delete heard[what]; },
};
const tell = (name, value) => { data[name] = value; heard["change:" + name]?.(); };
const el = document.getElementById("el"), $ = id => el.querySelector(`[data-id="${CSS.escape(id)}"]`);
const texts = id => [...$(id).querySelectorAll("text")].map(each => each.textContent).filter(each => each !== "!");
const moved = () => [...el.querySelectorAll(".moved")].map(each => each.dataset.id);
try {
  const url = URL.createObjectURL(new Blob([%(esm)s], { type: "text/javascript" }));
  const { default: widget } = await import(url);
  const gone = widget.render({ model, el });
  (%(script)s)();
  said.sent = sent;
  gone();
  said.listens_when_gone = Object.keys(heard);
} catch (error) { said.error = String(error.stack); }
document.getElementById("said").textContent = JSON.stringify(said);
</script>"""


@pytest.fixture
def band(request: pytest.FixtureRequest) -> Any:
    with ensemble.open(SCORE, store="memory:", players={"charge": charge, "audit": lambda order: None}) as band:
        yield band


def charge(order: ensemble.Event) -> Any:
    if order.data == "<b>bad</b>":
        raise ensemble.Reject(order.data)
    return ensemble.emit("payment.captured")


def play_in_page(
    folder: Path, script: str, looks: list[dict[str, Any]], picture: str, places: dict[str, str]
) -> dict[str, Any]:
    """What the script said of the page in which the widget stands."""
    data = json.dumps({"picture": picture, "rooms": places, "told": looks[0], "looks": looks}).replace("<", "\\u003c")
    esm = json.dumps((Path("visualize") / "live.js").read_text(encoding="utf-8")).replace("<", "\\u003c")
    said: dict[str, Any] = json.loads(said_by_page(PAGE % {"data": data, "esm": esm, "script": script}, folder))
    assert "error" not in said, said["error"]
    return said


def look(graph: Any, band: ensemble.Band, state: str = "playing", trouble: str = "") -> dict[str, Any]:
    return {"state": state, "line": f"{band.name} {state}", "trouble": trouble, **told(graph, band.status())}


def test_counts_stand_in_their_nodes_and_what_moved_lights_up(band: ensemble.Band, tmp_path: Path) -> None:
    graph = live_graph(band.score)
    looks = [look(graph, band)]
    band.publish("order.placed", 1, key="a")
    band.publish("order.placed", "<b>bad</b>", key="b")
    band.publish("parcel.lost", 1)
    band.settle(timeout=10)
    looks += [look(graph, band)] * 2

    said = play_in_page(
        tmp_path,
        """() => {
          said.before = [texts("player:charge"), texts("event:order.placed"), texts("dead:charge"), moved()];
          tell("told", data.looks[1]);
          said.after = [texts("player:charge"), texts("event:order.placed"), texts("dead:charge")];
          said.moved = moved();
          said.some = [...el.querySelectorAll(".some")].map(each => each.dataset.id);
          said.also = el.querySelector(".also").textContent;
          tell("told", { ...data.looks[2] });
          said.still = moved();
          said.passed = [...el.querySelectorAll(".passed")].map(each => each.dataset.id);
        }""",
        looks,
        live_svg(graph),
        rooms(graph),
    )

    assert said["before"] == [["charge", "0 heard"], ["order.placed", "0"], ["dead letters"], []]
    assert said["after"] == [["charge", "1 heard · 1 failed"], ["order.placed", "2"], ["1 dead letter"]]
    assert {"player:charge", "player:audit", "event:order.placed", "event:order.placed>player:audit"} <= {*said["moved"]}
    assert said["some"] == ["dead:charge"]
    assert said["also"] == "also said: parcel.lost 1"
    assert said["still"] == []
    assert "event:order.placed>player:audit" in said["passed"]


def test_the_button_asks_once_for_an_end_and_rests_when_the_band_is_closed(band: ensemble.Band, tmp_path: Path) -> None:
    graph = live_graph(band.score)
    looks = [look(graph, band), look(graph, band, "closed")]

    said = play_in_page(
        tmp_path,
        """() => {
          const button = el.querySelector("button");
          said.button = [button.textContent, button.disabled];
          button.click(); button.click();
          said.asked = [button.textContent, button.disabled];
          tell("told", data.looks[1]);
          said.closed = [button.textContent, button.disabled, el.dataset.state, el.querySelector(".line").textContent];
        }""",
        looks,
        live_svg(graph),
        {},
    )

    assert said["button"] == ["Stop", False]
    assert said["asked"] == ["Stopping …", True]
    assert said["sent"] == [{"ask": "stop"}]
    assert said["closed"] == ["Stopped", True, "closed", "shop closed"]
    assert said["listens_when_gone"] == []


def test_odd_texts_are_shown_as_text_and_fitted_into_their_room(band: ensemble.Band, tmp_path: Path) -> None:
    graph = live_graph(band.score)
    odd = "<img src=x onerror=\"document.title='run'\">" * 5
    told_oddly = look(graph, band, trouble=odd)
    told_oddly["texts"] = dict.fromkeys(told_oddly["texts"], odd)

    said = play_in_page(
        tmp_path,
        """() => {
          const node = $("player:charge"), badge = [...node.querySelectorAll("text")][1];
          said.images = el.querySelectorAll("img").length;
          said.trouble = el.querySelector(".trouble").textContent;
          said.badge = badge.textContent;
          said.fits = badge.getComputedTextLength() <= node.querySelector("rect").getBBox().width;
        }""",
        [told_oddly],
        live_svg(graph),
        rooms(graph),
    )

    assert said == {"images": 0, "trouble": odd, "badge": odd, "fits": True, "sent": [], "listens_when_gone": []}


def test_a_picture_that_changes_is_drawn_anew_and_one_that_is_missing_leaves_the_line(
    band: ensemble.Band, tmp_path: Path
) -> None:
    graph = live_graph(band.score)

    said = play_in_page(
        tmp_path,
        """() => {
          said.line = el.querySelector(".line").textContent;
          said.svgs = [el.querySelectorAll("svg").length];
          tell("picture", data.looks[1]);
          said.svgs.push(el.querySelectorAll("svg").length);
          said.texts = texts("event:payment.captured");
        }""",
        [look(graph, band), live_svg(graph)],  # type: ignore[list-item]
        "",
        rooms(graph),
    )

    assert said["line"] == "shop playing"
    assert said["svgs"] == [0, 1]
    assert said["texts"] == ["payment.captured", "0"]

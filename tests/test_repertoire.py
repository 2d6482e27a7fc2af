"""Every score of the repertoire plays to its end, and its sums add up."""

from __future__ import annotations

import json
import runpy
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble.score import check, json_schema
from ensemble.testing import ManualClock
from tests.players.oracle import Shop, care_faults, faults, read_input, tables

SCORES = Path(__file__).parents[1] / "scores"
ACME = SCORES / "acme_fitness.yaml"
SMALL = SCORES / "data/acme_small.jsonl.gz"
MONTH = SCORES / "data/acme_november_2011.jsonl.gz"
PLENTY = 1_000_000
CHECKOUT = {"user_id": "u", "order_id": "o", "country": "USA", "delivery": "tractor"}


@contextmanager
def played(score: Path, *, store: str = "memory:", clock: ManualClock | None = None) -> Iterator[ensemble.Band]:
    with ensemble.open(score, store=store, clock=clock) as band:
        band.settle(timeout=None if clock else 300)
        yield band


@contextmanager
def acme(
    monkeypatch: pytest.MonkeyPatch, *, clock: ManualClock | None = None, store: str = "memory:", **settings: object
) -> Iterator[ensemble.Band]:
    for name, value in {"input": SMALL, **settings}.items():
        monkeypatch.setenv(f"ACME_{name.upper()}", str(value))
    with played(ACME, store=store, clock=clock) as band:
        yield band


@pytest.mark.parametrize("path", sorted(SCORES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_score_has_no_warning_and_names_its_schema_in_its_first_line(path: Path) -> None:
    assert [str(finding) for finding in check(ensemble.load(path))] == []
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=ensemble.schema.json\n")


def test_the_schema_that_editors_read_is_the_one_that_scores_are_read_with() -> None:
    kept = json.loads((SCORES / "ensemble.schema.json").read_text(encoding="utf-8"))

    assert kept == json_schema(), "write it anew: ensemble schema > scores/ensemble.schema.json"


@pytest.mark.parametrize("path", [MONTH, SMALL], ids=lambda path: path.name)
def test_the_data_follow_from_the_real_invoices_in_them(path: Path) -> None:
    make = runpy.run_path(str(SCORES / "data/make.py"))
    visitors = (SCORES / "data/acme_visitors.jsonl").read_text(encoding="utf-8").splitlines()
    invoices = [line["data"] for line in read_input(path) if line["topic"] == "invoice.recorded"]

    assert [json.loads(line) for line in make["made"](visitors, invoices)] == read_input(path)


@pytest.mark.parametrize("path", sorted(SCORES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_score_plays_to_its_end_without_a_dead_letter(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_INPUT", str(SMALL))

    with played(path) as band:
        status = band.status()

    assert all(source.done and source.refused == 0 for source in status.sources.values())
    assert {name: (section.lag, section.dead) for name, section in status.sections.items()} == dict.fromkeys(
        status.sections, (0, 0)
    )


def test_hello_is_ten_lines_and_greets_every_guest(capsys: pytest.CaptureFixture[str]) -> None:
    path = SCORES / "hello.yaml"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 10

    with played(path):
        pass

    assert capsys.readouterr().out.splitlines() == [f"Hello, {name}, take a seat!" for name in ("Ella", "Miles", "Nina")]


@pytest.mark.everywhere("make play plays them, and the tests of the shop a part of the month")
def test_the_real_orders_of_the_whole_month_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop().run(read_input(MONTH))

    with acme(monkeypatch, input=MONTH) as band:
        assert faults(band, shop) == []
        assert list(care_faults(band)) == []
        outcomes = Counter(event.topic for event in band.events("order.*"))

    assert outcomes["order.completed"] + outcomes["order.cancelled"] == 2779


@pytest.mark.parametrize("rules", ["A", "B"])
def test_both_sets_of_card_rules_can_be_chosen(monkeypatch: pytest.MonkeyPatch, rules: str) -> None:
    shop = Shop(rules=rules).run(read_input(SMALL))

    with acme(monkeypatch, rules=rules) as band:
        assert faults(band, shop) == []
        messages = {event.data["message"] for event in band.events("payment.card.validated")}

    assert (
        messages
        == {
            "A": {"transaction successful", "card is expired", "not a valid card number"},
            "B": {"success", "error"},
        }[rules]
    )


def test_the_visitors_meet_their_fates(monkeypatch: pytest.MonkeyPatch) -> None:
    with acme(monkeypatch) as band:
        orders, carts, users = band.table("order"), band.table("cart"), band.table("users")

        fates = {number: (order["status"], order.get("reason")) for number, order in orders.items() if "-1" in number}
        assert fates == {
            "walter-1": ("delivered", None),
            "dwight-1": ("delivered", None),
            "elaine-1": ("delivered", None),
            "eric-1": ("cancelled", "out of stock"),
            "han-1": ("cancelled", "payment refused: card is expired"),
            "frank-1": ("cancelled", "payment refused: card is expired"),
            "phoebe-1": ("cancelled", "the total 100.00 is not the cart's 99.00"),
        }
        assert carts["walter"]["items"] == []
        assert [item["item_id"] for item in carts["han"]["items"]] == ["running-shoes"]
        assert carts["dan"]["items"] == []
        assert users["walter"]["last_name"] == "White"
        [refused] = band.events("user.refused")
        assert refused.data["reason"] == "the name walter is taken"
        [refused] = band.events("checkout.refused")
        assert refused.key == "shri"
        [reminded] = band.events("customer.reminded")
        assert (reminded.key, reminded.data["left_at"]) == ("jim", datetime(2011, 11, 1, 6, 20, tzinfo=UTC)), (
            "once, for the last of two things"
        )
        assert [event.data["orders"] for event in band.events("customer.suspected", key="frank")] == [
            ["frank-1", "frank-2", "frank-3"]
        ]


def test_providers_that_fail_now_and_then_change_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    with acme(monkeypatch, spare=PLENTY) as band:
        expected = tables(band)

    with acme(monkeypatch, spare=PLENTY, flaky=0.4) as band:
        assert faults(band, Shop(spare=PLENTY).run(read_input(SMALL))) == []
        assert tables(band) == expected
        sections = band.status().sections
        assert sections["payment"].failed > 0
        assert sections["shipping"].failed > 0


def test_a_bank_that_is_down_for_good_cancels_orders_and_releases_their_stock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()

    with acme(monkeypatch, clock=clock, flaky=1) as band:
        clock.advance(minutes=1)
        band.settle()

        reasons = Counter(event.data["reason"] for event in band.events("order.cancelled"))
        assert reasons["payment is down"] > 50
        assert list(band.events("order.completed")) == []
        assert sum(row["reserved"] + row["taken"] for row in band.table("stock").values()) == 0
        assert band.dead() == []


def test_a_parcel_on_its_way_arrives_when_its_time_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    shop = Shop().run(read_input(SMALL))

    with acme(monkeypatch, clock=clock, delivery="30s") as band:
        sent = len(list(band.events("shipment.sent")))
        assert sent > 50
        assert list(band.events("shipment.delivered")) == []

        clock.advance(seconds=31)
        band.settle()

        assert len(list(band.events("shipment.delivered"))) == sent
        assert faults(band, shop) == []


def test_an_order_that_is_paid_and_not_shipped_in_a_day_raises_one_alert(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ACME_INPUT", str(SMALL))
    clock, store = ManualClock(), str(tmp_path / "store")

    def lose(ready: ensemble.Match, **settings: object) -> None:
        assert [event.topic for event in ready.events] == ["order.reserved", "order.paid"]

    with ensemble.open(ACME, store=store, clock=clock, players={"shipping": lose}) as band:
        band.settle()
        paid = {event.key for event in band.events("order.paid")}
        clock.advance(hours=23, minutes=59)
        assert list(band.events("order.overdue")) == []
    for _ in range(2):  # opened again while it waits, and after it was told
        with ensemble.open(ACME, store=store, clock=clock, players={"shipping": lose}) as band:
            clock.advance(minutes=2)
            alerts = [event.key for event in band.events("order.overdue")]

    assert len(paid) > 50
    assert sorted(alerts) == sorted(paid)


def test_a_store_that_was_played_to_the_end_plays_nothing_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with acme(monkeypatch, store=str(tmp_path / "store")) as band:
        events = band.status().events

    with acme(monkeypatch, store=str(tmp_path / "store")) as band:
        assert band.status().events == events


def test_the_shop_played_in_many_short_sittings_adds_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ACME_INPUT", str(SMALL))
    for _ in range(10):
        ensemble.open(ACME, store=str(tmp_path / "store")).close()  # wherever it has got to

    with played(ACME, store=str(tmp_path / "store")) as band:
        assert faults(band, Shop().run(read_input(SMALL))) == []


def test_an_order_can_be_followed_back_to_its_invoice(monkeypatch: pytest.MonkeyPatch) -> None:
    with acme(monkeypatch) as band:
        outcome = next(event for event in band.events("order.completed") if event.key.isdigit())

        causes = [event.topic for event in band.why(outcome.id).causes]

    assert causes == [
        "invoice.recorded",
        "cart.checked_out",
        "order.requested",
        *causes[3:-5],
        "order.payment.requested",
        "payment.card.validated",
        "order.paid",
        "ready-to-ship",
        "shipment.delivered",
    ]
    assert set(causes[3:-5]) <= {"order.placed", "stock.requested", "stock.reserved", "order.reserved"}


@pytest.mark.parametrize(
    ("topic", "data", "word"),
    [
        ("cart.checked_out", {**CHECKOUT, "card": "4111111111111111"}, "card"),
        ("cart.checked_out", {**CHECKOUT, "ccv": "123"}, "ccv"),
        ("cart.item.added", {"user_id": "u", "item_id": "i", "quantity": 0, "price": "1.00"}, "quantity"),
        ("cart.item.added", {"user_id": "u", "item_id": "i", "quantity": 1, "price": "four"}, "price"),
        ("product.listed", {"product_id": "p", "name": "P", "price": 1, "stock": -1}, "stock"),
    ],
)
def test_what_must_not_get_in_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, topic: str, data: Mapping[str, Any], word: str
) -> None:
    with acme(monkeypatch) as band, pytest.raises(ensemble.InvalidEvent, match=word):
        band.publish(topic, data)


def test_what_only_several_quakes_tell_is_what_a_slow_reading_of_the_week_finds() -> None:
    regions: dict[str, list[tuple[datetime, float, dict[str, Any]]]] = {}
    for line in read_input(SCORES / "data/quakes_2018-02.jsonl.gz"):
        at, report = datetime.fromisoformat(line["time"]), line["data"]
        regions.setdefault(report["region"], []).append((at, report["magnitude"], report))
    end = max(each[0] for reports in regions.values() for each in reports)
    swarms, trains, calms = [], [], []
    for region, reports in regions.items():
        recent: list[datetime] = []
        for at, magnitude, report in reports:
            if report["kind"] == "earthquake" and 0.5 <= magnitude < 5:
                recent = [*(each for each in recent if at - each < timedelta(hours=1)), at]
                if len(recent) == 10:
                    swarms.append((region, recent[0], recent[-1]))
                    recent = []
            later = [(when - at, each) for when, each, _ in reports if when > at]
            after = [each for gap, each in later if gap < timedelta(hours=12) and 4 <= each < magnitude]
            if magnitude >= 6 and len(after) >= 3 and at + timedelta(hours=12) <= end:
                trains.append((report["id"], len(after), max(after)))
            is_broken = any(gap < timedelta(hours=24) and each >= 4 for gap, each in later)
            if magnitude >= 5.5 and not is_broken and at + timedelta(hours=24) <= end:
                calms.append(report["id"])

    with played(SCORES / "quakes.yaml") as band:
        said = {
            topic: [event.data for event in band.events(topic)]
            for topic in ("swarm.noted", "aftershocks.counted", "calm.noted")
        }
        assert list(band.events("_band.motif.>")) == [], "nothing was late, and nothing was given up"

    assert sorted((each["region"], each["began"], each["ended"]) for each in said["swarm.noted"]) == sorted(swarms)
    assert sorted((each["main"], each["aftershocks"], each["strongest"]) for each in said["aftershocks.counted"]) == trains
    assert sorted(each["main"] for each in said["calm.noted"]) == sorted(calms)
    assert (len(swarms), len(trains), len(calms)) == (4, 1, 2)


def test_a_week_of_earthquakes_is_sorted_and_counted() -> None:
    reports = [line["data"] for line in read_input(SCORES / "data/quakes_2018-02.jsonl.gz")]

    with played(SCORES / "quakes.yaml") as band:
        topics = Counter(event.topic for event in band.events())
        blasts, census, bulletin = band.table("blasts"), band.table("census"), band.table("bulletin")

        assert topics["quake.measured"] == sum(report["kind"] == "earthquake" for report in reports) == 1679
        assert sum(count for kinds in blasts.values() for count in kinds.values()) == 28
        measured = [event.data for event in band.events("quake.measured")]
        assert {name: row["quakes"] for name, row in census.items()} == Counter(
            quake["network"] for quake in measured if quake["mw"] >= 1.5
        )
        strong = {quake["id"] for quake in measured if quake["mw"] >= 5.5 and quake["depth_km"] < 70}
        assert {event.key for event in band.events("warning.issued")} == strong
        [week] = bulletin.values()
        assert "M6.4 22km NNE of Hualian, Taiwan; the M6.1 before it was a foreshock" in week["sequence.overtaken"]
        mains = {event.data["id"] for event in band.events("sequence.*")}
        assert all(event.data["main"] in mains for event in band.events("aftershock.noted"))

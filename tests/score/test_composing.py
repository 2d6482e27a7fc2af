"""Scores written in Python say the same as those in YAML."""

from __future__ import annotations

from typing import Any

import pytest

import ensemble
from ensemble import emit
from tests.score import players_of_shapes

YAML = """
ensemble: 1
name: shop
about: A small one.
events:
  order.placed: {key: order_id}
motifs:
  late: {seq: [order.placed, {not: payment.captured}], within: 15m}
players:
  charge: {on: order.placed, emits: [payment.captured], retry: {attempts: 2}, with: {currency: EUR}, from: now}
  remind: {on: late}
sources:
  orders: {play: "tests.score.test_composing:orders", emits: [order.placed]}
"""


def composed() -> ensemble.Score:
    score = ensemble.Score("shop", about="A small one.")
    score.event("order.placed", key="order_id")
    score.motif("late", {"seq": ["order.placed", {"not": "payment.captured"}], "within": "15m"})

    @score.player(on="order.placed", emits="payment.captured", retry={"attempts": 2}, with_={"currency": "EUR"}, from_="now")
    def charge(order: ensemble.Event, currency: str) -> Any:
        return emit("payment.captured", currency=currency)

    @score.player(on="late")
    def remind(match: ensemble.Event) -> None: ...

    @score.source(emits=["order.placed"])
    def orders() -> Any:
        yield emit("order.placed", order_id="o-1")

    return score


def test_a_score_in_python_is_the_same_as_in_yaml() -> None:
    assert composed() == ensemble.load(YAML)


def test_a_score_written_as_yaml_and_read_again_is_the_same() -> None:
    score = composed()

    assert ensemble.load(score.to_yaml()) == score
    for name in ("hello", "quakes", "acme_fitness"):
        loaded = ensemble.load(f"scores/{name}.yaml")
        assert ensemble.load(loaded.to_yaml()).players == loaded.players


def test_what_differs_in_what_is_said_makes_scores_unequal() -> None:
    score = composed()
    score.event("order.paid")

    assert score != composed()


def test_a_score_in_python_plays_with_its_own_functions() -> None:
    score = ensemble.Score("shop")

    @score.player(on="order.placed", emits=["payment.captured"])
    def charge(order: ensemble.Event) -> Any:
        return emit("payment.captured", total=order.data)

    with ensemble.open(score, store="memory:") as band:
        band.publish("order.placed", 5)
        band.settle(timeout=10)
        assert [event.data for event in band.events("payment.*")] == [{"total": 5}]


def test_a_function_that_can_be_imported_is_named_in_the_yaml() -> None:
    score = ensemble.Score("shapes")
    call = next(
        value
        for name, value in vars(players_of_shapes).items()
        if callable(value) and getattr(value, "__module__", "") == players_of_shapes.__name__
    )

    score.player(on="a.b", name="one")(call)

    assert f"play: {players_of_shapes.__name__}:{call.__name__}" in score.to_yaml()


def test_a_mistake_is_told_as_in_a_file_and_adds_nothing() -> None:
    score = ensemble.Score("shop")

    with pytest.raises(ensemble.ScoreError, match="did you mean emits"):
        score.player(on="a.b", emit=["c.d"])(lambda event: None)
    with pytest.raises(ensemble.ScoreError, match=r"events\[a\.\.b\]"):
        score.event("a..b")

    assert score == ensemble.Score("shop")


def test_scores_do_not_share_what_is_added() -> None:
    one, two = ensemble.Score("one"), ensemble.Score("two")

    one.event("a.b")
    one.player(on="a.b", name="p")(print)

    assert (two.events, two.players) == ({}, {})
    assert list(two.callables) == []

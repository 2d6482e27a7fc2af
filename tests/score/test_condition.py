"""Conditions: what holds, what does not, and that none ever raises."""

from __future__ import annotations

import threading

import pytest

from ensemble.score.condition import LONGEST, ConditionError, condition, fields, parse
from ensemble.testing import event

ORDER = event(
    "order.placed",
    {"total": 150, "vip": True, "note": None, "customer": {"id": "c-1"}, "items": [{"n": 1}, {"n": 3}], "ratio": 2.5},
    key="o-1",
    time="2026-03-01T12:00:00Z",
)


@pytest.mark.parametrize(
    "text",
    [
        "data.total > 100",
        'key == "o-1" && topic.startsWith("order.")',
        'data.customer.id == "c-1"',
        "data.vip",
        "data.note == null",
        "data.items.exists(i, i.n == 3)",
        "data.items.all(i, i.n > 0) && size(data.items) == 2",
        "data.ratio > 2",
        'time > timestamp("2026-01-01T00:00:00Z") && time.getMonth() == 2',
        "has(data.total) && !has(data.gone)",
        "data.missing > 1 || data.total > 100",
        "true",
    ],
)
def test_a_condition_that_is_so_holds(text: str) -> None:
    assert condition(text)(ORDER) is True


@pytest.mark.parametrize(
    "text",
    [
        "data.total > 200",
        "data.missing > 1",
        "!(data.missing > 1)",
        "data.customer.name.first == 'x'",
        "data.total == '150'",
        "data.total > 'a'",
        "data.total / 0 > 1",
        "data.items[9].n == 1",
        "data.total",
        "data.note.matches('[')",
        "false",
    ],
)
def test_what_is_not_so_or_can_not_be_decided_does_not_hold(text: str) -> None:
    assert condition(text)(ORDER) is False


def test_data_that_is_no_mapping_fulfils_nothing_about_its_fields() -> None:
    assert condition("data.total > 1")(event("a", [1, 2])) is False
    assert condition("data > 1")(event("a", 2)) is True


def test_a_condition_holds_in_any_thread() -> None:
    told: list[bool] = []
    thread = threading.Thread(target=lambda: told.append(condition("data.total > 100")(ORDER)))
    thread.start()
    thread.join()

    assert told == [True]


@pytest.mark.parametrize(
    ("text", "at", "told"),
    [
        ("data.total >", 12, "it ends too early"),
        ("data.a and data.b", 7, "'and'; write &&"),
        ("data.a = 1", 7, "'='; write =="),
        ('data.a == "x', 10, "not closed"),
        ("dta.a > 1", 0, "did you mean data?"),
        ("size(data.a) > 1 && lenght(key) > 1", 20, "unknown function 'lenght'"),
        ("x" * (LONGEST + 1), None, "the longest is"),
        ("", 0, "an empty condition"),
    ],
)
def test_what_is_no_condition_is_refused_at_the_character(text: str, at: int | None, told: str) -> None:
    with pytest.raises(ConditionError) as caught:
        condition(text)

    assert caught.value.at == at
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "text", ["(" * LONGEST, "!" * (LONGEST - 4) + "true", "1+" * (LONGEST // 2 - 1) + "1", "[" * 900 + "]" * 900]
)
def test_the_longest_condition_neither_ends_the_process_nor_raises_anything_else(text: str) -> None:
    try:
        parse(text)
    except ConditionError as error:
        told = str(error)
    else:
        told = "it is one"
    assert told


def test_labels_are_known_where_they_are_given() -> None:
    parse("second.data.total > 2 * first.data.total", ["first", "second"])

    with pytest.raises(ConditionError, match="unknown name 'first'"):
        parse("first.data.total > 1")


def test_the_fields_that_a_condition_reads_are_seen_in_its_text() -> None:
    assert fields('data.a.b > 1 && data.name.startsWith("data.no") && key == data.c') == {("a", "b"), ("name",), ("c",)}

"""Players are plain Python: functions, generators, classes, coroutines, whole batches, typed or not."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from ensemble import Context, Event, PlayerError, ScoreError, emit
from tests.conformance.stand import Gate, Stand, eventually, part

pytestmark = pytest.mark.solo("how a player is called is decided by the same code on every stage")

ONCE = {"attempts": 1}


class Placed(msgspec.Struct):
    order_id: str
    total: float
    note: str = ""


@dataclasses.dataclass
class Paid:
    order_id: str
    cents: int


class Shipped(TypedDict):
    order_id: str
    parcels: int


class Refused(msgspec.Struct):
    order_id: str
    why: str


class Booked(pydantic.BaseModel):
    order_id: str
    seats: int


TYPED: list[tuple[Any, dict[str, Any]]] = [
    (Placed, {"order_id": "o-1", "total": 2.5, "note": ""}),
    (Paid, {"order_id": "o-1", "cents": 250}),
    (Shipped, {"order_id": "o-1", "parcels": 2}),
    (Booked, {"order_id": "o-1", "seats": 4}),
]
"""Each kind of type that a player may hear, and data that fits."""


def say_all(stand: Stand, call: Any, *data: Any, emits: list[str] | None = None, **says: Any) -> list[tuple[str, Any]]:
    """What a player says when it hears these events, in order; it must have failed at none."""
    band = stand.play({"play": part(call, "said", emits=emits or ["a", "b"], retry=ONCE, **says)})
    band.publish_many(data, topic="said")
    band.settle(30)
    assert [letter.traceback for letter in band.dead()] == []
    return [(event.topic, event.data) for event in band.events() if event.topic != "said"]


def error_of(stand: Stand, call: Any, data: Any = None, **says: Any) -> str:
    """The error of the dead letter that a player makes of one event."""
    band = stand.play({"play": part(call, "said", **{"emits": ["a", "b"], "retry": ONCE, **says})})
    band.publish("said", data)
    band.settle(30)
    assert [event.topic for event in band.events()] == ["said"]
    [letter] = band.dead()
    assert letter.attempts == 1
    assert letter.error.split(":")[0] in letter.traceback
    return letter.error


# What a player may be


def test_a_function_of_one_event(stand: Stand) -> None:
    assert say_all(stand, lambda event: emit("a", event.data + 1), 1, 2) == [("a", 2), ("a", 3)]


def test_a_generator_says_many(stand: Stand) -> None:
    def play(event: Event) -> Iterator[Any]:
        for number in range(event.data):
            yield emit("a", number)

    assert say_all(stand, play, 2, 0, 3) == [("a", 0), ("a", 1), ("a", 0), ("a", 1), ("a", 2)]


def test_a_coroutine(stand: Stand) -> None:
    async def play(event: Event) -> Any:
        return emit("a", event.data)

    assert sorted(say_all(stand, play, 1, 2)) == [("a", 1), ("a", 2)]


def test_an_async_generator_says_many(stand: Stand) -> None:
    async def play(event: Event) -> AsyncIterator[Any]:
        for number in range(event.data):
            yield emit("a", number)

    assert say_all(stand, play, 3) == [("a", 0), ("a", 1), ("a", 2)]


def test_a_class_is_built_once_with_its_settings_and_closed_at_the_end(stand: Stand) -> None:
    life: list[str] = []

    class Play:
        def __init__(self, path: str, size: int = 1) -> None:
            life.append(f"built with {path} and {size}")

        def __call__(self, event: Event) -> Any:
            life.append(f"heard {event.data}")
            return emit("a", event.data)

        def close(self) -> None:
            life.append("closed")

    assert say_all(stand, Play, 1, 2, with_={"path": "model.bin", "size": 3}) == [("a", 1), ("a", 2)]
    stand.leave()

    assert life == ["built with model.bin and 3", "heard 1", "heard 2", "closed"]


def test_a_section_opens_with_min_instances_and_each_is_built_once(stand: Stand) -> None:
    built: list[int] = []

    class Play:
        def __init__(self) -> None:
            built.append(1)

        def __call__(self, event: Event) -> Any: ...

    band = stand.play({"play": part(Play, "said", section={"min": 4, "max": 8})})

    eventually(lambda: band.status().sections["play"].instances == 4, "four instances")
    assert len(built) == 4


def test_a_class_with_a_coroutine(stand: Stand) -> None:
    class Play:
        async def __call__(self, event: Event) -> Any:
            return emit("a", event.data)

    assert say_all(stand, Play, 1) == [("a", 1)]


def test_a_class_that_hears_whole_batches(stand: Stand) -> None:
    class Play:
        def __call__(self, events: list[Event]) -> Any:
            return [emit("a", event.data) for event in events]

    assert say_all(stand, Play, 1, 2, 3) == [("a", 1), ("a", 2), ("a", 3)]


def test_an_instance_a_method_and_a_partial_can_play_too(stand: Stand) -> None:
    class Desk:
        def __call__(self, event: Event) -> Any:
            return emit("a", event.data)

        def answer(self, event: Event) -> Any:
            return emit("b", event.data)

    def play(factor: int, event: Event) -> Any:
        return emit("a", factor * event.data)

    assert say_all(stand, Desk(), 1) == [("a", 1)]
    assert say_all(Stand(stand.setup, stand.folder), Desk().answer, 1) == [("b", 1)]
    assert say_all(Stand(stand.setup, stand.folder), functools.partial(play, 5), 1) == [("a", 5)]


def test_settings_come_as_keyword_arguments(stand: Stand) -> None:
    def play(event: Event, *, currency: str, factor: int = 2) -> Any:
        return emit("a", [currency, factor * event.data])

    assert say_all(stand, play, 4, with_={"currency": "EUR"}) == [("a", ["EUR", 8])]


def test_settings_go_to_whoever_takes_any(stand: Stand) -> None:
    assert say_all(stand, lambda event, **settings: emit("a", settings), 1, with_={"x": 1}) == [("a", {"x": 1})]


# What it may hear


def test_a_batch_player_hears_as_many_as_there_are_up_to_its_batch(stand: Stand) -> None:
    sizes: list[int] = []

    def play(events: list[Event]) -> None:
        sizes.append(len(events))

    say_all(stand, play, *range(100), section={"batch": 30})

    assert sum(sizes) == 100
    assert 1 < max(sizes) <= 30


def test_a_batch_player_that_comes_free_hears_all_that_waits_at_once(stand: Stand) -> None:
    gate = Gate()
    sizes: list[int] = []

    def play(events: list[Event]) -> None:
        sizes.append(len(events))
        gate.pass_through()

    band = stand.play({"play": part(play, "said", section={"batch": 500}, timeout="1h")})
    band.publish("said")
    gate.wait_for(1)
    band.publish_many(range(400), topic="said")
    gate.open()
    band.settle(30)

    assert sizes == [1, 400]


def test_a_section_that_lingers_hears_nothing_before_its_batch_is_full_and_then_all_of_it(stand: Stand) -> None:
    sizes: list[int] = []

    def play(events: list[Event]) -> None:
        sizes.append(len(events))

    band = stand.play({"play": part(play, "said", section={"batch": 100, "linger": "1h"})})
    band.publish_many(range(99), topic="said")
    for _ in range(3):  # each answer is that of another turn of the band
        assert band.status().sections["play"].lag == 99
    band.publish("said")
    band.settle(30)

    assert sizes == [100]


def test_a_section_lingers_no_longer_than_it_is_told_to(stand: Stand) -> None:
    heard: list[int] = []
    band = stand.play({"play": part(lambda event: heard.append(event.data), "said", section={"linger": "50ms"})})

    band.publish_many(range(60), topic="said")
    band.settle(30)

    assert heard == list(range(60))
    assert len([frame for frame in stand.frames() if frame.marks.get("heard", {}).get("play", [0] * 6)[5]]) == 1


def test_a_struct_is_decoded_and_checked(stand: Stand) -> None:
    def play(placed: Placed) -> Any:
        return emit("a", [placed.order_id, placed.total, placed.note])

    assert say_all(stand, play, {"order_id": "o-1", "total": 2}) == [("a", ["o-1", 2.0, ""])]


def test_a_dataclass_and_a_typed_dict_are_decoded_and_checked(stand: Stand) -> None:
    def play_paid(paid: Paid) -> Any:
        return emit("a", paid.cents)

    def play_shipped(shipped: Shipped) -> Any:
        return emit("a", shipped["parcels"])

    assert say_all(stand, play_paid, {"order_id": "o-1", "cents": 7}) == [("a", 7)]
    assert say_all(Stand(stand.setup, stand.folder), play_shipped, {"order_id": "o-1", "parcels": 2}) == [("a", 2)]


def test_a_batch_of_structs(stand: Stand) -> None:
    def play(placed: list[Placed]) -> Any:
        return emit("a", [each.total for each in placed])

    said = say_all(stand, play, {"order_id": "o-1", "total": 1}, {"order_id": "o-2", "total": 2})

    assert [total for _, totals in said for total in totals] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("data", "words"),
    [({"order_id": "o-1"}, ["total"]), ({"order_id": 1, "total": 1}, ["str", "int", "order_id"]), (None, ["object", "None"])],
)
def test_what_does_not_fit_the_type_that_is_heard_is_a_dead_letter_at_once(
    stand: Stand, data: Any, words: list[str]
) -> None:
    calls: list[Placed] = []

    def play(placed: Placed) -> None:
        calls.append(placed)

    error = error_of(stand, play, data, retry={"attempts": 5, "first": "10s"})

    assert [word for word in words if word not in error] == []
    assert calls == []


@pytest.mark.parametrize(("kind", "data"), TYPED, ids=[kind.__name__ for kind, _ in TYPED])
@pytest.mark.parametrize("is_batch", [False, True], ids=["one", "batch"])
def test_data_is_heard_as_the_type_that_the_player_names(
    stand: Stand, kind: Any, data: dict[str, Any], is_batch: bool
) -> None:
    heard: list[Any] = []

    def one(event: Any) -> Any:
        heard.append(event)
        return emit("a", event)

    def many(events: Any) -> Any:
        heard.extend(events)
        return [emit("a", event) for event in events]

    one.__annotations__["event"], many.__annotations__["events"] = kind, list[kind]

    assert say_all(stand, many if is_batch else one, data) == [("a", data)]
    assert [type(each) for each in heard] == [dict if kind is Shipped else kind]


@pytest.mark.parametrize("kind", [kind for kind, _ in TYPED])
@pytest.mark.parametrize("shape", ["one", "batch", "coroutine"])
def test_what_is_not_of_that_type_ends_at_its_first_attempt_whatever_the_type_is_made_with(
    stand: Stand, kind: Any, shape: str
) -> None:
    def one(event: Any) -> None: ...
    async def later(event: Any) -> None: ...
    def many(events: Any) -> None: ...

    call: Any = {"one": one, "batch": many, "coroutine": later}[shape]
    call.__annotations__.update({"events": list[kind]} if shape == "batch" else {"event": kind})

    error = error_of(stand, call, {"order_id": 7}, retry={"attempts": 5, "first": "10s"})

    assert error.startswith("ValidationError: ")
    assert "order_id" in error or "cents" in error or "parcels" in error


@pytest.mark.parametrize("kind", [Placed, Booked])
def test_what_the_players_own_code_finds_invalid_follows_the_retry_policy(stand: Stand, kind: Any) -> None:
    """Data that it fetched itself may be right the next time."""
    answers = [{"order_id": 7}, TYPED[0][1] if kind is Placed else TYPED[3][1]]

    def play(event: Event) -> Any:
        answer = answers.pop(0)
        read = msgspec.convert(answer, kind) if kind is Placed else kind.model_validate(answer)
        return emit("a", read.order_id)

    band = stand.play({"play": part(play, "said", emits=["a"], retry={"attempts": 2, "first": "1ms"})})
    band.publish("said")
    band.settle(30)

    assert [letter.error for letter in band.dead()] == []
    assert [event.data for event in band.events("a")] == ["o-1"]


# What it may answer


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, []),
        ([], []),
        ((), []),
        (emit("a", 1), [("a", 1)]),
        ([emit("a", 1), None, emit("b", 2)], [("a", 1), ("b", 2)]),
        ((emit("a", 1), emit("b")), [("a", 1), ("b", None)]),
        (("a", {"x": 1}), [("a", {"x": 1})]),
        ([("a", 1), ("b", 2)], [("a", 1), ("b", 2)]),
        (emit("a", x=1, y=[2]), [("a", {"x": 1, "y": [2]})]),
        (emit("a", {"x": 1}, y=2), [("a", {"x": 1, "y": 2})]),
    ],
)
def test_none_one_a_list_or_a_tuple_may_be_answered(stand: Stand, answer: Any, said: list[Any]) -> None:
    assert say_all(stand, lambda event: answer, 1) == said


@pytest.mark.parametrize("answer", [7, "a", 2.5, True, b"a", [emit("a"), "b"], object(), [[emit("a")]], {"x": 1}])
def test_what_is_no_event_is_the_players_failure_and_nothing_of_it_is_said(stand: Stand, answer: Any) -> None:
    error = error_of(stand, lambda event: answer)

    assert "player play answered " in error
    assert "which is no event; answer with emit(topic, ...), a list of these, or None" in error


@pytest.mark.parametrize(
    "data", [{1, 2}, object(), lambda: 1, {"x": object()}, 2**80], ids=["set", "object", "lambda", "nested", "huge"]
)
def test_data_that_can_not_be_written_is_the_players_failure(stand: Stand, data: Any) -> None:
    def play(event: Event) -> Any:
        return [emit("a", 1), emit("b", data)]

    if isinstance(data, set):
        assert say_all(stand, play, 0)[1][0] == "b"  # a set is written as a list
    else:
        assert error_of(stand, play)


def test_a_key_that_is_no_text_is_the_players_failure(stand: Stand) -> None:
    assert "a key is text" in error_of(stand, lambda event: emit("a", key=7))  # type: ignore[arg-type]


def test_data_alone_is_said_where_the_player_has_one_topic(stand: Stand) -> None:
    assert say_all(stand, lambda event: {"x": event.data}, 1, emits=["only"]) == [("only", {"x": 1})]


def test_typed_answers_find_their_topics(stand: Stand) -> None:
    def play(placed: Placed) -> Paid | Refused:
        return Paid(placed.order_id, 100) if placed.total < 10 else Refused(placed.order_id, "limit")

    events = {"paid": {"type": f"{__name__}:Paid", "key": "order_id"}, "refused": {"type": f"{__name__}:Refused"}}
    band = stand.play({"play": part(play, "said", emits=["paid", "refused"], retry=ONCE)}, events=events)

    band.publish_many([{"order_id": "o-1", "total": 1}, {"order_id": "o-2", "total": 100}], topic="said")
    band.settle(30)

    assert [letter.error for letter in band.dead()] == []
    assert [(event.topic, event.key, event.data) for event in band.events() if event.topic != "said"] == [
        ("paid", "o-1", {"order_id": "o-1", "cents": 100}),
        ("refused", "", {"order_id": "o-2", "why": "limit"}),
    ]


def test_a_batch_player_that_answers_one_each_answers_each(stand: Stand) -> None:
    def play(events: list[Event]) -> Any:
        return [emit("a", event.data) if event.data % 2 else None for event in events]

    band = stand.play({"play": part(play, "said", emits=["a"])})
    band.publish_many({"topic": "said", "key": str(n), "data": n} for n in range(10))
    band.settle(30)

    causes = {event.id: event for event in band.events("said")}
    answers = list(band.events("a"))
    assert [event.data for event in answers] == [1, 3, 5, 7, 9]
    assert all(event.causationid and causes[event.causationid].data == event.data for event in answers)
    assert [event.key for event in answers] == ["1", "3", "5", "7", "9"]


def test_emit_keeps_the_key_of_its_cause_unless_told_otherwise(stand: Stand) -> None:
    band = stand.play(
        {"play": part(lambda event: [emit("a"), emit("b", key="other")], "said", emits=["a", "b", "c"])},
    )
    band.publish("said", key="mine")
    band.settle(30)

    assert {event.topic: event.key for event in band.events() if event.topic != "said"} == {"a": "mine", "b": "other"}


def test_emit_takes_the_key_that_the_score_names_for_its_topic(stand: Stand) -> None:
    band = stand.play(
        {"play": part(lambda event: [emit("a", user="u-1"), emit("a", {})], "said", emits=["a"])},
        events={"a": {"key": "user"}},
    )
    band.publish("said", key="mine")
    band.settle(30)

    assert [event.key for event in band.events("a")] == ["u-1", "mine"]


# What it can't be


async def hear_all(events: list[Event]) -> None: ...


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: None, "takes no event"),
        (lambda ctx: None, "takes ctx first"),
        (lambda event, ctx, /: None, "can't be given by name"),
        (hear_all, "asynchronous and wants whole batches"),
    ],
    ids=["no parameter", "ctx first", "positional only", "coroutine of batches"],
)
def test_a_callable_that_can_not_hear_is_told_of_before_the_band_plays(stand: Stand, call: Any, words: str) -> None:
    with pytest.raises((ScoreError, PlayerError), match=words):
        stand.play({"play": part(call, "said")})

    stand.play()  # and it left nothing locked


class Broken:
    def __init__(self) -> None:
        raise OSError("no such model")

    def __call__(self, event: Event) -> None: ...


@pytest.mark.parametrize("section", [{"max": 1}, {"max": 4}])
def test_a_class_that_can_not_be_built_is_told_of_when_the_band_opens(stand: Stand, section: Any) -> None:
    where = r"at \S*test_player_kinds\.py:\d+"
    with pytest.raises(PlayerError, match=rf"player play can't be built: .*Broken.* raised OSError: no such model {where}$"):
        stand.play({"play": part(Broken, "said", section=section)})

    stand.play()  # and it left nothing locked


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"currncy": "EUR"}, ["play", "currncy", "currency"]), ({}, ["play", "currency"])],
    ids=["unknown", "missing"],
)
def test_settings_that_do_not_fit_are_told_of_when_the_band_opens(
    stand: Stand, settings: dict[str, Any], words: list[str]
) -> None:
    def play(event: Event, *, currency: str) -> None: ...

    with pytest.raises((ScoreError, PlayerError)) as told:
        stand.play({"play": part(play, "said", with_=settings)})

    assert [word for word in words if word not in str(told.value)] == []


def test_a_close_that_raises_is_logged_and_harms_nothing(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    class Play:
        def __call__(self, event: Event) -> Any:
            return emit("a", 1)

        def close(self) -> None:
            raise RuntimeError("stuck")

    assert say_all(stand, Play, 1) == [("a", 1)]
    stand.leave()

    assert "close() failed" in caplog.text
    assert [event.topic for event in stand.reader().events()] == ["said", "a"]


# Time limits


@pytest.mark.parametrize("is_async", [False, True], ids=["function", "coroutine"])
def test_a_call_that_takes_longer_than_its_timeout_fails_and_other_keys_are_heard(stand: Stand, is_async: bool) -> None:
    import asyncio
    import threading

    forever = threading.Event()
    heard: list[str] = []

    def play(event: Event) -> Any:
        if event.key == "slow":
            forever.wait(60)
        heard.append(event.key)
        return emit("a", event.key)

    async def play_later(event: Event) -> Any:
        if event.key == "slow":
            await asyncio.sleep(60)
        heard.append(event.key)
        return emit("a", event.key)

    call = play_later if is_async else play
    band = stand.play(
        {"play": part(call, "said", emits=["a"], timeout="50ms", retry={"attempts": 2, "first": "1ms"}, section={"max": 2})}
    )
    for key in ("a", "slow", "b", "c"):
        band.publish("said", key=key)
    band.settle(30)

    [letter] = band.dead()
    assert (letter.event.key, letter.attempts) == ("slow", 2)
    assert "TimeoutError" in letter.error
    assert sorted(event.key for event in band.events("a")) == ["a", "b", "c"]
    forever.set()
    stand.leave()
    assert [event.key for event in stand.reader().events("a")].count("slow") == 0


def test_what_a_late_call_says_after_its_timeout_is_not_said(stand: Stand) -> None:
    import threading

    gate = threading.Event()
    done = threading.Event()

    def play(event: Event, ctx: Context) -> Any:
        ctx.state["touched"] = True
        if event.key == "k" and ctx.attempt == 1:
            gate.wait(30)
            done.set()
        return emit("a", ctx.attempt)

    band = stand.play({"play": part(play, "said", emits=["a"], timeout="50ms", retry={"attempts": 3, "first": "1ms"})})
    band.publish("said", key="k")
    band.settle(30)
    gate.set()
    assert done.wait(10)
    band.publish("said", key="other")
    band.settle(30)

    assert [(event.key, event.data) for event in band.events("a")] == [("k", 2), ("other", 1)]


def test_without_an_order_the_rest_of_a_batch_is_heard_after_one_of_it_took_too_long(stand: Stand) -> None:
    import threading

    forever = threading.Event()
    heard: list[int] = []

    def play(event: Event) -> None:
        if event.data == 1:
            forever.wait(60)
        heard.append(event.data)

    said = part(play, "said", order="none", timeout="50ms", retry=ONCE)
    band = stand.play({"play": said})
    band.publish_many(range(5), topic="said")
    band.settle(30)
    forever.set()

    assert [letter.event.data for letter in band.dead()] == [1]
    assert [each for each in heard if each != 1] == [0, 2, 3, 4]
    assert band.status().sections["play"].lag == 0


def test_the_iterables_of_a_batch_annotation_are_all_batches(stand: Stand) -> None:
    def play(events: Iterable[Event]) -> Any:
        return emit("a", sorted(event.data for event in events))

    said = say_all(stand, play, 1, 2)

    assert sorted(number for _, numbers in said for number in numbers) == [1, 2]

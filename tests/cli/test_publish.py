"""`ensemble publish` says events to a band that plays, or leaves them for when it plays next."""

from __future__ import annotations

import json

import pytest

from tests.cli.shell import Shell, interrupt
from tests.conformance.stand import eventually

ORDER = '{"order_id": "o-1", "total": 5}'


def test_what_is_published_to_a_band_that_plays_is_heard_at_once(shop: Shell) -> None:
    playing = shop.serve()

    ran = shop.run("publish", "order.placed", ORDER, "--json")
    paid = eventually(lambda: shop.run("events", "order.paid", "--json").out, "the payment")

    assert ran.json["offset"] == 0
    assert json.loads(paid)["causationid"] == ran.json["id"]
    assert interrupt(playing).code == 130


def test_what_is_published_to_a_store_that_nobody_plays_is_heard_when_it_is_played(shop: Shell) -> None:
    shop.run("run", "shop.yaml")

    ran = shop.run("publish", "order.placed", ORDER)
    after = shop.run("run", "shop.yaml", "--json")

    assert ran.code == 0
    assert "nobody plays .ensemble/shop now" in ran.err
    assert ran.out.strip().endswith("-0")
    assert after.json["topics"] == {"order.placed": 1, "order.paid": 1}


def test_published_twice_with_the_same_id_is_one_event(shop: Shell) -> None:
    shop.run("run", "shop.yaml")

    first, second = (shop.run("publish", "order.placed", ORDER, "--id", "once", "--json").json for _ in range(2))

    assert first == second == {"id": "once", "shard": 0, "offset": 0}
    assert shop.run("status", "--json").json["events"] == 1


def test_a_key_may_be_said_or_left_to_the_score(shop: Shell) -> None:
    shop.run("run", "shop.yaml")

    shop.run("publish", "order.placed", ORDER)
    shop.run("publish", "order.placed", ORDER, "--key", "other")

    assert [event["key"] for event in shop.run("events", "--json").json_lines] == ["o-1", "other"]


@pytest.mark.parametrize("is_played", [True, False], ids=["played", "not played"])
def test_lines_of_stdin_are_published_and_those_refused_are_named_by_number(shop: Shell, is_played: bool) -> None:
    playing = shop.serve() if is_played else None
    if playing is None:
        shop.run("run", "shop.yaml")
    lines = ['{"order_id": "o-1", "total": 1}', "nonsense", "", '{"order_id": 4}', '{"order_id": "o-5", "total": 1}']

    ran = shop.run("publish", "order.placed", "-", stdin="\n".join(lines))

    assert ran.code == 1
    assert ran.out == "2 published, 2 refused\n"
    assert "refused: <stdin>:2: not JSON" in ran.err
    assert "refused: <stdin>:4: order.placed: data" in ran.err
    assert [event["key"] for event in shop.run("events", "order.placed", "--json").json_lines] == ["o-1", "o-5"]
    if playing is not None:
        assert interrupt(playing).code == 130


def test_lines_may_be_whole_events_and_cloudevents(shop: Shell) -> None:
    shop.run("run", "shop.yaml")
    data = json.loads(ORDER)
    events = [
        {"topic": "order.placed", "data": data, "key": "mine", "id": "first"},
        {"specversion": "1.0", "id": "second", "source": "/elsewhere", "type": "order.placed", "data": data},
    ]

    ran = shop.run("publish", "-", "--json", stdin="".join(json.dumps(event) + "\n" for event in events))

    assert ran.json == {"published": 2, "refused": 0}
    said = shop.run("events", "--json").json_lines
    assert [(event["id"], event["key"]) for event in said] == [("first", "mine"), ("second", "o-1")]


def test_strict_stops_at_the_first_line_that_is_refused(shop: Shell) -> None:
    shop.run("run", "shop.yaml")
    lines = ['{"order_id": "o-1", "total": 1}', '{"order_id": 2}', '{"order_id": "o-3", "total": 1}']

    ran = shop.run("publish", "order.placed", "-", "--strict", stdin="\n".join(lines))

    assert (ran.code, ran.out) == (1, "1 published, 1 refused\n")
    assert shop.run("status", "--json").json["events"] == 1


def test_a_line_is_published_without_waiting_for_the_next(shop: Shell) -> None:
    playing = shop.serve()
    speaking = shop.start("publish", "order.placed", "-", stdin=-1)
    assert speaking.stdin is not None

    speaking.stdin.write(f"{ORDER}\n")
    speaking.stdin.flush()

    assert eventually(lambda: shop.run("events", "order.paid").out, "the payment")
    assert speaking.poll() is None
    out, _ = speaking.communicate(timeout=60)
    assert out == "1 published\n"
    assert interrupt(playing).code == 130


def test_many_lines_are_published_in_order(shop: Shell) -> None:
    shop.run("run", "shop.yaml")
    lines = "".join(f'{{"order_id": "o-{number}", "total": 1}}\n' for number in range(5000))

    ran = shop.run("publish", "order.placed", "-", stdin=lines)

    assert ran.out == "5,000 published\n"
    assert [event["key"] for event in shop.run("events", "--json").json_lines] == [f"o-{n}" for n in range(5000)]


def test_a_topic_that_nobody_listens_to_is_warned_of_with_the_one_that_may_be_meant(shop: Shell) -> None:
    shop.run("run", "shop.yaml")

    slip, other, right = (
        shop.run("publish", topic, ORDER).err for topic in ("order.plced", "moon.landed", "order.placed")
    )

    assert "warning: nobody listens to order.plced; did you mean order.placed?\n" in slip
    assert "warning: nobody listens to moon.landed\n" in other
    assert "warning" not in right
    none = shop.run("publish", "", ORDER)
    assert none.code == 1 and "'' is not a topic" in none.err and "nobody listens" not in none.err


def test_lines_under_a_topic_that_nobody_listens_to_are_warned_of_once(shop: Shell) -> None:
    shop.run("run", "shop.yaml")

    ran = shop.run("publish", "order.plced", "-", stdin=f"{ORDER}\n{ORDER}\n")

    assert ran.out == "2 published\n"
    assert ran.err.count("did you mean order.placed?") == 1


def test_what_is_piped_in_without_being_asked_for_is_not_lost_in_silence(shop: Shell) -> None:
    shop.run("run", "shop.yaml")

    piped = shop.run("publish", "order.placed", stdin=f"{ORDER}\n")
    nothing = shop.start("publish", "moon.landed")
    _, err = nothing.communicate(timeout=60)

    assert piped.code == 2
    assert "what is piped in is not read: write - for DATA (ensemble publish order.placed -), or null" in unwrapped(piped.err)
    assert nothing.returncode == 0
    assert "DATA was left out, so its data is null" in err
    assert [event["data"] for event in shop.run("events", "--json").json_lines] == [None]


def unwrapped(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["publish"], 2, "Missing argument 'TOPIC'"),
        (["publish", "order.placed", "hello"], 1, "DATA is not JSON"),
        (["publish", "order.placed", '{"order_id": "o-1"}'], 1, "'total' is missing"),
        (["publish", "order.placed", '{"total": 1}'], 1, "order_id"),
        (["publish", "order..placed", "1"], 1, "'order..placed' is not a topic"),
        (["publish", "_band.dead", "{}"], 1, "only the band itself says"),
        (["publish", "order.placed", ORDER, "--store", "nowhere"], 4, "there is no store"),
        (["publish", "-", "{}"], 2, "each line of stdin is a whole event"),
        (["publish", "order.placed", "-", "--id", "x"], 2, "--key and --id are for one event"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_can_not_be_published_gives_a_sentence_and_an_exit_code(
    shop: Shell, arguments: list[str], code: int, words: str
) -> None:
    shop.run("run", "shop.yaml")

    ran = shop.run(*arguments)

    assert ran.code == code
    assert words in ran.err
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert shop.run("status", "--json").json["events"] == 0

"""`events`, `tail`, `table`, `status` and `why` look into a store that is played, or not."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

import ensemble
from tests.cli.shell import SCORES, Shell, interrupt


@pytest.fixture(scope="module")
def played_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a shop that has played three orders, the second of which is a dead letter."""
    shop = Shell(tmp_path_factory.mktemp("shop"))
    shop.write_shop()
    shop.write_orders(5, 5000, 7)
    assert shop.run("run", "shop.yaml", "--input", "orders.jsonl").code == 3
    return shop.folder


@pytest.fixture
def played(shell: Shell, played_once: Path) -> Shell:
    """A shell of its own beside that shop."""
    shutil.copytree(played_once, shell.folder, dirs_exist_ok=True)
    return shell


def test_events_are_listed_in_the_order_of_the_log(played: Shell) -> None:
    lines = played.run("events").out.splitlines()

    assert [line.split()[0] for line in lines] == [str(offset) for offset in range(len(lines))]
    assert [line.split()[3] for line in lines][:3] == ["order.placed"] * 3
    assert lines[0].endswith('o-1           {"order_id":"o-1","total":5}')


def test_events_are_chosen_by_topic_key_place_and_number(played: Shell) -> None:
    def listed(*choice: object) -> list[str]:
        return [f"{each['topic']} {each['key']}" for each in played.run("events", *choice, "--json").json_lines]

    assert listed("order.*", "--key", "o-3") == ["order.placed o-3", "order.paid o-3"]
    assert listed("order.placed", "--since", 1, "--until", 2) == ["order.placed o-2"]
    assert listed("order.placed", "--limit", 1) == ["order.placed o-1"]
    assert listed("order.placed", "--since", "1h") == ["order.placed o-1", "order.placed o-2", "order.placed o-3"]
    assert listed("order.placed", "--until", "2011-11-01T08:16:00Z") == []
    assert listed("_band.dead") == ["_band.dead o-2"]


def test_a_date_is_its_midnight_and_times_are_those_that_are_shown(shop: Shell) -> None:
    shop.run("run", "shop.yaml")
    days = ["2018-02-01T23:00:00Z", "2018-02-02T00:00:00Z", "2018-02-03T00:00:00Z"]
    lines = [json.dumps({"topic": "day.came", "key": day[:10], "time": day}) for day in days]
    shop.run("publish", "-", stdin="\n".join(lines))

    ran = shop.run("events", "--since", "2018-02-02", "--until", "2018-02-03", "--json")

    assert [event["key"] for event in ran.json_lines] == ["2018-02-02"]


def test_an_event_as_json_has_all_that_an_event_has(played: Shell) -> None:
    [event] = played.run("events", "order.paid", "--key", "o-1", "--json").json_lines

    assert set(event) == {
        *("id", "topic", "key", "data", "time", "shard", "offset", "source"),
        *("causationid", "correlationid", "traceparent", "version"),
    }
    assert event["source"] == "/shop/pay"
    assert event["data"] == {"total": 5}


def test_events_can_be_written_as_cloudevents(played: Shell) -> None:
    [event] = played.run("events", "order.paid", "--key", "o-1", "--cloudevents").json_lines

    assert event["specversion"] == "1.0"
    assert (event["type"], event["subject"]) == ("order.paid", "o-1")


def test_tail_goes_on_with_what_comes(shop: Shell) -> None:
    playing = shop.serve()
    tail = shop.start("tail", "order.placed", "--since", 0, "--json")
    shop.run("publish", "order.placed", '{"order_id": "o-1", "total": 5}')
    assert tail.stdout is not None
    first = json.loads(tail.stdout.readline())
    shop.run("publish", "order.placed", '{"order_id": "o-2", "total": 5}')
    second = json.loads(tail.stdout.readline())

    assert [first["key"], second["key"]] == ["o-1", "o-2"]
    assert interrupt(tail).code == 130
    assert interrupt(playing).code == 130


def test_a_table_is_shown_whole_or_for_one_key(played: Shell) -> None:
    assert played.run("table", "tally").out == 'o-1  {"paid":1}\no-3  {"paid":1}\n'
    assert played.run("table", "tally", "o-3").out == '{"paid":1}\n'
    assert played.run("table", "tally", "--json").json_lines == [
        {"key": "o-1", "state": {"paid": 1}},
        {"key": "o-3", "state": {"paid": 1}},
    ]


def test_status_tells_who_trails_and_whether_it_is_played(played: Shell) -> None:
    resting = played.run("status", "--json").json
    playing = played.serve()
    active = played.run("status", "--json").json

    assert resting["sections"]["pay"]["heard"] == 2
    assert resting["sections"]["pay"]["dead"] == 1
    assert (resting["playing"], active["playing"]) == (False, True)
    assert "not playing now" not in played.run("status").out
    assert interrupt(playing).code == 130
    assert "shop: 6 events in .ensemble/shop" in played.run("status").out


def test_why_draws_the_causes_above_and_the_answers_below(played: Shell) -> None:
    [paid] = played.run("events", "order.paid", "--key", "o-1", "--json").json_lines

    drawn = played.run("why", paid["id"]).out.splitlines()

    assert drawn[0].startswith("order.placed  o-1")
    assert drawn[1].startswith("└── order.paid  o-1")
    assert "by pay" in drawn[1]


def test_why_takes_an_offset_and_writes_json(played: Shell) -> None:
    story = played.run("why", 0, "--json").json

    assert story["causes"] == []
    assert story["tree"]["event"]["topic"] == "order.placed"
    assert [(said["player"], said["event"]["topic"]) for said in story["tree"]["said"]] == [("pay", "order.paid")]


def test_why_finds_the_answers_to_an_event_whose_publisher_gave_it_an_id(shop: Shell) -> None:
    shop.run("run", "shop.yaml")
    shop.run("publish", "order.placed", '{"order_id": "o-1", "total": 5}', "--id", "mine")
    shop.run("run", "shop.yaml")

    story = shop.run("why", "mine", "--json").json

    assert [said["event"]["topic"] for said in story["tree"]["said"]] == ["order.paid"]


def test_the_example_of_why_works(shell: Shell) -> None:
    (shell.folder / "scores").symlink_to(SCORES)
    (shell.folder / "players").symlink_to(SCORES.parent / "players")
    shell.run("run", "scores/quakes.yaml")
    example = shell.run("why", "--help").out.split("Example:")[1].split()

    ran = shell.run(*example[1:])

    assert example[:2] == ["ensemble", "why"]
    assert "warning.issued" in ran.out


def test_why_tells_a_match_from_what_came_from_outside(shell: Shell) -> None:
    motif = "{count: a, times: 2}"
    shell.write("pair.py", "def tell(match): pass\n")
    players = f'{{tell: {{play: "pair:tell", on: {motif}}}}}'
    shell.write("pair.yaml", f"ensemble: 1\nname: pair\nplayers: {players}\n")
    shell.write("twice.jsonl", '{"topic": "a", "key": "k"}\n' * 2)
    shell.run("run", "pair.yaml", "--input", "twice.jsonl")

    drawn = shell.run("why", 1).out.splitlines()

    assert "  from outside  " in drawn[0]
    assert "_band.motif.tell  k" in drawn[1]
    assert "  a match  " in drawn[1]


def test_on_a_narrow_terminal_there_is_room_for_the_data(played: Shell) -> None:
    _, drawn = played.on_a_terminal("events", "order.*", columns=80)

    lines = drawn.splitlines()
    assert lines[0].endswith('  order.placed  o-1  {"order_id":"o-1","total":5}')
    assert all(len(line) <= 80 for line in lines)
    assert all('"total":' in line for line in lines)


def test_a_store_is_named_by_its_score_or_by_being_the_only_one(played: Shell) -> None:
    by_score = played.run("events", "--store", "shop.yaml").out
    by_folder = played.run("events", "--store", ".ensemble/shop").out

    assert by_score == by_folder == played.run("events").out != ""


def test_where_there_are_several_stores_they_are_listed(played: Shell) -> None:
    played.run("run", "shop.yaml", "--store", ".ensemble/other")

    ran = played.run("events")

    assert ran.code == 2
    assert "there are 2 stores below .ensemble/; say which: --store .ensemble/other | .ensemble/shop" in ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["events", "order..placed"], 2, "has an empty part between two dots"),
        (["events", "--since", "yesterday"], 2, "'yesterday' is no offset (12), no time"),
        (["events", "--since", "2011-11-01T08:16:00"], 2, "has no time zone"),
        (["events", "--limit", "-1"], 2, "--limit"),
        (["events", "--store", "nowhere"], 4, "there is no store nor any beside it; check the path, or play a score into it"),
        (["events", "--store", ".ensemble"], 4, "this folder is no store, but has some: --store .ensemble/shop"),
        (["status", "--store", ".ensemble/shpo"], 4, "there is no store; did you mean --store .ensemble/shop?"),
        (["status", "--store", ".ensemble/moon"], 4, "there is no store; there is .ensemble/shop; check the path"),
        (["events", "--store", "nowhere.yaml"], 1, "there is no such file"),
        (["events", "--store", str(SCORES / "hello.yaml")], 4, "keeps its log in memory"),
        (["tail", "a b"], 2, "a space"),
        (["table", "nobody"], 1, "no player 'nobody' has played in .ensemble/shop; there are pay, tally"),
        (["table", "tally", "o-9"], 1, "no state for the key 'o-9'; it has o-1, o-3"),
        (["why", "x-1"], 1, "there is no event 'x-1'"),
        (["why", "o-1"], 1, "o-1 is a key; `ensemble events --key o-1 --store .ensemble/shop` lists its events"),
        (["why", "999"], 1, "there is no event 999; it has the offsets 0 to"),
        (["dead", "list", "--player", "nobody"], 1, "no player 'nobody'"),
        (["dead", "show", "x-1"], 1, "there is no dead letter 'x-1'"),
        (["look"], 2, "No such command 'look'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_not_there_gives_a_sentence_and_an_exit_code(
    played: Shell, arguments: list[str], code: int, words: str
) -> None:
    ran = played.run(*arguments)

    assert ran.code == code
    assert words in ran.err
    assert ran.out == ""
    assert "Traceback" not in ran.err


def test_without_a_store_it_is_said_how_to_get_one(shell: Shell) -> None:
    ran = shell.run("status")

    assert ran.code == 4
    assert "there is no store below .ensemble/" in ran.err
    assert "ensemble run SCORE" in ran.err


def test_what_would_upset_a_terminal_is_written_out(shop: Shell) -> None:
    shop.run("run", "shop.yaml")
    shop.run("publish", "note.taken", '"\\u001b[2J"', "--key", "\x1b]0;x\x07")

    line = shop.run("events", "note.taken").out

    assert "\x1b" not in line
    assert "\\x1b]0;x\\x07" in line


def test_what_an_object_store_was_asked_and_what_that_costs_is_shown(shell: Shell) -> None:
    shell.write_shop()
    score = (shell.folder / "shop.yaml").read_text()
    prices = "costs: {requests: {put: 0.005/1000, get: 0.0004/1000, head: 0.0004/1000, list: 0.005/1000}}\n"
    shell.write("shop.yaml", score + prices)
    shell.write_orders(1, 2, 3)

    ran = shell.run("run", "shop.yaml", "--input", "orders.jsonl", "--store", "objects:bucket")
    again = shell.run("run", "shop.yaml", "--input", "orders.jsonl", "--store", "objects:bucket", "--json").json
    status = shell.run("status", "--store", "objects:bucket")
    told = shell.run("status", "--store", "objects:bucket", "--json").json

    assert re.search(r"requests \d+ \(.*put \d+\); cost 0\.\d{4}\n", ran.out), ran.out
    assert 0 < sum(again["requests_now"].values()) < sum(again["requests"].values())
    assert 0 < again["cost_now"] < again["cost"]
    assert re.search(r"requests \d+ \(.*put \d+\); cost 0\.\d{4}\n", status.out), status.out
    assert sum(told["requests"].values()) > 5 and told["cost"] > 0  # as of the last snapshot


def test_to_speak_to_an_object_store_that_is_played_is_refused_with_who_plays_it(shell: Shell) -> None:
    shell.write_shop()
    shell.write_orders(1)
    shell.run("run", "shop.yaml", "--input", "orders.jsonl", "--store", "objects:bucket")
    free = shell.run("publish", "order.placed", '{"order_id": "o-9", "total": 1}', "--store", "objects:bucket")
    url = f"objects:{shell.folder / 'bucket'}"
    with ensemble.open({"ensemble": 1, "name": "shop"}, store=url) as band:
        busy = shell.run("publish", "order.placed", '{"order_id": "o-8", "total": 1}', "--store", "objects:bucket")
        band.publish("note", "still here")

    assert free.code == 0, free.err
    assert busy.code == 4
    assert f"it is played by process {os.getpid()} on " in busy.err


def test_table_status_and_dead_letters_are_told_as_they_were(played: Shell) -> None:
    paid = [each["offset"] for each in played.run("events", "order.paid", "--json").json_lines]
    end = len(played.run("events", "--json").json_lines) + 1  # and the band's own event, of the dead letter

    def table(at: object) -> list[str]:
        return [row["key"] for row in played.run("table", "tally", "--at", at, "--json").json_lines]

    assert (table(paid[0]), table(end)) == ([], ["o-1", "o-3"])
    assert table(played.run("events", "--limit", "1", "--json").json["id"]) == []
    assert table("0s") == ["o-1", "o-3"], "so long ago, which is now"
    assert played.run("dead", "list", "--at", paid[0], "--json").json_lines == []
    assert len(played.run("dead", "list", "--at", end, "--json").json_lines) == 1
    status = played.run("status", "--at", paid[0])
    assert status.out.splitlines()[0].endswith(f"; as it was before {paid[0]}")
    missing = played.run("table", "tally", "o-1", "--at", paid[0])
    assert (missing.code, "kept no state for the key 'o-1'; it had none" in missing.err) == (1, True)


@pytest.mark.parametrize(
    ("at", "code", "why"),
    [
        ("99", 1, "there was no moment before event 99"),
        ("yesterday", 1, "there is no event 'yesterday'"),
        ("2026-01-01T00:00:00", 2, "has no time zone"),
        ("1,2", 1, "has 1 shard, each with offsets of its own, and 2 are given"),
    ],
)
def test_a_place_that_is_none_is_refused(played: Shell, at: str, code: int, why: str) -> None:
    ran = played.run("table", "tally", "--at", at)

    assert ran.code == code
    assert why in " ".join(ran.err.split())

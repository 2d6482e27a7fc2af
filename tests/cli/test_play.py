"""`ensemble run` plays to the end, tells a sum that adds up, and ends with the right exit code."""

from __future__ import annotations

import gzip
import json
import re
import signal
import subprocess

import pytest

from tests.cli.shell import SCORES, Shell, interrupt, screen
from tests.conformance.stand import eventually


def test_a_run_prints_what_its_players_print_and_a_sum(shell: Shell) -> None:
    ran = shell.run("run", SCORES / "hello.yaml")

    assert ran.code == 0
    assert ran.out.startswith("Hello, Ella, take a seat!\nHello, Miles, take a seat!\nHello, Nina, take a seat!\n")
    assert "hello: played to the end; 6 events" in ran.out
    assert "greet       3        3       0     0" in ran.out


def test_with_json_one_line_is_on_stdout_and_what_players_print_is_on_stderr(shell: Shell) -> None:
    ran = shell.run("run", SCORES / "hello.yaml", "--json")

    assert ran.json["events"] == 6
    assert ran.json["exit"] == ran.code == 0
    assert "Hello, Ella" in ran.err


def test_the_sum_adds_up(shop: Shell) -> None:
    shop.write_orders(5, 5000, 7)

    ran = shop.run("run", "shop.yaml", "--input", "orders.jsonl", "--json")

    sums = ran.json
    assert sums["events"] == sum(sums["topics"].values())
    assert sums["topics"] == {"_band.dead": 1, "order.paid": 2, "order.placed": 3}
    assert sums["players"]["pay"] == {"heard": 2, "emitted": 2, "failed": 2, "dead": 1, "lag": 0, "held": 0}
    assert sums["players"]["tally"]["heard"] == sums["topics"]["order.paid"]
    assert [each["said"] for each in sums["sources"].values()] == [3]


def test_dead_letters_of_a_run_are_exit_code_3_and_those_of_the_run_before_are_not(shop: Shell) -> None:
    shop.write_orders(5000)

    first = shop.run("run", "shop.yaml", "--input", "orders.jsonl")
    second = shop.run("run", "shop.yaml", "--input", "orders.jsonl")

    assert (first.code, second.code) == (3, 0)
    assert "1 dead letter: ensemble dead list --store .ensemble/shop" in first.out


@pytest.mark.parametrize("store", ["memory:", ".ensemble/shop"])
def test_the_first_dead_letters_of_a_run_are_told_with_player_event_error_and_line(shop: Shell, store: str) -> None:
    shop.write_orders(1, *[5000] * 7)
    line = next(n for n, text in enumerate((shop.folder / "shop.py").read_text().splitlines(), 1) if "too much" in text)

    told = shop.run("run", "shop.yaml", "--input", "orders.jsonl", "--store", store)
    sums = shop.run("run", "shop.yaml", "--input", "orders.jsonl", "--store", "memory:", "--json").json

    shown = [text for text in told.out.splitlines() if text.startswith("dead ")]
    assert len(shown) == 6
    assert re.fullmatch(rf"dead     pay: \w+-\d+: ValueError: too much \(shop.py:{line}\)", shown[0])
    assert shown[-1].startswith("dead     7 dead letters")
    assert "shop.py" not in told.err  # it is told once
    assert [set(each) for each in sums["dead_letters"]] == [{"player", "id", "error", "place"}] * 5
    assert sums["dead_letters"][0]["place"] == f"shop.py:{line}"


def test_a_file_that_was_played_to_its_end_adds_nothing_unless_again_is_said(shop: Shell) -> None:
    shop.write_orders(1, 2)

    counts = [
        shop.run("run", "shop.yaml", "--input", "orders.jsonl", "--json", *more).json["events_now"]
        for more in ([], [], ["--again"])
    ]

    assert counts == [4, 0, 4]


def test_lines_that_are_refused_are_told_with_file_line_and_reason(shop: Shell) -> None:
    path = shop.write_orders(1, 2)
    path.write_text(path.read_text() + 'nonsense\n{"topic": "order.placed", "data": {"order_id": "o-9", "total": "much"}}\n')

    ran = shop.run("run", "shop.yaml", "--input", "orders.jsonl")

    assert ran.code == 1
    assert "refused  orders.jsonl:3: not JSON" in ran.out
    assert "refused  orders.jsonl:4: order.placed: data.total: expected a number, found 'much'" in ran.out
    assert shop.run("events", "_band.refused", "--json").json_lines[0]["data"]["line"] == 3


def test_strict_stops_at_the_first_line_that_is_refused(shop: Shell) -> None:
    path = shop.write_orders(1)
    path.write_text("nonsense\n" + path.read_text())

    ran = shop.run("run", "shop.yaml", "--input", "orders.jsonl", "--strict")

    assert ran.code == 1
    assert "error: orders.jsonl:1: not JSON" in ran.err
    assert "shop: stopped by an error; 0 events" in ran.out


def test_input_can_be_stdin_or_compressed(shop: Shell) -> None:
    lines = shop.write_orders(1, 2, 3).read_text()
    (shop.folder / "orders.jsonl.gz").write_bytes(gzip.compress(lines.encode()))

    piped = shop.run("run", "shop.yaml", "--input", "-", "--store", "piped", "--json", stdin=lines)
    zipped = shop.run("run", "shop.yaml", "--input", "orders.jsonl.gz", "--store", "zipped", "--json")

    assert piped.json["topics"] == zipped.json["topics"] == {"order.placed": 3, "order.paid": 3}


def test_each_line_of_stdin_is_heard_as_it_comes_and_a_second_run_passes_over_it(shop: Shell) -> None:
    lines = shop.write_orders(5, 6, 7).read_text().splitlines(keepends=True)
    playing = shop.start("run", "shop.yaml", "--input", "-", "--json", stdin=subprocess.PIPE)
    assert playing.stdin is not None

    for number, line in enumerate(lines[:2], 1):
        playing.stdin.write(line)
        playing.stdin.flush()
        paid = ["events", "order.paid", "--store", ".ensemble/shop"]
        eventually(lambda: len(shop.run(*paid).out.splitlines()) == number, f"order {number}")  # noqa: B023
    out, err = playing.communicate(timeout=60)
    again = shop.run("run", "shop.yaml", "--input", "-", "--json", stdin="".join(lines))

    assert (playing.returncode, json.loads(out)["topics"]) == (0, {"order.placed": 2, "order.paid": 2}), err
    assert again.json["topics"] == {"order.placed": 3, "order.paid": 3}
    assert again.json["events_now"] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "nope.yaml"], 1, "nope.yaml: there is no such file"),
        (["run", "broken.yaml"], 1, "broken.yaml:2:1: plyers: unknown key"),
        (["run", "shop.yaml", "--input", "nope.jsonl"], 1, "--input nope.jsonl: there is no such file"),
        (["run", "shop.yaml", "--input", "."], 1, "--input .: it is a folder; name a file in it"),
        (["run", "shop.yaml", "--store", "shop.py/store"], 4, "shop.py/store: this is a file, or lies below one"),
        (["run", "shop.yaml", "--stage", "moon"], 2, "'moon' is not one of"),
        (["run", "shop.yaml", "--durability", "paper"], 2, "'paper' is not one of"),
        (["run"], 2, "Missing argument 'SCORE'"),
        (["run", "shop.yaml", "--nope"], 2, "No such option: --nope"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_can_not_be_played_gives_a_sentence_and_an_exit_code(
    shop: Shell, arguments: list[str], code: int, words: str
) -> None:
    shop.write("broken.yaml", "ensemble: 1\nplyers: {}\nname: broken\n")

    ran = shop.run(*arguments)

    assert ran.code == code
    assert words in ran.err
    assert ran.out == ""
    assert "Traceback" not in ran.err


def test_with_json_an_error_is_one_line_on_stdout_too(shop: Shell) -> None:
    ran = shop.run("run", "nope.yaml", "--json")

    assert ran.json["exit"] == ran.code == 1
    assert "there is no such file" in ran.json["error"]


def test_a_store_that_is_played_already_is_refused(shop: Shell) -> None:
    playing = shop.serve()

    ran = shop.run("run", "shop.yaml")

    assert ran.code == 4
    assert "it is being played already, by process" in ran.err
    assert "publish to it with `ensemble publish`, look into it with `ensemble tail`, or stop that process" in ran.err
    assert interrupt(playing).code == 130


def test_a_traceback_is_shown_only_where_it_was_asked_for(shop: Shell) -> None:
    plain = shop.run("run", "nope.yaml")
    told = shop.run("run", "nope.yaml", env={"ENSEMBLE_TRACEBACK": "1"})

    assert "Traceback" not in plain.err
    assert "Traceback" in told.err
    assert plain.code == told.code == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_band_that_serves_goes_on_until_it_is_interrupted_and_tells_the_sum(shop: Shell, number: int) -> None:
    playing = shop.serve()
    said = shop.run("publish", "order.placed", '{"order_id": "o-1", "total": 5}')
    eventually(lambda: shop.run("table", "tally").out, "the tally")

    ran = interrupt(playing, number)

    assert said.code == 0
    assert ran.code == 130
    assert "finishing what is in flight" in ran.err
    assert "shop: interrupted; 2 events" in ran.out


def test_a_source_that_ticks_goes_on_until_it_is_interrupted(shell: Shell) -> None:
    shell.write("clock.yaml", "ensemble: 1\nname: clock\nsources:\n  tick: {every: 20ms, topic: tick.heard}\nplayers: {}\n")
    playing = shell.start("run", "clock.yaml", "--json")
    ticks = ["events", "tick.heard", "--limit", 3, "--store", ".ensemble/clock"]
    eventually(lambda: len(shell.run(*ticks).out.splitlines()) == 3, "three ticks")

    ran = interrupt(playing)

    assert ran.code == 130
    assert ran.json["interrupted"] is True
    assert ran.json["topics"]["tick.heard"] >= 3


def test_a_second_interrupt_quits_at_once_though_a_player_hangs(shop: Shell) -> None:
    playing = shop.serve()
    shop.run("publish", "order.placed", '{"order_id": "o-1", "total": -1}')
    assert playing.stdout is not None
    assert playing.stdout.readline() == "stuck\n"

    playing.send_signal(signal.SIGINT)
    assert playing.stderr is not None
    while "finishing" not in playing.stderr.readline():
        assert playing.poll() is None
    ran = interrupt(playing)

    assert ran.code == 130
    assert shop.run("status", "--json").json["events"] == 1


def test_an_interrupt_ends_a_run_that_waits_for_stdin(shop: Shell) -> None:
    playing = shop.start("run", "shop.yaml", "--input", "-", stdin=-1)
    eventually((shop.folder / ".ensemble/shop/door").exists, "the door")

    playing.send_signal(signal.SIGINT)
    code = playing.wait(60)
    _, err = playing.communicate()

    assert code == 130
    assert sorted(err.split("\n")) == [
        "", "", "finishing what is in flight; Ctrl-C again quits at once", f"new store .ensemble/shop in {shop.folder}",
    ]  # fmt: skip - in either order


def test_an_interrupt_while_the_band_opens_ends_the_run_with_its_sum(shop: Shell) -> None:
    path = shop.folder / "shop.py"
    path.write_text(f"import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n{path.read_text()}")

    ran = shop.run("run", "shop.yaml", "--serve")

    assert ran.code == 130
    assert "finishing what is in flight" in ran.err
    assert "shop: interrupted; 0 events" in ran.out


def test_a_damaged_store_is_not_played_and_the_damage_is_named(shop: Shell) -> None:
    shop.write_orders(5, 6)
    shop.run("run", "shop.yaml", "--input", "orders.jsonl")
    path = shop.folder / ".ensemble/shop/ensemble.json"
    path.write_text(path.read_text().replace('"shop"', '"chop"'))

    for command in (["run", "shop.yaml"], ["events", "--store", ".ensemble/shop"], ["status", "--store", ".ensemble/shop"]):
        ran = shop.run(*command)

        assert ran.code == 4
        assert "ensemble.json: byte 0: the manifest was changed or damaged" in ran.err
        assert ran.out == ""


def test_keys_that_are_held_are_told_with_the_events_behind_them(shop: Shell) -> None:
    path = shop.folder / "shop.yaml"
    path.write_text(path.read_text().replace("emits: [order.paid],", "emits: [order.paid], on_failure: hold,"))
    orders = [("o-1", 5000), ("o-1", 5), ("o-1", 6), ("o-2", 5000), ("o-3", 7)]
    lines = [json.dumps({"topic": "order.placed", "data": {"order_id": key, "total": total}}) for key, total in orders]
    shop.write("orders.jsonl", "\n".join(lines))

    ran = shop.run("run", "shop.yaml", "--input", "orders.jsonl")

    assert ran.code == 3
    assert "held     2 keys, each by its dead letter; 2 events wait behind\n" in ran.out


def test_a_score_is_warned_of_before_it_plays(shop: Shell) -> None:
    path = shop.folder / "shop.yaml"
    text = path.read_text().replace("on: order.paid}", "on: order.payed}").replace("emits: [order.paid]", "emits: [paid]")
    path.write_text(text)
    shop.write_orders(1)

    ran = shop.run("run", "shop.yaml", "--input", "orders.jsonl")

    assert re.search(r"^shop.yaml:\d+:\d+: warning \[never-said\] players.tally.on: nobody says order.payed", ran.err, re.M)
    assert "warning [emits-undeclared] players.pay.emits: shop.py:11 says order.paid, but emits: allows paid" in ran.err
    assert ran.err.index("never-said") < ran.err.index("new store")
    assert "unheard-event" not in ran.err
    assert "warning" not in ran.out


def test_the_missing_file_of_a_source_is_warned_of_unless_an_input_takes_its_place(shop: Shell) -> None:
    path = shop.folder / "shop.yaml"
    path.write_text(path.read_text() + "sources:\n  in: {file: nowhere.jsonl}\n")
    shop.write_orders(1)

    without, with_ = shop.run("run", "shop.yaml"), shop.run("run", "shop.yaml", "--input", "orders.jsonl")

    assert "warning [source-file] sources.in.file: nowhere.jsonl is not there" in without.err
    assert without.code == 1
    assert "warning" not in with_.err
    assert with_.code == 0


def test_a_store_that_was_made_is_told_once(shop: Shell) -> None:
    far = shop.folder / "a b" / "far"

    first, second = shop.run("run", "shop.yaml"), shop.run("run", "shop.yaml")
    absolute, memory = shop.run("run", "shop.yaml", "--store", far), shop.run("run", "shop.yaml", "--store", "memory:")

    assert first.err == f"new store .ensemble/shop in {shop.folder}\n"
    assert second.err == memory.err == ""
    assert absolute.err == f"new store {far}\n"
    assert f"next     ensemble events --store '{far}' --limit 20" in absolute.out


def test_another_score_in_a_store_is_noted(shop: Shell) -> None:
    shop.write("other.yaml", (shop.folder / "shop.yaml").read_text().replace("name: shop", "name: market"))
    shop.run("run", "shop.yaml")

    ran = shop.run("run", "other.yaml", "--store", ".ensemble/shop")

    assert "note: store .ensemble/shop was made for shop, and market is played into it: both are in one log now" in ran.err
    assert ran.code == 0


def test_a_store_that_was_played_to_its_end_says_how_to_play_more(shop: Shell) -> None:
    shop.write_orders(1)

    first, second = (shop.run("run", "shop.yaml", "--input", "orders.jsonl").err for _ in range(2))

    assert "nothing was new" not in first
    assert "note: nothing was new: this store has played its sources to their end; --again plays its files once more" in second


def test_again_says_to_which_sources_it_does_nothing(shell: Shell) -> None:
    ran = shell.run("run", SCORES / "hello.yaml", "--again")

    assert "note: --again plays files once more; it does nothing to door, which speak by code" in ran.err


def test_what_was_killed_is_played_to_its_end_by_the_next_run(shop: Shell) -> None:
    shop.write_orders(*[5] * 2000)
    playing = shop.start("run", "shop.yaml", "--input", "orders.jsonl")
    eventually((shop.folder / ".ensemble/shop/ensemble.json").exists, "the store")
    playing.kill()
    playing.communicate()

    ran = shop.run("run", "shop.yaml", "--input", "orders.jsonl", "--json")

    assert ran.code == 0
    assert ran.json["topics"] == {"order.placed": 2000, "order.paid": 2000}
    assert len(shop.run("table", "tally").out.splitlines()) == 2000


def test_on_a_terminal_a_table_is_drawn_while_it_plays_and_the_input_has_a_bar(shop: Shell) -> None:
    shop.write("slow.py", "import threading\ndef hear(event):\n    threading.Event().wait(0.01)\n")
    shop.write("slow.yaml", "ensemble: 1\nname: slow\nplayers:\n  hear: {play: 'slow:hear', on: order.placed}\n")
    shop.write_orders(*range(60))

    code, drawn = shop.on_a_terminal("run", "slow.yaml", "--input", "orders.jsonl")

    assert code == 0
    assert "heard/s" in drawn
    assert "━" in drawn
    assert "100%" in drawn
    assert "slow: played to the end; 60 events" in drawn
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h") == 1  # the cursor is given back


def test_an_interrupt_leaves_nothing_of_the_table_behind(shop: Shell) -> None:
    code, drawn = shop.on_a_terminal("run", "shop.yaml", "--serve", interrupt_at="heard/s")

    assert code == 130
    lines = screen(drawn)
    assert "heard/s" in drawn
    assert [line for line in lines if "heard" in line and "emitted" in line] == ["player  heard  emitted  failed  dead"]
    assert not any("heard/s" in line for line in lines)
    assert lines.count("finishing what is in flight; Ctrl-C again quits at once") == 1
    assert drawn.count("finishing") == 2  # at once, over the table, and again when it is gone


def test_a_pipe_that_is_closed_early_is_no_error(shop: Shell) -> None:
    shop.write_orders(*range(3000))
    shop.run("run", "shop.yaml", "--input", "orders.jsonl")
    listing = shop.start("events")
    assert listing.stdout is not None
    first = listing.stdout.readline()
    listing.stdout.close()
    listing.stdout = None

    _, err = listing.communicate(timeout=60)

    assert "order.placed" in first
    assert (listing.returncode, err) == (0, "")

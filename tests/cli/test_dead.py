"""`ensemble dead` lists, shows and retries what players could not hear."""

from __future__ import annotations

import pytest

from tests.cli.shell import Shell, interrupt
from tests.conformance.stand import eventually


@pytest.fixture
def failed(shop: Shell) -> Shell:
    """A shell beside a shop with two dead letters."""
    shop.write_orders(5000, 5, 6000)
    shop.run("run", "shop.yaml", "--input", "orders.jsonl")
    return shop


def mend(shop: Shell) -> None:
    path = shop.folder / "shop.py"
    path.write_text(path.read_text().replace("> 1000", "> 5500"))


def test_dead_letters_are_listed_with_their_errors(failed: Shell) -> None:
    table = failed.run("dead", "list").out.splitlines()
    letters = failed.run("dead", "list", "--json").json_lines

    assert len(table) == 3
    assert all("ValueError: too much" in line for line in table[1:])
    assert {(each["player"], each["event"]["key"], each["attempts"]) for each in letters} == {
        ("pay", "o-1", 2),
        ("pay", "o-3", 2),
    }
    assert [each["at"] for each in letters] == sorted(each["at"] for each in letters)
    assert failed.run("dead", "list", "--player", "tally", "--json").out == ""


def test_a_dead_letter_is_shown_with_its_traceback(failed: Shell) -> None:
    letter = failed.run("dead", "list", "--json").json_lines[0]

    shown = failed.run("dead", "show", letter["id"])

    assert f"pay could not hear {letter['id']}" in shown.out
    assert 'raise ValueError("too much")' in shown.out
    assert failed.run("dead", "show", letter["id"], "--json").json == letter


def test_a_dead_letter_that_is_retried_is_heard_when_the_store_is_played_next(failed: Shell) -> None:
    [letter] = [each for each in failed.run("dead", "list", "--json").json_lines if each["event"]["key"] == "o-1"]
    mend(failed)

    again = failed.run("dead", "retry", letter["id"])
    after = failed.run("run", "shop.yaml", "--json")

    assert again.out == "1 event to be heard again\n"
    assert "nobody plays .ensemble/shop now" in again.err
    assert after.json["topics"]["order.paid"] == 2
    assert after.json["dead"] == 1
    assert after.code == 0


def test_all_dead_letters_are_retried_at_once_by_a_band_that_plays(failed: Shell) -> None:
    mend(failed)
    playing = failed.serve()

    again = failed.run("dead", "retry", "--all", "--json")
    eventually(lambda: failed.run("status", "--json").json["sections"]["pay"]["heard"] == 2, "the payment")

    assert again.json == {"again": 2, "playing": True}
    assert interrupt(playing).code == 130
    assert [each["event"]["key"] for each in failed.run("dead", "list", "--json").json_lines] == ["o-3"]


def test_those_of_one_player_can_be_retried(failed: Shell) -> None:
    assert failed.run("dead", "retry", "--player", "tally", "--json").json["again"] == 0
    assert failed.run("dead", "retry", "--player", "pay", "--json").json["again"] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "which? Give an ID, --player NAME, or --all"),
        (["--all", "--player", "pay"], 2, "--all is all of them"),
        (["nonsense"], 1, "nonsense"),
        (["--player", "nobody"], 1, "nobody"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_retry_of_nothing_is_refused(failed: Shell, arguments: list[str], code: int, words: str) -> None:
    ran = failed.run("dead", "retry", *arguments)

    assert ran.code == code
    assert words in ran.err
    assert len(failed.run("dead", "list", "--json").json_lines) == 2


def test_where_there_are_none_stdout_stays_empty(shop: Shell) -> None:
    shop.run("run", "shop.yaml")

    ran = shop.run("dead", "list")

    assert (ran.code, ran.out, ran.err) == (0, "", "no dead letters in .ensemble/shop\n")

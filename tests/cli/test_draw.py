"""`graph` and `timeline` write pictures, and say in a sentence what is wrong."""

from __future__ import annotations

import os
import stat

import pytest

from tests.cli.shell import SCORES, Shell

BEGINNINGS = {
    "svg": b"<svg ",
    "png": b"\x89PNG",
    "pdf": b"%PDF",
    "html": b"<!doctype html>",
    "mmd": b"flowchart",
    "dot": b"digraph",
}


@pytest.mark.parametrize("form", BEGINNINGS)
def test_a_score_is_drawn_in_every_form(shop: Shell, form: str) -> None:
    drawn = shop.run("graph", "shop.yaml", "-o", f"shop.{form}")

    assert drawn.code == 0
    assert drawn.out.startswith(f"shop.{form}: ")
    assert (shop.folder / f"shop.{form}").read_bytes().startswith(BEGINNINGS[form])


def test_without_a_file_the_graph_is_written_as_mermaid(shop: Shell) -> None:
    drawn = shop.run("graph", "shop.yaml")

    assert drawn.code == 0
    assert drawn.out.startswith("flowchart LR")
    assert "-o FILE" in drawn.err


def test_what_was_played_is_drawn_at_its_end_and_at_a_moment(shop: Shell) -> None:
    shop.write_orders(5, 5000, 7)
    shop.run("run", "shop.yaml", "--input", "orders.jsonl")

    for when in ((), ("--at", "0"), ("--at", "2011-11-01")):
        assert shop.run("graph", "shop.yaml", "-o", "played.svg", "--store", "shop.yaml", *when).code == 0
    assert "1 dead letter" not in (shop.folder / "played.svg").read_text()
    shop.run("graph", "shop.yaml", "-o", "played.svg", "--store", "shop.yaml")
    assert "1 dead letter<" in (shop.folder / "played.svg").read_text()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (
            ("shop.yaml", "-o", "shop.gif"),
            1,
            "no ending .gif is known; it says what to draw: .svg, .png, .pdf, .html, .mmd, .dot",
        ),
        (("shop.yaml", "-o", "shop"), 1, "it has no ending"),
        (("shop.yaml", "-o", "nowhere/shop.svg"), 1, "there is no folder nowhere"),
        (("shop.yaml", "-o", "a.svg", "--focus", "order.payd"), 1, "did you mean order.paid?"),
        (("shop.yaml", "-o", "a.svg", "--at", "3"), 2, "--store URL"),
        (("shop.yaml", "-o", "a.svg", "--depth", "3"), 2, "--focus NAME"),
        (("shop.yaml", "-o", "a.svg", "--store", "nowhere"), 4, "there is no store"),
        (("none.yaml", "-o", "a.svg"), 1, "none.yaml"),
    ],
)
def test_what_is_wrong_is_told(shop: Shell, words: tuple[str, ...], code: int, told: str) -> None:
    ended = shop.run("graph", *words)

    assert ended.code == code
    assert told in " ".join(ended.err.replace("│", " ").split())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_may_not_be_written_is_told(shop: Shell) -> None:
    (shop.folder / "closed").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)

    ended = shop.run("graph", "shop.yaml", "-o", "closed/a.svg")

    assert ended.code == 1
    assert "can't be written" in ended.err


def test_a_folder_in_the_place_of_the_file_is_told(shop: Shell) -> None:
    (shop.folder / "a.svg").mkdir()

    ended = shop.run("graph", "shop.yaml", "-o", "a.svg")

    assert ended.code == 1
    assert "it can't be written: Is a directory" in ended.err


def test_only_what_lies_around_a_node_is_drawn(shell: Shell) -> None:
    drawn = shell.run("graph", str(SCORES / "acme_fitness.yaml"), "--focus", "payment", "--depth", "1")

    assert "payment.card.validated" in drawn.out
    assert "stock" not in drawn.out


@pytest.mark.parametrize("form", ["svg", "png", "html"])
def test_a_key_a_chain_and_the_whole_band_are_drawn_over_time(shop: Shell, form: str) -> None:
    shop.write_orders(5, 7)
    shop.run("run", "shop.yaml", "--input", "orders.jsonl", "--store", "kept")

    for choice in (("--key", "o-1"), ("--why", "0"), ()):
        drawn = shop.run("timeline", "--store", "kept", *choice, "-o", f"time.{form}")
        assert (drawn.code, drawn.out[: len(form) + 6]) == (0, f"time.{form}:"), drawn.err
        assert (shop.folder / f"time.{form}").read_bytes().startswith(BEGINNINGS[form])


def test_why_draws_what_it_tells(shop: Shell) -> None:
    shop.write_orders(5)
    shop.run("run", "shop.yaml", "--input", "orders.jsonl", "--store", "kept")

    drawn = shop.run("why", "0", "--store", "kept", "-o", "why.svg")

    assert drawn.code == 0
    assert "order.placed" in (shop.folder / "why.svg").read_text()


def test_why_tells_times_players_and_failures(shop: Shell) -> None:
    shop.write_orders(5000)
    shop.run("run", "shop.yaml", "--input", "orders.jsonl", "--store", "kept")

    told = shop.run("why", "0", "--store", "kept").out.splitlines()

    assert "from outside" in told[0]
    assert "failed" in told[0]


def test_a_key_that_nothing_was_said_of_is_told(shop: Shell) -> None:
    shop.write_orders(5)
    shop.run("run", "shop.yaml", "--input", "orders.jsonl", "--store", "kept")

    ended = shop.run("timeline", "--store", "kept", "--key", "o-99", "-o", "a.svg")

    assert ended.code == 1
    assert "nothing was said of the key 'o-99'" in ended.err


def test_a_timeline_can_not_be_written_as_text(shop: Shell) -> None:
    ended = shop.run("timeline", "--store", "kept", "-o", "a.mmd")

    assert ended.code == 1
    assert ".svg, .png, .pdf, .html" in ended.err

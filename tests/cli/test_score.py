"""`ensemble check` and `ensemble schema` tell what is known before a score plays."""

from __future__ import annotations

import json

import jsonschema_rs
import pytest

import ensemble
from tests.cli.shell import SCORES, SHOP_SCORE, Shell


@pytest.mark.parametrize("name", ["acme_fitness", "hello", "quakes"])
def test_the_scores_of_the_repertoire_are_ok(shell: Shell, name: str) -> None:
    ran = shell.run("check", SCORES / f"{name}.yaml", "--strict")

    assert ran.code == 0
    assert f"{name}.yaml: ok; " in ran.out
    assert "0 warnings" in ran.out


def test_all_errors_of_a_score_are_told_at_once(shell: Shell) -> None:
    shell.write("wrong.yaml", "ensemble: 1\nname: wrong\nplayers:\n  pay: {onn: order.placed, order: sideways}\n")

    ran = shell.run("check", "wrong.yaml")
    as_json = shell.run("check", "wrong.yaml", "--json")

    lines = ran.out.splitlines()
    assert ran.code == as_json.code == 1
    assert any(line.startswith("wrong.yaml:4:9: players.pay.onn: ") and "did you mean on?" in line for line in lines)
    assert any(line.startswith("wrong.yaml:4:") and "sideways" in line for line in lines)
    assert as_json.json["ok"] is False
    assert len(as_json.json["findings"]) == len(lines) - 1
    assert {finding["severity"] for finding in as_json.json["findings"]} == {"error"}


def test_a_warning_is_an_error_only_where_strict_is_said(shop: Shell) -> None:
    shop.write(
        "shop.yaml", (shop.folder / "shop.yaml").read_text().replace("events:", "events:\n  order.lost: {key: order_id}")
    )

    plain, strict = shop.run("check", "shop.yaml"), shop.run("check", "shop.yaml", "--strict")

    assert "warning [unheard-event] events[order.lost]: " in plain.out
    assert (plain.code, strict.code) == (0, 1)


def test_a_score_that_is_not_there_is_a_finding_too(shell: Shell) -> None:
    ran = shell.run("check", "nope.yaml")

    assert ran.code == 1
    assert "nope.yaml: there is no such file" in ran.out
    assert "Traceback" not in ran.err


def test_the_schema_accepts_the_repertoire_and_refuses_what_is_wrong(shell: Shell) -> None:
    schema = json.loads(shell.run("schema").out)
    validator = jsonschema_rs.validator_for(schema)

    for path in sorted(SCORES.glob("*.yaml")):
        assert [error.message for error in validator.iter_errors(dict(ensemble.load(path).document))] == [], path
    assert not validator.is_valid({"ensemble": 1, "name": "x", "plyers": {}})


def test_the_schema_is_the_same_on_one_line_for_programs(shell: Shell) -> None:
    told = shell.run("schema", "--json").out

    assert told.count("\n") == 1
    assert json.loads(told) == json.loads(shell.run("schema").out)


def test_diff_names_whom_another_score_would_break_and_ends_with_1(shop: Shell) -> None:
    shop.write("new.yaml", SHOP_SCORE.replace("total: {type: number}", "total: {type: integer}"))

    same = shop.run("diff", "shop.yaml", "shop.yaml")
    assert (same.code, same.out.strip()) == (0, "shop.yaml: breaks nothing; 0 changes")
    ran = shop.run("diff", "shop.yaml", "new.yaml")
    assert ran.code == 1
    assert ran.out.startswith("players.pay: data.total of order.placed was number, and is integer now")
    told = shop.run("diff", "shop.yaml", "new.yaml", "--json").json
    assert (told["ok"], told["breaks"][0]["player"], told["breaks"][0]["field"]) == (False, "pay", "data.total")


def test_a_diff_of_what_is_no_score_says_which_and_why(shop: Shell) -> None:
    shop.write("list.yaml", "- one\n- two\n")

    for pair in (("shop.yaml", "list.yaml"), ("list.yaml", "shop.yaml")):
        ran = shop.run("diff", *pair)
        assert ran.code == 1
        assert "list.yaml:1:1: a score is a mapping" in ran.err
    missing = shop.run("diff", "shop.yaml", "nowhere.yaml")
    assert missing.code == 1
    assert "nowhere.yaml" in missing.err


def test_check_holds_a_score_to_what_a_store_has(shop: Shell) -> None:
    shop.write_orders(5)
    assert shop.run("run", "shop.yaml", "--input", "orders.jsonl").code == 0
    assert shop.run("check", "shop.yaml", "--store", ".ensemble/shop").code == 0
    shop.write("shop.yaml", SHOP_SCORE.replace("total: {type: number}", "total: {type: string}"))

    assert shop.run("check", "shop.yaml").code == 0
    ran = shop.run("check", "shop.yaml", "--store", ".ensemble/shop")

    assert ran.code == 1
    assert ran.out.startswith("shop.yaml:7:5: events[order.placed].schema: what the store has of order.placed may not fit")
    assert shop.run("run", "shop.yaml").code == 1
    assert shop.run("run", "shop.yaml", "--breaking").code == 0

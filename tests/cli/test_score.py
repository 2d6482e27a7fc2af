"""`ensemble check` and `ensemble schema` tell what is known before a score plays."""

from __future__ import annotations

import json

import jsonschema_rs
import pytest

import ensemble
from tests.cli.shell import SCORES, Shell


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

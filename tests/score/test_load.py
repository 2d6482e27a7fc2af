"""What a score says is what its author wrote, wherever it was read from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ensemble
from ensemble.errors import ScoreError
from ensemble.motif import AnyOf, Topic
from ensemble.score.finding import path_text
from ensemble.score.model import Emit, EventSpec, RetryPolicy, Section, Stub
from tests.score.test_properties import GOOD

ROOT = Path(__file__).parents[2]
SCORES = sorted(path.relative_to(ROOT) for path in (ROOT / "scores").glob("*.yaml"))


@pytest.mark.parametrize("path", SCORES, ids=str)
def test_the_document_of_a_score_is_the_same_score(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    score = ensemble.load(path)

    again = ensemble.load(score.document)

    assert again == score
    assert again.folder == "scores"
    assert ensemble.load(again.document).document == score.document


def test_durations_sizes_and_policies_come_in_the_engines_units() -> None:
    payment = ensemble.load(GOOD).players["payment"]

    assert payment.section == Section(
        min=1, max=16, batch=500, linger_us=5_000, idle_us=30_000_000, cpus=0.5, gpus=0, memory=1 << 30
    )
    assert payment.retry == RetryPolicy(attempts=3, first_us=10_000, factor=2, most_us=1_000_000, jitter=0.1)
    assert payment.timeout_us == 5_000_000
    assert payment.on_failure == Emit("payment.failed")
    assert (payment.by, payment.order, payment.from_) == ("customer.id", "key", "now")
    assert payment.settings == {"currency": "EUR", "limits": [1, 2.5, True, None]}


def test_a_named_motif_stands_for_its_events() -> None:
    books = ensemble.load(GOOD).players["books"]

    assert books.on == AnyOf((Topic("payment.captured"), Topic("payment.declined", 'data.total > 100 && key != ""')))


def test_words_that_old_yaml_takes_for_truth_stay_words() -> None:
    score = ensemble.load(
        "name: norway\nplayers:\n  no:\n    on: yes.said\n"
        "    with: {country: NO, on: off, time: 12:30, zip: 01234, n: 1_000, y: y}\n"
    )

    assert score.players["no"].settings == {
        "country": "NO", "on": "off", "time": "12:30", "zip": "01234", "n": "1_000", "y": "y",
    }  # fmt: skip


def test_plain_words_that_mean_values_are_values() -> None:
    score = ensemble.load("name: v\nx-v: 1\nplayers:\n  p: {on: a, with: {t: true, n: ~, i: -3, x: 0x1F, f: 1.5e3, e: }}\n")

    assert score.players["p"].settings == {"t": True, "n": None, "i": -3, "x": 31, "f": 1500.0, "e": None}


def test_keys_with_x_are_the_users_own_but_not_as_names() -> None:
    score = ensemble.load(
        "name: mine\nx-note: 1\nevents:\n  x-ray.taken: {x-note: 2, about: hi}\nplayers:\n  x-ray: {on: a.b, x-note: [3]}\n"
    )

    assert list(score.players) == ["x-ray"]
    assert list(score.events) == ["x-ray.taken"]


def test_a_mapping_is_a_score_too() -> None:
    score = ensemble.load({"name": "notebook", "players": {"audit": {"on": ["a.>", "b.*"]}}})

    assert score.players["audit"].on == AnyOf((Topic("a.>"), Topic("b.*")))
    assert score.store.url == ".ensemble/notebook"
    assert score.places.of(("players", "audit")) is None


def test_faults_of_a_mapping_have_a_path_and_no_line() -> None:
    with pytest.raises(ScoreError) as caught:
        ensemble.load({"name": "notebook", "players": {"audit": {"on": "a", "play": len}}})

    assert str(caught.value) == (
        "<score>: players.audit.play: <built-in function len> is a builtin_function_or_method, which a score can't hold; "
        "give callables to ensemble.open(..., players={name: it})"
    )


# The environment


def test_the_environment_fills_in_what_has_no_quotes_as_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAND_MAX", "4")
    monkeypatch.setenv("BAND_EMPTY", "")

    score = ensemble.load(
        "name: env\nplayers:\n"
        "  block:\n    on: a\n    section:\n      max: ${BAND_MAX}\n"
        "  flow: {on: a, section: {max: ${BAND_MAX:-1}}, timeout: ${BAND_EMPTY:-5s}, "
        'with: {list: [${BAND_MAX}, "${BAND_MAX}"]}}\n'
        '  literal: {on: a, with: {text: "$${BAND_MAX} costs $5"}}\n'
    )

    assert score.players["block"].section.max == 4
    assert score.players["flow"].section.max == 4
    assert score.players["flow"].timeout_us == 5_000_000
    assert score.players["flow"].settings == {"list": [4, "4"]}
    assert score.players["literal"].settings == {"text": "${BAND_MAX} costs $5"}
    assert ensemble.load(score.document) == score


def test_columns_after_an_interpolation_are_those_of_the_text() -> None:
    with pytest.raises(ScoreError, match=r"<score>:3:33: players\.p\.order"):
        ensemble.load("name: env\nplayers:\n  p: {on: ${TOPIC:-a.b}, order: upwards}\n")


# Included scores


def test_included_scores_are_merged_and_their_files_stay_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop" / "more").mkdir(parents=True)
    (tmp_path / "shop" / "main.yaml").write_text(
        "name: main\ninclude: [more/a.yaml, more/b.yaml]\nplayers:\n  p: {on: a}\nsources:\n  m: {file: m.jsonl, topic: a}\n"
    )
    (tmp_path / "shop" / "more" / "a.yaml").write_text(
        "name: other\ninclude: b.yaml\nevents:\n  a: {key: id}\nsilence:\n  - {code: no-key, reason: x}\n"
    )
    (tmp_path / "shop" / "more" / "b.yaml").write_text(
        'sources:\n  s: {file: b.jsonl, topic: a}\nstore: {url: "memory:"}\nsilence:\n  - {code: no-play, reason: y}\n'
    )
    monkeypatch.chdir(tmp_path)

    score = ensemble.load("shop/main.yaml")

    assert score.name == "main"
    assert score.events == {"a": EventSpec(topic="a", key="id")}
    assert {name: source.file for name, source in score.sources.items()} == {
        "m": "shop/m.jsonl",
        "s": "shop/more/b.jsonl",
    }
    assert score.store.url == "memory:"
    assert [silence.code for silence in score.silence] == ["no-key", "no-play"]
    assert score.places.of(("sources", "s", "file")) == ("shop/more/b.yaml", 2, 13)
    assert ensemble.load(score.document) == score


def test_a_fault_that_is_written_in_an_included_score_is_told_at_its_place_there(tmp_path: Path) -> None:
    (tmp_path / "main.yaml").write_text("name: main\ninclude: more.yaml\n")
    (tmp_path / "more.yaml").write_text("players:\n  p: {on: a..b}\n")

    with pytest.raises(ScoreError) as caught:
        ensemble.load(tmp_path / "main.yaml")

    assert str(caught.value).startswith(f"{tmp_path}/more.yaml:2:11: players.p.on: ")


# What it costs


def test_a_small_score_is_loaded_without_what_it_does_not_need() -> None:
    code = """
import sys, ensemble
ensemble.load("name: hello\\nplayers:\\n  greet: {play: players.hello:greet, on: visitor.came, section: {max: 2}}\\n")
print(sorted({"jsonschema_rs", "rapidfuzz", "cel", "networkx", "pydantic", "typer", "rich"} & set(sys.modules)))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)

    assert told.stdout == "[]\n"


@pytest.mark.parametrize("name", ["7", "07", "a/b~c", ""])
def test_a_name_that_looks_like_an_index_or_a_path_is_a_name(name: str) -> None:
    with pytest.raises(ScoreError) as caught:
        ensemble.load({"name": "x", "players": {name: {"on": "a", "ordr": "key"}, "p": {"on": 7}}})

    told = [(finding.path, finding.code) for finding in caught.value.findings]  # type: ignore[union-attr]
    assert ("players.p.on", "motif") in told
    assert ((f"{path_text(('players', name))}.ordr", "unknown-key") in told) is (name != "")
    assert ((f"{path_text(('players', name))}", "wrong-value") in told) is (name in ("a/b~c", ""))


def test_what_becomes_of_effects_outside_is_said_in_one_of_four_ways() -> None:
    said = {"a": None, "b": "allow", "c": "mute", "d": {"stub": "shop:pretend"}}
    players = {name: {"on": "x", **({} if outside is None else {"outside": outside})} for name, outside in said.items()}

    score = ensemble.load({"ensemble": 1, "name": "shop", "players": players})

    assert [player.outside for player in score.players.values()] == ["", "allow", "mute", Stub("shop:pretend")]

"""A band that anchors its head as it plays, and does not play a log that is not the one that was anchored."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble.errors import LogCorrupt, ScoreError, Unavailable
from ensemble.log.audit.anchor import new_key
from ensemble.testing import ManualClock
from tests.conformance.stand import eventually
from tests.test_auditing import cut_last_group


@pytest.fixture
def score(tmp_path: Path) -> dict[str, Any]:
    new_key(tmp_path / "audit.pem")
    return {
        "ensemble": 1,
        "name": "shop",
        "players": {"hear": {"on": "said"}},
        "store": {"url": str(tmp_path / "shop")},
        "audit": {"anchor": str(tmp_path / "heads.jsonl"), "key": str(tmp_path / "audit.pem"), "every": "1h"},
    }


def hear(event: Any) -> None: ...


def opened(score: dict[str, Any], **given: Any) -> ensemble.Band:
    return ensemble.open(score, players={"hear": hear}, **given)


def heads(tmp_path: Path) -> int:
    path = tmp_path / "heads.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def audited(score: dict[str, Any]) -> ensemble.Audit:
    return ensemble.audit(score["store"]["url"], anchor=score["audit"]["anchor"], key=f"{score['audit']['key']}.pub")


def test_the_end_is_anchored_when_the_band_is_closed(score: dict[str, Any], tmp_path: Path) -> None:
    for clock in (ManualClock(), None):
        with opened(score, clock=clock) as band:
            band.publish("said", 1)
            band.settle(timeout=10)

    assert heads(tmp_path) == 2
    audit = audited(score)
    assert audit.is_whole
    cut_last_group(score["store"]["url"])
    assert not audited(score).is_whole


def test_it_is_anchored_every_so_often_while_something_is_said(score: dict[str, Any], tmp_path: Path) -> None:
    score["audit"]["every"] = "5ms"
    with opened(score) as band:
        for number in range(1, 4):
            band.publish("said", number)
            eventually(lambda number=number: heads(tmp_path) >= number, "a head")  # type: ignore[misc]

    assert audited(score).is_whole


def test_nothing_new_is_not_anchored_again(score: dict[str, Any], tmp_path: Path) -> None:
    for _ in range(3):
        opened(score, clock=ManualClock()).close()

    assert heads(tmp_path) == 1


@pytest.mark.parametrize("is_anew", [False, True], ids=["cut off", "made anew from a place on"])
def test_a_log_that_is_not_the_one_that_was_anchored_is_not_played(
    score: dict[str, Any], tmp_path: Path, is_anew: bool
) -> None:
    with opened(score, clock=ManualClock()) as band:
        band.publish("said", 1)
    plain = {key: value for key, value in score.items() if key != "audit"}
    cut_last_group(score["store"]["url"])
    if is_anew:
        with opened(plain, clock=ManualClock()) as band:
            for number in range(20):
                band.publish("said", number)

    with pytest.raises(LogCorrupt, match="its end was cut off, or it was written anew"):
        opened(score, clock=ManualClock())
    opened(plain, clock=ManualClock()).close()


def test_anchors_that_were_changed_or_that_another_signed_are_told(score: dict[str, Any], tmp_path: Path) -> None:
    opened(score, clock=ManualClock()).close()
    path = tmp_path / "heads.jsonl"
    before = path.read_text()
    path.write_text(before.replace('"offset":0', '"offset":1'))
    with pytest.raises(LogCorrupt, match="its signature does not fit"):
        opened(score)

    path.write_text(before)
    new_key(tmp_path / "other.pem")
    score["audit"]["key"] = str(tmp_path / "other.pem")
    with pytest.raises(Unavailable, match="was signed by"):
        opened(score)
    score["audit"]["key"] = "nothing.pem"
    with pytest.raises(Unavailable, match="can't be read"):
        opened(score)


def test_where_it_can_not_be_anchored_the_band_plays_on_and_says_so(
    score: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(score, clock=ManualClock()) as band:
        (tmp_path / "heads.jsonl").mkdir()
        band.publish("said", 1)
        with caplog.at_level(logging.WARNING, "ensemble.stage"):
            band.close()

    assert "its head could not be anchored" in caplog.text
    assert ensemble.audit(score["store"]["url"]).is_whole


def test_a_fault_that_nobody_expected_is_told_and_it_is_anchored_when_that_is_over(
    score: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    score["audit"]["every"] = "5ms"
    with caplog.at_level(logging.ERROR, "ensemble.stage"), opened(score) as band:
        with monkeypatch.context() as odd:
            odd.setattr("ensemble.log.audit.anchor.sign", lambda *_: 1 / 0)
            band.publish("said", 1)
            eventually(lambda: "ZeroDivisionError: division by zero; the band plays on" in caplog.text, "a word of it")
            known = heads(tmp_path)  # that of the opening, if it was quicker
        eventually(lambda: heads(tmp_path) > known, "a head")
        monkeypatch.setattr("ensemble.log.audit.anchor.sign", lambda *_: 1 / 0)
        band.publish("said", 2)  # and so is the end not anchored

    monkeypatch.undo()
    opened(score, clock=ManualClock()).close()  # the log was closed all the same
    assert audited(score).is_whole


def test_what_a_score_says_of_anchors_is_checked(score: dict[str, Any]) -> None:
    for field, wrong in (("every", "0s"), ("every", "soon"), ("anchor", ""), ("key", "")):
        with pytest.raises(ScoreError, match=f"audit.{field}"):
            ensemble.load({**score, "audit": {**score["audit"], field: wrong}})

"""`ensemble trim`, as processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import ensemble
from ensemble import takes
from ensemble.log.directory import open_directory
from tests.cli.shell import Shell

SCORE = """
ensemble: 1
name: shop
players:
  tally: {play: "shop:tally", on: order.placed}
"""


@pytest.fixture
def filled(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of several segments, and a score that keeps 20 kB of it."""
    monkeypatch.setitem(open_directory.__kwdefaults__ or {}, "segment_bytes", 2_000)
    store = shell.folder / "store"
    shell.write("shop.py", "def tally(event, ctx):\n    ctx.state['n'] = ctx.state.get('n', 0) + 1\n")
    shell.write("shop.yaml", SCORE)
    shell.write("less.yaml", SCORE + "store: {url: store}\nretain: {size: 20KB}\n")
    for _ in range(3):
        with ensemble.open(shell.folder / "shop.yaml", store=str(store)) as band:
            for ix in range(50):
                band.publish("order.placed", {"n": ix, "note": "x" * 200}, key=f"k-{ix}")
            band.settle(timeout=10)
    return store


def test_a_store_is_trimmed_as_a_score_says_and_tells_what_went(shell: Shell, filled: Path) -> None:
    would = shell.run("trim", "less.yaml", "--dry-run", "--json")
    ran = shell.run("trim", "less.yaml")

    assert (would.code, ran.code) == (0, 0)
    [removed] = would.json["removed"]
    assert removed["rule"] == "retain: {size: 20000B}"
    assert would.json["after"] < 30_000 < would.json["before"]
    assert ran.out.splitlines()[0] == (
        f"{removed['events']} events of offsets 0 to {removed['end'] - 1} by retain: {{size: 20000B}}"
    )
    assert ran.out.splitlines()[-1].startswith("shop: has ")
    events = shell.run("events", "--store", "store", "--json").json_lines
    assert len(events) == 150 - removed["events"]
    gone = shell.run("why", events[0]["id"].rpartition("-")[0] + "-0", "--store", "store")
    assert gone.code == 1
    assert "retention took it: retain: {size: 20000B} on 20" in gone.err
    assert shell.run("table", "tally", "k-0", "--store", "store").out.strip() == '{"n":3}'


def test_the_store_may_be_named_beside_the_score_as_with_other_commands(shell: Shell, filled: Path) -> None:
    shell.write("other.yaml", SCORE + "store: {url: elsewhere}\nretain: {size: 20KB}\n")

    ran = shell.run("trim", "other.yaml", "--store", "store", "--dry-run")
    alone = shell.run("trim", "--store", "store")
    twice = shell.run("trim", "store", "--store", "elsewhere")

    assert (ran.code, "by retain: {size: 20000B}" in ran.out) == (0, True)
    assert (alone.code, "its score says nothing of what goes" in alone.err) == (4, True)
    assert (twice.code, "store and --store elsewhere name a store each" in " ".join(twice.err.split())) == (2, True)


def test_a_store_without_rules_or_that_is_played_is_left_alone(shell: Shell, filled: Path) -> None:
    ran = shell.run("trim", "store")

    assert ran.code == 4
    assert "its score says nothing of what goes" in ran.err
    with ensemble.open(shell.folder / "shop.yaml", store=str(filled)):
        played = shell.run("trim", "less.yaml")
    assert played.code == 4
    assert "it is being played already" in played.err


def test_an_object_store_that_is_played_is_not_taken_over_to_be_trimmed(shell: Shell) -> None:
    score = {"ensemble": 1, "name": "shop", "retain": {"time": "1d"}}
    with ensemble.open(score, store=f"objects:{shell.folder / 'bucket'}") as band:
        busy = shell.run("trim", "objects:bucket")
        band.publish("note", "still here")
    free = shell.run("trim", "objects:bucket")

    assert (busy.code, free.code) == (4, 0)
    assert f"it is played by process {os.getpid()} on " in busy.err
    assert "nothing may go yet" in free.err


def test_where_nothing_goes_it_says_why(shell: Shell, filled: Path) -> None:
    shell.write("nothing.yaml", SCORE + "store: {url: store}\nretain: {size: 1GB}\n")
    ran = shell.run("trim", "nothing.yaml")
    assert (ran.code, "nothing may go yet: the newest segment" in ran.err) == (0, True)

    takes.new(str(filled), "what-if")
    ran = shell.run("trim", "less.yaml")
    assert (ran.code, "nothing is taken, and there is what-if: ensemble take drop NAME" in ran.err) == (0, True)

    takes.use(str(filled), "what-if")
    ran = shell.run("trim", "less.yaml")
    assert (ran.code, "ensemble take use main" in ran.err) == (4, True)

    takes.use(str(filled), "main")
    (filled / "takes/what-if/ensemble.json").unlink()
    ran = shell.run("trim", "less.yaml")
    lost = filled / "takes/what-if"
    assert (ran.code, f"as takes may have lost their manifests: {lost}; mend or remove them" in ran.err) == (0, True)


def test_what_is_trimmed_lies_in_the_archive_and_an_audit_goes_on_there(shell: Shell, filled: Path) -> None:
    shell.write("archive.yaml", SCORE + "store: {url: store}\nretain: {size: 20KB, archive: cold}\n")

    ran = shell.run("trim", "archive.yaml")

    cold = shell.folder / "cold"
    assert ran.code == 0
    assert ran.out.splitlines()[0].endswith(f"by retain: {{size: 20000B}}, archived in {cold}")
    gone, left = (shell.run("events", "--store", where, "--json").json_lines for where in ("cold", "store"))
    assert {event["id"] for event in gone} | {event["id"] for event in left} == {f"{gone[0]['id'][:-1]}{n}" for n in range(150)}
    assert shell.run("why", gone[0]["id"], "--store", "store").code == 1
    assert shell.run("why", gone[0]["id"], "--store", "cold").code == 0
    audited = shell.run("audit", "store")
    assert (audited.code, f"archive  {cold}: " in audited.out) == (0, True)
    cold.rename(shell.folder / "moved")
    assert "was not looked at" in shell.run("audit", "store").err
    [past] = shell.run("audit", "store", "--archive", "moved", "--json").json["archives"]
    assert (past["url"], past["offsets"]) == ("moved", [0, len(gone)])
    played = shell.run("run", "shop.yaml", "--store", "moved")
    assert (played.code, "can be read and not played" in played.err) == (4, True)

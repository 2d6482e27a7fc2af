"""`hear` tries a motif on the recorded past, and why shows what a match is made of."""

from __future__ import annotations

import pytest

import ensemble
from tests.cli.shell import Shell

SCORE = """\
ensemble: 1
name: parcels
motifs:
  ready: {all: [paid, packed]}
  sent: {seq: [ready, shipped]}
  big: {event: paid, where: data > 1}
"""


@pytest.fixture
def parcels(shell: Shell) -> Shell:
    """A shell beside a store in which ann's parcel went out, and bob's did not."""
    (shell.folder / "parcels.yaml").write_text(SCORE)
    with ensemble.open(ensemble.load(shell.folder / "parcels.yaml"), store=str(shell.folder / ".ensemble/parcels")) as band:
        for topic, key in (("paid", "ann"), ("packed", "ann"), ("packed", "bob"), ("shipped", "ann"), ("paid", "bob")):
            band.publish(topic, 1, key=key)
    return shell


def test_a_motif_of_the_score_is_tried_and_its_matches_are_listed(parcels: Shell) -> None:
    ran = parcels.run("hear", "parcels.yaml", "ready")

    assert ran.code == 0
    assert [line.split()[2:] for line in ran.out.splitlines()[:2]] == [
        ["ann", "paid", "0,", "packed", "1"],
        ["bob", "packed", "2,", "paid", "4"],
    ]
    assert ran.out.splitlines()[-1] == "ready would have been heard 2 times in 5 events"


def test_a_motif_may_be_written_on_the_command_line_and_name_others(parcels: Shell) -> None:
    def heard(motif: str, *more: object) -> list[list[str]]:
        *matches, told = parcels.run("hear", "parcels.yaml", motif, "--json", *more).json_lines
        assert told["heard"] == len(matches)
        return [[event["topic"] for event in match["events"]] for match in matches]

    assert heard("sent") == [["ready", "shipped"]]
    assert heard("{seq: [ready, {not: shipped}], within: 1us}") == [["ready"], ["ready"]]
    assert heard("{count: packed, times: 2}") == []
    assert heard("packed") == [["packed"], ["packed"]]
    assert heard("big") == []
    assert heard("ready", "--since", 1) == [["packed", "paid"]]
    assert heard("ready", "--since", "1h") == [["paid", "packed"], ["packed", "paid"]]


def test_what_is_no_motif_is_told_as_in_a_score_and_nothing_is_written(parcels: Shell) -> None:
    before = sorted(path.stat().st_mtime for path in (parcels.folder / ".ensemble").rglob("*"))

    ran = parcels.run("hear", "parcels.yaml", "{seq: [a, {nt: b}]}")

    assert ran.code == 1
    assert "players.tried.on.seq[1].nt: {nt} is not a motif; did you mean not?" in ran.err
    assert sorted(path.stat().st_mtime for path in (parcels.folder / ".ensemble").rglob("*")) == before


def test_why_draws_all_parts_of_a_match(parcels: Shell) -> None:
    score = ensemble.load(parcels.folder / "parcels.yaml")
    document = {**score.document, "players": {"ship": {"on": "ready"}}}
    store = str(parcels.folder / ".ensemble/parcels")
    with ensemble.open(document, store=store, players={"ship": lambda match: None}) as band:
        band.settle(10)
        [match, _] = band.events("ready")

    lines = parcels.run("why", match.id).out.splitlines()

    assert [line.strip(" └├─│").split("  ")[0] for line in lines] == ["paid", "… is part of ready", "packed", "ready"]

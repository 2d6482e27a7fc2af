"""Takes are audited with their store: their own frames, and where each leaves its parent. Who is forgotten is so in all."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import ensemble
from ensemble import takes
from ensemble.log.files import Files
from ensemble.log.manifest import Manifest, make, read
from tests.takes.conftest import PLAYERS, SCORE

PERSONAL: dict[str, Any] = {
    "ensemble": 1,
    "name": "shop",
    "events": {"ordered": {"personal": {"subject": "who", "fields": ["name"]}}},
    "players": {"note": {"on": "ordered"}},
}


def note(event: Any) -> None: ...


def keep(event: Any, ctx: Any) -> None:
    ctx.state["name"] = event.data["name"]


def play(url: str, *numbers: int) -> None:
    with ensemble.open(SCORE, store=url, players=PLAYERS) as band:
        for n in numbers:
            band.publish("ordered", {"n": n}, key="k")
        band.settle(timeout=10)


def branched(store: str) -> None:
    play(store, 1, 2, 3)
    takes.new(store, "what-if", 3)
    play(f"{store}#what-if", 4, 5)
    play(store, 6)


def test_a_store_and_its_takes_are_as_they_were_written(store: str) -> None:
    branched(store)

    for url in (store, f"{store}#what-if"):
        audit = ensemble.audit(url, who=True, tables=True)
        assert audit.findings == ()
        assert [(log.take, log.shard) for log in audit.logs] == [("main", 0), ("what-if", 0)]
        assert audit.tables["tally"] == 1
        assert sum(each.events for each in audit.who) == len(list(ensemble.read(url).events()))


def test_every_byte_of_a_takes_own_frames_is_looked_at(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    branched(store)
    [path] = (tmp_path / "store/takes/what-if/shard-0").glob("*.seg")
    data = path.read_bytes()
    for byte in range(0, len(data), 7):
        path.write_bytes(data[:byte] + bytes([data[byte] ^ 4]) + data[byte + 1 :])
        assert [each for each in ensemble.audit(store).findings if each.file == str(path)], byte


def test_a_take_that_leaves_its_parent_where_that_never_was_is_told(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    play(store, 1, 2, 3)
    takes.new(store, "what-if", 3)
    folder = tmp_path / "store/takes/what-if"
    known = read(folder)
    assert known is not None and known.fork is not None
    forged = known.fork._replace(at=known.fork.at._replace(hash=b"\x05" * 32))
    make(folder, Manifest(known.id, known.name, known.shard, forged), Files())

    [finding] = ensemble.audit(store).findings

    assert "take what-if leaves main before frame" in finding.wrong and "which was never so there" in finding.wrong


def test_a_take_that_plays_forgets_what_it_has_in_memory_of_its_parents(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    score = {**PERSONAL, "players": {"keep": {"on": "ordered", "by": "who", "state": {"personal": {"subject": "key"}}}}}
    with ensemble.open(score, store=store, players={"keep": keep}) as band:
        for who in ("ella", "miles"):
            band.publish("ordered", {"who": who, "name": f"SECRET-{who}"})
        band.settle(timeout=10)
    takes.new(store, "what-if")
    with ensemble.open(score, store=f"{store}#what-if", players={"keep": keep}) as band:
        assert band.table("keep")["ella"] == {"name": "SECRET-ella"}
        list(band.events())

        ensemble.forget(store, "ella")

        assert dict(band.table("keep").items()) == {"ella": {}, "miles": {"name": "SECRET-miles"}}
        assert [event.data["name"] for event in band.events()] == ["(forgotten)", "SECRET-miles"]
    with ensemble.read(f"{store}#what-if") as reader:
        assert dict(reader.table("keep").items()) == {"ella": {}, "miles": {"name": "SECRET-miles"}}


def test_a_player_can_not_have_somebody_forgotten_while_it_hears_what_was_said_before_its_take(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    said = {each: PERSONAL[each] for each in ("ensemble", "name", "events")}
    with ensemble.open({**said, "players": {}}, store=store) as band:
        band.publish("ordered", {"who": "ella", "name": "SECRET-ella"})
    takes.new(store, "what-if")
    caught: list[Exception] = []
    bands: list[ensemble.Band] = []
    opened = threading.Event()

    def asks(event: Any) -> None:
        opened.wait(10)
        try:
            bands[0].forget("ella")
        except ensemble.EnsembleError as error:
            caught.append(error)

    with ensemble.open(PERSONAL, store=f"{store}#what-if", players={"note": asks}) as band:
        bands.append(band)
        opened.set()
        band.settle(timeout=10)

    assert "while it hears an event" in str(caught[0])


def test_who_is_forgotten_is_so_in_all_takes(store: str) -> None:
    def said(url: str) -> list[str]:
        with ensemble.read(url) as reader:
            return [event.data["name"] for event in reader.events()]

    def publish(url: str, *whose: str) -> None:
        with ensemble.open(PERSONAL, store=url, players={"note": note}) as band:
            for who in whose:
                band.publish("ordered", {"who": who, "name": f"SECRET-{who}"})
            band.settle(timeout=10)

    publish(store, "ella", "miles")
    takes.new(store, "what-if")
    publish(f"{store}#what-if", "ella")

    assert ensemble.forget(store, "ella") == 2

    assert said(store) == ["(forgotten)", "SECRET-miles"]
    assert said(f"{store}#what-if") == ["(forgotten)", "SECRET-miles", "(forgotten)"]
    assert ensemble.audit(store, tables=True).is_whole

"""A store audited as a whole: anchors, who said what, and the tables against the log."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import MemoryStore

import ensemble
from ensemble.broker.state import State
from ensemble.errors import Unavailable
from ensemble.event import encode
from ensemble.log import Snapshot, open_log
from ensemble.log.audit import anchor as anchor_module
from ensemble.log.audit.anchor import new_key
from ensemble.log.objects import store as stores

SCORE: dict[str, Any] = {
    "ensemble": 1,
    "name": "shop",
    "players": {"tally": {"on": "order.placed", "emits": ["order.counted"]}, "note": {"on": "order.counted"}},
}


def tally(event: Any, ctx: Any) -> Any:
    ctx.state["orders"] = ctx.state.get("orders", 0) + 1
    return ensemble.emit("order.counted", n=ctx.state["orders"])


def note(event: Any) -> None: ...


def play(url: str, *keys: str) -> None:
    with ensemble.open(SCORE, store=url, players={"tally": tally, "note": note}) as band:
        for key in keys:
            band.publish("order.placed", {"total": 1}, key=key)
        band.settle(timeout=10)


@pytest.fixture
def store(tmp_path: Path) -> str:
    url = str(tmp_path / "shop")
    play(url, "walter", "han", "walter")
    return url


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "audit.pem"
    new_key(path)
    return path


def last_segment(url: str) -> Path:
    return sorted((Path(url) / "shard-0").glob("*.seg"))[-1]


def cut_last_group(url: str) -> None:
    """As somebody would who knows the format: all that is left is whole."""
    from tests.log.test_corruption import group_places

    path = last_segment(url)
    data = path.read_bytes()
    path.write_bytes(data[: group_places(data)[-2]])
    for snapshot in (Path(url) / "shard-0/snapshots").glob("*.snap"):
        snapshot.unlink()


def wrongs(audit: ensemble.Audit) -> list[str]:
    return [finding.wrong for finding in audit.findings]


def test_a_store_that_was_played_is_whole_in_one_shard_or_in_several(store: str) -> None:
    from ensemble.resharding import reshard

    whole = ensemble.audit(store)
    assert (whole.is_whole, whole.name, whole.events, len(whole.logs)) == (True, "shop", 6, 1)

    reshard(store, 3)
    divided = ensemble.audit(store)
    assert (divided.findings, divided.events, [log.shard for log in divided.logs]) == ((), 6, [0, 1, 2])


def test_a_file_that_says_how_a_store_is_divided_is_looked_at(store: str) -> None:
    from ensemble.resharding import reshard

    reshard(store, 2)
    path = Path(store) / "shards.json"
    data = path.read_bytes()
    for byte in range(len(data)):
        path.write_bytes(data[:byte] + bytes([data[byte] ^ 1]) + data[byte + 1 :])
        assert ensemble.audit(store).findings[0].file == str(path), byte


def test_a_store_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="there is no store"):
        ensemble.audit(str(tmp_path / "nothing"))


# What lies beside the log


@pytest.fixture(params=["directory", "objects"])
def with_data(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, list[Path]]:
    """A store with large data beside its log, and the files of that in the order of the events that have it."""
    url = {"directory": str(tmp_path / "s"), "objects": f"objects:{tmp_path / 's'}"}[request.param]
    score = {**SCORE, "store": {"blob_above": "1KiB"}}
    with ensemble.open(score, store=url, players={"tally": tally, "note": note}) as band:
        for n in range(3):
            band.publish("order.placed", {"note": f"{n}" * 5_000}, key="walter")
        band.settle(timeout=10)
        data = {encode({"note": f"{n}" * 5_000}): n for n in range(3)}
    files = [path for path in (tmp_path / "s/blobs").rglob("*") if path.is_file()]
    return url, sorted(files, key=lambda path: data[path.read_bytes()])


def test_data_beside_the_log_that_was_changed_or_is_missing_is_told_by_file_and_event(
    with_data: tuple[str, list[Path]],
) -> None:
    url, files = with_data
    assert (len(files), ensemble.audit(url).findings, ensemble.audit(url).notes) == (3, (), ())
    offsets = [event.offset for event in ensemble.read(url).events("order.placed")]

    for path, offset in zip(files, offsets, strict=True):
        data = path.read_bytes()
        for changed in (data[:-1] + b"!", data[:-1], b"", data + b"!"):
            path.write_bytes(changed)
            [finding] = ensemble.audit(url).findings
            assert finding.file.endswith(path.name)
            assert finding.wrong == f"this data was changed, and the event with offset {offset} has it"
        path.unlink()
        [finding] = ensemble.audit(url).findings
        assert finding.wrong == f"this data is missing, and the event with offset {offset} has it"
        path.write_bytes(data)
    assert ensemble.audit(url).is_whole


def test_data_that_no_event_has_is_a_note_unless_it_was_changed(with_data: tuple[str, list[Path]]) -> None:
    url, files = with_data
    own = sha256(b"left over").hexdigest()
    folder = files[0].parents[0] if url.startswith("objects:") else files[0].parents[1] / own[:2]
    folder.mkdir(exist_ok=True)
    (folder / own).write_bytes(b"left over")
    (folder / f"{own}.tmp").write_bytes(b"half")

    found = ensemble.audit(url)

    assert found.is_whole
    assert found.notes[0].startswith(f"{url.removeprefix('objects:') if own[:2] in str(folder) else url}/blobs/")
    assert "no event has this data" in found.notes[0]
    (folder / own).write_bytes(b"something else")
    [finding] = ensemble.audit(url).findings
    assert finding.wrong == "this data was changed, and no event has it"


def test_data_in_memory_is_looked_at_too() -> None:
    from ensemble.log.memory import memory_store

    score = {**SCORE, "store": {"blob_above": "1KiB"}}
    with ensemble.open(score, store="memory:with-data", players={"tally": tally, "note": note}) as band:
        band.publish("order.placed", {"note": "x" * 5_000}, key="walter")
        band.settle(timeout=10)
    kept = memory_store("with-data")
    assert kept is not None
    assert ensemble.audit("memory:with-data").is_whole

    kept.blobs.clear()

    assert "is missing" in wrongs(ensemble.audit("memory:with-data"))[0]


# Anchors


def test_a_good_audit_anchors_the_head_and_the_next_one_checks_it(store: str, key: Path, tmp_path: Path) -> None:
    at = str(tmp_path / "anchors.jsonl")

    first = ensemble.audit(store, anchor=at, sign=key)
    again = ensemble.audit(store, anchor=at, sign=key)
    play(store, "leia")
    later = ensemble.audit(store, anchor=at, sign=key)

    counts = [(each.anchored.checked, each.anchored.added) for each in (first, again, later) if each.anchored]
    assert counts == [(0, 1), (1, 0), (1, 1)]
    lines = [json.loads(line) for line in Path(at).read_text().splitlines()]
    assert [line["seq"] for line in lines] == [first.frames, later.frames]
    assert lines[1]["hash"] == later.logs[0].end.hash.hex()


def test_an_end_that_was_cut_off_is_told_by_the_anchor(store: str, key: Path, tmp_path: Path) -> None:
    at = str(tmp_path / "anchors.jsonl")
    ensemble.audit(store, anchor=at, sign=key)
    before = Path(at).read_bytes()
    cut_last_group(store)

    assert ensemble.audit(store).is_whole, "the store alone can't tell"
    found = ensemble.audit(store, anchor=at, sign=key)

    assert "its end was cut off" in wrongs(found)[0]
    assert found.findings[0].file == f"{at}: line 1"
    assert Path(at).read_bytes() == before, "nothing is anchored after an audit that is not good"


def test_a_store_that_was_made_anew_is_told_by_the_anchor(store: str, key: Path, tmp_path: Path) -> None:
    import shutil

    at = str(tmp_path / "anchors.jsonl")
    ensemble.audit(store, anchor=at, sign=key)
    shutil.rmtree(store)
    play(store, "walter", "han", "walter")

    assert "is not in this store any more" in wrongs(ensemble.audit(store, anchor=at, sign=key))[0]


def test_every_byte_of_an_anchor_that_is_changed_is_told(store: str, key: Path, tmp_path: Path) -> None:
    at = tmp_path / "anchors.jsonl"
    ensemble.audit(store, anchor=str(at), sign=key)
    data = at.read_bytes()
    for byte in range(len(data) - 1):
        at.write_bytes(data[:byte] + bytes([data[byte] ^ 1]) + data[byte + 1 :])
        assert not ensemble.audit(store, anchor=str(at)).is_whole, byte


def test_who_does_not_have_the_key_can_make_no_anchor_that_is_taken(store: str, key: Path, tmp_path: Path) -> None:
    at, other = str(tmp_path / "anchors.jsonl"), tmp_path / "other.pem"
    public = new_key(other)
    ensemble.audit(store, anchor=at, sign=other)

    assert ensemble.audit(store, anchor=at).is_whole, "any key is taken where none is named"
    assert ensemble.audit(store, anchor=at, key=public).is_whole
    assert ensemble.audit(store, anchor=at, key=f"{other}.pub").is_whole
    assert "it was signed by" in wrongs(ensemble.audit(store, anchor=at, sign=key))[0]
    assert "it was signed by" in wrongs(ensemble.audit(store, anchor=at, key=f"{key}.pub"))[0]


def test_a_line_that_a_crash_tore_is_no_anchor_and_the_next_takes_its_place(store: str, key: Path, tmp_path: Path) -> None:
    at = tmp_path / "anchors.jsonl"
    ensemble.audit(store, anchor=str(at), sign=key)
    whole = at.read_bytes()
    play(store, "leia")
    at.write_bytes(whole + whole[:40])

    audit = ensemble.audit(store, anchor=str(at), sign=key)

    assert audit.is_whole and audit.anchored is not None and audit.anchored.added == 1
    assert at.read_bytes().startswith(whole + b'{"anchor":1') and len(at.read_bytes().splitlines()) == 2


def test_a_file_that_is_none_of_anchors_is_told_and_left_alone(store: str, key: Path, tmp_path: Path) -> None:
    for text in (b"dear diary", b"{}\n", b'{"anchor":1}\n'):
        at = tmp_path / "diary"
        at.write_bytes(text)
        assert not ensemble.audit(store, anchor=str(at), sign=key).is_whole
        assert at.read_bytes() == text


def test_a_key_is_made_once_and_can_be_read_by_its_user_only(tmp_path: Path) -> None:
    path = tmp_path / "audit.pem"
    public = new_key(path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "audit.pem.pub").read_text() == public + "\n"
    with pytest.raises(Unavailable, match="there already"):
        new_key(path)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"sign": "nothing.pem"}, "can't be read"),
        ({"sign": "no.pem"}, "no private key"),
        ({"key": "abc"}, "64 hexadecimal digits"),
        ({}, "there are none; give the key"),
    ],
)
def test_what_is_wrong_about_keys_is_said(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], match: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("no.pem").write_text("no key")

    with pytest.raises(Unavailable, match=match):
        ensemble.audit(store, anchor="anchors.jsonl", **given)  # type: ignore[arg-type]


def test_heads_are_objects_that_are_created_once(store: str, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = MemoryStore()
    monkeypatch.setattr(stores, "from_url", lambda url, **given: kept)

    ensemble.audit(store, anchor="s3://vault/shop", sign=key)
    play(store, "leia")
    audit = ensemble.audit(store, anchor="s3://vault/shop", sign=key)

    assert audit.is_whole and audit.anchored is not None and (audit.anchored.checked, audit.anchored.added) == (1, 1)
    log, [names] = audit.logs[0], [[meta["path"] for chunk in obstore.list(kept) for meta in chunk]]
    assert sorted(names)[-1] == f"{log.id}/0/{log.end.seq:020d}" and len(names) == 2


def test_two_audits_that_anchor_the_same_head_do_not_overwrite_each_other(
    store: str, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ensemble.log.audit.anchors import anchors_at

    kept = MemoryStore()
    monkeypatch.setattr(stores, "from_url", lambda url, **given: kept)
    log = ensemble.audit(store).logs[0]
    private = anchor_module.private_key(key)
    text = anchor_module.sign(log.id, 0, log.end, private)
    other = text.replace(b"Z", b"z")
    anchors = anchors_at("s3://vault/shop")
    anchors.add(text, anchor_module.read(text))

    with pytest.raises(Unavailable, match="there already and says otherwise"):
        anchors.add(other, anchor_module.read(text))
    assert [line.text for line in anchors.read()] == [text]


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """Takes lines with POST, gives all with GET; as long as it has a list."""
    lines: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"".join(lines))

        def do_POST(self) -> None:
            lines.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204 if len(lines) < 3 else 507)
            self.end_headers()

        def log_message(self, *given: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/shop", lines
    server.shutdown()
    thread.join()
    server.server_close()


def test_heads_are_sent_to_a_collector(store: str, key: Path, collector: tuple[str, list[bytes]]) -> None:
    url, lines = collector

    ensemble.audit(store, anchor=url, sign=key)
    assert ensemble.audit(store, anchor=url, sign=key).anchored.checked == len(lines) == 1  # type: ignore[union-attr]
    cut_last_group(store)
    assert not ensemble.audit(store, anchor=url).is_whole


def test_a_collector_that_refuses_or_is_not_there_is_said(store: str, key: Path, collector: tuple[str, list[bytes]]) -> None:
    url, lines = collector
    lines += [b"\n", b"\n"]

    with pytest.raises(Unavailable, match="answers POST with 507"):
        ensemble.audit(store, anchor=url, sign=key)
    with pytest.raises(Unavailable, match="can't be reached"):
        ensemble.audit(store, anchor="http://127.0.0.1:9/shop", sign=key)


def test_what_does_not_speak_http_is_no_collector(store: str, key: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/shop"

        def greet() -> None:
            caller, _ = server.accept()
            with caller:
                caller.recv(1000)
                caller.sendall(b"220 mail\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(Unavailable, match="can't be reached"):
            ensemble.audit(store, anchor=url, sign=key)
        thread.join()


# Who, and tables


def test_who_said_what_is_counted_by_source_and_topic(store: str) -> None:
    who = ensemble.audit(store, who=True).who

    assert [(each.source, each.topic, each.events) for each in who] == [
        ("/shop", "order.placed", 3),
        ("/shop/tally", "order.counted", 3),
    ]
    assert all(each.first <= each.last for each in who)


def test_tables_that_follow_from_the_log_are_told_to_be_so(store: str) -> None:
    audit = ensemble.audit(store, tables=True)

    assert audit.is_whole
    assert audit.tables == {"tally": 2, "note": 0}


def test_a_table_that_a_snapshot_has_otherwise_than_the_log_is_told(store: str) -> None:
    log = open_log(store, name="shop")
    snapshot = log.snapshot()
    assert snapshot is not None
    state = State.load(snapshot.state)
    state.sections["tally"].table["han"] = b"\x81\xa6orders\x63"
    state.sections["tally"].heard += 1
    log.save(Snapshot(snapshot.at, state.dump()))
    log.close()

    assert ensemble.audit(store).is_whole, "its checksum holds"
    found = wrongs(ensemble.audit(store, tables=True))

    assert len(found) == 2
    assert "the table of player tally has another state for the key 'han'" in found[0]
    assert "heard of player tally is 4, and the log adds up to 3" in found[1]


def test_the_tables_of_a_band_that_plays_are_compared_too(store: str) -> None:
    with ensemble.open(SCORE, store=store, players={"tally": tally, "note": note}) as band:
        band.publish("order.placed", {"total": 1}, key="leia")
        band.settle(timeout=10)
        assert "in memory is the same" in " ".join(ensemble.audit(store, tables=True).notes)

        band._stage.broker.state.sections["tally"].table["leia"] = b"\x80"  # type: ignore[attr-defined]
        found = wrongs(ensemble.audit(store, tables=True))

    assert found == ["the band that plays has another table of player tally in memory than its log adds up to"]

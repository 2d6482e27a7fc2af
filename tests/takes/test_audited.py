"""A take is audited as a log of its own, which begins at the place where it leaves its parent."""

from __future__ import annotations

from pathlib import Path

from ensemble import takes
from ensemble.auditing import audit
from tests.takes.conftest import played


def test_a_take_is_audited_from_where_it_leaves_its_parent(store: str) -> None:
    played(store, 1, 2)
    takes.new(store, "a", 3)
    played(store, 5, 6, take="a")

    found = audit(f"{store}#a")

    assert found.findings == ()
    assert any(f"ensemble audit {store}#main" in note for note in found.notes)
    assert audit(store).findings == ()


def test_what_was_changed_in_a_take_is_found(tmp_path: Path) -> None:
    store = tmp_path / "store"
    played(str(store), 1, 2)
    takes.new(str(store), "a", 3)
    played(str(store), 5, 6, take="a")
    [segment] = (store / "takes" / "a" / "shard-0").glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(bytes(data))

    assert audit(f"{store}#a").findings
    assert audit(str(store)).findings == ()

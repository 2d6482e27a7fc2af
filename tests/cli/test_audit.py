"""`audit` looks at every byte of a store, and its exit code says whether all is as it was written."""

from __future__ import annotations

from pathlib import Path

from tests.cli.shell import Shell


def play(shop: Shell) -> Path:
    assert shop.run("run", "shop.yaml", "--input", "orders.jsonl").code == 0
    return shop.folder / ".ensemble/shop"


def test_a_store_that_is_whole_is_told_to_be_and_what_that_does_not_prove(shop: Shell) -> None:
    shop.write_orders(5, 7)
    play(shop)

    ran = shop.run("audit", "--who", "--tables")

    assert ran.code == 0
    assert ran.out.startswith("shop: as it was written; 4 events in ")
    assert "/shop/pay" in ran.out and "tally" in ran.out
    assert "the end may have been cut off" in ran.err


def test_what_is_wrong_is_a_line_each_and_exit_code_4(shop: Shell) -> None:
    shop.write_orders(5, 7)
    [path] = (play(shop) / "shard-0").glob("*.seg")
    data = path.read_bytes()
    path.write_bytes(data[:200] + b"\xc1" + data[201:])

    ran = shop.run("audit", ".ensemble/shop", "--json")

    assert ran.code == 4
    assert ran.json["whole"] is False
    assert [finding["file"] for finding in ran.json["findings"]] == [str(path)]
    assert shop.run("audit").out.splitlines()[0].startswith(f"{path}: byte ")


def test_a_key_is_made_a_head_anchored_and_checked(shop: Shell) -> None:
    shop.write_orders(5, 7)
    play(shop)
    public = shop.run("audit", "--new-key", "audit.pem").out.strip()
    anchoring = ("audit", ".ensemble/shop", "--anchor", "heads.jsonl")

    assert shop.run(*anchoring, "--sign", "audit.pem").out.splitlines()[1] == f"anchors  0 checked, 1 added; signed by {public}"
    checked = shop.run(*anchoring, "--key", public, "--json").json
    assert (checked["whole"], checked["anchors"]["checked"]) == (True, 1)


def test_wrong_usage_is_said(shop: Shell) -> None:
    assert shop.run("audit", "--sign", "audit.pem").code == 2
    assert shop.run("audit", "--new-key", "audit.pem", "--who").code == 2
    assert shop.run("audit", "nothing").code == 4

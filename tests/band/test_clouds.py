"""What users do with a store in a cloud: play, read, audit, take, roll back, trim into an archive, and play on.

Against servers on this machine: moto's S3, one that speaks Google's XML API (tests/gcs.py), and Azurite where it is installed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import ensemble
from tests.azure import Azure
from tests.cli.shell import Shell
from tests.gcs import GCS
from tests.s3 import S3

PLAYERS = """
def tally(event, ctx):
    ctx.state["n"] = ctx.state.get("n", 0) + 1
"""
SCORE = """
ensemble: 1
name: shop
events: {order.placed: {key: key}}
sources:
  orders: {file: orders.jsonl, topic: order.placed}
players:
  tally: {play: "shop:tally", on: order.placed}
store: {url: "URL", linger: 1ms, blob_above: 4KiB}
"""
RETAIN = """
retain: {size: 10KB, archive: "URL-cold"}
"""
S3_TOO = pytest.param("s3", marks=pytest.mark.everywhere("other tests do all of it there"))
AZURE_TOO = pytest.param("azure", marks=pytest.mark.everywhere("it needs a program that is none of Python's"))


@pytest.fixture(params=["gcs", S3_TOO, AZURE_TOO])
def cloud(request: pytest.FixtureRequest) -> S3 | GCS | Azure:
    server: S3 | GCS | Azure = request.getfixturevalue(request.param)
    return server


def test_a_store_in_a_cloud_does_what_one_on_a_disk_does(
    cloud: S3 | GCS | Azure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ensemble.log.objects.codec.BLOCK", 4)
    shell, url = Shell(tmp_path), cloud.url()
    shell.write("shop.py", PLAYERS)
    shell.write("shop.yaml", SCORE.replace("URL", url))
    shell.write("less.yaml", (SCORE + RETAIN).replace("URL", url))
    shell.write("orders.jsonl", '{"key": "k-0", "n": -2}\n{"key": "k-0", "n": -1}\n')

    def done(*given: str) -> str:
        ran = shell.run(*given)
        assert ran.code == 0, ran.err
        return ran.out

    def numbers(store: str) -> list[int]:
        return [event["data"]["n"] for event in shell.run("events", "order.placed", "--store", store, "--json").json_lines]

    for first in (0, 20, 40):
        with ensemble.open(tmp_path / "shop.yaml") as band:
            for n in range(first, first + 20):
                band.publish("order.placed", {"key": f"k-{n % 5}", "n": n, "note": "x" * (9_000 if n % 10 == 0 else 500)})
            band.settle(60)
    done("run", "shop.yaml")
    assert sorted(numbers(url)) == list(range(-2, 60))
    assert "what-if" in done("take", "new", "what-if", "--store", url) + done("take", "list", "--store", url)
    assert numbers(f"{url}#what-if") == numbers(url)
    done("take", "drop", "what-if", "--store", url)
    before = done("audit", url, "--tables")
    assert "as it was written" in before

    done("trim", "less.yaml")

    left, gone = numbers(url), numbers(f"{url}-cold")
    assert 0 < len(left) < 62 > len(gone) > 0
    assert sorted({*left, *gone}) == list(range(-2, 60))
    assert "as it was written" in done("audit", url, "--tables", "--archive", f"{url}-cold")
    done("run", "shop.yaml", "--again")
    assert numbers(url) == [*left, -2, -1]
    assert shell.run("table", "tally", "k-0", "--store", url).json == {"n": 16}

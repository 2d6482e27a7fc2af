"""Changes the score of a band that is up, and is killed before all shards play by the new one.

    python -m tests.faults.rescore_and_be_killed ADDRESS NAME STORE
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import ensemble
from ensemble import Event, emit

SHARDS = 3


def document(name: str) -> dict[str, Any]:
    section = {"min": 1, "max": 2, "batch": 1, "cpus": 0.1}
    return {
        "ensemble": 1,
        "name": name,
        "players": {"hear": {"on": "came", "emits": ["heard"], "section": section}},
        "stage": {"kind": "ray", "shards": SHARDS},
    }


def first(event: Event) -> Any:
    """As the score has it at first: it may be told to wait for a sign."""
    sign = event.data["wait"]
    if sign is not None:
        Path(f"{sign}-came").touch()
        while not Path(sign).exists():
            threading.Event().wait(0.01)
    return emit("heard", {"by": "first"})


def second(event: Event) -> Any:
    return emit("heard", {"by": "second"})


def main(address: str, name: str, store: str) -> None:
    with ensemble.up(document(name), address=address, store=store, players={"hear": second}):
        print("all play by the new one", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

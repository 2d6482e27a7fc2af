"""What processes do at a Ray cluster that is killed around them.

    python at_a_cluster.py up ADDRESS NAME STORE SAYS FIRST COUNT  bring a band up, publish so many, say `up`, and stay
    python at_a_cluster.py settle ADDRESS NAME                     wait until all is heard, end the band, and tell what there is
    python at_a_cluster.py speak ADDRESS NAME NUMBER               publish one more, and tell what came of it

The working directory is the band's: its player waits there for a file `go`, and leaves one with the number of its process.
SAYS is what else the score says of it.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import ensemble

PLAYERS = """
import mmap
import os
import pathlib
import threading

from ensemble import emit

HERE = pathlib.Path(FOLDER)

def hear(event, ctx):
    (HERE / f"came-{os.getpid()}").touch()
    while not (HERE / "go").exists():
        threading.Event().wait(0.02)
    return answer(event, ctx)

def answer(event, ctx):
    ctx.state["heard"] = [*ctx.state.get("heard", ()), event.data]
    return emit("heard", {"number": event.data, "attempt": ctx.attempt, "pid": os.getpid()})

def eat(event, ctx):
    take = {3: lambda size: b"x" * size, 6: shared}.get(event.data)
    eaten = [take(32 << 20) for _ in range(128)] if take else []
    assert not eaten, "there was more than enough for it"
    return answer(event, ctx)

def shared(size):
    piece = mmap.mmap(-1, size)
    piece.write(b"x" * size)
    return piece
"""


def up(address: str, name: str, store: str, says: str, first: str, count: str) -> None:
    document: dict[str, Any] = {
        "ensemble": 1,
        "name": name,
        "players": {"hear": {"play": "band_players:hear", "on": "came", "emits": ["heard"], **json.loads(says)}},
    }
    with ensemble.up(document, address=address, store=store) as band:
        numbers = range(int(first), int(first) + int(count))
        band.publish_many({"topic": "came", "key": f"k-{number % 7}", "data": number} for number in numbers)
        print("> up", flush=True)
        threading.Event().wait()


def settle(address: str, name: str) -> None:
    band = ensemble.connect(f"ray:{name}@{address}")
    assert isinstance(band, ensemble.Band)
    with band:
        band.settle(200)
        told = {
            "heard": [event.data for event in band.events("heard")],
            "dead": [(letter.event.data, letter.error) for letter in band.dead()],
            "table": {key: state["heard"] for key, state in band.table("hear").items()},
        }
    ensemble.down(name, address=address)
    print("> " + json.dumps(told), flush=True)


def speak(address: str, name: str, number: str) -> None:
    band = ensemble.connect(f"ray:{name}@{address}")
    try:
        band.publish("came", int(number), key=f"k-{int(number) % 7}")
        print("> said", flush=True)
    except ensemble.Unavailable as error:
        print(f"> {error}", flush=True)


if __name__ == "__main__":
    verbs: dict[str, Any] = {"up": up, "settle": settle, "speak": speak}
    verbs[sys.argv[1]](*sys.argv[2:])

"""A process that plays a shop, and makes takes of it, drops and promotes them until it is killed: `python taker.py URL SEED`.

It says each event of `main` once it is durable, and each command before it is given and when it is done.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import ensemble
from ensemble import emit, takes
from ensemble.replay import promote, replay
from tests.takes.conftest import PLAYERS, SCORE

COMMANDS = ("new", "new", "drop", "drop", "rollback", "rollback", "use", "promote")


def dearer(event: Any) -> Any:
    return emit("priced", n=event.data["n"] + 1)


def do(url: str, command: str, name: str) -> None:
    """Give a command: it is done when this returns."""
    if command == "new":
        takes.new(f"{url}#main", name)
    elif command == "drop":
        takes.drop(url, name)
    elif command == "rollback":
        takes.rollback(url, None, name)
    elif command == "use":
        takes.use(url, name)
    elif command == "replay":
        replay(SCORE, 0, store=f"{url}#main", take=name, calls={**PLAYERS, "price": dearer})
    else:
        promote(url, name)


def droppable(url: str) -> list[str]:
    """The takes on which nothing stands."""
    found = takes.listed(url)
    parents = {each.parent for each in found}
    return [each.name for each in found if not each.is_current and each.name not in parents and each.name != "main"]


def say(*words: object) -> None:
    print(*words, flush=True)


def main(url: str, seed: int) -> None:
    chance = random.Random(seed)
    number = 0
    while True:
        with ensemble.open(SCORE, store=f"{url}#main", players=PLAYERS) as band:
            for _ in range(2):
                say("said", band.publish("ordered", {"n": 1}, key="k").offset)
            band.settle(10)
        command, number = chance.choice(COMMANDS), number + 1
        name = f"take-{seed}-{number}"
        if command == "use":
            name = "main"
        elif command == "drop":
            name = chance.choice([*droppable(url), ""])
        if not name:
            continue
        for each in ("replay", "promote") if command == "promote" else (command,):
            say("begins", each, name)
            do(url, each, name)
            say("done", each, name)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

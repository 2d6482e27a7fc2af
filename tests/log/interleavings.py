"""A walk through every world there can be of some processes and a store, whose answers may be late, lost or never come.

Owns how it goes on from a world, and that each is looked at once. What a world is, what a call does in it, and what must
hold is its test's: a tuple that has `late`, the calls that were given up and may take effect yet, and `losses`, how many
answers may still be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ensemble.log.objects.protocol import Answer, Call, Unknown

W = TypeVar("W", bound=tuple[Any, ...])

CHANGES = ("create", "delete", "stub")
"""Calls that are another thing when their answer is lost after they took effect."""


class Wrong(AssertionError):
    """An invariant does not hold."""


def walk(start: W, after: Callable[[W], Iterable[W]], look: Callable[[W], object]) -> int:
    """Look at every world that can come of this one. How many there were."""
    known, ahead = {start}, [start]
    while ahead:
        world = ahead.pop()
        look(world)
        for each in after(world):
            if each not in known:
                known.add(each)
                ahead.append(each)
    return len(known)


def took_effect_late(world: Any, act: Callable[[Any, Call], tuple[Any, Answer]]) -> Iterator[Any]:
    """The worlds in which a call that was given up takes effect now."""
    for call in world.late:
        yield act(world, call)[0]._replace(late=world.late - {call})


def asked(
    world: Any, call: Call, act: Callable[[Any, Call], tuple[Any, Answer]], told: Callable[[Any, Answer], Any]
) -> Iterator[Any]:
    """The worlds after a call: it is answered, or its answer is lost, before it took effect, after it did, or it does later."""
    done, answer = act(world, call)
    yield told(done, answer)
    if world.losses:
        poorer = world.losses - 1
        yield told(world, Unknown())._replace(losses=poorer)
        if call.verb in CHANGES:
            yield told(done, Unknown())._replace(losses=poorer)
            yield told(world, Unknown())._replace(losses=poorer, late=world.late | {call})

"""The smallest players: plain functions. A source only speaks, a player hears an event and may answer with events."""

from __future__ import annotations

from collections.abc import Iterator

from ensemble import Emission, Event, emit


def guests() -> Iterator[Emission]:
    for name in ("Ella", "Miles", "Nina"):
        yield emit("guest.arrived", key=name, name=name)


def greet(event: Event) -> Emission:
    return emit("greeting.said", text=f"Hello, {event.data['name']}, take a seat!")


def speak(event: Event) -> None:
    print(event.data["text"])

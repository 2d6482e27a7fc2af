"""Players of every shape, for the tests of how they are called."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

from msgspec import Struct

from ensemble import Event, emit
from ensemble.event import Emission

if TYPE_CHECKING:
    import ensemble


class Placed(Struct):
    order_id: str
    total: int = 0


class Paid(Struct):
    order_id: str


@dataclass
class Declined:
    order_id: str
    reason: str


class Shipped(TypedDict):
    order_id: str


def plain(event): ...  # type: ignore[no-untyped-def]


def annotated(event: Event) -> None: ...


def for_the_checker_only(event: ensemble.Event, ctx: Any) -> None: ...


def with_settings(event: Event, ctx: Any, *, currency: str, limit: int = 5) -> Emission | None: ...


def takes_anything(event: Event, **settings: Any) -> None: ...


async def waits(event: Event) -> None: ...


async def speaks_slowly(event: Event) -> AsyncIterator[Paid]:
    yield Paid(event.key)


def batches(events: list[Event]) -> list[Emission]: ...  # type: ignore[empty-body]


def typed_batches(events: Sequence[Placed], ctx: Any) -> None: ...


def typed(placed: Placed) -> Paid | Declined | None: ...


def typed_generator(placed: Placed) -> Iterator[Paid | Emission]:
    yield Paid(placed.order_id)


def plain_data(data: dict[str, Any]) -> Shipped: ...  # type: ignore[empty-body]


class Model:
    def __init__(self, path: str, size: int = 1) -> None: ...

    def __call__(self, placed: Placed, ctx: Any) -> Paid: ...  # type: ignore[empty-body]

    def close(self) -> None: ...

    def hear(self, event: Event, *, limit: int = 1) -> None: ...


class Async:
    async def __call__(self, event: Event) -> None: ...


class AsyncBatches:
    async def __call__(self, events: list[Event]) -> None: ...


async def async_batches(events: Sequence[Placed]) -> AsyncIterator[Paid]:
    yield Paid("")


half_set = partial(with_settings, currency="EUR")


def visitors(place: int = 0, *, count: int) -> Iterator[Emission]:
    yield emit("visitor.came", n=place + count)


async def clock(ctx: Any) -> AsyncIterator[Emission]:
    yield emit("clock.struck")


class Feed:
    def __init__(self, url: str) -> None: ...

    def __iter__(self) -> Iterator[Emission]: ...  # type: ignore[empty-body]

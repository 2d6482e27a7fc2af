"""Coroutines that are cancelled, by a library or by themselves: a failure like any other, and the key goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ensemble import Event
from ensemble.testing import ManualClock
from tests.conformance.stand import Stand, part

pytestmark = pytest.mark.solo("the same code hears a coroutine on every stage")


async def by_an_inner_task() -> None:
    task = asyncio.ensure_future(asyncio.Event().wait())
    task.cancel()
    await task


async def later_by_an_inner_task() -> None:
    task = asyncio.ensure_future(asyncio.Event().wait())
    asyncio.get_running_loop().call_soon(task.cancel)
    await task


async def by_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.Event().wait()


async def raised() -> None:
    raise asyncio.CancelledError("the pool is closed")


WAYS = [by_an_inner_task, later_by_an_inner_task, by_itself, raised]


@pytest.mark.parametrize("clock", [ManualClock, lambda: None], ids=["by hand", "in time"])
@pytest.mark.parametrize("timeout", [None, "20s"])
@pytest.mark.parametrize("cancel", WAYS)
def test_an_event_whose_hearing_is_cancelled_fails_and_its_key_goes_on(
    stand: Stand, cancel: Callable[[], Any], timeout: str | None, clock: Callable[[], Any]
) -> None:
    heard = []

    async def hear(event: Event) -> None:
        if event.data == "bad":
            await cancel()
        heard.append(event.data)

    says = {"retry": {"attempts": 1}, **({} if timeout is None else {"timeout": timeout})}
    band = stand.play({"hear": part(hear, "said", **says)}, clock=clock())
    band.publish_many({"topic": "said", "key": "a", "data": data} for data in ("bad", "then", "last"))
    band.settle(30)

    [letter] = band.dead()
    assert letter.error.startswith("CancelledError")
    assert heard == ["then", "last"]
    assert band.status().sections["hear"].lag == 0


def test_a_hearing_that_ends_without_an_outcome_fails(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble.player import Hearing

    async def hear(event: Event) -> None:
        pass

    async def breaks(self: Hearing, which: Any, *given: Any) -> None:
        if self.work.events[which[0]].data == "bad":
            raise MemoryError("in the engine itself")
        self._heard.extend(which)

    monkeypatch.setattr(Hearing, "later_one_by_one", breaks)
    band = stand.play({"hear": part(hear, "said", retry={"attempts": 1})})
    band.publish_many({"topic": "said", "key": data, "data": data} for data in ("bad", "good"))
    band.settle(30)

    assert [letter.error for letter in band.dead()] == ["MemoryError: in the engine itself"]
    assert band.status().sections["hear"].heard == 1

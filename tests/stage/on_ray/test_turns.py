"""Publications that Ray brings in any order are taken in the order in which they were sent."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable

import pytest

from ensemble.stage.on_ray import turns as of_turns
from ensemble.stage.on_ray.turns import Turns


def taken(arriving: Iterable[int], oldest: int = 0) -> list[int]:
    """The order in which publications are taken that arrive in this order."""
    order: list[int] = []

    async def publish(turns: Turns, number: int) -> None:
        await turns.come(number, oldest)
        order.append(number)

    async def all_of_them() -> None:
        turns = Turns()
        await asyncio.gather(*(publish(turns, number) for number in arriving))

    asyncio.run(all_of_them())
    return order


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_order_of_arrival_they_are_taken_as_they_were_sent(seed: int) -> None:
    numbers = list(range(50))
    random.Random(seed).shuffle(numbers)

    assert taken(numbers) == list(range(50))


def test_one_that_is_sent_again_is_taken_at_once() -> None:
    assert taken([0, 1, 0, 2]) == [0, 1, 0, 2]


def test_a_shard_that_is_made_anew_begins_with_the_oldest_that_had_no_answer() -> None:
    assert taken([9, 7, 8], oldest=7) == [7, 8, 9]


def test_one_that_was_lost_holds_the_others_up_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_turns, "PATIENCE_S", 0.01)

    assert sorted(taken([0, 3, 2])) == [0, 2, 3]

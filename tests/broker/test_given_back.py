"""A section hands out what it has, and what comes back untried is there again."""

from __future__ import annotations

import pytest

from ensemble.broker import Batch, Broker, Listener, Opening, Policy, Publication, Said, Section, State
from ensemble.event import encode


def section_with(count: int, order: str, *, overlapping: bool = True) -> Section:
    """A section that has looked at so many events, each of a key of its own."""
    broker = Broker(
        State(),
        log_id="log",
        name="band",
        listeners={"hear": Listener([("came", None)], order=order)},  # type: ignore[arg-type]
        policies={"hear": Policy()},
        overlapping=["hear"] if overlapping else [],
    )
    broker.open(Opening(), 0, lambda patterns, offset: 0)
    said = Said(["came"], 0, [f"k-{n}" for n in range(count)], [encode(None)] * count)
    frame, _ = broker.publish([Publication(said, "/test")], 0)
    assert frame is not None
    section = broker.sections["hear"]
    section.look(frame.rows, frame.end)
    return section


def taken(section: Section, limit: int) -> Batch:
    batch = section.take(limit, 0)
    assert batch is not None
    return batch


def give_back(section: Section, batch: Batch, first: int = 0) -> None:
    """All of a batch from its `first` on comes back untried; the events before that were heard."""
    skipped = list(zip(batch.offsets, batch.keys, strict=True))[first:]
    section.advance(list(batch.offsets[:first]))
    section.settle(batch.keys, len(batch), skipped=skipped)


@pytest.mark.parametrize("order", ["key", "none"])
def test_a_batch_that_is_given_back_is_handed_out_again_before_what_came_later(order: str) -> None:
    section = section_with(10, order)
    batch = taken(section, 4)

    give_back(section, batch)

    assert section.flying == 0
    assert [*taken(section, 3).offsets, *taken(section, 100).offsets] == list(range(10))


def test_without_an_order_what_was_not_tried_is_ready_again_though_nothing_else_is() -> None:
    section = section_with(4, "none")

    give_back(section, taken(section, 4), first=1)

    assert section.has_work
    assert section.ready_count == 3
    assert list(taken(section, 100).offsets) == [1, 2, 3]


def test_a_retry_that_is_given_back_keeps_the_number_of_its_attempt() -> None:
    section = section_with(2, "none")
    section.state.attempts[0] = (1, 0)

    give_back(section, taken(section, 2))

    assert taken(section, 2).attempts == {0: 2}


def test_only_what_comes_back_is_handed_out_again() -> None:
    section = section_with(3, "none")
    first, second = taken(section, 1), taken(section, 1)

    give_back(section, second)
    section.settle(first.keys, 1)

    assert list(taken(section, 100).offsets) == [1, 2]

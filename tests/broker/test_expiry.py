"""State that expires: what the broker takes away, and when, is what a slow account of all writes says."""

from __future__ import annotations

from collections.abc import Mapping

import hypothesis.strategies as st
from hypothesis import given

from ensemble.broker import Broker, Listener, Opening, Policy, State
from ensemble.broker import state as states
from ensemble.broker.carrying import Carrying
from ensemble.broker.outbox import shard_of
from ensemble.event import Frame

Writes = Mapping[str, bytes | None]


class Keeper:
    """A broker whose one player writes what a test says, and an account of the moments at which each key was written."""

    def __init__(self, keep_us: int) -> None:
        self.frames: list[Frame] = []
        self.written: dict[str, int] = {}
        """Key -> when its time began to count."""
        self.state, self.now_us, self.keep_us = State(), 0, 0
        self.open(keep_us)

    def open(self, keep_us: int) -> None:
        """Play on with another `expire:`."""
        if keep_us and not self.keep_us:
            self.written = dict.fromkeys(self.written, self.now_us)
        self.keep_us = keep_us
        policies = {"play": Policy(keep_us=keep_us)}
        listeners = {"play": Listener([("said", None)])}
        self.broker = Broker(self.state, log_id="log", name="test", listeners=listeners, policies=policies)
        self._add(self.broker.open(Opening(), self.now_us, lambda patterns, offset: 0))

    def _add(self, frame: Frame | None) -> None:
        if frame is not None:
            self.frames.append(frame)

    def write(self, writes: Writes) -> None:
        known = self.state.section("play").table
        writes = {key: value for key, value in writes.items() if value is not None or key in known}
        frame = Frame(self.state.end, self.now_us, None, {"wrote": {"play": dict(writes)}})
        self.state.apply(frame)
        self._add(frame)
        for key, value in writes.items():
            self.written.pop(key, None)
            if value is not None:
                self.written[key] = self.now_us

    def wait(self, us: int) -> None:
        self.now_us += us
        self._add(self.broker.fire(self.now_us))
        if self.keep_us:
            self.written = {key: at for key, at in self.written.items() if at + self.keep_us > self.now_us}

    @property
    def due_us(self) -> int | None:
        """When the next goes, by the account."""
        return min(self.written.values()) + self.keep_us if self.keep_us and self.written else None


def writes_of(keys: set[str], value: bytes | None) -> tuple[str, Writes]:
    return "write", dict.fromkeys(keys, value)


steps = st.one_of(
    st.builds(writes_of, st.sets(st.sampled_from("abcde")), st.sampled_from([b"1", None])),
    st.tuples(st.just("wait"), st.integers(0, 12)),
    st.tuples(st.just("open"), st.sampled_from([0, 5, 9])),
)


@given(st.sampled_from([0, 5]), st.lists(steps, max_size=30))
def test_what_is_kept_is_what_was_written_within_the_time_by_a_slow_account(
    keep_us: int, todo: list[tuple[str, object]]
) -> None:
    keeper = Keeper(keep_us)

    for verb, what in todo:
        getattr(keeper, verb)(what)
        if verb == "open":
            keeper.wait(0)
        section = keeper.state.section("play")
        assert set(section.table) == set(keeper.written)
        assert keeper.broker.due_us() == keeper.due_us
        if keeper.keep_us:
            assert list(section.expires) == sorted(section.expires, key=lambda key: (section.expires[key], 0))
            assert section.expires.keys() == section.table.keys()

    folded = State()
    for frame in keeper.frames:
        folded.apply(frame)
    assert folded == keeper.state
    assert State.load(keeper.state.dump()) == keeper.state


def test_what_goes_in_one_moment_goes_in_one_frame_and_no_more_than_a_bound() -> None:
    keeper = Keeper(5)
    keeper.write({f"k-{n}": b"1" for n in range(25_000)})

    keeper.wait(5)
    keeper.wait(0)
    keeper.wait(0)

    gone = [len(frame.marks["expired"]["play"]) for frame in keeper.frames if "expired" in frame.marks]
    assert gone == [10_000, 10_000, 5_000]


def test_other_shards_take_over_when_each_key_goes() -> None:
    keepers = [Keeper(50), Keeper(50)]
    for shard, keeper in enumerate(keepers):
        keeper.now_us = 10 * shard
        keeper.write({f"{shard}-{n}": b"1" for n in range(20)})
        keeper.now_us += 5
        keeper.write({f"{shard}-{n}": b"2" for n in range(0, 20, 3)})
    before = {key: due_us for keeper in keepers for key, due_us in keeper.state.section("play").expires.items()}

    carrying = Carrying([keeper.state for keeper in keepers], ["a", "b"], ["x", "y", "z"])
    carrying.begin()
    made = [State() for _ in range(3)]
    for shard, marks in [*enumerate(carrying.carried()), *carrying.tables()]:
        made[shard].apply(Frame(0, 40, None, marks))

    for shard, state in enumerate(made):
        section = state.section("play")
        assert section.keep_us == 50
        assert section.expires == {key: due_us for key, due_us in before.items() if shard_of(key, 3) == shard}
        assert list(section.expires.values()) == sorted(section.expires.values())
        assert section.table.keys() == section.expires.keys()


def test_an_expiry_is_folded_after_the_write_of_its_frame() -> None:
    names = list(states.FOLDS)

    assert names.index("kept") < names.index("wrote") < names.index("expiring") < names.index("expired")

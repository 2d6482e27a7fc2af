"""What an actor is made from: how callables travel, and what is said of one that can't, or of a node that is not alike."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ensemble
from ensemble import takes
from ensemble.errors import PlayerError, Unavailable
from ensemble.ready import ready
from ensemble.stage.on_ray.plan import INLINE_MOST, Kind, Plan, Versions, check_versions, pickled, plan_of, player_of, versions

DOCUMENT: dict[str, Any] = {"ensemble": 1, "name": "shop", "players": {"pay": {"on": "order.placed", "emits": ["order.paid"]}}}


@dataclass
class Order:
    total: int


def test_a_callable_arrives_with_what_it_holds_and_the_types_that_it_hears() -> None:
    rate = 3

    def pay(order: Order) -> Any:
        return rate * order.total

    player = player_of(Plan(DOCUMENT, "memory:", calls={"pay": pickled("pay", pay)}), "pay")

    assert player.call(Order(2)) == 6
    assert player.shape.hears is not None
    assert player.decode is not None
    assert player.decode(msgspec.msgpack.encode({"total": 2})).total == 2


def test_the_current_take_goes_without_its_name_and_is_played_live_whichever_it_is(tmp_path: Path) -> None:
    store, prepared = str(tmp_path / "store"), ready(DOCUMENT, {"pay": print})

    def planned(url: str) -> tuple[str, bool]:
        plan = plan_of(prepared.score, {}, prepared.players, url)
        return plan.url, plan.is_live

    ensemble.open({"ensemble": 1, "name": "shop"}, store=store).close()
    takes.new(store, "what-if")
    assert planned(store) == planned(f"{store}#main") == (store, True)
    assert planned(f"{store}#what-if") == (f"{store}#what-if", False)

    takes.use(store, "what-if")

    assert planned(store) == planned(f"{store}#what-if") == (store, True)
    assert planned(f"{store}#main") == (f"{store}#main", False)
    with pytest.raises(Unavailable, match=r"take 'nobody'; there is main, what-if; make it with: ensemble take new"):
        planned(f"{store}#nobody")


def test_a_take_of_a_log_in_memory_is_played_where_that_is() -> None:
    prepared = ready(DOCUMENT, {"pay": print})
    ensemble.open({"ensemble": 1, "name": "shop"}, store="memory:planned").close()
    takes.new("memory:planned", "what-if")

    with pytest.raises(Unavailable, match=r"in the memory of this process, .* take 'what-if' is played with stage='solo'"):
        plan_of(prepared.score, {}, prepared.players, "memory:planned#what-if")


def pretend(order: Any) -> str:
    return "pretended"


@pytest.mark.parametrize(
    ("outside", "answer"),
    [({}, "paid"), ({"outside": {"stub": f"{__name__}:pretend"}}, "pretended"), ({"outside": "mute"}, None)],
)
def test_who_stands_in_for_a_player_does_so_only_in_a_take_that_is_not_current(outside: Any, answer: Any) -> None:
    document = {**DOCUMENT, "players": {"pay": {**DOCUMENT["players"]["pay"], **outside}}}

    def played(url: str) -> Any:
        return player_of(Plan(document, url, calls={"pay": pickled("pay", lambda order: "paid")}), "pay")

    there, here = played("/store#what-if"), played("/store")

    assert (there.call(None), there.is_live) == (answer, False)
    assert (here.call(None), here.is_live) == ("paid", True)


def test_a_callable_that_holds_a_lock_is_refused_with_what_to_do() -> None:
    lock = threading.Lock()

    def pay(order: Any) -> None:
        with lock:
            pass

    with pytest.raises(
        PlayerError, match=r"player pay can't be sent to the cluster: .*lock.*; .*make it in the player's class"
    ):
        pickled("pay", pay)


def test_a_callable_that_holds_too_much_is_refused_with_how_much_it_is() -> None:
    table = bytes(INLINE_MOST)

    def pay(order: Any) -> int:
        return len(table)

    with pytest.raises(PlayerError, match=r"player pay has 9\d,\d{3} bytes when pickled, more than the 90,000 that travel"):
        pickled("pay", pay)


def test_a_player_that_this_node_cannot_import_is_told_of_with_the_node(tmp_path: Path) -> None:
    document = {**DOCUMENT, "players": {"pay": {"play": "no_such_shop:pay", "on": "order.placed"}}}

    with pytest.raises(PlayerError, match=r"player pay can't be imported on .+: .*no_such_shop"):
        player_of(Plan(document, "memory:", folders={"pay": str(tmp_path)}), "pay")


def test_a_player_is_imported_from_the_folder_of_the_score_that_it_joined_with(tmp_path: Path) -> None:
    (tmp_path / "joined_shop.py").write_text("def pay(order): return 'joined'\n")
    document = {**DOCUMENT, "players": {"pay": {"play": "joined_shop:pay", "on": "order.placed"}}}

    player = player_of(Plan(document, "memory:", folders={"pay": str(tmp_path)}), "pay")

    assert player.call(None) == "joined"


def test_a_callable_whose_module_this_node_does_not_have_is_told_of_with_the_node() -> None:
    no_module = b"cno_such_module\npay\n."  # pickle: the global of that name

    with pytest.raises(PlayerError, match=r"player pay can't be unpickled on .+: ModuleNotFoundError: .*no_such_module"):
        player_of(Plan(DOCUMENT, "memory:", calls={"pay": no_module}), "pay")


@pytest.mark.parametrize("name", Versions.__struct_fields__)
def test_another_version_is_refused_with_both(name: str) -> None:
    plan = Plan(DOCUMENT, "memory:", versions=msgspec.structs.replace(versions(), **{name: "9.9"}))

    with pytest.raises(
        Unavailable, match=rf"the cluster does not have the versions of this process: {name} \S+ there, 9.9 here"
    ):
        check_versions(plan, "the cluster")


def test_the_same_versions_are_let_pass() -> None:
    check_versions(Plan(DOCUMENT, "memory:", versions=versions()), "the cluster")


names = st.text("abc-", max_size=4)


@given(
    st.dictionaries(names, st.binary(max_size=5), max_size=2),
    st.dictionaries(names, st.builds(Kind, st.booleans(), st.booleans(), st.booleans()), max_size=2),
    st.dictionaries(names, st.fixed_dictionaries({"players": st.lists(names, max_size=2)}), max_size=2),
    st.dictionaries(names, st.integers() | names | st.lists(names), max_size=2).filter(lambda env: "__" not in env),
)
def test_a_plan_arrives_as_it_was(calls: Any, kinds: Any, joined: Any, runtime_env: Any) -> None:
    runtime_env = {name: value if not isinstance(value, int) else value % 2**60 for name, value in runtime_env.items()}
    plan = Plan(DOCUMENT, "/store", calls=calls, kinds=kinds, joined=joined, runtime_env=runtime_env, inputs=["a"], again=True)

    assert Plan.load(plan.dump()) == plan


def test_each_run_has_a_name_of_its_own() -> None:
    assert Plan(DOCUMENT, "memory:").run != Plan(DOCUMENT, "memory:").run

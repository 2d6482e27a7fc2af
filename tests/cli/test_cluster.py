"""`up`, `down`, `join`, `leave`, `scale`, and the others with `--store ray:NAME`, at a cluster in a process of its own."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.cli.shell import SHOP_SCORE, Ran, Shell, interrupt
from tests.conformance.stand import eventually
from tests.ray_keeper import ROOT, Keeper

pytestmark = pytest.mark.patience(400)

PATIENCE_S = 100
LIGHT = "section: {cpus: 0.1}"
LOYALTY = f"""
ensemble: 1
name: loyalty
players:
  points: {{play: "loyalty:points", on: order.paid, emits: [points.given], {LIGHT}}}
"""
LOYALTY_PLAYERS = """
from ensemble import emit

def points(paid):
    return emit("points.given", points=paid.data["total"])
"""


@pytest.fixture(scope="module")
def keeper() -> Iterator[Keeper]:
    keeper = Keeper({"num_cpus": 16})
    yield keeper
    keeper.end()


REVIEWS = f"""
ensemble: 1
name: reviews
motifs:
  reviewed: {{seq: [{{event: order.placed, as: order}}, order.paid, order.reviewed], within: 30d}}
players:
  thank: {{play: "reviews:thank", on: reviewed, emits: [customer.thanked], {LIGHT}}}
"""
REVIEWS_PLAYERS = """
from ensemble import emit

def thank(match):
    return emit("customer.thanked", total=match["order"].data["total"], of=[event.topic for event in match.events])
"""


class Cluster:
    """A shell beside a shop whose commands find the cluster; its band has a name of its own."""

    def __init__(self, shell: Shell, keeper: Keeper, name: str) -> None:
        self.shell, self.keeper, self.name = shell, keeper, name
        self.store = f"ray:{name}"
        self.is_up = False
        self.write_score()
        shell.write("loyalty.yaml", LOYALTY)
        shell.write("loyalty.py", LOYALTY_PLAYERS)

    @property
    def env(self) -> dict[str, str]:
        return {name: self.keeper.env[name] for name in ("RAY_ADDRESS", "RAY_TMPDIR", "RAY_USAGE_STATS_ENABLED")}

    def write_score(self, *changes: tuple[str, str], more: str = "", name: str = "shop.yaml") -> None:
        text = SHOP_SCORE.replace("name: shop", f"name: {self.name}").replace("on: order", f"{LIGHT}, on: order")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.shell.write_shop()
        self.shell.write(name, text + more)

    def run(self, *arguments: object, env: Mapping[str, str] | None = None, **options: Any) -> Ran:
        self.is_up |= arguments[0] == "up"
        return self.shell.run(*arguments, env={**self.env, **(env or {})}, **options)

    def start(self, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        return self.shell.start(*arguments, env=self.env, **options)

    def look(self, *arguments: object) -> list[Any]:
        """What a command that looks into the band writes as JSON."""
        ran = self.run(*arguments, "--store", self.store, "--json")
        assert ran.code == 0, ran.err
        return ran.json_lines

    def publish(self, *totals: int, first: int = 1) -> None:
        lines = [
            json.dumps({"topic": "order.placed", "data": {"order_id": f"o-{number}", "total": total}})
            for number, total in enumerate(totals, first)
        ]
        ran = self.run("publish", "-", "--store", self.store, stdin="\n".join(lines))
        assert ran.code == 0, ran.err

    def wait_for(self, topic: str, count: int) -> list[Any]:
        """The first so many events of a topic, once they are there. One process that follows costs less than many that look."""
        following = self.start("tail", topic, "--since", "0", "--json", "--store", self.store)
        assert following.stdout is not None
        patience = threading.Timer(PATIENCE_S, following.kill)
        patience.start()
        events = [json.loads(line) for line in islice(following.stdout, count)]
        patience.cancel()
        following.kill()
        _, err = following.communicate()
        assert len(events) == count, err
        return events


@pytest.fixture
def cluster(shell: Shell, keeper: Keeper, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    cluster = Cluster(shell, keeper, f"shop-{abs(hash(request.node.name)) % 10**8}")
    yield cluster
    if cluster.is_up:
        cluster.run("down", cluster.name)


@pytest.fixture(scope="module", autouse=True)
def hungry(keeper: Keeper, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """Who plays a score that no node has a place for, from the first of these tests on: that is told of after 10 s."""
    shell = Shell(tmp_path_factory.mktemp("hungry"))
    cluster = Cluster(shell, keeper, "hungry")
    cluster.write_score(("section: {cpus: 0.1}, on: order.placed", "section: {resources: {banana: 1}}, on: order.placed"))
    shell.write_orders(5)
    yield cluster.start("run", "shop.yaml", "--stage", "ray", "--input", "orders.jsonl")
    shell.end()


def assert_said(ran: Ran, code: int, *texts: str) -> None:
    assert ran.code == code, ran.err
    for text in texts:
        assert text in " ".join(ran.err.split()), ran.err
    assert "Traceback" not in ran.err


# Bands that are up


def test_a_band_is_brought_up_spoken_to_by_each_command_and_taken_down(cluster: Cluster) -> None:
    up = cluster.run("up", "shop.yaml", "--store", "kept")
    assert up.code == 0, up.err
    assert f"{cluster.name}: up, with 2 players; 0 events in its log" in up.out

    cluster.publish(5, 5000, 7)
    cluster.wait_for("order.paid", 2)
    cluster.wait_for("_band.dead", 1)

    status = cluster.look("status")[0]
    assert (status["sections"]["pay"]["heard"], status["sections"]["pay"]["dead"]) == (2, 1)
    eventually(lambda: len(cluster.look("table", "tally")) == 2, "the tally", PATIENCE_S)
    assert cluster.look("table", "tally") == [{"key": key, "state": {"paid": 1}} for key in ("o-1", "o-3")]
    [dead] = cluster.look("dead", "list")
    assert dead["player"] == "pay"
    [paid] = cluster.look("events", "order.paid")[:1]
    why = cluster.run("why", paid["id"], "--store", cluster.store)
    assert "order.placed" in why.out
    tail = cluster.start("tail", "order.paid", "--since", "0", "--json", "--store", cluster.store)
    assert tail.stdout is not None
    assert json.loads(tail.stdout.readline())["id"] == paid["id"]
    assert interrupt(tail).code == 130

    assert cluster.run("down", cluster.name).out == f"{cluster.name}: down\n"
    assert_said(cluster.run("status", "--store", cluster.store), 4, f"there is no band '{cluster.name}' up on this cluster")
    assert len(cluster.run("events", "order.paid", "--store", "kept", "--json").json_lines) == 2


BETTER = """
def tally(event, ctx):
    ctx.state["paid"] = ctx.state.get("paid", 0) + 10
"""


@pytest.mark.everywhere("tests/stage/on_ray/test_rebuilt_beside.py says it of Python")
def test_a_table_is_rebuilt_beside_a_band_that_is_up_and_put_in_place(cluster: Cluster) -> None:
    cluster.shell.write("better.py", BETTER)
    cluster.write_score(("shop:tally", "better:tally"), name="better.yaml")
    cluster.write_score()
    assert cluster.run("up", "shop.yaml", "--store", "kept").code == 0
    cluster.publish(10, 20)
    eventually(lambda: len(cluster.look("table", "tally")) == 2, "the tally", PATIENCE_S)

    compared = cluster.run("rebuild", "better.yaml", "tally", "--store", cluster.store)
    switched = cluster.run("rebuild", "better.yaml", "tally", "--switch", "--store", cluster.store)

    assert compared.code == 0 and "2 keys differ" in compared.out, compared.err
    assert switched.code == 0 and "the rebuilt table is in place" in switched.out, switched.err
    assert cluster.look("table", "tally") == [{"key": key, "state": {"paid": 10}} for key in ("o-1", "o-2")]
    cluster.publish(30, first=3)
    cluster.wait_for("order.paid", 3)
    eventually(lambda: len(cluster.look("table", "tally")) == 3, "the tally by the code of now", PATIENCE_S)
    assert cluster.look("table", "tally")[2]["state"] == {"paid": 10}


@pytest.mark.everywhere("tests/faults/test_ray_rolled_back.py rolls back from Python")
def test_a_band_that_is_up_is_rolled_back_and_goes_forward_again(cluster: Cluster) -> None:
    assert cluster.run("up", "shop.yaml", "--store", "kept").code == 0
    cluster.publish(5, 7)
    cluster.wait_for("order.paid", 2)
    placed = cluster.look("events", "order.placed")

    refused = cluster.run("rollback", "--to", placed[0]["id"], "--store", "kept")
    back = cluster.run("rollback", "--to", placed[0]["id"], "--store", cluster.store, "--json")
    cluster.publish(9, first=3)
    [paid] = cluster.wait_for("order.paid", 1)

    assert_said(refused, 4, "take 'main' can't be rolled back now", "--store ray:NAME")
    assert (back.code, back.json["parent"], back.json["is_current"]) == (0, "main", True), back.err
    assert paid["data"] == {"total": 9} and paid["id"].startswith(back.json["id"])
    assert [each["key"] for each in cluster.look("events", "order.placed")] == ["o-3"]
    used = cluster.run("take", "use", "main", "--store", cluster.store)
    assert used.code == 0, used.err
    assert cluster.look("events", "order.placed") == placed


@pytest.mark.everywhere("the test after it says the same of one with a motif")
def test_a_score_that_joins_hears_what_was_said_before_and_leaves_again(cluster: Cluster) -> None:
    assert cluster.run("up", "shop.yaml").code == 0
    cluster.publish(5)
    cluster.wait_for("order.paid", 1)

    joined = cluster.run("join", cluster.name, "loyalty.yaml")
    assert joined.out == f"{cluster.name}: joined by loyalty, with points\n", joined.err
    assert len(cluster.wait_for("points.given", 1)) == 1

    assert cluster.run("leave", cluster.name, "loyalty").out == f"{cluster.name}: left by loyalty\n"
    assert set(cluster.look("status")[0]["sections"]) >= {"pay", "tally"}
    cluster.publish(7, first=2)
    cluster.wait_for("order.paid", 2)
    assert len(cluster.look("events", "points.given")) == 1
    assert_said(cluster.run("leave", cluster.name, "loyalty"), 1, "no score 'loyalty' has joined")


@pytest.mark.everywhere("the test before it says most of it")
def test_a_score_joins_with_a_motif_whose_first_events_lie_in_the_past_and_leaves_again(cluster: Cluster) -> None:
    cluster.shell.write("reviews.yaml", REVIEWS)
    cluster.shell.write("reviews.py", REVIEWS_PLAYERS)
    assert cluster.run("up", "shop.yaml").code == 0
    cluster.publish(5, 7)
    cluster.wait_for("order.paid", 2)

    joined = cluster.run("join", cluster.name, "reviews.yaml")
    assert joined.out == f"{cluster.name}: joined by reviews, with thank\n", joined.err
    for key in ("o-1", "o-1", "o-3"):  # the second is one too many, and the third was never placed
        assert cluster.run("publish", "order.reviewed", "{}", "--key", key, "--store", cluster.store).code == 0
    [thanked] = cluster.wait_for("customer.thanked", 1)

    assert (thanked["key"], thanked["data"]["total"]) == ("o-1", 5)
    assert thanked["data"]["of"] == ["order.placed", "order.paid", "order.reviewed"]
    assert cluster.run("leave", cluster.name, "reviews").code == 0
    assert cluster.run("publish", "order.reviewed", "{}", "--key", "o-2", "--store", cluster.store).code == 0
    assert len(cluster.look("events", "reviewed")) == 1, "nobody listens for it now"
    assert cluster.run("join", cluster.name, "reviews.yaml").code == 0
    assert {each["key"] for each in cluster.wait_for("customer.thanked", 2)} == {"o-1", "o-2"}, "it was only away"


@pytest.mark.everywhere("tests/stage/on_ray/test_scaling.py says without Ray that such a number holds")
def test_a_player_is_given_so_many_instances(cluster: Cluster) -> None:
    assert cluster.run("up", "shop.yaml").code == 0

    scaled = cluster.run("scale", cluster.name, "pay", 2)
    assert scaled.out == f"{cluster.name}: pay has 2 from now on\n", scaled.err
    eventually(lambda: cluster.look("status")[0]["sections"]["pay"]["instances"] == 2, "two instances", PATIENCE_S)
    changes = [event["data"] for event in cluster.look("events", "_band.section.scaled")]
    assert [(change["from"], change["to"]) for change in changes if change["player"] == "pay"] == [(0, 1), (1, 2)]

    assert_said(cluster.run("scale", cluster.name, "nobody", 2), 1, "no player 'nobody' plays here; there are pay, tally")
    assert_said(cluster.run("scale", cluster.name, "pay", "many"), 2, "'many' is no number of instances")
    assert cluster.run("scale", cluster.name, "pay", "auto").code == 0


def test_a_changed_score_takes_over_while_events_are_published_and_none_is_lost_or_heard_twice(cluster: Cluster) -> None:
    assert cluster.run("up", "shop.yaml").code == 0
    publishing = cluster.start("publish", "-", "--store", cluster.store, stdin=subprocess.PIPE)
    assert publishing.stdin is not None

    def write(numbers: range) -> None:
        assert publishing.stdin is not None
        for number in numbers:
            order = {"topic": "order.placed", "data": {"order_id": f"o-{number}", "total": number}}
            publishing.stdin.write(json.dumps(order) + "\n")
            publishing.stdin.flush()

    write(range(150))
    cluster.write_score(
        ("emits: [order.paid]", "emits: [order.paid, order.thanked]"),
        more=f"""
  thank: {{play: "shop:thank", on: order.paid, emits: [order.thanked], {LIGHT}}}
""",
    )
    shop = (cluster.shell.folder / "shop.py").read_text()
    cluster.shell.write("shop.py", shop + '\ndef thank(paid):\n    return emit("order.thanked")\n')
    changing = cluster.start("up", "shop.yaml")
    write(range(150, 300))
    out, err = changing.communicate(timeout=PATIENCE_S)
    assert changing.returncode == 0, err
    assert "up, with 3 players" in out
    write(range(300, 320))
    assert publishing.communicate(timeout=PATIENCE_S) and publishing.returncode == 0

    cluster.wait_for("order.thanked", 320)
    eventually(lambda: cluster.look("status")[0]["sections"]["tally"]["heard"] == 320, "the tally", PATIENCE_S)
    for topic in ("order.placed", "order.paid", "order.thanked"):
        events = cluster.look("events", topic)
        assert sorted(int(event["key"].removeprefix("o-")) for event in events) == list(range(320)), topic
    assert {row["state"]["paid"] for row in cluster.look("table", "tally")} == {1}


# Played to the end


def test_a_score_played_on_ray_reads_its_input_here_and_prints_a_summary(cluster: Cluster) -> None:
    cluster.shell.write_orders(5, 5000, 7)

    ran = cluster.run("run", "shop.yaml", "--stage", "ray", "--input", "orders.jsonl", "--json")

    assert ran.code == 3, ran.err
    assert (ran.json["players"]["pay"]["heard"], ran.json["dead"]) == (2, 1)
    assert [said["said"] for said in ran.json["sources"].values()] == [3]
    again = cluster.run("run", "shop.yaml", "--stage", "ray", "--input", "orders.jsonl", "--json")
    assert again.json["events_now"] == 0, "each line is published once, wherever it plays"
    assert_said(cluster.run("run", "shop.yaml", "--stage", "ray", "--input", "-"), 4, "the input - can't be read")


def test_the_log_lines_of_a_player_come_with_its_name_its_process_and_the_event(cluster: Cluster) -> None:
    cluster.shell.write_orders(5, 7)
    shop = (cluster.shell.folder / "shop.py").read_text()
    cluster.shell.write("shop.py", shop.replace("def tally(event, ctx):", "def tally(event, ctx):\n    ctx.log.info('paid')"))

    playing = cluster.start("run", "shop.yaml", "--stage", "ray", "--input", "orders.jsonl", "--serve")
    assert playing.stderr is not None
    lines = list(islice((line for line in playing.stderr if "INFO player tally, instance " in line), 2))
    assert interrupt(playing).code == 130

    ids = [event["id"] for event in cluster.run("events", "order.paid", "--json").json_lines]
    assert all(f", event {event_id}: paid" in line for event_id, line in zip(ids, lines, strict=True)), lines


# Code and what it needs

WHERE = """
import os
from ensemble import emit

def pay(order):
    import there
    return emit("order.paid", price=there.PRICE, code=__file__, package=there.__file__, variable=os.environ.get("WHERE"))

def tally(event): ...
"""


def paid_where(cluster: Cluster, runtime_env: Mapping[str, Any]) -> Any:
    """What a player says of where it is, whose code lies in the folder `code` here, and nowhere else."""
    cluster.write_score(('"shop:', '"where:'), more=f"stage: {{runtime_env: {json.dumps(runtime_env)}}}\n")
    cluster.shell.write("code/where.py", WHERE)
    up = cluster.run("up", "shop.yaml", env={"PYTHONPATH": f"{cluster.shell.folder / 'code'}:{ROOT}"})
    assert up.code == 0, up.err
    cluster.publish(5)
    return cluster.wait_for("order.paid", 1)[0]["data"]


def test_the_folder_and_the_variables_of_a_runtime_env_reach_the_players(cluster: Cluster) -> None:
    cluster.shell.write("code/there.py", "PRICE = 7\n")

    paid = paid_where(cluster, {"working_dir": "code", "env_vars": {"WHERE": "there"}})

    assert (paid["price"], paid["variable"]) == (7, "there")
    brought = cluster.keeper.env["RAY_TMPDIR"]
    assert paid["code"].startswith(brought)
    assert paid["package"].startswith(brought)


@pytest.mark.everywhere("a virtual environment of its own takes Ray 10 to 30 s")
def test_a_package_that_a_runtime_env_names_is_installed_where_the_players_are(cluster: Cluster) -> None:
    cluster.shell.write("package/there.py", "PRICE = 9\n")
    build = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    cluster.shell.write("package/pyproject.toml", build + '[project]\nname = "there"\nversion = "1.0"\n')
    without_a_registry = {
        "packages": [str(cluster.shell.folder / "package")],
        "pip_install_options": ["--no-build-isolation", "--no-index"],
    }

    paid = paid_where(cluster, {"working_dir": "code", "pip": without_a_registry})

    assert paid["price"] == 9
    assert "/pip/" in paid["package"]


@pytest.mark.parametrize(
    ("runtime_env", "code", "told"),
    [
        ("{conda: no-such}", 4, "the nodes can't have what stage.runtime_env says: "),
        ("{pip: 5}", 1, "stage.runtime_env: runtime_env['pip'] must be of type str or List[str]"),
        ("{working_dir: nowhere}", 1, "stage.runtime_env.working_dir: there is no folder nowhere in "),
    ],
)
def test_a_runtime_env_that_can_not_be_is_told_of(cluster: Cluster, runtime_env: str, code: int, told: str) -> None:
    cluster.write_score(more=f"stage: {{runtime_env: {runtime_env}}}\n")

    assert_said(cluster.run("up", "shop.yaml"), code, told)


# What goes wrong


def test_where_there_is_no_cluster_a_sentence_says_what_to_do(shell: Shell) -> None:
    shell.write_shop()
    nowhere = {"RAY_ADDRESS": "127.0.0.1:1"}

    assert_said(shell.run("up", "shop.yaml", env=nowhere), 4, "no cluster answers at 127.0.0.1:1", "ray start --head")
    assert_said(shell.run("up", "shop.yaml", "--address", "127.0.0.1:1"), 4, "no cluster answers at 127.0.0.1:1")
    assert_said(shell.run("status", "--store", "ray:shop@127.0.0.1:1"), 4, "no cluster answers at 127.0.0.1:1")
    assert_said(shell.run("down", "shop", env=nowhere), 4, "no cluster answers")


def test_where_ray_is_not_installed_a_sentence_names_the_extra(shell: Shell) -> None:
    shell.write_shop()
    shell.write("without/ray/__init__.py", "raise ImportError(\"No module named 'ray'\")\n")
    env = {"PYTHONPATH": f"{shell.folder / 'without'}:{ROOT}"}

    for command in (
        ["up", "shop.yaml"],
        ["run", "shop.yaml", "--stage", "ray"],
        ["down", "shop"],
        ["status", "--store", "ray:shop"],
    ):
        assert_said(shell.run(*command, env=env), 4, "Ray is not installed here; pip install 'ensemble-band[ray]'")
    assert shell.run("run", "shop.yaml", env=env).code == 0


def test_a_band_that_is_not_up_is_named_with_those_that_are(cluster: Cluster) -> None:
    assert cluster.run("up", "shop.yaml").code == 0

    for command in (
        ["down", "nobody"],
        ["scale", "nobody", "pay", 1],
        ["join", "nobody", "loyalty.yaml"],
        ["leave", "nobody", "x"],
    ):
        assert_said(cluster.run(*command), 4, "there is no band 'nobody' up on this cluster; up are: ", cluster.name)
    assert_said(cluster.run("events", "--store", "ray:"), 4, "no band is named; write ray:NAME")


@pytest.mark.everywhere("it brings a band up three times, and tests/stage/on_ray/test_shards.py speaks to one too")
def test_a_band_in_several_shards_is_spoken_to_like_one_in_one(cluster: Cluster) -> None:
    cluster.write_score(more="stage: {shards: 3}\n")
    assert cluster.run("up", "shop.yaml", "--store", "kept").code == 0

    cluster.publish(*range(1, 13))
    paid = cluster.wait_for("order.paid", 12)

    assert {event["shard"] for event in paid} == {0, 1, 2}
    eventually(lambda: len(cluster.look("table", "tally")) == 12, "the tally", PATIENCE_S)
    [asked] = cluster.look("why", paid[0]["id"])[:1]
    assert "order.placed" in json.dumps(asked)
    cluster.write_score(more="stage: {shards: 2}\n")
    assert_said(cluster.run("up", "shop.yaml"), 4, "is up with 3 shards, and this score wants 2", "ensemble reshard")
    assert cluster.run("down", cluster.name).code == 0
    cluster.write_score()
    assert_said(cluster.run("up", "shop.yaml", "--store", "kept"), 4, "it has 3 shards, and one is asked for")


@pytest.mark.everywhere("tests/stage/on_ray/test_join.py says the same without a band")
def test_a_score_whose_player_has_the_name_of_another_cannot_join(cluster: Cluster) -> None:
    cluster.shell.write("loyalty.yaml", LOYALTY.replace("points:", "tally:").replace('"loyalty:points"', '"loyalty:points"'))
    assert cluster.run("up", "shop.yaml").code == 0

    clash = f"players.tally: the band {cluster.name} has another already; give one of them another name"
    assert_said(cluster.run("join", cluster.name, "loyalty.yaml"), 1, clash)
    cluster.publish(5)
    cluster.wait_for("order.paid", 1)


@pytest.mark.everywhere("two bands are brought up for it")
def test_a_name_that_is_taken_and_a_store_that_is_played_are_refused_and_their_band_plays_on(cluster: Cluster) -> None:
    assert cluster.run("up", "shop.yaml", "--store", "kept").code == 0

    taken = f"band {cluster.name} is up and keeps its log in {cluster.shell.folder / 'kept'}; this score would have it in "
    assert_said(cluster.run("up", "shop.yaml", "--store", "other"), 4, taken, "give this one another name")
    for stage in ("ray", "solo"):
        assert_said(cluster.run("run", "shop.yaml", "--stage", stage, "--store", "kept"), 4, "it is being played already")

    cluster.publish(5)
    cluster.wait_for("order.paid", 1)


def test_a_cluster_of_other_versions_is_refused_with_both(cluster: Cluster) -> None:
    cluster.shell.write(
        "other/sitecustomize.py",
        "import importlib.metadata as known\n"
        "real = known.version\n"
        "known.version = lambda name: '9.9' if name == 'ensemble-band' else real(name)\n",
    )

    ran = cluster.run("up", "shop.yaml", env={"PYTHONPATH": f"{cluster.shell.folder / 'other'}:{ROOT}"})

    assert_said(ran, 4, "the cluster does not have the versions of this process: ensemble 0.1.0 there, 9.9 here")


def test_a_cluster_that_cannot_answer_this_process_since_it_asks_for_a_token_is_told_of_at_once(cluster: Cluster) -> None:
    cluster.shell.write_orders(5)
    asks = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 32}

    began_s = time.monotonic()
    ran = cluster.run("run", "shop.yaml", "--stage", "ray", "--input", "orders.jsonl", env=asks)

    assert_said(ran, 4, "takes the one that opened the band for gone", "RAY_AUTH_MODE is not the same here (token)")
    assert time.monotonic() - began_s < PATIENCE_S / 4


def test_a_token_that_is_to_be_shown_and_is_not_there_is_a_sentence(cluster: Cluster) -> None:
    nothing = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(cluster.shell.folder / "none")}

    assert_said(cluster.run("status", "--store", cluster.store, env=nothing), 4, "can't be used: ", "RAY_AUTH_TOKEN")


@pytest.mark.parametrize("kind", [pytest.param("class", marks=pytest.mark.everywhere("as of a function")), "function"])
def test_a_player_that_the_nodes_cannot_import_is_told_of_with_its_node(
    cluster: Cluster, tmp_path_factory: Any, kind: str
) -> None:
    only_here: Path = tmp_path_factory.mktemp("only-here")
    code = {"class": "class Pay:\n    def __call__(self, event): ...\n", "function": "def Pay(event): ...\n"}[kind]
    (only_here / "only_here.py").write_text(code)
    cluster.write_score(('"shop:pay"', '"only_here:Pay"'))
    here = {"PYTHONPATH": f"{only_here}:{ROOT}"}

    told = cluster.run("up", "shop.yaml", env=here)
    if kind == "function":  # which is not tried before there is something to hear
        assert told.code == 0, told.err
        cluster.run("publish", "order.placed", '{"order_id": "o-1", "total": 5}', "--store", cluster.store)
        eventually(lambda: cluster.run("status", "--store", cluster.store).code, "the refusal", PATIENCE_S)
        told = cluster.run("status", "--store", cluster.store)

    assert_said(told, 1, "player pay can't be imported on ", "only_here")


# Last, since what it waits for takes time in which the others play


def test_an_instance_that_no_node_can_give_a_place_says_what_it_needs_and_waits_for_a_node_that_can(
    keeper: Keeper, hungry: subprocess.Popen[str]
) -> None:
    assert hungry.stderr is not None
    line = next(line for line in hungry.stderr if "waits for a place" in line)
    keeper.add_node({"num_cpus": 1, "resources": {"banana": 1}})
    out, _ = hungry.communicate(timeout=PATIENCE_S)

    assert "player pay: an instance waits for a place: it needs CPU 1, banana 1, and no node can ever give that" in line
    assert "the cluster's nodes have: CPU 16" in line
    assert hungry.returncode == 0
    assert out.startswith("hungry: played to the end; "), "what Ray says of nodes that are missing is no result"


@pytest.mark.everywhere("tests/stage/on_ray/test_beside_the_log.py says it of Python")
def test_somebody_is_forgotten_in_a_band_that_is_up(cluster: Cluster) -> None:
    cluster.write_score(("    key: order_id\n", "    key: order_id\n    personal: {subject: who, fields: [name]}\n"))
    assert_said(cluster.run("up", "shop.yaml"), 0)
    people = [{"order_id": f"o-{who}", "total": 5, "who": who, "name": f"SECRET-{who}"} for who in ("ella", "miles")]
    lines = "\n".join(json.dumps({"topic": "order.placed", "data": data}) for data in people)
    assert_said(cluster.run("publish", "-", "--store", cluster.store, stdin=lines), 0)

    assert_said(cluster.run("forget", "ella", "--store", cluster.store), 0)

    assert [event["data"]["name"] for event in cluster.look("events", "order.placed")] == ["(forgotten)", "SECRET-miles"]
    assert_said(cluster.run("forget", "mils", "--store", cluster.store), 1, "did you mean 'miles'")

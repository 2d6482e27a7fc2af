"""What is said of an instance that waits for a place: what it needs, and what the nodes have."""

from __future__ import annotations

import pytest

from ensemble.score.model import Section
from ensemble.stage.on_ray import cluster

LARGE = {"CPU": 4.0, "memory": 8e9, "node:10.0.0.7": 1.0, "object_store_memory": 1e9}
SMALL = {"CPU": 1.0, "there": 1.0}


@pytest.mark.parametrize(
    ("section", "available", "told"),
    [
        (Section(cpus=8), {"CPU": 5}, "it needs CPU 8, and no node can ever give that"),
        (Section(cpus=5), {"CPU": 5}, "it needs CPU 5, and no node can ever give that"),  # two nodes together could
        (Section(cpus=2, resources={"there": 1}), {"CPU": 5, "there": 1}, "it needs CPU 2, there 1, and no node can ever give"),
        (Section(cpus=0, gpus=1), {"CPU": 5}, "it needs GPU 1, and no node can ever give that"),
        (Section(cpus=4), {"CPU": 3}, "it needs CPU 4, and no node has room for it now"),
        (Section(cpus=1), {"CPU": 3}, "an instance has its place, and its process is still being started"),
    ],
)
def test_it_says_what_is_needed_and_whether_a_node_could_give_it(
    section: Section, available: dict[str, float], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [
        {"Alive": True, "Resources": LARGE},
        {"Alive": True, "Resources": SMALL},
        {"Alive": False, "Resources": {"CPU": 99}},
    ]
    monkeypatch.setattr(cluster, "_nodes", lambda: nodes)
    monkeypatch.setattr(cluster, "_available", lambda: available)

    text = cluster.shortage(section)

    assert told in text
    if "needs" in told:
        assert "the cluster's nodes have: CPU 4, memory 8e+09; CPU 1, there 1)" in text

"""How much memory an instance may take while it hears: most of what its node has left.

Owns the bound. Where a node runs out of memory, Ray's own monitor ends processes until enough is free, beginning with those
that it can start again: with the shard, each time anew, while the event that eats is never found. So an instance gets a
MemoryError before it comes to that: a failure of the event that it hears, with the line that asked for too much.

    data of this process after a batch  <=  its data before + SHARE * what was free then

Not bounded: what is shared (RLIMIT_DATA does not count it), and a process on a node that has next to nothing left, which is no
fault of what it hears. Knows no Ray, but for the variable that sets its monitor's threshold.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

SHARE = 0.9
"""How much of what is free one instance may take: the others live too, and grow meanwhile."""
LEAST_BYTES = 128 << 20
"""With less than that free a process is not bounded: what fails then is whoever asks next."""
THRESHOLD = 0.95
"""From which share of its memory on a node counts as full, unless `RAYS_OWN` says another."""
RAYS_OWN = "RAY_memory_usage_threshold"
REFRESH_S = 0.05
"""How long a bound holds for batches that follow each other quickly: finding it takes 0.1 ms."""

CGROUP = Path("/sys/fs/cgroup")


class Bound:
    """The bound of this process."""

    def __init__(self) -> None:
        self._before = resource.getrlimit(resource.RLIMIT_DATA)
        self._until_s = 0.0

    def set(self) -> None:
        """Bound what is taken from here on. A bound that somebody else has set is never widened."""
        now_s = time.monotonic()
        if sys.platform != "linux" or now_s < self._until_s:
            return
        self._until_s = now_s + REFRESH_S
        soft, hard = self._before
        free = free_bytes()
        if free > LEAST_BYTES:
            bound = _data_bytes() + int(SHARE * free)
            soft = bound if soft == resource.RLIM_INFINITY else min(soft, bound)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def free_bytes() -> int:
    """What can be taken on this node before it counts as full."""
    total, used = node_bytes()
    threshold = float(os.environ.get(RAYS_OWN, THRESHOLD))
    return int(threshold * total) - used


def _data_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()


def node_bytes() -> tuple[int, int]:
    """Bytes in all and bytes in use, of the machine or of the container that this is."""
    info = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(info[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable"))
    for limit, used, stat, cache in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        try:
            most = int((CGROUP / limit).read_text())
            if most < total:
                lines = dict(line.split() for line in (CGROUP / stat).read_text().splitlines())
                return most, int((CGROUP / used).read_text()) - int(lines[cache])
        except (OSError, ValueError, KeyError):  # no such group, or `max`
            continue
    return total, total - available

"""What was played, laid over what was declared: traffic, failures, lag, dead letters, and what is in one of them alone.

Owns the counts by node and edge. Must not know how they look.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from visualize.layout import Edge


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """What a store tells of a score, by the ids of the reaction graph."""

    count: Mapping[Edge, int] = {}
    """Events that went over an edge."""
    rate: Mapping[str, float] = {}
    """Of each player's attempts, the share that failed."""
    dead: Mapping[str, int] = {}
    badges: Mapping[str, str] = {}
    """What stands under a name: how many events, lag."""
    seen: frozenset[str] = frozenset()
    undeclared: frozenset[str] = frozenset()
    """Nodes that were seen and that the score does not have."""
    undeclared_edges: frozenset[Edge] = frozenset()

    def width(self, a: str, b: str) -> float:
        """How wide an edge is: by the logarithm of its traffic, since that spans powers of ten."""
        count, most = self.count.get((a, b), 0), max(self.count.values(), default=0)
        return 1.0 if not count else 1.2 + 5.0 * math.log1p(count) / math.log1p(most)

    def edge_rate(self, a: str, b: str) -> float:
        """The share of failures of who hears, else of who says."""
        return self.rate.get(b, 0.0) if b.startswith("player:") else 0.0

    def told(self, a: str, b: str) -> str:
        count = self.count.get((a, b), 0)
        if not count:
            return "never seen"
        rate = self.edge_rate(a, b)
        return f"{count:,} event{'' if count == 1 else 's'}" + (f", {rate:.1%} of attempts failed" if rate else "")

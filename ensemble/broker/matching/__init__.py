"""The broker's ear for motifs of several events: an automaton a key, fed event by event, never looking back.

What a motif means is written down in docs/motifs.md; `tests/broker/matching/oracle.py` says it once more, slowly. Pure: no
clock, no I/O; the same events at the same times give the same matches.

    pattern.py  a motif made ready: nodes and leaves, what never changes while it is listened for
    runs.py     partial matches: where each stands in its pattern
    matcher.py  all partial matches of one motif, by key, and their timers
    listening.py  all motifs of a shard: how a match becomes an event of the frame that completed it
"""

from ensemble.broker.matching.listening import Listening
from ensemble.broker.matching.matcher import Match, Matcher
from ensemble.broker.matching.pattern import Pattern

__all__ = ["Listening", "Match", "Matcher", "Pattern"]

"""The motif: the pattern of events that a player listens for.

Knows no score file, broker or clock: how a duration and a condition are read is given to the grammar.

    tree.py     the pattern as a tree, and what can be read off it
    topic.py    topics and topic patterns
    grammar.py  from a document to the tree
"""

from ensemble.motif.grammar import KEYS, KINDS, LABEL, PARTS, PATH, RESERVED_LABELS, At, Grammar, Report, parse
from ensemble.motif.topic import LONGEST_TOPIC, is_pattern, matches, overlap, pattern_fault
from ensemble.motif.tree import (
    PLAIN,
    UNBOUNDED,
    AllOf,
    AnyOf,
    Count,
    How,
    Maybe,
    Motif,
    Next,
    Not,
    Seq,
    Topic,
    Window,
    alternatives,
    document,
    is_range,
    is_soft,
    leaves,
    repeated,
    tells_time,
    topics,
    walk,
)

__all__ = [
    "KEYS", "KINDS", "LABEL", "LONGEST_TOPIC", "PARTS", "PATH", "PLAIN", "RESERVED_LABELS", "UNBOUNDED", "AllOf", "AnyOf",
    "At", "Count", "Grammar", "How", "Maybe", "Motif", "Next", "Not", "Report", "Seq", "Topic", "Window", "alternatives",
    "document", "is_pattern", "is_range", "is_soft", "leaves", "matches", "overlap", "parse", "pattern_fault", "repeated",
    "tells_time", "topics", "walk",
]  # fmt: skip

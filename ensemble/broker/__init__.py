"""The sans-IO core of one shard: what is decided, and the state that is folded from the log.

No clock, disk, thread or Ray in here: time comes in as a number, frames go out as values.

    state.py    what is durable: a fold over frames (`apply`), live and on recovery by the same code
    routing.py  which events concern a section
    section.py  what is not durable: whose turn it is (lanes of keys, retries, what is in flight)
    words.py    what goes in: publications and outcomes
    failure.py  how failures are told and timed
    broker.py   decisions: publish, hear, fire, hear again; each gives one frame and applies it
"""

from ensemble.broker.broker import Broker
from ensemble.broker.routing import Listener
from ensemble.broker.section import Batch, Section
from ensemble.broker.state import State
from ensemble.broker.words import Failure, Later, Opening, Outcome, Policy, Publication, Said

__all__ = [
    "Batch", "Broker", "Failure", "Later", "Listener", "Opening", "Outcome", "Policy", "Publication", "Said", "Section",
    "State",
]  # fmt: skip

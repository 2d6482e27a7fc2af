"""Players: user code, made ready, built and called. Whoever plays it hands it a `Work`, and gets an `Outcome`."""

from ensemble.player.codec import StateCodec
from ensemble.player.context import Context
from ensemble.player.hearing import GivenUp, Hearing
from ensemble.player.player import Instance, Player
from ensemble.player.work import Work, hearing_of

__all__ = ["Context", "GivenUp", "Hearing", "Instance", "Player", "StateCodec", "Work", "hearing_of"]

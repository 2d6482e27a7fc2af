"""Yesterday's events through today's code (docs/replay.md): `replay`, and `promote`, which makes what came out the truth."""

from ensemble.replay.comparing import difference_of
from ensemble.replay.difference import Change, Difference, TableChange
from ensemble.replay.promoting import Promotion, promote
from ensemble.replay.replaying import Replay, replay

__all__ = ["Change", "Difference", "Promotion", "Replay", "TableChange", "difference_of", "promote", "replay"]

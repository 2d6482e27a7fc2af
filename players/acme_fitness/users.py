"""Users: a name belongs to whoever registers it first.

Typed: the annotations say what is heard and what may be said, and both are checked. Passwords and log-in tokens stay
with the web server in front: a durable log is no place for secrets.
"""

from __future__ import annotations

import msgspec

from ensemble import Context
from players.acme_fitness.events import RegistrationRequested, UserRefused, UserRegistered


def register(asked: RegistrationRequested, ctx: Context) -> UserRegistered | UserRefused:
    if ctx.state:
        return UserRefused(asked.user_id, reason=f"the name {asked.user_id} is taken")
    ctx.state.update(msgspec.to_builtins(asked))
    return UserRegistered(asked.user_id, asked.email)

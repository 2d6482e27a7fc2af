"""Somebody forgotten, in a store that anybody plays, or nobody: `ensemble.forget`.

Owns who is asked: the band that plays the store, or the store itself. docs/forget.md has the meaning.
"""

from __future__ import annotations

from contextlib import ExitStack

from ensemble.errors import Unavailable
from ensemble.log import count_shards, hold, takes
from ensemble.opening import connect
from ensemble.stage.door import knock, store_folder
from ensemble.stage.front import refuse_unknown


def forget(url: str, subject: str) -> int:
    """Make a subject's data unreadable for good, wherever the store has it, in all its takes; how many keys were destroyed.

    A band that plays the store, or a take of it, is asked, and drops what it has in memory. What nobody plays is opened for
    writing. `ray:NAME` is a band that is up on Ray, and means the log that it plays.
    Errors: KeyError if there is no data of such a subject; Unavailable if there is no such store, or it can't be written now.
    """
    from ensemble.log.forgetting import forgetting_of

    if url.startswith("ray:"):
        with connect(url) as band:
            return band.forget(subject)
    store, _ = takes.split(url)
    if count_shards(f"{store}#{takes.MAIN}") is None:
        raise Unavailable(f"store {url}: there is no store; check the url, or play a score with this store first")
    with ExitStack() as stack:  # all of them first: what is in use is refused before anything is destroyed
        logs, guests = [], []
        for take in (takes.MAIN, *takes.names(store)):
            folder = store_folder(f"{store}#{take}")
            guest = None if folder is None else knock(folder, url)
            if guest is not None:
                guests.append(stack.enter_context(guest))
            else:
                held = stack.enter_context(hold(store, take))
                logs += [log for log in map(forgetting_of, held) if log is not None]
        # What a band has in memory of a take's past comes from its parent, so that goes first.
        count, unknown = sum(log.forget(subject) for log in logs), None
        for guest in guests:
            try:
                count += guest.forget(subject)
            except KeyError as error:  # nobody of this name in that one; perhaps in another
                unknown = error
        if not count:
            if unknown is not None and not logs:
                raise unknown
            if not logs:
                raise KeyError(
                    f"store {url}: nothing in it is personal, so nobody can be forgotten; write personal: in the events: of "
                    "its score (docs/forget.md), for what is said from then on"
                )
            refuse_unknown(subject, [log.ring for log in logs], f"store {url}")
        return count

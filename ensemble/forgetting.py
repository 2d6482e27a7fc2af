"""Somebody forgotten, in a store that anybody plays, or nobody: `ensemble.forget`.

Owns who is asked: the band that plays the store, or the store itself. docs/forget.md has the meaning.
"""

from __future__ import annotations

from contextlib import ExitStack

from ensemble.errors import Unavailable
from ensemble.log import count_shards, open_log
from ensemble.stage.door import knock, store_folder
from ensemble.stage.front import refuse_unknown


def forget(url: str, subject: str) -> int:
    """Make a subject's data unreadable for good, wherever the store has it; how many keys were destroyed.

    A band that plays the store is asked, and drops what it has in memory. If nobody plays it, it is opened for writing.
    Errors: KeyError if there is no data of such a subject; Unavailable if there is no such store, nothing in it is personal,
    or it can't
            be written now.
    """
    from ensemble.log.forgetting import ForgettingLog

    if url.startswith("ray:"):
        raise Unavailable(
            f"store {url}: {subject!r:.80} can't be forgotten while a band plays on Ray; take it down first "
            f"(ensemble down {url.removeprefix('ray:')}), and name the store that it plays"
        )
    folder = store_folder(url)
    guest = None if folder is None else knock(folder, url)
    if guest is not None:
        with guest:
            return guest.forget(subject)
    shards = count_shards(url)
    if shards is None:
        raise Unavailable(f"store {url}: there is no store; check the url, or play a score with this store first")
    with ExitStack() as stack:  # all of them first: what is in use is refused before anything is destroyed
        logs = []
        for shard in range(shards):
            log = open_log(url, name="", create=False, shard=shard, shards=shards, takes_over=False)
            stack.callback(log.close)
            if isinstance(log, ForgettingLog):
                logs.append(log)
        if not logs:
            raise Unavailable(
                f"store {url}: nothing in it is personal, so nobody can be forgotten; write personal: in the events: of "
                f"its score "
                "(docs/forget.md), for what is said from then on"
            )
        refuse_unknown(subject, [log.ring for log in logs], f"store {url}")
        return sum(log.forget(subject) for log in logs)

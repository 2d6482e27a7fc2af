"""`ensemble reshard`: a store is divided anew, while nobody plays it."""

from __future__ import annotations

from typing import Annotated

import typer

from ensemble.cli.options import Json, store_url, usage
from ensemble.cli.terminal import counted, result, result_json, talk


def reshard(
    store: Annotated[
        str, typer.Argument(metavar="STORE", help="The store: its folder, or the score that names it.", show_default=False)
    ],
    shards: Annotated[int, typer.Argument(metavar="N", help="How many shards it is to have, 1 to 1024.", show_default=False)],
    json: Json = False,
) -> None:
    """Divide a store anew into so many shards. Nobody may play it meanwhile; what it was is kept beside it.

    Events keep their ids and the order of each key, players their state and what they have not heard yet. Interrupted at any
    moment, the store is as it was, or done.
    """
    import msgspec

    from ensemble.log.division import MOST
    from ensemble.resharding import reshard

    if not 1 <= shards <= MOST:
        usage(f"{shards} shards: a store has 1 to {MOST} of them")
    url = store if store.startswith(("ray:", "memory:")) else store_url(store)
    done = reshard(url, shards)
    if json:
        result_json(msgspec.structs.asdict(done))
        return
    if done.kept is None:
        talk(f"store {url} has {counted(shards, 'shard')} already; nothing was changed", sign="note")
        return
    events = counted(done.events, "event")
    result(f"{done.name}: {counted(shards, 'shard')} instead of {done.before}; {events} in {done.took_s:.1f} s")
    talk(f"what it was is kept in {done.kept}; remove it when you need it no more", sign="note")
    playing = f"stage: {{kind: ray, shards: {shards}}}" if shards > 1 else "one shard, on any stage"
    result(f"next  play it with {playing}")


COMMANDS = (("reshard", reshard, "ensemble reshard .ensemble/acme-fitness 4"),)

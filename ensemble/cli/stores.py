"""`ensemble reshard` and `ensemble trim`: a store is divided anew, or made smaller, while nobody plays it."""

from __future__ import annotations

from typing import Annotated

import typer

from ensemble.cli.options import Json, Store, store_url, usage
from ensemble.cli.terminal import counted, result, result_json, sized, talk


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


def trim(
    named: Annotated[
        str | None,
        typer.Argument(
            metavar="[STORE]", help="The store: its folder or url, or a score, which says what goes, too.", show_default=False
        ),
    ] = None,
    store: Store = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.", show_default=False)] = False,
    json: Json = False,
) -> None:
    """Make a store smaller: what goes is what its score says, under retain:, compact: and compress:.

    Nobody may play it meanwhile; a band that plays does the same by itself. A score that is named rules in place of the one
    that was played last. What somebody has not heard yet, what waits and what is dead stays.
    """
    import msgspec

    from ensemble.score import load
    from ensemble.trimming import trim_store

    score = load(named) if named is not None and named.endswith((".yaml", ".yml")) else None
    if named is not None and store is not None and score is None:
        usage(f"{named} and --store {store} name a store each; name one of them, or a score and its store")
    url = store_url(named if store is None else store)
    done = trim_store(url, score, is_rehearsal=dry_run)
    if json:
        result_json({**msgspec.structs.asdict(done), "removed": [msgspec.structs.asdict(each) for each in done.removed]})
        return
    for each in done.removed:
        result(f"{counted(each.events, 'event')} of offsets {each.first:,} to {each.end - 1:,} by {each.rule}")
    would = "would have" if dry_run else "has"
    result(f"{done.name}: {would} {sized(done.after)} instead of {sized(done.before)}")
    if not done.removed:
        from ensemble.log.takes import names, strays

        if standing := names(url):
            why = f"from a store that has takes nothing is taken, and there is {', '.join(standing)}: ensemble take drop NAME"
            talk(why, sign="note")
        elif damaged := strays(url):
            why = f"nothing is taken, as takes may have lost their manifests: {', '.join(damaged)}; mend or remove them"
            talk(why, sign="note")
        elif done.after == done.before:
            stays = "the newest segment, what came after the newest snapshot but one, and what was not heard by all"
            talk(f"nothing may go yet: {stays}, stay (docs/size.md)", sign="note")


COMMANDS = (
    ("reshard", reshard, "ensemble reshard .ensemble/acme-fitness 4"),
    ("trim", trim, "ensemble trim scores/acme_fitness.yaml --dry-run"),
)

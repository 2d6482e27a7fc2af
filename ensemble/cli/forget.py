"""`ensemble forget`: one person's data is made unreadable, for good."""

from __future__ import annotations

from typing import Annotated

import typer

from ensemble.cli.options import Json, Store, store_url
from ensemble.cli.terminal import counted, result, result_json, talk


def forget(
    subject: Annotated[
        str,
        typer.Argument(metavar="SUBJECT", help="Who: what personal: {subject: ...} of the score reads.", show_default=False),
    ],
    store: Store = None,
    json: Json = False,
) -> None:
    """Make one person's data unreadable for good, in log, snapshots, dead letters and tables.

    Their key is destroyed; nothing can bring it back. The log's bytes stay, so its audit is good and its replays run. A band
    that
    plays the store drops what it has in memory.
    """
    from ensemble.forgetting import forget

    url = store_url(store)
    keys = forget(url, subject)
    if json:
        result_json({"subject": subject, "url": url, "keys": keys})
        return
    whose = subject or "what is nobody's"
    result(f"{whose}: forgotten in {url}; {counted(keys, 'key')} destroyed")
    talk("what was said outside of it, and copies of its key ring, are yours (docs/forget.md)", sign="note")


COMMANDS = (("forget", forget, "ensemble forget c-4711 --store .ensemble/shop"),)

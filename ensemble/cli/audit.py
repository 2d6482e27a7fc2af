"""`ensemble audit`: whether a store is as it was written, and what proves it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensemble.cli.codes import Code
from ensemble.cli.options import Json, store_url, usage
from ensemble.cli.terminal import counted, result, result_columns, result_json, sized, talk

if TYPE_CHECKING:
    from ensemble.auditing import Audit


def audit(
    store: Annotated[
        str | None,
        typer.Argument(metavar="STORE", help="The store: its folder or url, or the score that names it.", show_default=False),
    ] = None,
    anchor: Annotated[
        str | None,
        typer.Option(
            "--anchor",
            metavar="URL",
            help="Where heads of the log are kept, outside of it: a path, or a url of s3, gs, az or https. All are checked.",
            show_default=False,
        ),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(
            "--sign", metavar="FILE", help="Add the head as of now, signed by this key, if all is good.", show_default=False
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY", help="The public key by which all anchors must be signed.", show_default=False),
    ] = None,
    new_key: Annotated[
        Path | None, typer.Option("--new-key", metavar="FILE", help="Make a key to sign with, and end.", show_default=False)
    ] = None,
    who: Annotated[bool, typer.Option("--who", help="Tell who said what, and how often.", show_default=False)] = False,
    tables: Annotated[
        bool, typer.Option("--tables", help="Hold the tables against what all of the log adds up to.", show_default=False)
    ] = False,
    archive: Annotated[
        str | None,
        typer.Option(
            "--archive",
            metavar="URL",
            help="Where the archive of its past lies, if not where the log says.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Look at every byte of a store, and tell all that is not as it was written.

    It takes no lock and changes nothing. Exit code 0 if all is as it was written, 4 if not. That the end was not cut off is
    proven
    by anchors alone, which are kept outside of the store.
    """
    if new_key is not None:
        _make_key(new_key, json, others=any((store, anchor, sign, key, who, tables, archive)))
        return
    if anchor is None and (sign is not None or key is not None):
        usage("--sign and --key are about anchors; say where these are: --anchor URL")
    from ensemble.auditing import audit

    done = audit(store_url(store), anchor=anchor, sign=sign, key=key, who=who, tables=tables, archive=archive)
    if json:
        result_json(_json(done, who=who, tables=tables))
    else:
        _show(done, who=who, tables=tables)
    if not done.is_whole:
        raise typer.Exit(Code.STORE)


def _make_key(path: Path, json: bool, *, others: bool) -> None:
    from ensemble.log.audit.anchor import new_key

    if others:
        usage("--new-key only makes a key; audit with another command")
    public = new_key(path)
    if json:
        result_json({"key": str(path), "public": public})
        return
    result(public)
    talk(
        f"{path} signs anchors: keep it where who runs the store can't read it. Those who check need {path}.pub or these "
        f"digits only",
        sign="note",
    )


def _show(done: Audit, *, who: bool, tables: bool) -> None:
    for finding in done.findings:
        result(str(finding), style="bold red")
    for note in done.notes:
        talk(note, sign="note", style="yellow")
    if done.logs:
        size = f"{counted(done.events, 'event')} in {counted(done.frames, 'frame')}, {sized(done.bytes)}"
        what = f"{size}, {counted(len(done.logs), 'log')}; {done.took_s:.1f} s"
        verdict = "as it was written" if done.is_whole else f"not as it was written: {counted(len(done.findings), 'finding')}"
        result(f"{done.name or done.url}: {verdict}; {what}", style="bold")
    for past in done.archives:
        events, frames = past.end.offset - past.begin.offset, past.end.seq - past.begin.seq
        size = f"{counted(events, 'event')} in {counted(frames, 'frame')}, {sized(past.bytes)}"
        result(f"archive  {past.url}: {size}; the log goes on from there")
    held = done.anchored
    if held is not None:
        by = f"signed by {held.key}" if held.key else "by whatever key signed them; --key says which one it must be"
        added = f", {held.added} added" if held.added else ""
        result(f"anchors  {held.checked} checked{added}; {by}")
    elif done.is_whole:
        talk(
            "no anchor was checked, so the end may have been cut off; --anchor URL keeps it outside (docs/audit.md)",
            sign="note",
        )
    if tables and done.tables:
        result()
        result_columns(("table", "keys compared"), list(done.tables.items()))
    if who and done.who:
        result()
        result_columns(
            ("source", "topic", "events", "first", "last"),
            [
                (each.source, each.topic, each.events, f"{each.first:%Y-%m-%d %H:%M:%S}", f"{each.last:%Y-%m-%d %H:%M:%S}")
                for each in done.who
            ],
        )


def _json(done: Audit, *, who: bool, tables: bool) -> dict[str, Any]:
    import msgspec

    told: dict[str, Any] = {
        "name": done.name,
        "url": done.url,
        "whole": done.is_whole,
        "events": done.events,
        "frames": done.frames,
        "bytes": done.bytes,
        "findings": [msgspec.structs.asdict(finding) for finding in done.findings],
        "notes": done.notes,
        "logs": [
            {
                "id": log.id,
                "take": log.take,
                "shard": log.shard,
                "seq": log.end.seq,
                "offset": log.end.offset,
                "hash": log.end.hash.hex(),
                "time_us": log.end.time_us,
            }
            for log in done.logs
        ],
        "took_s": done.took_s,
    }
    if done.archives:
        told["archives"] = [
            {
                "url": past.url,
                "shard": past.shard,
                "offsets": [past.begin.offset, past.end.offset],
                "seqs": [past.begin.seq, past.end.seq],
                "hash": past.end.hash.hex(),
                "bytes": past.bytes,
            }
            for past in done.archives
        ]
    if done.anchored is not None:
        told["anchors"] = msgspec.structs.asdict(done.anchored)
    if who:
        told["who"] = [msgspec.structs.asdict(each) for each in done.who]
    if tables:
        told["tables"] = dict(done.tables)
    return told


COMMANDS = (("audit", audit, "ensemble audit .ensemble/acme-fitness --who"),)

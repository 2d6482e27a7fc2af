"""The options that many commands have, and which store is meant."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ensemble.cli.terminal import quoted


def take_name(text: str | None) -> str | None:
    """What a take may be called, as it is; anything else is wrong usage."""
    if text is not None:
        from ensemble.errors import Unavailable
        from ensemble.log.takes import check_name

        try:
            check_name(text)
        except Unavailable as error:
            usage(str(error))
    return text


Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="The store: its folder, or the score that names it. Left out: the one store below .ensemble/.",
        show_default=False,
    ),
]
Take = Annotated[
    str | None,
    typer.Option(
        "--take", metavar="NAME", help="A take of the store. Left out: the current one.", callback=take_name, show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.", show_default=False)]
Key = Annotated[str | None, typer.Option("--key", help="Only events of this key.", show_default=False)]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="WHEN",
        help="From here on: an offset, an event's time (2011-11-01T08:16:00Z, 2011-11-01), or how long ago (30m).",
        show_default=False,
    ),
]

At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="WHEN",
        help="As it was before an offset (of several shards: 17,4) was written, or at a time (2011-11-01T08:16:00Z, "
        "2011-11-01, or 30m: so long ago).",
        show_default=False,
    ),
]

STORES = Path(".ensemble")


def usage(why: str) -> NoReturn:
    """End with exit code 2, as for any wrong usage."""
    raise typer.BadParameter(why)


PARTS = ("ensemble.json", "shard-0", "shards.json")
"""What is in the folder of a store, whole or damaged."""


def store_url(given: str | None, take: str | None = None) -> str:
    """The url of the store that is meant by `--store`, or by leaving it out; of the take that `--take` or `#NAME` names.

    Errors: Unavailable where there is none; wrong usage where there are several.
    """
    from ensemble.errors import Unavailable
    from ensemble.log.takes import split

    try:
        store, named = (None, None) if given is None else split(given)
    except Unavailable as error:
        usage(str(error))
    if take is not None and named not in (None, take):
        usage(f"--store names the take {named}, and {take} is asked for; name one")
    url, named = _bare_url(store), take or named
    return url if named is None else f"{url}#{named}"


def _bare_url(given: str | None) -> str:
    from ensemble.errors import Unavailable

    if given is not None:
        return _there(_store_of_score(given) if given.endswith((".yaml", ".yml")) else given)
    found = _stores_in(STORES)
    if not found:
        raise Unavailable(
            f"there is no store below {STORES}/ in {Path.cwd()}; play a score first (ensemble run SCORE), "
            "or say which: --store URL"
        )
    if len(found) > 1:
        usage(f"there are {len(found)} stores below {STORES}/; say which: --store {' | '.join(map(quoted, found))}")
    return found[0]


def _stores_in(folder: Path) -> list[str]:
    from ensemble.log import has_log

    # What is current there may be gone: then it is a store all the same.
    return sorted(str(path) for path in folder.iterdir() if has_log(f"{path}#main")) if folder.is_dir() else []


def _there(url: str) -> str:
    """The url, if a store is there or is left there damaged.

    Errors: Unavailable, with what to write instead: these commands only look, so a new folder is no advice.
    """
    from ensemble.errors import Unavailable
    from ensemble.log import place_of
    from ensemble.score.finding import nearest

    is_folder = bool(url) and not url.startswith("ray:") and place_of(url)[0] == "directory"
    folder = Path(place_of(url)[1]) if is_folder else None
    if folder is None or folder.is_file() or any((folder / part).exists() for part in PARTS):
        return url
    inside = _stores_in(folder)
    if inside:
        raise Unavailable(f"store {url}: this folder is no store, but has some: --store {' | '.join(map(quoted, inside))}")
    beside = _stores_in(folder.parent)
    near = nearest(folder.name, [Path(each).name for each in beside])
    if near is not None:
        raise Unavailable(f"store {url}: there is no store; did you mean --store {quoted(folder.parent / near)}?")
    there = f"; there {'is' if len(beside) == 1 else 'are'} {', '.join(map(quoted, beside))}" if beside else ""
    raise Unavailable(
        f"store {url}: there is no store{there or ' nor any beside it'}; check the path, or play a score into it first: "
        f"ensemble run SCORE --store {quoted(url)}"
    )


def _store_of_score(path: str) -> str:
    import ensemble
    from ensemble.errors import Unavailable

    url = ensemble.load(Path(path)).store.url
    if url.startswith("memory:"):
        raise Unavailable(
            f"{path} keeps its log in memory, which is gone when it ends; play it with --store .ensemble/NAME, and look there"
        )
    return url


def pattern(text: str) -> str:
    """A topic pattern, once it is one."""
    from ensemble.motif import pattern_fault

    fault = pattern_fault(text)
    if fault is not None:
        usage(f"{fault[0]}; {fault[1]}")
    return text


def place(text: str | None, option: str = "--at") -> int | datetime | str | list[int] | None:
    """A place in the past: a moment, the id of an event, or an offset for each shard."""
    from ensemble.log.cut import OFFSET_DIGITS

    if text is not None and re.fullmatch(rf"\d{{1,{OFFSET_DIGITS}}}(,\d{{1,{OFFSET_DIGITS}}})+", text):
        return [int(each) for each in text.split(",")]
    return text if text is not None and is_id(text) else moment(text, option)


def is_id(text: str) -> bool:
    """Whether it is neither a number, nor a time, nor a duration."""
    from ensemble.score.units import duration_us

    if text[:1].isdigit() and (text.isdecimal() or text[4:5] == "-"):
        return False
    try:
        duration_us(text)
    except (ValueError, OverflowError):
        return True
    return False


def moment(text: str | None, option: str) -> int | datetime | None:
    """An offset, or a time: as RFC 3339, as a date (its midnight, UTC), or as how long ago."""
    if text is None:
        return None
    from ensemble.log.cut import OFFSET_DIGITS
    from ensemble.score.units import duration_us

    if text.isdecimal() and len(text) <= OFFSET_DIGITS:
        return int(text)

    try:
        return datetime.now(UTC) - timedelta(microseconds=duration_us(text))
    except (ValueError, OverflowError):
        pass
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        usage(
            f"{option} {text!r:.80} is no offset (12), no time (2011-11-01T08:16:00Z), no date (2011-11-01) and no duration "
            "(30m)"
        )
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        return time.replace(tzinfo=UTC)
    if time.tzinfo is None:
        usage(f"{option} {text!r} has no time zone; add Z, or an offset such as +01:00")
    return time

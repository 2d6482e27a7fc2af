"""Files of scores as text: whatever lies there, it is text within bounds, or a finding that says why not."""

from __future__ import annotations

from pathlib import Path

from ensemble.score.finding import nearest
from ensemble.score.tree import Unreadable

LARGEST = 8 << 20
"""Bytes of a file."""


def read_file(path: str) -> str:
    """The text of a file.

    Errors: Unreadable.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST + 1)
    except IsADirectoryError:
        raise Unreadable("score-file", "it is a folder; name the score's file in it", path) from None
    except FileNotFoundError:
        raise Unreadable("score-file", f"there is no such file; {_other_files(path)}", path) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Unreadable("score-file", f"it can't be read: {reason}; check the path and its permissions", path) from None
    return decoded(data, path)


def _other_files(path: str) -> str:
    folder, name = Path(path).parent, Path(path).name
    try:
        names = sorted(each.name for each in folder.iterdir() if each.suffix in (".yaml", ".yml"))
    except OSError:
        return f"there is no folder {folder} either; check the path"
    near = nearest(name, names)
    return f"did you mean {folder / near}?" if near else "check the path"


def decoded(data: bytes, file: str) -> str:
    """Bytes as text.

    Errors: Unreadable if they are too many, no UTF-8, or no text at all.
    """
    if len(data) > LARGEST:
        raise Unreadable(
            "score-file",
            f"it is larger than {LARGEST >> 20} MiB, so it is no score; events belong in a file that a source names",
            file,
        )
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable("score-text", "it is written in UTF-16; save it as UTF-8", file)
    if b"\0" in data[:4096]:
        raise Unreadable("score-text", "it is a binary file, not text; name a score in YAML", file)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise Unreadable(
            "score-text", f"byte {data[error.start]:#04x} is not UTF-8; save the file as UTF-8", file, line, column
        ) from None
    return text.removeprefix("\ufeff")

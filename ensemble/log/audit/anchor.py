"""An anchor: the head of a log, signed, to be kept where who can write the log can't write (docs/audit.md).

Owns its text, its signature, and the keys. Where anchors are kept is `anchors.py`'s.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from ensemble.errors import Unavailable
from ensemble.log.base import Position
from ensemble.log.files import refusal

FORMAT = 1


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    anchor: int
    at: str
    hash: str
    key: str
    log: str
    offset: int
    seq: int
    shard: int
    sig: str
    time_us: int


_decoder = msgspec.json.Decoder(_Line)


class Anchor(msgspec.Struct, frozen=True):
    """The place up to which a shard of a log went when it was anchored."""

    log: str
    shard: int
    head: Position
    at: str
    """When it was anchored, RFC 3339."""
    key: str
    """Who signed it: the public key, in 64 hexadecimal digits."""


def sign(log: str, shard: int, head: Position, key: Ed25519PrivateKey) -> bytes:
    """A new anchor, as a line without its end."""
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    said = {
        "anchor": FORMAT, "at": at, "hash": head.hash.hex(), "key": name_of(key.public_key()), "log": log,
        "offset": head.offset, "seq": head.seq, "shard": shard, "time_us": head.time_us,
    }  # fmt: skip
    return _text({**said, "sig": key.sign(_text(said)).hex()})


def read(line: bytes) -> Anchor:
    """The anchor of a line.

    Errors: ValueError, which says what is wrong with it.
    """
    try:
        wire = _decoder.decode(line)
        if wire.anchor != FORMAT:
            raise ValueError(f"it has format {wire.anchor}, this version knows {FORMAT}")
        said = msgspec.structs.asdict(wire)
        signature = bytes.fromhex(said.pop("sig"))
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(wire.key)).verify(signature, _text(said))
        head = Position(wire.seq, wire.offset, bytes.fromhex(wire.hash), wire.time_us)
    except InvalidSignature:
        raise ValueError("its signature does not fit: it was changed, or made up") from None
    except msgspec.DecodeError as error:
        raise ValueError(f"it is no anchor: {error}") from None
    if line != _text({**said, "sig": wire.sig}):
        raise ValueError("it is not written as an anchor is: it was changed")
    return Anchor(wire.log, wire.shard, head, wire.at, wire.key)


def _text(said: dict[str, Any]) -> bytes:
    return json.dumps(said, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8", "surrogatepass")


# Keys


def new_key(path: Path) -> str:
    """Make a key to sign with, in a file that only its user can read, its public half beside it in `.pub`; that comes back.

    Errors: Unavailable if the file is there already, or can't be written.
    """
    key = Ed25519PrivateKey.generate()
    public = name_of(key.public_key())
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            os.fsync(fd)
        path.with_name(path.name + ".pub").write_text(public + "\n")
    except FileExistsError:
        raise Unavailable(
            f"key {path}: the file is there already, and may be the key of anchors; choose another name"
        ) from None
    except OSError as error:
        raise refusal(f"key {path}: can't be written", error) from error
    return public


def private_key(path: Path) -> Ed25519PrivateKey:
    """The key in a file that `new_key` made, or any Ed25519 key in PEM without a password.

    Errors: Unavailable if it can't be read, or is none.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise refusal(f"key {path}: can't be read", error) from error
    except (ValueError, TypeError) as error:
        raise Unavailable(
            f"key {path}: this is no private key in PEM without a password; ensemble audit --new-key FILE makes one"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Unavailable(f"key {path}: this is no Ed25519 key; ensemble audit --new-key FILE makes one")
    return key


def public_name(given: str) -> str:
    """The public key that is meant: by its 64 digits, or by the file that has them.

    Errors: Unavailable if neither.
    """
    text = given.strip().lower()
    if len(text) != 64 and Path(given).is_file():
        text = Path(given).read_text(errors="replace").strip().lower()
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise Unavailable(
            f"key {given!r:.80}: a public key has 64 hexadecimal digits; give them, or the file FILE.pub that "
            "ensemble audit --new-key FILE made"
        )
    return text


def name_of(key: Ed25519PublicKey) -> str:
    """A public key as it stands in anchors."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

"""A payload with what is personal in it encrypted, and back (docs/forget.md, "Bytes").

Owns what is in the ciphertext, and what is read of it once its key is gone. Knows no ring and no frame.

    decrypt(encrypt(payload, rule, key), key) = payload          (byte for byte)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ensemble.errors import LogCorrupt
from ensemble.event import EPOCH, decode, encode
from ensemble.log.envelope import Envelope, envelope_of, sealed
from ensemble.score.personal import Rule

FORGOTTEN = "(forgotten)"
"""What stands for a text."""

NONCE_BYTES = 12


class Key(NamedTuple):
    """What encrypts one subject's data."""

    id: bytes
    subject: str
    cipher: AESGCM


_secrets = msgspec.msgpack.Decoder(list[Any])


def encrypt(payload: bytes, data: Any, rule: Rule, key: Key) -> bytes:
    """The payload as it is kept; the same where nothing that is personal is in it. `data` is what it says."""
    taken: list[Any] = []
    blank = data
    if rule.fields and isinstance(data, dict) and encode(data) == payload:
        for path in rule.fields:
            blank = _without(blank, path, (), rule.names, taken)
        if not taken:
            return payload
        shown = encode(blank)
    else:
        taken = [payload]
        shown = encode(neutral(data, rule.names)) if rule.blank is None else rule.blank
    nonce = os.urandom(NONCE_BYTES)
    return sealed(Envelope(key.id, nonce, key.cipher.encrypt(nonce, encode(taken), key.id), shown))


def decrypt(payload: bytes, key: Key) -> bytes:
    """The payload as it was.

    Errors: LogCorrupt if it was not encrypted by this key.
    """
    body = envelope_of(payload)
    taken = _taken(body, key)
    if isinstance(taken[0], bytes):
        whole: bytes = taken[0]
        return whole
    data = decode(body.blank)
    for path, value in reversed(taken):  # one path may lie in another
        at = data
        for name in path[:-1]:
            at = at[name]
        at[path[-1]] = value
    return encode(data)


def rule_of(payload: bytes, key: Key) -> Rule:
    """By which the same payload is encrypted again so that the same is left of it.

    Errors: as `decrypt`.
    """
    body = envelope_of(payload)
    taken = _taken(body, key)
    if isinstance(taken[0], bytes):
        return Rule(None, blank=body.blank)
    return Rule(None, tuple(tuple(path) for path, _ in taken))


def neutral(value: Any, names: frozenset[str]) -> Any:
    """A value of the same type that says nothing."""
    if isinstance(value, str):
        return FORGOTTEN
    if isinstance(value, (bool, int, float, bytes)):
        return type(value)()
    if isinstance(value, datetime):
        return EPOCH
    if isinstance(value, Mapping):
        return {name: neutral(below, names) for name, below in value.items() if name in names}
    return [] if isinstance(value, Sequence) else None


def _without(data: Any, path: Sequence[str], above: tuple[str, ...], names: frozenset[str], taken: list[Any]) -> Any:
    """The data with what stands at a path made neutral, and noted in `taken`. What is not changed is shared."""
    name, *below = path
    if name not in data:
        return data
    here = (*above, name)
    value = data[name]
    if below and isinstance(value, dict):
        changed = _without(value, below, here, names, taken)
    else:
        taken.append([here, value])
        changed = neutral(value, names)
    return data if changed is value else {**data, name: changed}


def _taken(body: Envelope, key: Key) -> list[Any]:
    """What is in the ciphertext: the payload as a whole, or paths and what stood there."""
    try:
        taken: list[Any] = _secrets.decode(key.cipher.decrypt(body.nonce, body.ciphertext, body.key_id))
    except (InvalidTag, ValueError) as error:
        raise LogCorrupt(
            f"what was encrypted with key {body.key_id.hex()} can't be decrypted with it: the key ring was changed"
        ) from error
    return taken

"""What stands in the log in place of a payload that is encrypted: an envelope around the ciphertext (docs/forget.md, "Bytes").

Owns telling it from a payload that is not, and reading it. Knows no key: who only moves such data needs no cryptography.
"""

from __future__ import annotations

import msgspec

from ensemble.errors import LogCorrupt
from ensemble.event import decode, encode

CODE = 69
"""The type of the MessagePack extension."""

_MARKERS = frozenset(b"\xc7\xc8\xc9")
"""Extensions of a length that is not fixed: 8, 16 and 32 bits."""


class Envelope(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    key_id: bytes
    nonce: bytes
    ciphertext: bytes
    blank: bytes
    """What is read once the key is gone."""


_read = msgspec.msgpack.Decoder(Envelope).decode


def is_encrypted(payload: bytes) -> bool:
    """Whether a payload is an envelope."""
    if not payload or payload[0] not in _MARKERS:
        return False
    return payload[1 + (1 << (payload[0] - 0xC7))] == CODE


def sealed(envelope: Envelope) -> bytes:
    """An envelope as a payload."""
    return encode(msgspec.msgpack.Ext(CODE, encode(envelope)))


def envelope_of(payload: bytes) -> Envelope:
    """The envelope that a payload is.

    Errors: LogCorrupt if it is none.
    """
    try:
        return _read(decode(payload).data)
    except (msgspec.DecodeError, AttributeError) as error:
        raise LogCorrupt(f"this should be encrypted data, and is none: {error}") from error

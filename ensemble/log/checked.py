"""A small JSON file that tells whether it was changed: an object with a check over its other entries.

Owns the check and how such a file is written (docs/log-format.md). What stands in one is its writer's.

    check = SHA-256 of the other entries as JSON: sorted by their names, without spaces, in UTF-8
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any


def written(entries: Mapping[str, Any]) -> bytes:
    """The file with these entries."""
    return (json.dumps({**entries, "check": check_of(entries)}, ensure_ascii=False, indent=1) + "\n").encode()


def check_of(entries: Mapping[str, Any]) -> str:
    """The check over these entries, of which the check itself is none."""
    text = json.dumps(entries, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

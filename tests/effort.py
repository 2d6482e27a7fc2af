"""How much work the tests do: enough to find what is commonly broken, or all that anybody has patience for.

Owns that choice. Who changes what a test is about plays it whole (--everywhere, or by its name); `make test` is waited for.
"""

from __future__ import annotations

is_whole = False
"""Whether all of it is done. Set before tests are collected."""


def some(whole: int, least: int = 5) -> int:
    """So many, or a quarter of that: examples that are drawn by chance, moments at which something is killed."""
    return whole if is_whole else max(least, whole // 4)

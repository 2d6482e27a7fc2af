"""The command line: one module a command group."""

from __future__ import annotations


def run(arguments: list[str]) -> int:
    """Carry out one command; its exit code."""
    return 0

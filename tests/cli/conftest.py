"""A shell in a folder of its own, with a small shop to play: commands run as real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.shell import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell in an empty folder."""
    shell = Shell(tmp_path)
    yield shell
    shell.end()


@pytest.fixture
def shop(shell: Shell) -> Shell:
    """A shell beside `shop.yaml`, nothing played yet."""
    shell.write_shop()
    return shell

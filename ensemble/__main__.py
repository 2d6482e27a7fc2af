"""The `ensemble` command."""

from __future__ import annotations

import os
import sys
import threading


def main() -> None:
    from ensemble.cli import run

    code = run(sys.argv[1:])
    if any(thread.daemon for thread in threading.enumerate()):
        # A thread that waits for stdin would make Python complain loudly when it ends. All is flushed and closed by now.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()

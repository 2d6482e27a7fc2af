"""A real browser without a display, for what only a browser can tell. Tests that want it are skipped where there is none."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars")
PATIENCE_S = 60


def said_by_page(document: str, folder: Path) -> str:
    """What a page has written into its element `said` when all its scripts have run. It is given no network."""
    file = folder / "page.html"
    file.write_text(document, encoding="utf-8")
    dom = _run(folder, "--virtual-time-budget=5000", "--dump-dom", file.as_uri())
    found = re.search(r'<pre id="said">(.*?)</pre>', dom, re.DOTALL)
    assert found, f"the page said nothing: {dom[-2000:]}"
    return html.unescape(found[1])


def _run(folder: Path, *what: str) -> str:
    assert BROWSER is not None
    offline = "--host-resolver-rules=MAP * ~NOTFOUND"
    command = [BROWSER, *FLAGS, offline, f"--user-data-dir={folder / 'profile'}", *what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout

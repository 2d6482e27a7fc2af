"""A server that speaks S3, on this machine: moto's, in a process of its own.

    python s3.py    says where it listens, and ends when its standard input does

`S3` is the test's side. What it sets in the environment is what a user sets to play on a store of Amazon's.
"""

from __future__ import annotations

import subprocess
import sys
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]


class S3:
    """A server with a bucket `music`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.endpoint = self._process.stdout.readline().strip()
        assert self.endpoint.startswith("http://127.0.0.1:"), "the server did not begin"
        self.env = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "player",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }
        self._numbers = count(1)
        self._ask("PUT", "/music")

    def url(self) -> str:
        """A prefix that nobody has used."""
        return f"s3://music/band-{next(self._numbers)}"

    def _ask(self, verb: str, path: str) -> int:
        connection = HTTPConnection(urlsplit(self.endpoint).netloc, timeout=30)
        try:
            connection.request(verb, path)
            return connection.getresponse().status
        finally:
            connection.close()

    def end(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def main() -> None:
    import logging

    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    print("http://{}:{}".format(*server.get_host_and_port()), flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()

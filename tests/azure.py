"""Azurite, Microsoft's emulator of Azure's blobs, where it is installed: `npm install azurite`, and its `.bin` on the PATH."""

from __future__ import annotations

import base64
import hmac
import shutil
import socket
import subprocess
from contextlib import closing
from email.utils import formatdate
from http.client import HTTPConnection
from itertools import count

from tests.conformance.stand import eventually

PROGRAM = "azurite-blob"
OPTIONS = ("--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck")
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of every Azurite: it is documented, and no secret."""


class Azure:
    """A server with a container `music`."""

    def __init__(self) -> None:
        program = shutil.which(PROGRAM)
        assert program is not None, f"{PROGRAM} is on the PATH"
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            port = free.getsockname()[1]
        self._process = subprocess.Popen(
            [program, *OPTIONS, "--blobHost", "127.0.0.1", "--blobPort", str(port)],
            stdout=subprocess.DEVNULL,
        )
        self._host = f"127.0.0.1:{port}"
        self.endpoint = f"http://{self._host}"
        self.env = {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": self.endpoint}
        self._numbers = count(1)
        eventually(lambda: self._make_container("music") == 201, "the beginning of the server", timeout=60)

    def url(self) -> str:
        """A prefix that nobody has used."""
        return f"az://music/band-{next(self._numbers)}"

    def _make_container(self, name: str) -> int:
        date, version, path = formatdate(usegmt=True), "2021-08-06", f"/{ACCOUNT}/{name}"
        text = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n/{ACCOUNT}{path}\nrestype:container"
        signed = base64.b64encode(hmac.digest(base64.b64decode(KEY), text.encode(), "sha256")).decode()
        headers = {"x-ms-date": date, "x-ms-version": version, "Authorization": f"SharedKey {ACCOUNT}:{signed}"}
        connection = HTTPConnection(self._host, timeout=30)
        try:
            connection.request("PUT", f"{path}?restype=container", headers={**headers, "Content-Length": "0"})
            return connection.getresponse().status
        except OSError:  # it does not listen yet
            return 0
        finally:
            connection.close()

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(20)

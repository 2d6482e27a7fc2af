"""A server that speaks as much of Google Cloud Storage's XML API as obstore asks of it, on a thread of this process.

What it does is what Google documents: an object has a generation, `x-goog-if-generation-match: 0` creates it only where there
is none, a precondition that fails is a 412. It is no proof of Google's own: it shows that what obstore says to that API, and
hears from it, is what the log takes it for. No emulator that can be installed speaks it (docs/object-log.md, "Clouds").
"""

from __future__ import annotations

import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

TOKEN = "let me in"
BUCKET = "music"


class Object(NamedTuple):
    data: bytes
    generation: int
    made: str

    @property
    def headers(self) -> dict[str, str]:
        tag = f'"{self.generation:x}"'
        return {"ETag": tag, "x-goog-generation": str(self.generation), "Last-Modified": self.made}


class GCS:
    """A server with a bucket `music`, which takes one bearer token."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.lock = threading.Lock()
        """Held while an object is looked at and put: a create is atomic."""
        self.generations = count(1)
        self._numbers = count(1)
        gcs = self

        class Handler(Speaks):
            server_of = gcs

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.env = {"GOOGLE_BASE_URL": self.endpoint, "GOOGLE_BEARER_TOKEN": TOKEN}

    def url(self) -> str:
        """A prefix that nobody has used."""
        return f"gs://{BUCKET}/band-{next(self._numbers)}"

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Speaks(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one packet: else each waits 40 ms for the acknowledgement of its head
    server_of: GCS

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = urlsplit(self.path)
        bucket, _, name = unquote(parts.path).lstrip("/").partition("/")
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            self.refuse(401, "AuthenticationRequired")
        elif bucket != BUCKET:
            self.refuse(404, "NoSuchBucket")
        elif not name:
            self.list({key: values[0] for key, values in parse_qs(parts.query).items()})
        elif self.command == "PUT":
            self.put(name, body)
        elif self.command == "DELETE":
            with self.server_of.lock:
                was = self.server_of.objects.pop(name, None)
            self.refuse(404, "NoSuchKey") if was is None else self.say(204)
        else:
            self.get(name)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer  # noqa: N815

    def put(self, name: str, body: bytes) -> None:
        wanted = self.headers.get("x-goog-if-generation-match")
        gcs = self.server_of
        with gcs.lock:
            there = gcs.objects.get(name)
            if wanted is not None and int(wanted) != (0 if there is None else there.generation):
                self.refuse(412, "PreconditionFailed")
                return
            made = gcs.objects[name] = Object(body, next(gcs.generations), formatdate(usegmt=True))
        self.say(200, made.headers)

    def get(self, name: str) -> None:
        found = self.server_of.objects.get(name)
        if found is None:
            self.refuse(404, "NoSuchKey")
            return
        wanted, data, headers = self.headers.get("if-match"), found.data, found.headers
        if wanted is not None and wanted != headers["ETag"]:
            self.refuse(412, "PreconditionFailed")
            return
        ranged = self.headers.get("range")
        if ranged is None:
            self.say(200, headers, data)
            return
        first, _, last = ranged.removeprefix("bytes=").partition("-")
        piece = data[int(first) : int(last) + 1 if last else None]
        if not piece:
            self.refuse(416, "InvalidRange")
            return
        headers["Content-Range"] = f"bytes {first}-{int(first) + len(piece) - 1}/{len(data)}"
        self.say(206, headers, piece)

    def list(self, asked: dict[str, str]) -> None:
        prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter")
        after = max(asked.get("start-after", ""), asked.get("continuation-token", ""))
        most = min(int(asked.get("max-keys", 1000)), 1000)
        told: dict[str, str] = {}
        last = None
        for name, found in sorted(self.server_of.objects.items()):
            if not name.startswith(prefix) or name <= after:
                continue
            if len(told) == most:
                told[""] = f"<NextContinuationToken>{escape(last or '')}</NextContinuationToken>"
                break
            last = name
            rest = name.removeprefix(prefix)
            if delimiter and delimiter in rest:
                folder = prefix + rest.partition(delimiter)[0] + delimiter
                told[folder] = f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
                continue
            told[name] = (
                f"<Contents><Key>{escape(name)}</Key><Size>{len(found.data)}</Size><ETag>{found.generation:x}</ETag>"
                "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            )
        self.say(200, body=f"<ListBucketResult>{''.join(told.values())}</ListBucketResult>".encode())

    def refuse(self, status: int, code: str) -> None:
        self.say(status, body=f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode())

    def say(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *given: Any) -> None:
        pass

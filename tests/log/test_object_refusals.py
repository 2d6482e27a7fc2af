"""What can be wrong with an object store, told in a sentence that says what to do: over a real client and the network."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import from_url

import ensemble
from ensemble import LogCorrupt, Unavailable
from ensemble.log import count_shards, open_log, read_log
from ensemble.log.objects import store as stores
from ensemble.testing import ManualClock
from tests.gcs import GCS
from tests.log.log_samples import append, contents
from tests.s3 import S3

Answers = Callable[[str, str], tuple[int, str]]
"""Verb and path -> status and body."""


def told(code: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>as told</Message></Error>'


class Server:
    """Speaks as much S3 as a refusal takes."""

    def __init__(self, answers: Answers) -> None:
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                status, body = answers(self.command, self.path)
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body.encode())

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer  # noqa: N815

            def log_message(self, *given: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answers], str]]:
    """Begins a server that answers so; gives the url of a store there."""
    begun: list[Server] = []

    def serve(answers: Answers) -> str:
        begun.append(Server(answers))
        env = {"AWS_ACCESS_KEY_ID": "player", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
        for name, value in {**env, "AWS_ENDPOINT_URL": begun[-1].endpoint}.items():
            monkeypatch.setenv(name, value)
        return "s3://music/band"

    yield serve
    for server in begun:
        server.end()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "RETRIES", {**stores.RETRIES, "max_retries": 0})
    monkeypatch.setattr(stores.Objects, "wait", lambda objects, trial: None)


@pytest.mark.parametrize("speak", [read_log, count_shards, lambda url: open_log(url, name="band")])
def test_a_bucket_that_is_not_there(s3: S3, speak: Callable[[str], Any]) -> None:
    with pytest.raises(Unavailable, match=r"^store s3://other/band: .* there is no such bucket; make it first, or correct"):
        speak("s3://other/band")


def test_credentials_that_are_not_there(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as nobody:
        closed = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", closed)  # where a machine's role is asked for

    with pytest.raises(Unavailable, match=r"no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        read_log("s3://music/band")


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (403, "InvalidAccessKeyId", "it does not take these credentials; check AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "it does not take these credentials; check AWS_ACCESS_KEY_ID"),
        (400, "ExpiredToken", "the credentials are over, or their token is another's; set AWS_ACCESS_KEY_ID,"),
        (403, "AccessDenied", "may not do that; who plays needs the rights to get, put, delete and list"),
        (301, "PermanentRedirect", "the bucket is in another region; set AWS_REGION"),
        (400, "AuthorizationHeaderMalformed", "the bucket is in another region; set AWS_REGION"),
    ],
)
def test_a_store_that_refuses_whatever_it_is_asked(
    serving: Callable[[Answers], str], status: int, code: str, sentence: str
) -> None:
    url = serving(lambda verb, path: (status, told(code)))

    for speak in (read_log, lambda url: open_log(url, name="band")):
        with pytest.raises(Unavailable, match=sentence):
            speak(url)


def test_a_store_that_may_be_read_and_not_written(serving: Callable[[Answers], str]) -> None:
    def answers(verb: str, path: str) -> tuple[int, str]:
        if verb == "PUT":
            return 403, told("AccessDenied")
        if "list-type" in path:
            return 200, "<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"
        return 404, told("NoSuchKey")

    url = serving(answers)

    with pytest.raises(Unavailable, match=r"these credentials, or this user, may not do that; .* put"):
        open_log(url, name="band")


def test_a_store_that_can_not_be_reached(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as nobody:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")

    with pytest.raises(Unavailable, match="it can't be reached; check the network, and AWS_ENDPOINT_URL"):
        read_log("s3://music/band")


NOBODY = "http://127.0.0.1:1"
"""Nothing listens there."""
AN_ACCOUNT = {"AZURE_STORAGE_ACCOUNT_NAME": "player", "AZURE_STORAGE_ACCOUNT_KEY": "c2VjcmV0"}


@pytest.mark.parametrize(
    ("url", "env", "sentence"),
    [
        ("gs://music/band", {"GOOGLE_BEARER_TOKEN": "x", "GOOGLE_BASE_URL": NOBODY}, "and GOOGLE_BASE_URL if it is not the"),
        ("az://music/band", AN_ACCOUNT | {"AZURE_STORAGE_ENDPOINT": NOBODY}, "and AZURE_STORAGE_ENDPOINT if it is not the"),
        ("gs://music/band", {"GOOGLE_BEARER_TOKEN": "other"}, "it does not take these credentials; check GOOGLE_APPLICATION_"),
        ("gs://other/band", {}, "there is no such bucket; make it first, or correct the url"),
        ("az://music/band", {}, "Account must be specified; check the url, and AZURE_STORAGE_ACCOUNT_NAME and AZURE_"),
    ],
)
def test_what_other_clouds_refuse_is_told_with_their_own_words(
    gcs: GCS, monkeypatch: pytest.MonkeyPatch, url: str, env: dict[str, str], sentence: str
) -> None:
    for name in AN_ACCOUNT:
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    for speak in (read_log, lambda url: open_log(url, name="band")):
        with pytest.raises(Unavailable, match=sentence):
            speak(url)


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (403, "AuthenticationFailed", "does not take these credentials; check AZURE_STORAGE_ACCOUNT_NAME and AZURE_"),
        (403, "AuthorizationPermissionMismatch", "may not do that; who plays needs the rights to get, put, delete and list"),
        (404, "ContainerNotFound", "there is no such bucket; make it first, or correct the url"),
    ],
)
def test_what_azure_refuses(
    serving: Callable[[Answers], str], monkeypatch: pytest.MonkeyPatch, status: int, code: str, sentence: str
) -> None:
    serving(lambda verb, path: (status, told(code)))
    for name, value in {**AN_ACCOUNT, "AZURE_STORAGE_ENDPOINT": os.environ["AWS_ENDPOINT_URL"]}.items():
        monkeypatch.setenv(name, value)

    for speak in (read_log, lambda url: open_log(url, name="band")):
        with pytest.raises(Unavailable, match=f"^store az://music/band: the object store refuses: .*{sentence}"):
            speak("az://music/band")


def test_a_store_that_is_slow_down_for_long_says_so(serving: Callable[[Answers], str]) -> None:
    url = serving(lambda verb, path: (503, told("SlowDown")))

    with pytest.raises(Unavailable, match=r"^store s3://music/band: the object store refuses: .*503"):
        read_log(url)


def test_a_store_that_is_slow_down_for_a_moment_is_asked_again(serving: Callable[[Answers], str]) -> None:
    asked: list[str] = []

    def answers(verb: str, path: str) -> tuple[int, str]:
        asked.append(path)
        return (503, told("SlowDown")) if len(asked) % 3 else (404, told("NoSuchKey"))

    url = serving(answers)

    assert count_shards(url) is None
    assert len(asked) > 2


def objects_of(url: str) -> Any:
    return from_url(url, client_options={"allow_http": True})


def test_a_prefix_that_holds_something_else(s3: S3) -> None:
    url = s3.url()
    obstore.put(objects_of(url), "holiday.jpg", b"beach")

    with pytest.raises(Unavailable, match=rf"^store {url}: other things are kept there \(holiday.jpg\)"):
        open_log(url, name="band")


def test_a_store_of_a_newer_format(s3: S3) -> None:
    url = s3.url()
    open_log(url, name="band").close()
    there = objects_of(url)
    manifest = json.loads(bytes(obstore.get(there, "ensemble.json").bytes()))
    obstore.put(there, "ensemble.json", json.dumps(manifest | {"format": 9}).encode())

    for speak in (read_log, count_shards, lambda url: open_log(url, name="band")):
        with pytest.raises(Unavailable, match="it has format 9, this version of Ensemble knows formats up to 1"):
            speak(url)


def test_an_object_that_was_changed_by_hand_is_named(s3: S3) -> None:
    url = s3.url()
    with closing(open_log(url, name="band")) as log:
        append(log, [1], [2], [3])
        name = f"log/{log.id}/{2:020d}"
    there = objects_of(url)
    data = bytearray(bytes(obstore.get(there, name).bytes()))
    data[-3] ^= 1
    obstore.put(there, name, bytes(data))

    with pytest.raises(LogCorrupt, match=f"^{url}/{name}: byte 0: its checksum does not fit; restore this object"):
        contents(read_log(url))


def test_a_clock_that_goes_backwards_between_two_writers_is_no_matter(tmp_path: Path) -> None:
    score = {"ensemble": 1, "name": "test"}
    url = f"objects:{tmp_path / 'store'}"
    for start in ("2026-03-01T12:00:00Z", "2026-03-01T10:00:00Z"):
        with ensemble.open(score, store=url, clock=ManualClock(start)) as band:
            band.publish("said", start)

    with ensemble.read(url) as reader:
        first, second = reader.events("said")
    assert first.data < "2026-03-01T13" and second.data < first.data
    assert second._rows.time_us >= first._rows.time_us


@pytest.mark.parametrize("url", ["objects:", "objects:/proc/1/nowhere"])
def test_a_folder_that_can_not_be_one_is_refused(url: str) -> None:
    with pytest.raises(Unavailable, match=f"^store '{url}': "):
        open_log(url, name="band")

"""The object stores of a simulated fleet: moto's S3 server on loopback, or a dictionary. Requests
take time and are counted on the way there."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import http.client
import importlib
import itertools
import os
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from irl_bench.core.settings import BadInput

LATENCY = 0.05
"""How long a request takes [s]."""
PAGE = 1000
"""Objects of a listing that S3 returns with a request."""

PRICES = {"PUT": 5e-6, "LIST": 5e-6, "GET": 4e-7, "DELETE": 0.0}
"""What a request costs [USD]: S3 Standard in us-east-1, https://aws.amazon.com/s3/pricing/, as
published for 2025. Traffic within the region is free."""
LIMITS = {"writes": 3500, "reads": 5500}
"""Requests a second that S3 takes at least for each part of a bucket into which it divides the
names, before it divides them further:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html."""
SIDES = {"writes": ("PUT", "DELETE"), "reads": ("GET", "LIST")}
"""The kinds of requests that a limit is for."""


@dataclasses.dataclass
class Tally:
    """What was asked of a store.

    Attributes:
      requests: {(kind, folder of the run): how many}.
      seconds: {(side of SIDES, second): how many}.
      put, got: bytes.
    """

    requests: collections.Counter[tuple[str, str]] = dataclasses.field(
        default_factory=collections.Counter
    )
    seconds: collections.Counter[tuple[str, int]] = dataclasses.field(
        default_factory=collections.Counter
    )
    put: int = 0
    got: int = 0

    def add(self, kind: str, folder: str, now: float) -> None:
        """Counts a request."""
        self.requests[kind, folder] += 1
        side = next(side for side, kinds in SIDES.items() if kind in kinds)
        self.seconds[side, int(now)] += 1

    def kinds(self) -> dict[str, int]:
        """Returns {kind: how many}."""
        return {
            kind: sum(n for (each, _), n in self.requests.items() if each == kind)
            for kind in PRICES
        }


class Bucket:
    """Objects in a dictionary, with those methods of a file system of fsspec that a `Store` uses.
    Objects of a folder lie together, so that a listing takes no longer than what it lists."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, tuple[bytes, int]]] = {}
        self._versions = itertools.count()

    def _strip_protocol(self, url: str) -> str:
        return url.partition("://")[2]

    def _at(self, name: str) -> dict[str, tuple[bytes, int]]:
        return self._folders.setdefault(name.rpartition("/")[0], {})

    def find(self, base: str, prefix: str, **_: Any) -> dict[str, dict[str, Any]]:
        begin = f"{base}/{prefix}"
        return {
            name: {"size": len(content), "ETag": f"{version}", "mtime": 0.0}
            for folder, objects in self._folders.items()
            if f"{folder}/".startswith(begin) or begin.startswith(f"{folder}/")
            for name, (content, version) in objects.items()
            if name.startswith(begin)
        }

    def cat_file(self, name: str) -> bytes:
        try:
            return self._at(name)[name][0]
        except KeyError:
            raise FileNotFoundError(name) from None

    def cat(self, names: Sequence[str], **_: Any) -> dict[str, bytes]:
        return {name: self.cat_file(name) for name in names if name in self._at(name)}

    def pipe_file(self, name: str, content: bytes, mode: str = "overwrite") -> None:
        if mode == "create" and name in self._at(name):
            raise FileExistsError(name)
        self._at(name)[name] = (content, next(self._versions))

    def rm_file(self, name: str) -> None:
        self._at(name).pop(name, None)


class Line:
    """A worker's way to the store: each request takes LATENCY and is counted.

    Args:
      files: a file system of fsspec.
      base: the run's folder there.
      tally: counts the requests.
      sleep, now: the worker's clock [s].
    """

    def __init__(
        self,
        files: Any,
        base: str,
        tally: Tally,
        sleep: Callable[[float], None],
        now: Callable[[], float],
    ):
        self._files, self._base, self._tally = files, base, tally
        self._sleep, self._now = sleep, now

    def _asked(self, kind: str, name: str) -> None:
        """Takes the time of a request, and counts it."""
        self._sleep(LATENCY)
        self._count(kind, name)

    def _count(self, kind: str, name: str) -> None:
        inside = name.removeprefix(self._base).removeprefix("/")
        folder = inside.partition("/")[0] if "/" in inside else ""
        self._tally.add(kind, folder, self._now())

    def find(self, base: str, prefix: str, detail: bool) -> dict[str, Any]:
        self._asked("LIST", f"{base}/{prefix}")
        found = self._files.find(base, prefix=prefix, detail=detail)
        for _ in range((len(found) - 1) // PAGE if found else 0):
            self._asked("LIST", f"{base}/{prefix}")
        return found

    def cat_file(self, name: str) -> bytes:
        self._asked("GET", name)
        content = self._files.cat_file(name)
        self._tally.got += len(content)
        return content

    def cat(self, names: Sequence[str], on_error: str) -> dict[str, Any]:
        self._asked("GET", names[0])
        for name in names[1:]:  # at the same time
            self._count("GET", name)
        found = self._files.cat([*names], on_error=on_error)
        self._tally.got += sum(map(len, found.values()))
        return found

    def pipe_file(self, name: str, content: bytes, **options: Any) -> None:
        self._asked("PUT", name)
        self._tally.put += len(content)
        self._files.pipe_file(name, content, **options)

    def rm_file(self, name: str) -> None:
        self._asked("DELETE", name)
        self._files.rm_file(name)


@contextlib.contextmanager
def server() -> Generator[collections.Counter[str]]:
    """Runs moto's S3 server on loopback with a bucket `fleet`, and gives {kind: how many requests
    it has answered since}.

    Raises:
      BadInput: a package is missing.
    """
    try:
        moto: Any = importlib.import_module("moto.server")
        backends: Any = importlib.import_module("moto.moto_server.werkzeug_app")
        serving: Any = importlib.import_module("werkzeug.serving")
        s3fs: Any = importlib.import_module("s3fs")
    except ImportError:
        raise BadInput(
            "--store=s3 needs moto's server and s3fs; nearest: pip install 's3fs' 'moto[s3,server]'"
            ", or --store=memory"
        ) from None
    answered: collections.Counter[str] = collections.Counter()
    usual = moto.DomainDispatcherApplication(backends.create_backend_app)

    def app(environ: Mapping[str, Any], start: Any) -> Any:
        listing = "list-type" in environ.get("QUERY_STRING", "")
        answered["LIST" if listing else environ["REQUEST_METHOD"]] += 1
        return usual(environ, start)

    running = serving.make_server("127.0.0.1", 0, app, threaded=True, request_handler=_quiet())
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{running.server_port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }
    before = {name: os.environ.get(name) for name in (*settings, "AWS_PROFILE")}
    os.environ.update(settings)
    os.environ.pop("AWS_PROFILE", None)
    try:
        thread.start()
        # What an earlier server of this process held, and who spoke to it.
        connection = http.client.HTTPConnection("127.0.0.1", running.server_port, timeout=60)
        connection.request("POST", "/moto-api/reset")
        connection.getresponse().read()
        connection.close()
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("fleet")
        answered.clear()
        yield answered
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        running.shutdown()
        running.server_close()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _quiet() -> Any:
    """A handler of requests that prints no line for each, and keeps connections open."""
    serving: Any = importlib.import_module("werkzeug.serving")

    class Handler(serving.WSGIRequestHandler):  # its types are not at hand here
        protocol_version = "HTTP/1.1"

        def log(self, *_: Any, **__: Any) -> None:
            pass

    return Handler

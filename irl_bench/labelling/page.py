"""The page on which people compare two clips, served to this machine alone.

All addresses contain a random token, so that no other page in the browser can find them. A request
that names another host (DNS rebinding) or comes from another page is refused. An answer is on disk
before the page gets its confirmation; one that does not fit leaves no part of itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from envs import drawing
from irl_bench.running.streams import tell
from irl_bench.storage import untrusted
from irl_bench.storage.comparisons import ANSWERS, ANSWERS_FILE, read_answers, read_clips
from irl_bench.storage.files import WriteError, check_links, writing

HOST = "127.0.0.1"
LARGEST = 4096
"""The largest body of a request [bytes]."""
PATIENCE = 30.0
"""How long to wait for a request's body [s]."""
PAGE = Path(__file__).with_name("label.html")
"""The page's file."""


class Labelling:
    """The pairs of clips in a folder, and the answers to them.

    Args:
      folder: holds `clips.npz`, and the answers from earlier sessions.

    Attributes:
      arrays: the arrays of `clips.npz` by name.
      pairs: segments of each pair, int[P, 2].
      answers: {pair: answer}.

    Raises:
      BadInput: no clips in the folder, or a damaged file.
      WriteError: the file of answers cannot be repaired.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        check_links(folder)
        _, self.arrays = read_clips(folder)
        self.pairs = self.arrays["pairs"]
        self._path = folder / ANSWERS_FILE
        self._lock = threading.Lock()
        self.answers = read_answers(folder, len(self.pairs))
        with writing(self._path):
            self._mend()

    def _mend(self) -> None:
        """Repairs the last line of the answers after an interruption, so that the next answer
        begins a new line: completes it if only its end is missing, else removes it."""
        content = untrusted.content(self._path) if self._path.exists() else b""
        whole, last = content[: content.rfind(b"\n") + 1], content[content.rfind(b"\n") + 1 :]
        if not last:
            return
        with self._path.open("rb+") as file:
            try:
                untrusted.parsed(last)
                file.seek(0, os.SEEK_END)
                file.write(b"\n")
            except ValueError:
                file.truncate(len(whole))

    def next(self) -> dict[str, Any]:
        """The first pair without an answer, as the page's JSON.

        Returns:
          {"pair": its index or None if all are answered, "done": answers, "of": pairs}, and
          "clips": both clips, if there is a pair.
        """
        with self._lock:
            todo = next((pair for pair in range(len(self.pairs)) if pair not in self.answers), None)
            state: dict[str, Any] = {"pair": todo, "done": len(self.answers), "of": len(self.pairs)}
        if todo is not None:
            state["clips"] = [self._clip(int(segment)) for segment in self.pairs[todo]]
        return state

    def _clip(self, segment: int) -> dict[str, Any]:
        parts = {
            name.removeprefix("picture."): x[segment]
            for name, x in self.arrays.items()
            if name.startswith("picture.")
        }
        return drawing.clip(parts)

    def answer(self, pair: Any, answer: Any) -> bool:
        """Stores an answer, synced to disk.

        Args:
          pair: index of the pair.
          answer: one of ANSWERS.

        Returns:
          Whether both are valid; if not, the answer is not stored.

        Raises:
          WriteError: it cannot be stored. Earlier answers are as they were.
        """
        if (
            answer not in ANSWERS
            or isinstance(pair, bool)
            or not isinstance(pair, int)
            or not 0 <= pair < len(self.pairs)
        ):
            return False
        with self._lock:
            with writing(self._path):
                self._mend()  # what could not be taken back
                self._append(json.dumps({"pair": pair, "answer": answer}) + "\n")
            self.answers[pair] = answer
        return True

    def _append(self, line: str) -> None:
        """Writes a line to the end of the answers and flushes it to the disk. If that fails, the
        file gets its former length: the next line must not begin within this one."""
        # A buffer would be written once more when the file is closed.
        with self._path.open("ab", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            left = memoryview(line.encode())
            try:
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(size)
                raise


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says in one line that a reply cannot be made or sent, as to a page that is closed."""
        error = sys.exception()
        if isinstance(error, OSError):
            tell(f"a request of the page failed: {error.strerror or error}")
        else:
            super().handle_error(request, client_address)


def serve(labelling: Labelling, port: int = 0) -> tuple[ThreadingHTTPServer, str]:
    """Makes a server of the page on the loopback interface; it does not run yet.

    Args:
      labelling: the pairs and answers.
      port: 0 picks a free one.

    Returns:
      The server, and the address to open.

    Raises:
      OSError: the port is in use.
    """
    root = f"/{secrets.token_urlsafe(16)}/"

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "irl_bench", ""
        timeout = PATIENCE

        def log_message(self, format: str, *args: Any) -> None:
            """Logs nothing, because the address contains the token."""

        def send_error(
            self, code: int, message: str | None = None, explain: str | None = None
        ) -> None:
            """Answers a request that is none, without repeating anything of it."""
            del message, explain
            self._send(code, "text/plain", b"not a request\n")

        def _send(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header(
                "Content-Security-Policy",
                "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                "connect-src 'self'; "
                "frame-ancestors 'none'",
            )
            self.end_headers()
            self.wfile.write(body)

        def _json(self, value: Any, status: int = 200) -> None:
            self._send(status, "application/json", json.dumps(value).encode())

        def _ours(self) -> bool:
            """Whether the request names this server, knows the token and comes from no other
            page; if not, answers 404."""
            here = self.headers.get("Host") == address
            origin = self.headers.get("Origin", f"http://{address}")
            if here and origin == f"http://{address}" and self.path.startswith(root):
                return True
            self._send(404, "text/plain", b"not found\n")
            return False

        def do_GET(self) -> None:
            """Answers with the page, or with the next pair."""
            if not self._ours():
                return
            if self.path == root:
                self._send(200, "text/html; charset=utf-8", PAGE.read_bytes())
            elif self.path == root + "pair":
                self._json(labelling.next())
            else:
                self._send(404, "text/plain", b"not found\n")

        def do_POST(self) -> None:
            """Stores an answer and replies with the next pair."""
            if not self._ours():
                return
            length = self.headers.get("Content-Length", "")
            short = length.isdecimal() and len(length) <= len(str(LARGEST))
            if self.path != root + "answer" or not short or int(length) > LARGEST:
                self._send(400, "text/plain", b"not an answer\n")
                return
            try:
                body = untrusted.parsed(self.rfile.read(int(length)))
                stored = isinstance(body, dict) and labelling.answer(
                    body.get("pair"), body.get("answer")
                )
            except WriteError as error:
                text = f"the answer is not stored: {error}"
                tell(text)
                self._send(507, "text/plain; charset=utf-8", f"{text}\n".encode())
                return
            except OSError as error:
                tell(f"an answer did not arrive: {error.strerror or error}")
                self._send(408, "text/plain", b"not an answer\n")
                return
            except (ValueError, TypeError):
                stored = False
            if stored:
                self._json(labelling.next())
            else:
                self._send(400, "text/plain", b"not an answer\n")

    server = _Server((HOST, port), Handler)
    address = f"{HOST}:{server.server_port}"
    return server, f"http://{address}{root}"

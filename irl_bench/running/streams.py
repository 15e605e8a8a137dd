"""Output that outlasts its reader. Commands that only print use it too, so JAX is not imported."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, cast


class _Lasting:
    """A text stream that outlasts its reader: once a write fails, what is written is lost."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._lose()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._lose()

    def _lose(self) -> None:
        with contextlib.suppress(OSError):  # a stream without a descriptor
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def without_reader() -> Iterator[None]:
    """Lets what happens within go on if the reader of its output is lost: a closed terminal, or a
    `tee` that Ctrl-C has ended. Without it a run would end before its next checkpoint."""
    with (
        contextlib.redirect_stdout(cast(Any, _Lasting(sys.stdout))),
        contextlib.redirect_stderr(cast(Any, _Lasting(sys.stderr))),
    ):
        yield


def tell(text: str) -> None:
    """Writes a line to stderr from a signal's handler, if anybody reads it."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode())

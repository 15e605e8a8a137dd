"""Several processes that compute one learner together (`--distributed`).

The first process runs the sweep as ever: it chooses cells, reads and writes files, and says what is
computed next. The others follow: they hear of each step and take part in it with their devices, and
touch no file of the run.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

HEAD = 4096
"""Length of a message's first part [bytes]. A longer message has a second one."""
END = "end"
"""The last message of a run."""


def leads() -> bool:
    """Whether this process is the first, or the only one."""
    return jax.process_index() == 0


@contextlib.contextmanager
def leading() -> Generator[None, None, None]:
    """Within it the other processes follow this one; at its end they hear that they may end."""
    interrupted = False
    try:
        yield
    except SystemExit:
        interrupted = True
        raise
    finally:
        if jax.process_count() > 1:
            tell(END, interrupted)


def tell(name: str, *arguments: Any, content: bytes = b"") -> None:
    """Tells the other processes what is computed next.

    Args:
      name: of the step.
      arguments: JSON values.
      content: further bytes.
    """
    head = json.dumps([name, arguments, len(content)]).encode()
    data = len(head).to_bytes(8, "little") + head + content
    size = len(data).to_bytes(8, "little")
    _broadcast((size + data)[:HEAD].ljust(HEAD, b"\0"))
    if len(size + data) > HEAD:
        _broadcast(data.ljust(_room(len(data)), b"\0"))


def hear() -> tuple[str, list[Any], bytes]:
    """Returns the next message of the first process: name, arguments and content."""
    data = _broadcast(bytes(HEAD))
    size, data = int.from_bytes(data[:8], "little"), data[8:]
    if size + 8 > HEAD:
        data = _broadcast(bytes(_room(size)))
    data = data[:size]
    end = 8 + int.from_bytes(data[:8], "little")
    name, arguments, _ = json.loads(data[8:end])
    return name, arguments, data[end:]


def _room(size: int) -> int:
    """The next power of two: each length is compiled once."""
    return 1 << (size - 1).bit_length()


def _broadcast(data: bytes) -> bytes:
    """The first process's bytes in all processes; all have the same length."""
    return multihost_utils.broadcast_one_to_all(np.frombuffer(data, np.uint8)).tobytes()


def on_devices(host: np.ndarray, sharding: Any) -> jax.Array:
    """Returns an array that all processes hold on the host as one array on the devices of all."""
    if sharding.is_fully_addressable:
        return jax.device_put(host, sharding)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def on_host(tree: Any) -> Any:
    """Returns the arrays of a tree, entire, on the host; all processes call it together."""

    def fetch(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        if leaf.is_fully_replicated:
            return leaf.addressable_data(0)
        return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.device_get(jax.tree.map(fetch, tree))

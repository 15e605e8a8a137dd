"""What a process leaves behind that is killed between storing a cell and tidying up after it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from irl_bench.running import leases
from irl_bench.running.saving import checkpoint_folder
from irl_bench.storage import checkpoints
from irl_bench.storage.cells import cell_path


def remove(out: Path, keys: Iterable[str]) -> None:
    """Removes the checkpoints of stored cells, and the leases on them that belong to nobody.

    Args:
      out: the run's folder.
      keys: of the cells, of which those that are not stored are left alone.
    """
    for key in keys:
        if not cell_path(out, key).exists():
            continue
        if checkpoint_folder(out, key).exists():
            checkpoints.remove(checkpoint_folder(out, key))
        path = out / "leases" / f"{key}.json"
        lease = leases.read(path)
        if lease is not None and leases.lost(out, key, lease):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

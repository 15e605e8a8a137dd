"""`<out>/plan.json`: the cells that a run's analysis consists of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irl_bench.core.cell import canonical
from irl_bench.storage.files import StoreError, write_atomic

VERSION = 1
"""Of the file's format."""


def write_plan(out: Path | str, plan: Mapping[str, Any]) -> Path:
    """Stores `<out>/plan.json`, which cells the run's analysis consists of. Raises StoreError if
    it cannot be written."""
    path = Path(out) / "plan.json"
    body = {name: value for name, value in plan.items() if name != "sha256"}
    digest = hashlib.sha256(canonical(body).encode()).hexdigest()
    write_atomic(path, (json.dumps({**body, "sha256": digest}, indent=1) + "\n").encode())
    return path


def read_plan(out: Path | str) -> dict[str, Any] | None:
    """The plan of a run's folder, None if it has none. Raises StoreError if it is damaged or
    foreign."""
    path = Path(out) / "plan.json"
    try:
        plan = json.loads(path.read_bytes())
        digest = plan.pop("sha256")
        sound = hashlib.sha256(canonical(plan).encode()).hexdigest() == digest
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, AttributeError, TypeError):
        sound = False
    if not sound or plan.get("version") != VERSION:
        raise StoreError(
            f"{path} is damaged or not a plan of this project; move it away and run the sweep again"
        )
    return plan

"""On what and with what a record was made: its date, the machine and the versions."""

from __future__ import annotations

import datetime
import os
import platform
from typing import Any

import irl_bench
from irl_bench.core import cell
from irl_bench.running import process


def circumstances() -> dict[str, Any]:
    """Returns {"date", "machine", "versions"} of now and here, JSON values. The machine has cores,
    memory_gib [GiB], system, and what `irl_bench.core.cell.machine` tells of it."""
    machine = cell.machine()
    versions = machine.pop("versions")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {
            "cores": process.cores(),
            "memory_gib": round(memory, 1),
            "system": platform.system(),
            **machine,
        },
        "versions": {
            "python": platform.python_version(),
            "irl_bench": irl_bench.__version__,
            **versions,
        },
    }

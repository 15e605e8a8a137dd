"""A short sweep by a launcher, and what it leaves."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import QUICK, TINY

ROOT = Path(__file__).parents[2]
SWEEP = ["--algo=bc", "--env=chain", "--mode=cliff", "--budget=smoke", "--seeds=10", *TINY]


def of_launch(folder, out, *flags, sweep=SWEEP, **more):
    """A sweep that has just begun. All of them share what they compile."""
    kept = {
        "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.Popen(
        [sys.executable, ROOT / "launch" / "sweep.py", *sweep, f"--out={out}", *flags],
        cwd=folder,
        env={**os.environ, **QUICK, **kept, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def results(out):
    """{file: bytes} of the cells and the verdicts of a run."""
    files = [*sorted(out.glob("cells/*.parquet")), out / "verdicts.json"]
    return {path.name: path.read_bytes() for path in files}


def undisturbed(folder, sweep):
    """The results of a command without a launcher."""
    program = of_launch(folder, folder / "alone", sweep=sweep)
    said, _ = program.communicate(timeout=600)
    assert program.returncode == 0, said
    return results(folder / "alone")


def workers(out):
    """The numbers of the processes that compute cells, as their leases say. One that was killed
    leaves its leases behind."""
    texts = [path.read_text() for path in (out / "leases").glob("*.json")]
    return {int(found[1]) for text in texts if (found := re.search(r'"pid": (\d+)', text))}


def a_worker(out, besides=()):
    """One of these numbers; None without one."""
    return min(workers(out) - set(besides), default=None)


def awaited(value, seconds=120):
    """What a function returns once it is not None."""
    until = time.monotonic() + seconds
    while (found := value()) is None:
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.05)
    return found


def parent(pid):
    """A process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

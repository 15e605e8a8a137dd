"""Where files go that nobody named: caches, also for a user without a home, and `~` in the names
that were."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from pathlib import Path

from irl_bench.core.settings import BadInput

__all__ = ["cache", "expand"]


def expand(path: str | Path) -> Path:
    """The path with `~` replaced by the user's home; raises BadInput for a user who has none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        near = str(path).partition("/")[2] or "."
        raise BadInput(
            f"{path}: no home folder is known for '~' (HOME is not set); nearest: {near}"
        ) from None


@functools.cache
def cache() -> Path | None:
    """The folder of caches: in the user's own if it can be written, else a temporary one with a
    line of warning.

    None if neither can be written. Matplotlib, which would warn in its own way, is told to use the
    temporary one too.
    """
    try:
        usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "irl_bench"
    except RuntimeError:  # neither HOME nor an entry among the users, as in many containers
        usual = None
    if usual is not None and _writable(usual):
        return usual
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    folder = Path(tempfile.gettempdir()) / f"irl_bench-{user}"
    if not _writable(folder) or not _own(folder):
        print(
            "warning: no cache folder can be written; functions are compiled anew each time",
            file=sys.stderr,
        )
        return None
    print(
        f"warning: the home folder cannot be written; caches are kept in {folder}", file=sys.stderr
    )
    os.environ.setdefault("MPLCONFIGDIR", str(folder / "matplotlib"))
    return folder


def _writable(folder: Path) -> bool:
    """Whether files can be put into the folder, which is made if need be."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _own(folder: Path) -> bool:
    """Whether nobody else can write there: a compiled program of a stranger's must never be run."""
    about = folder.lstat()
    return not hasattr(os, "getuid") or (about.st_uid == os.getuid() and not about.st_mode & 0o022)

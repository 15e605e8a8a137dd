"""The folder of caches, also for users without a home folder, and the expansion of `~`."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from pathlib import Path

from irl_bench.core.settings import BadInput

__all__ = ["cache", "expand"]


def expand(path: str | Path) -> Path:
    """Returns the path with `~` replaced by the user's home. Raises BadInput if no home is
    known."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        home = str(path).partition("/")[0]
        raise BadInput(f"{path}: there is no home folder {home}; nearest: the full path") from None


@functools.cache
def cache() -> Path | None:
    """Returns the folder of caches, None if no folder can be written.

    It lies in the user's cache folder. If that cannot be written, a temporary folder replaces it,
    a warning is printed, and Matplotlib uses the temporary folder too.
    """
    try:
        usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "irl_bench"
    except RuntimeError:  # neither HOME nor an entry among the users, as in many containers
        usual = None
    if usual is not None and _writable(usual):
        return usual
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    folder = Path(tempfile.gettempdir()) / f"irl_bench-{user}"
    if not _writable(folder) or not _is_private(folder):
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
    """Whether files can be written into the folder. Makes the folder if it does not exist."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _is_private(folder: Path) -> bool:
    """Whether only this user can write there. A program compiled by another user must not run."""
    about = folder.lstat()
    return not hasattr(os, "getuid") or (about.st_uid == os.getuid() and not about.st_mode & 0o022)

"""Files that worlds are made of: a track, a scenario.

A world names its file by name and content and not by its place, so that a run is the same on every
machine: `oval-3f2a9c81d0aa.csv` is a file `oval.csv` whose SHA-256 begins with these digits. Who
has such a file under this name, as a run's folder does, offers it.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_DIGITS = 12
_NAMED = re.compile(rf"(.+)-([0-9a-f]{{{_DIGITS}}})")
_UNUSUAL = re.compile(r"[^A-Za-z0-9_=+-]")
"""What names of objects in a store had better not hold."""

_known: dict[str, Path] = {}
"""Where files lie, by the names that worlds give them. Content never changes under such a name."""


def path_of(name: str | Path) -> Path:
    """Returns where a file lies.

    Args:
      name: its path, or the name that a world gives a file that was read or offered before.

    Raises:
      ValueError: the file has changed since then; one line.
    """
    path = _known.get(str(name))
    if path is None:
        return Path(name).expanduser()
    try:
        if named(path)[0] == name:
            return path
    except OSError:
        pass
    raise ValueError(f"{path} is not the file any more that was named {name}; nearest: {path}")


def known(name: str) -> Path | None:
    """Returns where a file lies that was read or offered under a world's name for it; None if there
    is none."""
    return _known.get(name)


def named(path: Path) -> tuple[str, dict[str, str]]:
    """Returns the name that a world gives a file, and {name: SHA-256 of its content}.

    Raises:
      OSError: the file cannot be read.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    again = _NAMED.fullmatch(path.stem)
    stem = again[1] if again and again[2] == digest[:_DIGITS] else path.stem
    name = f"{_UNUSUAL.sub('_', stem)}-{digest[:_DIGITS]}{path.suffix}"
    _known[name] = path.absolute()
    return name, {name: digest}


def offer(path: Path) -> None:
    """Makes a file known under the name it has, if its content is that of a world's file of this
    name. Others are passed over.

    Raises:
      OSError: the file cannot be read.
    """
    again = _NAMED.fullmatch(path.stem)
    if again and hashlib.sha256(path.read_bytes()).hexdigest().startswith(again[2]):
        _known[path.name] = path.absolute()

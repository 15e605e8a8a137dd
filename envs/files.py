"""Files that worlds are made of: a track, a scenario.

A world names its file by name and content and not by its place, so that a run is the same on every
machine: `oval-3f2a9c81d0aa.csv` is a file `oval.csv` whose SHA-256 begins with these digits. Who
has such a file under this name, as a run's folder does, offers it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path

LARGEST = 64 * 2**20
"""Size of the largest file that is read [bytes]."""
FARTHEST = 1e8
"""No point of a file lies beyond this [m]; coordinates of maps reach 2e7."""
LONGEST = 100
"""Letters of a file's own name that a world's name for it keeps."""

_DIGITS = 12
_NAMED = re.compile(rf"(.+)-([0-9a-f]{{{_DIGITS}}})\.[^.]*", re.DOTALL)
_UNUSUAL = re.compile(r"[^A-Za-z0-9_=+-]")
"""What names of objects in a store had better not hold."""

_known: dict[str, dict[Path, None]] = {}
"""Where files were last seen, by the names that worlds give them."""


def path_of(name: str | os.PathLike[str]) -> Path:
    """Returns where a file lies.

    Args:
      name: its path, or the name that a world gives a file that was read or offered before.

    Raises:
      ValueError: the file is no regular one, is too large, or has other content than its name says;
        one line.
    """
    text = os.fspath(name)
    path = Path(text)
    with contextlib.suppress(RuntimeError):  # `~name` of nobody
        path = path.expanduser()
    if path.exists():
        if not path.is_file():
            raise ValueError(f"{path} is no regular file; nearest: the path of one")
        if path.stat().st_size > LARGEST:
            raise ValueError(
                f"{path} has {path.stat().st_size:,} bytes; nearest: a file of at most {LARGEST:,}"
            )
        with contextlib.suppress(OSError):  # whoever reads it says so
            if is_named(path.name) and not _holds(path):
                raise ValueError(
                    f"{path} has other content than its name says; nearest: another name for it"
                )
    if path.name != text or not is_named(text):
        return path
    for place in reversed(list(_known.get(text, ()))):
        with contextlib.suppress(OSError):
            if digest_of(place).startswith(_digits(text)):
                return place
    if not path.exists():
        raise ValueError(
            f"{text} is not known here; nearest: the path of the file whose SHA-256 begins with "
            f"{_digits(text)}, or files/{text} in the folder of a run that has it"
        )
    return path


def content(name: str) -> bytes | None:
    """Returns what a file holds that was read or offered under a world's name for it; None if
    `name` is no such name.

    Raises:
      ValueError: as `path_of`, also if the file is gone.
    """
    return path_of(name).read_bytes() if name in _known else None


def named(path: Path) -> tuple[str, dict[str, str]]:
    """Returns the name that a world gives a file, and {name: SHA-256 of its content}.

    Raises:
      OSError: the file cannot be read.
    """
    digest = digest_of(path)
    stem, _, ending = path.name.rpartition(".")
    if is_named(path.name) and digest.startswith(_digits(path.name)):
        stem = stem[: -_DIGITS - 1]
    stem = _UNUSUAL.sub("_", stem)[:LONGEST] or "file"
    name = f"{stem}-{digest[:_DIGITS]}.{ending.lower()}"
    _see(name, path)
    return name, {name: digest}


def offer(path: Path) -> None:
    """Makes a file known under the name it has, if its content is that of a world's file of this
    name. Others are passed over.

    Raises:
      OSError: the file cannot be read.
    """
    if is_sound(path):
        _see(path.name, path)


def is_named(name: str) -> bool:
    """Whether a file's name is one that worlds give."""
    return _NAMED.fullmatch(name) is not None


def is_sound(path: Path) -> bool:
    """Whether a file is a regular one, no link, and holds what the name says that a world has given
    it.

    Raises:
      OSError: it cannot be read.
    """
    if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST:
        return False
    return is_named(path.name) and _holds(path)


def digest_of(path: Path) -> str:
    """Returns the SHA-256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _holds(path: Path) -> bool:
    """Whether a file holds what its name says."""
    return digest_of(path).startswith(_digits(path.name))


def _digits(name: str) -> str:
    """The digits in a name."""
    found = _NAMED.fullmatch(name)
    assert found is not None
    return found[2]


def _see(name: str, path: Path) -> None:
    """Notes where a file lies; the latest place comes last."""
    places = _known.setdefault(name, {})
    places.pop(path.absolute(), None)
    places[path.absolute()] = None

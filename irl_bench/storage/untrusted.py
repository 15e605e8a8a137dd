"""Files of a folder that may be a stranger's: read within bounds, and taken apart without trust.

A hash inside a file tells of damage and nothing of intent: whoever writes a file writes its hash
too. So whatever is read from one is checked for its form before anything is done with it.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

Check: TypeAlias = Callable[[Any], bool]
"""Whether a value has a form."""
KEY = re.compile(r"[0-9a-f]{20}")
"""The form of a cell's key, which is part of file names."""
NAME = re.compile(r"[A-Za-z0-9._:-]+")
"""The form of the names of algorithms, worlds and modes."""
DEEPEST = 32
"""How deep values may be nested."""
LARGEST = 2**63
"""The integers of a file lie below this, in magnitude."""
SWOLLEN, SWOLLEN_BYTES = 200, 2**30
"""What is compressed by more than this factor is refused if it takes more than so many bytes."""
MOST = 2**28
"""The largest file of text that is read [bytes], unless the reader says otherwise."""
MOST_IN: Mapping[str, int] = {"cells": 2**30, "learned": 2**32, "leases": 2**16, "log": 2**30}
"""The largest files of a run that are read [bytes], by their folders. Checkpoints have no limit."""


def check_regular(path: Path) -> int:
    """Returns the size of a regular file [bytes]. Raises OSError if it is none: a pipe would never
    end."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return found.st_size


def content(path: Path, most: int = MOST) -> bytes:
    """Returns the bytes of a regular file.

    Raises OSError if it cannot be read, is no regular file or has more than `most` bytes.
    """
    size = check_regular(path)
    if size > most:
        raise OSError(errno.EFBIG, f"it has {size:,} bytes, more than {most:,}", str(path))
    return path.read_bytes()


def check_zip(path: Path) -> None:
    """Raises ValueError if a zip file holds far more than its size: a bomb fills the memory."""
    with zipfile.ZipFile(path) as file:
        for entry in file.infolist():
            if entry.file_size > SWOLLEN_BYTES and entry.file_size > SWOLLEN * entry.compress_size:
                raise ValueError(
                    f"{shown(entry.filename)} takes {entry.file_size:,} bytes, and "
                    f"{entry.compress_size:,} in the file"
                )


def check_parquet(file: Any, most_rows: int = 10**9, most_bytes: int = 16 * SWOLLEN_BYTES) -> None:
    """Raises ValueError if an open Parquet file would fill the memory.

    Args:
      file: a `pyarrow.parquet.ParquetFile`.
      most_rows: most rows of it.
      most_bytes: most that its columns may take [bytes].
    """
    facts = file.metadata
    size = sum(facts.row_group(group).total_byte_size for group in range(facts.num_row_groups))
    if not 0 <= facts.num_rows <= most_rows or not 0 <= size <= most_bytes:
        raise ValueError(f"it has {facts.num_rows:,} rows of {size:,} bytes")


def parsed(text: bytes | str) -> Any:
    """Returns a JSON value. Raises ValueError, in one line, for other text, and for values that no
    file of this project holds: see `problem`."""
    try:
        value: Any = json.loads(text)
    except RecursionError:
        raise ValueError(f"its values are nested more than {DEEPEST} deep") from None
    wrong = problem(value)
    if wrong:
        raise ValueError(wrong)
    return value


def problem(value: Any, depth: int = 0) -> str | None:
    """Returns what no file of this project holds in its values: deep nests, huge or infinite
    numbers, and text that cannot be shown. None if there is nothing of that kind."""
    if depth > DEEPEST:
        return f"its values are nested more than {DEEPEST} deep"
    if isinstance(value, str):
        return None if text(value) else "it holds control characters or text that is no Unicode"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"it holds the number {value}"
    if isinstance(value, int):
        return None if abs(value) < LARGEST else "it holds an integer of more than 64 bits"
    parts: Sequence[Any] = ()
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value)
        parts = [*pairs.keys(), *pairs.values()]
    elif isinstance(value, list):
        parts = cast("list[Any]", value)
    return next((wrong for part in parts if (wrong := problem(part, depth + 1))), None)


def text(value: Any) -> bool:
    """Whether a value is text that can be shown and stored as UTF-8. Line ends and tabs count as
    text."""
    if not isinstance(value, str):
        return False
    return all(letter.isprintable() or letter in "\n\t\u00a0" for letter in value)


def whole(least: int = 0, most: int = LARGEST) -> Check:
    """Returns a check of integers in [least, most)."""
    return lambda value: (
        isinstance(value, int) and not isinstance(value, bool) and least <= value < most
    )


def number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) < LARGEST * 1e290
        and math.isfinite(value)
    )


def name(value: Any) -> bool:
    """Whether a value has the form of a name of an algorithm, world or mode."""
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def key(value: Any) -> bool:
    """Whether a value has the form of a cell's key."""
    return isinstance(value, str) and KEY.fullmatch(value) is not None


def listed(check: Check, least: int = 0) -> Check:
    """Returns a check of lists of at least `least` values of one kind."""

    def checked(value: Any) -> bool:
        if not isinstance(value, list):
            return False
        values = cast("list[Any]", value)
        return len(values) >= least and all(check(each) for each in values)

    return checked


def mapped(check: Check) -> Check:
    """Returns a check of {text: values of one kind}."""
    return lambda value: (
        isinstance(value, Mapping)
        and all(text(each) for each in cast("Mapping[Any, Any]", value))
        and all(check(each) for each in cast("Mapping[Any, Any]", value).values())
    )


def anything(value: Any) -> bool:
    """Accepts any value."""
    del value
    return True


def optional(check: Check) -> Check:
    """Returns a check that None passes too."""
    return lambda value: value is None or check(value)


def fields(
    value: Any,
    needed: Mapping[str, Check],
    possible: Mapping[str, Check] | None = None,
) -> str | None:
    """Returns which field of a mapping is missing or has another form; None if all fit.

    Args:
      value: should be a mapping.
      needed: {field that must be there: check of its value}.
      possible: {field that may be there: check of its value}.
    """
    if not isinstance(value, Mapping):
        return "it is no mapping"
    found = cast("Mapping[str, Any]", value)
    for field, check in {**needed, **(possible or {})}.items():
        if field in found and not check(found[field]):
            return f"its {field} is {shown(found[field])}"
        if field in needed and field not in found:
            return f"it has no {field}"
    return None


def shown(value: Any) -> str:
    """Returns a value as a short text of printable characters."""
    try:
        full = repr(value)
    except (ValueError, RecursionError):  # an integer of too many digits
        full = type(value).__name__
    short = full if len(full) <= 40 else f"{full[:37]}..."
    return "".join(letter if letter.isprintable() else "?" for letter in short)


def leads_out(folder: Path, path: Path) -> bool:
    """Whether something in a folder is a link that leads out of it."""
    if not path.is_symlink():
        return False
    root = os.path.realpath(folder)
    return os.path.commonpath([root, os.path.realpath(path)]) != root

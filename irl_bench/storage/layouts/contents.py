"""What a demonstration file holds, and the words that its error messages share."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import stat
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from irl_bench.core.settings import BadInput

ALIASES: Mapping[str, tuple[str, ...]] = {
    "observations": ("observations", "observation", "obs"),
    "actions": ("actions", "action", "acts", "acs"),
    "rewards": ("rewards", "reward", "rews"),
    "terminals": ("terminals", "terminal", "terminations", "terminated"),
    "timeouts": ("timeouts", "timeout", "truncations", "truncated"),
    "dones": ("dones", "done"),
    "starts": ("episode_starts",),
    "ids": ("episode_index", "episode_id", "episode_ids", "traj_id", "trajectory_id"),
    "lengths": ("lengths", "length", "episode_lengths", "ep_lens"),
    "indices": ("indices", "episode_ends"),
    "mask": ("mask",),
    "world": ("world",),
    "options": ("world_options",),
}
"""Role -> the keys of npz and HDF5 files that mean it, in lower case."""

TEXTS = ("world", "options")
"""The roles of strings. All others are numbers."""

STATES = ("states", "state")
"""Keys that mean observations if no other key does. Beside observations they hold the simulator's
state."""

ROLES = ("observations", "actions", "rewards")
"""The roles of the fields of `Episode`, in their order."""

SHOWN = 12
"""At most this many keys are listed in a message."""

SAVE = "np.savez('demos.npz', observations=..., actions=...)"
"""The conversion that messages suggest where the arrays are unknown."""


class Episode(NamedTuple):
    """An episode of T steps. With actions or rewards there may be T + 1 observations."""

    observation: np.ndarray
    """Observations [T, ...] or [T + 1, ...]."""
    action: np.ndarray | None
    """Actions [T, ...]; None if the file has none."""
    reward: np.ndarray | None
    """Rewards [T] or [T, 1]; None if the file has none."""


@dataclasses.dataclass(frozen=True)
class Contents:
    """The content of a demonstration file before it is checked against a world."""

    layout: str
    """The layout of the file, in words."""
    episodes: list[Episode]
    """The episodes, in the order of the file."""
    keys: Mapping[str, str]
    """Role -> the file's key for `observations`, `actions` and `rewards`."""
    world: str = ""
    """The world's name; empty if the file does not hold it."""
    options: str = ""
    """The world's options that say what an observation holds, NAME=VALUE separated by commas; empty
    if the file does not hold them."""
    ignored: tuple[str, ...] = ()
    """The file's keys that mean nothing here."""


class Entry(NamedTuple):
    """An array of a file, not yet loaded."""

    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], np.ndarray]
    """Reads the array."""


Named = dict[str, tuple[str, np.ndarray]]
"""Role (a key of ALIASES) -> (the file's key, the array)."""


def refusal(path: Path | str, text: str) -> BadInput:
    """Returns a BadInput of one line that begins with the file's path."""
    return BadInput(" ".join(f"{path}{text}".splitlines()))


@contextlib.contextmanager
def reading(path: Path, kind: str) -> Generator[None]:
    """Turns any error about a file into a BadInput of one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except BadInput:
        raise
    except PermissionError as error:
        raise refusal(
            path,
            f" may not be read: no permission for {error.filename or path}; nearest: chmod u+r",
        ) from None
    except FileNotFoundError as error:
        raise refusal(path, f" lacks a file that it names: {error.filename or error}") from None
    except MemoryError:
        raise refusal(
            path, " does not fit into memory; convert: fewer episodes a file, observations[:100]"
        ) from None
    # zipfile, zlib, NumPy, h5py, pyarrow and Minari raise many kinds for a damaged file
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            # The error is about the path, not the content: a name too long, a lock.
            raise refusal(
                path, f" cannot be opened ({reason}); nearest: a copy of it under a short name"
            ) from None
        raise refusal(
            path, f" is damaged or no {kind} ({reason}); nearest: copy or download it again"
        ) from None


MAGIC = {
    b"\x93NUMPY": ".npy",
    b"\x89HDF\r\n\x1a\n": ".hdf5",
    b"PAR1": ".parquet",
    b"PK\x03\x04": ".npz",
    b"ARROW1": ".arrow",
}
"""First bytes of a file -> its suffix."""

LFS = b"version https://git-lfs"
"""First bytes of a pointer of Git LFS."""


def kind_of(path: Path) -> str | None:
    """The suffix that the first bytes belong to; None if they are unknown. Raises BadInput for a
    pipe or a pointer of Git LFS."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise refusal(path, " is no regular file; nearest: a copy of it on the disk")
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(LFS):
        raise refusal(path, " is a pointer of Git LFS, not the file itself; nearest: git lfs pull")
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)


def shown(shape: Iterable[int], dtype: Any = None) -> str:
    """Returns a shape and, if one is passed, a dtype as text."""
    text = f"[{', '.join(str(size) for size in shape)}]"
    return text if dtype is None else f"shape {text}, dtype {str(dtype)[:60]}"


def listing(entries: Mapping[str, Entry]) -> str:
    """Keys with shapes and dtypes."""
    texts = [
        f"{name} {shown(entry.shape)} {str(entry.dtype)[:40]}" for name, entry in entries.items()
    ]
    more = [f"{len(texts) - SHOWN} more"] if len(texts) > SHOWN else []
    return ", ".join([*texts[:SHOWN], *more]) or "nothing"


def joined(names: Iterable[str]) -> str:
    """Returns an expression that joins several observations into one array."""
    parts = ", ".join(f"d[{name!r}]" for name in itertools.islice(names, SHOWN))
    return f"observations=np.concatenate([{parts}], -1)"


def keys_of(path: Path | str, names: Iterable[str]) -> dict[str, str]:
    """The file's own key by role. Raises BadInput for two keys of one role."""
    names = list(names)
    keys: dict[str, str] = {}
    for role, aliases in ALIASES.items():
        hits = [name for name in names if name.lower() in aliases]
        if role == "observations" and not hits:
            hits = [name for name in names if name.lower() in STATES]
        if len(hits) > 1:
            raise refusal(
                path,
                f" holds {' and '.join(hits)}, which mean the same; convert: leave out {hits[-1]}",
            )
        if hits:
            keys[role] = hits[0]
    return keys


def named_of(
    path: Path | str, entries: Mapping[str, Entry], needs: tuple[str, ...] = ("observations",)
) -> Named:
    """The arrays by role. Raises BadInput if a role of `needs` is missing or an array holds no
    numbers."""
    keys = keys_of(path, entries)
    if any(role not in keys for role in needs):
        several = [name for name in entries if name.lower().startswith(ALIASES["observations"])]
        how = joined(several) if several else "observations=d['KEY'], actions=d['KEY']"
        if len(entries) > 1 and all(
            name[-1:].isdigit() for name in several or entries
        ):  # obs_0, obs_1, ...: an episode each
            how = (
                "observations=np.concatenate([d[k] for k in KEYS]), lengths=[len(d[k]) for k in "
                "KEYS]"
            )
        raise refusal(
            path,
            f" must hold observations of shape [N, T, O]; it holds {listing(entries)}; convert: "
            f"np.savez('demos.npz', {how})",
        )
    named: Named = {}
    for role, key in keys.items():
        entry = entries[key]
        if role in TEXTS:
            named[role] = (
                key,
                np.empty(entry.shape, object)
                if entry.dtype.hasobject
                else np.asarray(entry.load()),
            )
            continue
        check_numbers(path, key, entry.shape, entry.dtype)
        named[role] = (key, np.asarray(entry.load()))
    return named


def check_numbers(path: Path | str, key: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raises BadInput unless an array's dtype is boolean, integer or floating-point.

    Args:
      path: the file.
      key: the file's key of the array.
      shape, dtype: of the array.
    """
    if dtype.kind in "biuf":
        return
    kind = "text" if dtype.kind in "SUT" else dtype.kind
    if kind == "O":
        parts = itertools.chain(STATES, *(ALIASES[role] for role in ROLES))
        kind = (
            "object"
            if not shape
            else "ragged"
            if len(shape) == 1 and key.lower() in parts
            else "objects"
        )
    what, how = {
        "object": (
            "a Python object, such as a dict",
            f"{joined(['A', 'B'])} with d = {key}.item()",
        ),
        "ragged": (
            "a ragged object array",
            "pad it to [N, T, O] and give `lengths`, or concatenate it, "
            f"np.concatenate(list({key})), and give `terminals` or"
            f" lengths=[len(e) for e in {key}]",
        ),
        "objects": ("Python objects", f"{key}.astype(float)"),
        "text": (
            "text",
            f"{key}.astype(float) for digits, [['left', 'right'].index(a) for a in {key}] for "
            "names",
        ),
        "c": ("complex numbers", f"{key}.real, or np.concatenate([{key}.real, {key}.imag], -1)"),
        "V": ("a structured array", f"np.lib.recfunctions.structured_to_unstructured({key})"),
    }.get(kind, ("no numbers", f"{key}.astype(float)"))
    raise refusal(
        path, f": {key} holds {what} ({shown(shape, dtype)}); expected numbers; convert: {how}"
    )


def episode_of(arrays: Mapping[str, np.ndarray]) -> Episode:
    """An episode from its arrays by role, of which `observations` is always there."""
    return Episode(arrays["observations"], arrays.get("actions"), arrays.get("rewards"))

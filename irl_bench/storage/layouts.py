"""Layouts of demonstration files: each reader splits one into episodes.

docs/reference/demonstration-files.md shows all layouts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import stat
import warnings
import zipfile
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

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
}
"""Role -> the keys of npz and HDF5 files that mean it, in lower case."""
STATES = ("states", "state")
"""Keys that mean observations if no other key does. Beside observations they hold the simulator's
state."""
ROLES = ("observations", "actions", "rewards")
"""The roles of the fields of `Episode`, in their order."""
ENDS = ("terminals", "timeouts", "dones", "starts", "ids")
"""Roles that mark the ends of episodes, step by step. `starts` and `ids` mark the step after an
end."""
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
class Found:
    """The content of a file, of any dtype, not yet compared with a world."""

    layout: str
    """The layout of the file, in words."""
    episodes: list[Episode]
    """The episodes, in the order of the file."""
    keys: Mapping[str, str]
    """Role -> the file's key for `observations`, `actions` and `rewards`."""
    world: str = ""
    """The world's name; empty if the file does not hold it."""


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


def place(path: Path | str) -> Path:
    """Returns the path with `~` replaced. Raises BadInput if there is no such home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise refusal(
            path, " begins with a home directory that does not exist; nearest: the full path"
        ) from None


def read(path: Path) -> Found:
    """Splits a file or folder into episodes.

    Raises:
      BadInput: there is nothing, it cannot be read, its layout is unknown or it holds no numbers;
        one line that names the file and says how to convert it.
    """
    with _reading(path, "demonstrations"):
        if not path.exists():
            raise refusal(
                f"demonstrations: {path}", " is missing; nearest: launch/demos.py writes one"
            )
        suffix = path.suffix.lower().split("-")[0]  # a shard's suffix is .tfrecord-00000-of-00002
        if suffix in REFUSED and (suffix == ".zarr" or not path.is_dir()):
            raise refusal(
                path, f" is of the kind {suffix}, which is not read; convert: {REFUSED[suffix]}"
            )
        reader = _folder(path) if path.is_dir() else _file(path, suffix)
    return reader(path)


@contextlib.contextmanager
def _reading(path: Path, kind: str) -> Generator[None]:
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


def _file(path: Path, suffix: str) -> Callable[[Path], Found]:
    """The reader of a file, by its suffix; its first bytes must agree."""
    kind = _kind(path)
    if suffix in FILES and kind is not None and FILES.get(kind) is not FILES[suffix]:
        how = f"rename it to {path.stem}{kind}" if kind in FILES else REFUSED[kind]
        raise refusal(path, f" is a {kind} file by its first bytes, not {suffix}; convert: {how}")
    if suffix not in FILES:
        how = f"rename it to {path.stem}{kind}, what it looks like" if kind in FILES else SAVE
        names = " or ".join(FILES)
        raise refusal(
            f"demonstrations: {path}",
            f" is neither a file {names} nor the folder of a Minari, LeRobot or imitation dataset; "
            f"convert: {how}",
        )
    if kind is None and not path.stat().st_size:
        raise refusal(
            path,
            " is empty (0 bytes); nearest: copy or download it again, launch/demos.py writes one",
        )
    return FILES[suffix]


def _kind(path: Path) -> str | None:
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


def _listed(entries: Mapping[str, Entry]) -> str:
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


def _keys(path: Path | str, names: Iterable[str]) -> dict[str, str]:
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


def _named(
    path: Path | str, entries: Mapping[str, Entry], needs: tuple[str, ...] = ("observations",)
) -> Named:
    """The arrays by role. Raises BadInput if a role of `needs` is missing or an array holds no
    numbers."""
    keys = _keys(path, entries)
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
            f" must hold observations of shape [N, T, O]; it holds {_listed(entries)}; convert: "
            f"np.savez('demos.npz', {how})",
        )
    named: Named = {}
    for role, key in keys.items():
        entry = entries[key]
        if role == "world":
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


def _npz(path: Path) -> Found:
    """Reads an npz file."""
    with _reading(path, "npz file"), zipfile.ZipFile(path) as file:
        entries: dict[str, Entry] = {}
        for name in file.namelist():
            if name.endswith(".npy"):
                entries[name.removesuffix(".npy")] = _npy(file, name)
        if not entries and file.namelist():
            inside = ", ".join(file.namelist()[:SHOWN])
            raise refusal(
                path, f" is a zip file but no npz: it holds {inside}, no .npy; convert: {SAVE}"
            )
        named = _named(path, entries)
    return _arrays(path, "npz", named)


def _npy(file: zipfile.ZipFile, name: str) -> Entry:
    """An array of an npz file, from its header alone: arrays of objects are refused unloaded."""
    with file.open(name) as handle:
        first_version = np.lib.format.read_magic(handle) == (1, 0)
        read_header = (
            np.lib.format.read_array_header_1_0
            if first_version
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(handle)

    def load() -> np.ndarray:
        with file.open(name) as handle:
            return np.lib.format.read_array(handle, allow_pickle=False)

    return Entry(shape, dtype, load)


def _hdf5(path: Path) -> Found:
    """Reads an HDF5 file: arrays of all episodes, or a group for each episode."""
    try:
        import h5py  # pyright: ignore[reportMissingTypeStubs] - the package has none
    except ImportError:
        raise refusal(
            path, ": HDF5 files need the extra `data`; nearest: pip install 'irl-bench[data]'"
        ) from None
    with _reading(path, "HDF5 file"), cast("Any", h5py).File(path, "r") as file:
        top = _datasets(path, file)
        groups = [] if "observations" in _keys(path, top) else _episode_groups(file)
        parts = [_named(f"{path}: {group.name}", _datasets(path, group)) for group in groups]
        whole = (
            _named(
                path,
                {name: top[name] for name in top if name.lower() in ALIASES["world"]},
                needs=(),
            )
            if parts
            else None
        )
        named = {} if parts else _named(path, top)
    if whole is None:
        return _arrays(path, "HDF5", named)
    episodes = [_episode({role: part[role][1] for role in ROLES if role in part}) for part in parts]
    keys = {role: parts[0][role][0] for role in ROLES if role in parts[0]}
    return Found("HDF5, a group for each episode", episodes, keys, _world(path, whole))


def _episode(arrays: Mapping[str, np.ndarray]) -> Episode:
    """An episode from its arrays by role, of which `observations` is always there."""
    return Episode(arrays["observations"], arrays.get("actions"), arrays.get("rewards"))


def _episode_groups(file: Any) -> list[Any]:
    """The groups of an HDF5 file, or of its group `data`, that hold one episode each, in the order
    of their numbers."""
    inside = file["data"] if "data" in file and hasattr(file["data"], "keys") else file
    names = (*ALIASES["observations"], *STATES, *ALIASES["actions"])
    groups = [
        node
        for node in inside.values()
        if hasattr(node, "keys") and any(name.lower() in names for name in node)
    ]
    return sorted(groups, key=lambda group: (len(group.name), group.name))


def _datasets(path: Path, group: Any) -> dict[str, Entry]:
    """The arrays of a group of an HDF5 file. A group of observations counts as the only array of
    numbers in it."""
    entries: dict[str, Entry] = {}
    for name, node in group.items():
        if not hasattr(node, "keys"):
            entries[name] = _h5_entry(node)
        elif name.lower() in ALIASES["observations"]:
            inside: dict[str, Any] = {}

            def visit(key: str, leaf: Any, inside: dict[str, Any] = inside) -> None:
                if hasattr(leaf, "dtype"):
                    inside[key] = leaf

            node.visititems(visit)
            flat = {
                key: leaf
                for key, leaf in inside.items()
                if leaf.shape is not None and 1 <= len(leaf.shape) <= 2
            }
            if len(flat) != 1:
                listed = _listed({key: _h5_entry(leaf) for key, leaf in inside.items()})
                how = joined(flat) if flat else "the world's own observations, float32[T, O]"
                raise refusal(
                    path,
                    f": {node.name} holds {listed}; expected one array [T, O]; convert: {how} with "
                    f"d = file[{node.name!r}]",
                )
            entries[name] = _h5_entry(*flat.values())
    return entries


def _h5_entry(node: Any) -> Entry:
    """An array of an HDF5 file, not yet loaded."""
    import h5py  # pyright: ignore[reportMissingTypeStubs] - the package has none

    if node.shape is None:  # declared without a size
        return Entry((0,), node.dtype, lambda: np.zeros(0, node.dtype))
    dtype = np.dtype("U") if cast("Any", h5py).check_string_dtype(node.dtype) else node.dtype
    return Entry(node.shape, dtype, lambda: np.asarray(node[()]))


def _arrays(path: Path, file: str, named: Named) -> Found:
    """Episodes from arrays of all of them: [N, T, O], or [S, O] with all steps in a row."""
    key, observations = named["observations"]
    if observations.ndim not in (2, 3):
        how = (
            f"{key}.reshape(*{key}.shape[:2], -1)" if observations.ndim > 3 else f"{key}[..., None]"
        )
        what = "images?" if observations.ndim > 3 else "one number a step?"
        raise refusal(
            path,
            f": {key} has {shown(observations.shape, observations.dtype)} ({what}); expected [N, "
            "T, O], or [T, O] of one"
            f" episode or with `terminals`; convert: {how} if those are the world's values",
        )
    layout, episodes = (_padded if observations.ndim == 3 else _flat)(path, named)
    keys = {role: named[role][0] for role in ROLES if role in named}
    return Found(f"{file}, {layout}", episodes, keys, _world(path, named))


def _padded(path: Path, named: Named) -> tuple[str, list[Episode]]:
    """(layout, episodes) of arrays [N, T, ...], cut by `lengths` where there are any."""
    everything = named
    ignored = (*ENDS, "mask") if "lengths" in named else ("ids",)
    named = {role: named[role] for role in named if role not in ignored}
    if "mask" in named:
        key = named["mask"][0]
        raise refusal(
            path,
            f": {key} is not read; expected `lengths` [N] of the episodes; convert: "
            f"lengths={key}.sum(axis=1)",
        )
    (count, steps), more = _steps(path, named, 2, (0, 1))
    if "lengths" in named:
        lengths, layout = _lengths(path, named, count, steps), "[N, T, O], cut by lengths"
        _check_ends(path, everything, lengths, steps)
    else:
        lengths, layout = [steps] * count, "[N, T, O]"
        ends = _ends(path, named, (count, steps))
        if ends is not None and ends[:, :-1].any():
            i = int(ends[:, :-1].any(axis=1).argmax())
            names = [named[role][0] for role in ENDS if role in named]
            raise refusal(
                path,
                f": {' and '.join(names)} {shown((count, steps))} end episode {i} at step "
                f"{int(ends[i].argmax())} of {steps};"
                " expected `lengths` [N], as what follows may be padding or another episode; "
                "convert:"
                f" lengths=np.where({names[0]}.any(1), {names[0]}.argmax(1) + 1, {steps}) for "
                "padding, or"
                " x.reshape(-1, *x.shape[2:]) of every array",
            )
    episodes = [
        _episode({role: named[role][1][i, :n] for role in ROLES if role in named})
        for i, n in enumerate(lengths)
    ]
    return layout + _dropped(more), episodes


def _check_ends(path: Path, named: Named, lengths: list[int], steps: int) -> None:
    """Raises BadInput if marks of ends, beside lengths, end an episode before its length."""
    marks = {role: named[role] for role in ("terminals", "timeouts", "dones") if role in named}
    ends = _ends(path, {**named, **marks}, (len(lengths), steps)) if marks else None
    if ends is None:
        return
    for i, length in enumerate(lengths):
        early = np.flatnonzero(ends[i, : length - 1])
        if early.size:
            names = " and ".join(key for key, _ in marks.values())
            raise refusal(
                path,
                f": {names} end episode {i} at step {int(early[0])}, but lengths says {length}; "
                "expected one and the same end;"
                " convert: leave one of them out",
            )


def _flat(path: Path, named: Named) -> tuple[str, list[Episode]]:
    """(layout, episodes) of arrays [S, ...] that hold the steps of all episodes in a row."""
    rule = next((role for role in ("lengths", "indices") if role in named), None)
    if rule:
        named = {role: named[role] for role in named if role not in ENDS}
    (steps,), more = _steps(path, named, 1, None)
    ends = _ends(path, named, (steps,))
    if "ids" in named:
        key, ids = named["ids"]
        if (np.flatnonzero(np.diff(ids.reshape(-1))).size + 1) > np.unique(ids).size:
            raise refusal(
                path,
                f": {key} comes back to an episode after another one; expected each episode's "
                "steps in one piece; convert:"
                f" x[o] of every array with o = np.argsort({key}, kind='stable')",
            )
    if rule == "lengths":
        lengths, layout = _lengths(path, named, None, steps), "flat, cut by lengths"
    elif rule == "indices":
        lengths, layout = _between(path, *named["indices"], steps), "flat, cut by indices"
    elif ends is None:
        lengths, layout = [steps] if steps else [], "one episode [T, O]"
    else:
        last = np.flatnonzero(ends) + 1
        lengths = np.diff(last, prepend=0).tolist() + (
            [steps - int(last[-1])] if len(last) else [steps]
        )
        lengths = [n for n in lengths if n]
        layout = f"flat, cut by {' and '.join(named[role][0] for role in ENDS if role in named)}"
    if more not in (0, 1, len(lengths)):
        raise _mismatch(path, named, _step_roles(named)[0])
    # Either every episode has its last observation, or at most the whole file has one.
    after = 1 if more == len(lengths) else 0
    episodes: list[Episode] = []
    at = 0
    for i, n in enumerate(lengths):
        begin = at + i * after
        steps_of = {role: named[role][1][at : at + n] for role in ROLES[1:] if role in named}
        observations = named["observations"][1][begin : begin + n]
        episodes.append(_episode({"observations": observations, **steps_of}))
        at += n
    return layout + _dropped(more), episodes


def _dropped(more: int) -> str:
    """A note on observations after the last step, which are left out."""
    return ", without the observation after the last step" if more else ""


def _steps(
    path: Path, named: Named, lead: int, most: tuple[int, ...] | None
) -> tuple[tuple[int, ...], int]:
    """The axes of episodes and steps, which all arrays share, and how many more observations than
    steps there are.

    Args:
      lead: how many leading axes are shared.
      most: how many more observations there may be; None: any number.

    Raises:
      BadInput: the arrays do not fit together.
    """
    roles = _step_roles(named)
    observed = named["observations"][1].shape[:lead]
    steps = named[roles[0]][1].shape[:lead] if roles else observed
    more = observed[-1] - steps[-1] if len(steps) == lead else -1
    if len(steps) != lead or observed[:-1] != steps[:-1] or more < 0 or (most and more not in most):
        raise _mismatch(path, named, roles[0])
    for role in roles[1:]:
        if named[role][1].shape[:lead] != steps:
            raise _mismatch(path, named, role)
    return steps, more


def _step_roles(named: Named) -> list[str]:
    """Roles of the arrays that hold at least one number for each step."""
    return [role for role in ("actions", "rewards", *ENDS) if role in named]


def _mismatch(path: Path, named: Named, role: str) -> BadInput:
    """The error for an array that does not fit the observations."""
    (key, array), (other, observations) = named[role], named["observations"]
    last = ", A" if role == "actions" else ""
    short, long = sorted((array.ndim + (role != "actions"), observations.ndim))
    if short < long:
        how = (
            f"{key if observations.ndim == long else other}[None] where the axis of episodes is "
            "missing"
        )
    else:
        how = f"cut both to the same steps, {key}[{':, ' * (long == 3)}:T]"
    return refusal(
        path,
        f": {key} {shown(array.shape)} ({array.dtype}) do not go with {other} "
        f"{shown(observations.shape)}"
        f" ({observations.dtype}); expected {other} of shape [N, T, O] with {key} [N, T{last}], or "
        f"[S, O] with [S{last}], or"
        f" one observation more; convert: {how}",
    )


def _ends(path: Path, named: Named, steps: tuple[int, ...]) -> np.ndarray | None:
    """bool of shape `steps`: whether an episode ends with a step; None if nothing marks the
    ends."""
    ends: np.ndarray | None = None
    for role in ENDS:
        if role not in named:
            continue
        key, array = named[role]
        if array.size != np.prod(steps, dtype=int) or not (
            role == "ids" or np.isin(array, (0, 1)).all()
        ):
            what = "numbers of episodes" if role == "ids" else "0 and 1"
            how = f"{key}.any(axis=-1)" if array.ndim > len(steps) else f"{key} > 0.5"
            raise refusal(
                path,
                f": {key} has {shown(array.shape, array.dtype)}; expected {shown(steps)} of "
                f"{what}; convert: {how}",
            )
        flags = array.reshape(steps)
        if role in ("starts", "ids"):
            begins = flags[..., 1:] != (0 if role == "starts" else flags[..., :-1])
            flags = np.concatenate([begins, np.zeros_like(flags[..., :1])], axis=-1)
        flags = flags.astype(bool)
        ends = flags if ends is None else ends | flags
    return ends


def _lengths(path: Path, named: Named, count: int | None, steps: int) -> list[int]:
    """Steps of each episode, from `lengths`.

    Args:
      count: number of rows of `steps` steps each; None: all episodes together have `steps` steps.
    """
    key, array = named["lengths"]
    values = array.reshape(-1)
    most = f"{len(values) if count is None else count} numbers in 1..{steps}"
    wrong = ~((values >= 1) & (values <= steps) & (values == np.floor(values)))  # also true of NaN
    reason = ""
    if (
        array.ndim not in (1, 2)
        or len(values) != array.shape[0]
        or (count is not None and len(values) != count)
    ):
        reason = f"it has {shown(array.shape, array.dtype)}"
    elif wrong.any():
        i = int(wrong.argmax())
        reason = f"episode {i} has {values[i]}" + (
            ": an episode of no steps" if values[i] == 0 else ""
        )
    elif count is None and int(values.sum()) != steps:
        reason = f"they add up to {int(values.sum())} of {steps} steps"
    if reason:
        raise refusal(
            path,
            f": {key} must be {most}; {reason} ({array.dtype}); convert: {key}=np.array([len(e) "
            "for e in episodes])",
        )
    return [int(value) for value in values]


def _between(path: Path, key: str, array: np.ndarray, steps: int) -> list[int]:
    """Steps of each episode, from the steps at which all but the first one begin. The end of the
    last one may follow."""
    begins = array.reshape(-1).astype(np.float64)
    edges = np.concatenate(
        [[0.0], begins[:-1] if len(begins) and begins[-1] == steps else begins, [float(steps)]]
    )
    lengths = np.diff(edges)
    if array.ndim != 1 or not (lengths >= 1).all() or (edges != np.floor(edges)).any():
        raise refusal(
            path,
            f": {key} has {shown(array.shape, array.dtype)}; expected rising numbers in "
            f"1..{steps - 1}, the first step of"
            f" each episode but the first; convert: {key}=np.cumsum(lengths[:-1])",
        )
    return [int(n) for n in lengths]


def _world(path: Path, named: Named) -> str:
    """The world's name; empty if the file does not hold it."""
    if "world" not in named:
        return ""
    key, array = named["world"]
    name = array.item() if array.size == 1 else None
    name = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    if not isinstance(name, str):
        raise refusal(
            path,
            f": {key} has {shown(array.shape, array.dtype)}; expected the world's name; convert: "
            f"{key}=np.asarray('lane_keep')",
        )
    return name


def _folder(path: Path) -> Callable[[Path], Found]:
    """The reader of a folder, by what it holds."""
    for holds, reader in FOLDERS.items():
        if (path / holds).exists():
            return reader
    names = sorted(name.name for name in path.iterdir())
    if "dataset_dict.json" in names:
        raise refusal(
            path, f" holds several datasets; nearest: one of its folders, {path.name}/train"
        )
    if any(".tfrecord" in name for name in names):
        raise refusal(
            path, f" holds .tfrecord files, which are not read; convert: {REFUSED['.tfrecord']}"
        )
    if ".zgroup" in names or "zarr.json" in names:
        raise refusal(path, f" is a Zarr folder, which is not read; convert: {REFUSED['.zarr']}")
    files = [name for name in names if Path(name).suffix.lower() in FILES]
    if files:
        raise refusal(path, f" is a folder; nearest: one of its files, {', '.join(files[:SHOWN])}")
    raise refusal(
        path,
        " is a folder of no dataset: it holds no data/ of Minari, no meta/info.json of LeRobot and "
        "no state.json of imitation;"
        f" convert: {SAVE}",
    )


def _minari(path: Path) -> Found:
    """Reads the folder of a Minari dataset."""
    try:
        import minari  # pyright: ignore[reportMissingTypeStubs] - the package has none
        from gymnasium import spaces as kinds
    except ImportError:
        raise refusal(
            path, ": Minari datasets need the extra `data`; nearest: pip install 'irl-bench[data]'"
        ) from None
    with _reading(path, "Minari dataset"):
        data: Any = cast("Any", minari).MinariDataset(
            path if (path / "metadata.json").exists() else path / "data"
        )
        for name, space in (
            ("observations", data.observation_space),
            ("actions", data.action_space),
        ):
            if isinstance(
                space, (kinds.Box, kinds.Discrete, kinds.MultiDiscrete, kinds.MultiBinary)
            ):
                continue
            parts = getattr(space, "spaces", {})
            parts = {
                str(key): part
                for key, part in (parts.items() if hasattr(parts, "items") else enumerate(parts))
            }
            listed = (
                ", ".join(
                    f"{key} {shown(part.shape or ())} {part.dtype}" for key, part in parts.items()
                )
                or space
            )
            raise refusal(
                path,
                f": {name} are a {type(space).__name__} of {listed}; expected one array [T, O]; "
                "convert:"
                f" {joined(parts or 'd')} of every episode, with d = episode.{name}",
            )
        episodes: list[Episode] = []
        for e in data.iterate_episodes():
            arrays = {role: np.asarray(getattr(e, role)) for role in ROLES}
            for role, array in arrays.items():
                check_numbers(path, role, array.shape, array.dtype)
            episodes.append(_episode(arrays))
        world = str(data.storage.metadata.get("irl_bench_world", ""))
    return Found("Minari dataset", episodes, {role: role for role in ROLES}, world)


def _numbers(path: Path, name: str, array: Any) -> np.ndarray:
    """An Arrow column of numbers or of lists of numbers of one length, [S, ...]."""
    from irl_bench.storage.arrow import pa, pc

    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    array = array.storage if isinstance(array, pa.ExtensionArray) else array
    kind = array.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        sizes: set[Any] = set(pc.list_value_length(array).to_pylist())
        if len(sizes) > 1 or None in sizes:
            raise refusal(
                path,
                f": {name} has rows of {len(sizes)} lengths or none; expected one; convert: leave "
                "those episodes out",
            )
        inner = _numbers(path, name, array.flatten())
        return inner.reshape(len(array), sizes.pop() if sizes else 0, *inner.shape[1:])
    if (
        not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))
        or array.null_count
    ):
        if pa.types.is_struct(kind):
            what, how = (
                f"a dict of {', '.join(field.name for field in kind)}",
                joined(field.name for field in kind),
            )
        else:
            what, how = f"{kind} with {array.null_count} empty values", SAVE
        raise refusal(
            path,
            f": {name} is {what}, {len(array)} rows; expected numbers in every row; convert: {how}",
        )
    return array.to_numpy(zero_copy_only=False)


def _lerobot(path: Path) -> Found:
    """Reads the folder of a LeRobot dataset."""
    from irl_bench.storage.arrow import pa, pq

    names = {"observations": "observation.state", "actions": "action", "rewards": "next.reward"}
    index = ("episode_index", "frame_index")
    with _reading(path, "LeRobot dataset"):
        info: Any = json.loads((path / "meta" / "info.json").read_text())
        files = sorted((path / "data").rglob("*.parquet"))
        if not files:
            raise refusal(
                path, " holds no data/*.parquet; nearest: download the dataset's data/ too"
            )
        tables: list[Any] = []
        for file in files:
            _kind(file)
            handle = pq.ParquetFile(file)
            columns: list[str] = handle.schema_arrow.names
            for name in (names["observations"], *index):
                if name not in columns:
                    raise refusal(
                        path,
                        f": {file.relative_to(path)} has no column {name}, only "
                        f"{', '.join(columns[:SHOWN])}; expected numbers"
                        " a step in observation.state; convert: record the world's own "
                        "observations as that column",
                    )
            wanted = [name for name in (*names.values(), *index) if name in columns]
            tables.append(handle.read(columns=wanted).select(wanted))
        # Shards may differ in the width of their integers.
        table = pa.concat_tables(tables, promote_options="permissive")
        arrays: dict[str, np.ndarray] = {
            name: _numbers(path, name, table[name]) for name in table.column_names
        }
        episode, frame = (arrays[name].reshape(len(table)).astype(np.int64) for name in index)
    order = np.lexsort((frame, episode))
    begins = np.unique(episode[order], return_index=True)[1]
    episodes: list[Episode] = []
    for i, rows in enumerate(np.split(order, begins[1:]) if len(order) else []):
        if not np.array_equal(frame[rows], np.arange(len(rows))):
            raise refusal(
                path,
                f": frame_index of episode {i} is not 0..{len(rows) - 1}; nearest: download the "
                "dataset again",
            )
        by_role = {role: arrays[name][rows] for role, name in names.items() if name in arrays}
        state = by_role["observations"]
        if state.ndim == 1:
            by_role["observations"] = state.reshape(len(rows), -1)
        episodes.append(_episode(by_role))
    facts = cast("dict[str, Any]", info) if isinstance(info, dict) else {}
    count: Any = facts.get("total_episodes", len(episodes))
    if count != len(episodes):
        raise refusal(
            path,
            f": meta/info.json names {count} episodes, data/ holds {len(episodes)}; nearest: "
            "download all of data/",
        )
    version = str(facts.get("codebase_version", ""))
    return Found(f"LeRobot dataset {version}".strip(), episodes, names)


def _imitation(path: Path) -> Found:
    """Reads the folder of a Hugging Face dataset of the library `imitation`."""
    from irl_bench.storage.arrow import pa

    kind = "Hugging Face dataset of trajectories"
    with _reading(path, kind):
        files = [
            path / Path(entry["filename"]).name
            for entry in json.loads((path / "state.json").read_text())["_data_files"]
        ]
        tables: list[Any] = []
        for file in files:
            _kind(file)
            with file.open("rb") as handle, pa.ipc.open_stream(handle) as stream:
                batches = list(stream)
                for batch in batches:
                    batch.validate(full=True)  # Arrow aborts the process at invalid offsets
                tables.append(pa.Table.from_batches(batches, stream.schema))
        table = pa.concat_tables(tables)
        keys = {role: key for role, key in _keys(path, table.column_names).items() if role in ROLES}
        if "observations" not in keys or not hasattr(
            table[keys["observations"]].type, "value_type"
        ):
            listed = ", ".join(f"{field.name} {field.type}" for field in table.schema)
            raise refusal(
                path,
                f" holds {listed}; expected a trajectory a row with obs and acts; convert: {SAVE}",
            )
        episodes = [
            _episode(
                {role: _numbers(path, key, table[key][i].values) for role, key in keys.items()}
            )
            for i in range(len(table))
        ]
    return Found("imitation's trajectories", episodes, keys)


FILES: Mapping[str, Callable[[Path], Found]] = {".npz": _npz, ".h5": _hdf5, ".hdf5": _hdf5}
"""Readers of files, by suffix in lower case."""

FOLDERS: Mapping[str, Callable[[Path], Found]] = {
    "meta/info.json": _lerobot,
    "state.json": _imitation,
    "data/metadata.json": _minari,
    "data/main_data.hdf5": _minari,
    "metadata.json": _minari,
}
"""Readers of folders, by what a folder holds. The first match counts."""

_ARRAYS = "np.savez('demos.npz', observations=d['observations'], actions=d['actions'])"
_PICKLED = (
    f"d = pandas.read_pickle(FILE), which runs code from the file: only if you trust it; {_ARRAYS}"
)
_TORCH = f"d = {{k: x.numpy() for k, x in torch.load(FILE, weights_only=True).items()}}; {_ARRAYS}"
_LINES = (
    "t = pandas.read_json(FILE, lines=True); np.savez('demos.npz', observations=np.stack(t.obs), "
    "actions=np.stack(t.action),"
    " terminals=t.done)"
)
_PARQUET = (
    "np.savez('demos.npz', observations=np.stack(t['observation.state']), "
    "actions=np.stack(t.action),"
    " lengths=t.groupby('episode_index').size())"
)
REFUSED: Mapping[str, str] = {
    ".npy": "np.savez('demos.npz', observations=np.load('obs.npy'), "
    "actions=np.load('actions.npy'))",
    ".pkl": _PICKLED,
    ".pickle": _PICKLED,
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".csv": "t = pandas.read_csv(FILE); np.savez('demos.npz', observations=t[NAMES], "
    "actions=t[NAMES], terminals=t.done)",
    ".json": f"d = {{k: np.asarray(x) for k, x in json.load(open(FILE)).items()}}; {_ARRAYS}",
    ".jsonl": _LINES,
    ".ndjson": _LINES,
    ".zarr": (
        "z = zarr.open(FOLDER, 'r'); np.savez('demos.npz', observations=z['data/state'][:], "
        "actions=z['data/action'][:],"
        " lengths=np.diff(z['meta/episode_ends'][:], prepend=0))"
    ),
    ".tfrecord": (
        "e = [list(x['steps'].as_numpy_iterator()) for x in "
        "tfds.builder_from_directory(FOLDER).as_dataset('train')];"
        " np.savez('demos.npz', observations=[s['observation'] for x in e for s in x],"
        " actions=[s['action'] for x in e for s in x], lengths=[len(x) for x in e])"
    ),
    ".mat": f"d = scipy.io.loadmat(FILE); {_ARRAYS}",
    ".parquet": "give the folder of the LeRobot dataset, or t = pandas.read_parquet(FILE); "
    f"{_PARQUET}",
    ".arrow": f"give the folder of the dataset, or {SAVE}",
    ".gz": "unpack it: gunzip FILE",
    ".zip": "unpack it: unzip FILE",
    ".tar": "unpack it: tar -xf FILE",
}
"""How to convert files that are not read, by suffix in lower case."""

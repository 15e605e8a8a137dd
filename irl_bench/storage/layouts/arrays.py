"""npz and HDF5 files: arrays of all episodes, or a group for each episode."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from irl_bench.core.settings import BadInput
from irl_bench.storage import untrusted
from irl_bench.storage.layouts.contents import (
    ALIASES,
    ROLES,
    SAVE,
    SHOWN,
    STATES,
    TEXTS,
    Contents,
    Entry,
    Episode,
    Named,
    episode_of,
    joined,
    keys_of,
    listing,
    named_of,
    reading,
    refusal,
    shown,
)

ENDS = ("terminals", "timeouts", "dones", "starts", "ids")
"""Roles that mark the ends of episodes, step by step. `starts` and `ids` mark the step after an
end."""

OF_FILE = tuple(key for role in TEXTS for key in ALIASES[role])
"""Keys that are of the whole file where each episode has a group of its own."""


def read_npz(path: Path) -> Contents:
    """Reads an npz file."""
    with reading(path, "npz file"), zipfile.ZipFile(path) as file:
        untrusted.check_zip(path)
        entries: dict[str, Entry] = {}
        for name in file.namelist():
            if name.endswith(".npy"):
                entries[name.removesuffix(".npy")] = _npy(file, name)
        if not entries and file.namelist():
            inside = ", ".join(file.namelist()[:SHOWN])
            raise refusal(
                path, f" is a zip file but no npz: it holds {inside}, no .npy; convert: {SAVE}"
            )
        named = named_of(path, entries)
    return _arrays(path, "npz", named, _without_role(path, entries, entries))


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


def read_hdf5(path: Path) -> Contents:
    """Reads an HDF5 file: arrays of all episodes, or a group for each episode."""
    try:
        import h5py  # pyright: ignore[reportMissingTypeStubs] - the package has none
    except ImportError:
        raise refusal(
            path, ": HDF5 files need the extra `data`; nearest: pip install 'irl-bench[data]'"
        ) from None
    with reading(path, "HDF5 file"), cast("Any", h5py).File(path, "r") as file:
        top = _datasets(path, file)
        groups = [] if "observations" in keys_of(path, top) else _episode_groups(file)
        parts = [named_of(f"{path}: {group.name}", _datasets(path, group)) for group in groups]
        whole = (
            named_of(
                path,
                {name: top[name] for name in top if name.lower() in OF_FILE},
                needs=(),
            )
            if parts
            else None
        )
        named = {} if parts else named_of(path, top)
        ignored = _ignored(path, file, top, groups)
    if whole is None:
        return _arrays(path, "HDF5", named, ignored)
    episodes = [
        episode_of({role: part[role][1] for role in ROLES if role in part}) for part in parts
    ]
    keys = {role: parts[0][role][0] for role in ROLES if role in parts[0]}
    world, options = _texts(path, whole)
    return Contents("HDF5, a group for each episode", episodes, keys, world, options, ignored)


def _without_role(
    path: Path | str, names: Iterable[str], entries: Mapping[str, Entry]
) -> tuple[str, ...]:
    """Those of `names` that are not read. `entries` are the arrays that may be."""
    used = keys_of(path, entries).values()
    return tuple(name for name in names if name not in used)


def _ignored(path: Path, file: Any, top: Mapping[str, Entry], groups: list[Any]) -> tuple[str, ...]:
    """The keys of an HDF5 file that are not read; a group's ends in a slash.

    Args:
      path: the file's.
      file: the open file.
      top: its arrays outside of groups.
      groups: those of the episodes; empty if the arrays in `top` hold all episodes.
    """
    found = dict.fromkeys(name for name in top if groups and name.lower() not in OF_FILE)
    for node in groups or [file]:
        arrays = top if node is file else _datasets(path, node)
        for name in _without_role(f"{path}: {node.name}", node, arrays):
            found[f"{name}/" if hasattr(node[name], "keys") else name] = None
    return tuple(found)


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
                listed = listing({key: _h5_entry(leaf) for key, leaf in inside.items()})
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
    stored = node.id.get_storage_size()
    if node.nbytes > max(untrusted.SWOLLEN_BYTES, untrusted.SWOLLEN * stored):
        raise ValueError(f"{node.name} takes {node.nbytes:,} bytes, and {stored:,} in the file")
    dtype = np.dtype("U") if cast("Any", h5py).check_string_dtype(node.dtype) else node.dtype
    return Entry(node.shape, dtype, lambda: np.asarray(node[()]))


def _arrays(path: Path, file: str, named: Named, ignored: tuple[str, ...]) -> Contents:
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
    return Contents(f"{file}, {layout}", episodes, keys, *_texts(path, named), ignored)


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
        episode_of({role: named[role][1][i, :n] for role in ROLES if role in named})
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
        episodes.append(episode_of({"observations": observations, **steps_of}))
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
    numbers = role != "actions" or _one_number(observations, array)
    short, long = sorted((array.ndim + numbers, observations.ndim))
    if short < long:
        how = (
            f"{key if observations.ndim == long else other}[None] where the axis of episodes is "
            "missing"
        )
    else:
        how = _cut(other, observations, array, axes=long - 1)
    return refusal(
        path,
        f": {key} {shown(array.shape)} ({array.dtype}) do not go with {other} "
        f"{shown(observations.shape)}"
        f" ({observations.dtype}); expected {other} of shape [N, T, O] with {key} [N, T{last}], or "
        f"[S, O] with [S{last}], or"
        f" one observation more; convert: {how}",
    )


def _one_number(observations: np.ndarray, actions: np.ndarray) -> bool:
    """Whether actions of two axes beside observations of three are one number a step, [N, T], and
    no single episode [T, A]."""
    if (observations.ndim, actions.ndim) != (3, 2):
        return False
    count, steps = observations.shape[:2]
    of_steps = (steps, steps - 1)
    by_time = count > 1 and actions.shape[1] in (count, count - 1)
    return actions.shape[0] not in of_steps or actions.shape[1] in of_steps or by_time


def _cut(key: str, observations: np.ndarray, array: np.ndarray, axes: int) -> str:
    """How an array of as many axes of episodes and steps as the observations comes to fit them."""
    theirs, ours = array.shape[:axes], observations.shape[:axes]
    if axes == 2 and ours[0] in (theirs[1], theirs[1] + 1) and ours[1] == theirs[0]:
        return f"{key}.swapaxes(0, 1) if its first axis is time"
    fits = (theirs[0] == ours[0], ours[-1] in (theirs[-1], theirs[-1] + 1))[2 - axes :]
    kept = [
        ":" if fit else f":{min(sizes)}" for fit, *sizes in zip(fits, theirs, ours, strict=True)
    ]
    text = f"x[{', '.join(kept).removesuffix(', :')}] of every array"
    return f"{text}, if those are the same episodes" if axes == 2 and not fits[0] else text


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


def _texts(path: Path, named: Named) -> tuple[str, str]:
    """The world's name and its options; empty if the file does not hold them."""
    return (
        _text(path, named, "world", "the world's name", "lane_keep"),
        _text(path, named, "options", "the world's options", "view=hidden"),
    )


def _text(path: Path, named: Named, role: str, what: str, example: str) -> str:
    """A string; empty if the file does not hold it."""
    if role not in named:
        return ""
    key, array = named[role]
    text = array.item() if array.size == 1 else None
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    if not isinstance(text, str):
        raise refusal(
            path,
            f": {key} has {shown(array.shape, array.dtype)}; expected {what}; convert: "
            f"{key}=np.asarray({example!r})",
        )
    return text

"""Folders of datasets: Minari, LeRobot, and the Hugging Face datasets of `imitation`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np

from irl_bench.storage import untrusted
from irl_bench.storage.layouts.contents import (
    ROLES,
    SAVE,
    SHOWN,
    Contents,
    Episode,
    check_numbers,
    episode_of,
    joined,
    keys_of,
    kind_of,
    reading,
    refusal,
    shown,
)


def read_minari(path: Path) -> Contents:
    """Reads the folder of a Minari dataset."""
    try:
        import minari  # pyright: ignore[reportMissingTypeStubs] - the package has none
        from gymnasium import spaces as kinds
    except ImportError:
        raise refusal(
            path, ": Minari datasets need the extra `data`; nearest: pip install 'irl-bench[data]'"
        ) from None
    with reading(path, "Minari dataset"):
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
            episodes.append(episode_of(arrays))
        world, options = (
            str(data.storage.metadata.get(f"irl_bench_{name}", "")) for name in ("world", "options")
        )
    return Contents("Minari dataset", episodes, {role: role for role in ROLES}, world, options)


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


def read_lerobot(path: Path) -> Contents:
    """Reads the folder of a LeRobot dataset."""
    from irl_bench.storage.arrow import pa, pq

    names = {"observations": "observation.state", "actions": "action", "rewards": "next.reward"}
    index = ("episode_index", "frame_index")
    with reading(path, "LeRobot dataset"):
        info: Any = untrusted.parsed(untrusted.content(path / "meta" / "info.json"))
        files = sorted((path / "data").rglob("*.parquet"))
        if not files:
            raise refusal(
                path, " holds no data/*.parquet; nearest: download the dataset's data/ too"
            )
        tables: list[Any] = []
        others: dict[str, None] = {}
        for file in files:
            kind_of(file)
            handle = pq.ParquetFile(file)
            untrusted.check_parquet(handle)
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
            others |= dict.fromkeys(name for name in columns if name not in wanted)
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
        episodes.append(episode_of(by_role))
    facts = cast("dict[str, Any]", info) if isinstance(info, dict) else {}
    count: Any = facts.get("total_episodes", len(episodes))
    if count != len(episodes):
        raise refusal(
            path,
            f": meta/info.json names {count} episodes, data/ holds {len(episodes)}; nearest: "
            "download all of data/",
        )
    version = str(facts.get("codebase_version", ""))
    layout = f"LeRobot dataset {version}".strip()
    return Contents(layout, episodes, names, ignored=tuple(others))


def read_imitation(path: Path) -> Contents:
    """Reads the folder of a Hugging Face dataset of the library `imitation`."""
    from irl_bench.storage.arrow import pa

    kind = "Hugging Face dataset of trajectories"
    with reading(path, kind):
        files = [
            path / Path(entry["filename"]).name
            for entry in untrusted.parsed(untrusted.content(path / "state.json"))["_data_files"]
        ]
        tables: list[Any] = []
        for file in files:
            kind_of(file)
            with file.open("rb") as handle, pa.ipc.open_stream(handle) as stream:
                batches = list(stream)
                for batch in batches:
                    batch.validate(full=True)  # Arrow aborts the process at invalid offsets
                tables.append(pa.Table.from_batches(batches, stream.schema))
        table = pa.concat_tables(tables)
        keys = {
            role: key for role, key in keys_of(path, table.column_names).items() if role in ROLES
        }
        if "observations" not in keys or not hasattr(
            table[keys["observations"]].type, "value_type"
        ):
            listed = ", ".join(f"{field.name} {field.type}" for field in table.schema)
            raise refusal(
                path,
                f" holds {listed}; expected a trajectory a row with obs and acts; convert: {SAVE}",
            )
        episodes = [
            episode_of(
                {role: _numbers(path, key, table[key][i].values) for role, key in keys.items()}
            )
            for i in range(len(table))
        ]
        others = tuple(name for name in table.column_names if name not in keys.values())
    return Contents("imitation's trajectories", episodes, keys, ignored=others)

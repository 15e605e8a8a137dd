"""The results on disk: one Parquet file per cell, `<out>/cells/<key>.parquet`. The file system is
the database.

A file is written aside and renamed into place, so it is there whole or not at all. Its manifest (in
the Parquet metadata under `irl_bench`) holds the SHA-256 of all its other bytes: every bit is
verified before anything in the file is parsed. Nothing in it depends on time, machine load or the
number of devices; equal results are equal bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from irl_bench.core.cell import CellSpec, canonical

SCHEMA = pa.schema(
    [
        ("cell", pa.string()),
        ("seed", pa.int32()),
        ("round", pa.int32()),
        ("T", pa.int32()),
        ("quantity", pa.string()),
        ("value", pa.float64()),
    ]
)
MANIFEST = "irl_bench"
FORMAT = 1
LOCK_SECONDS = 600.0
"""A report is drawn within seconds; one that takes longer is stuck."""
_DIGEST = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_BLANK = b'"sha256":"' + b"0" * 64 + b'"'


class StoreError(ValueError):
    """A file or folder of results that cannot be used. Its text is one line that names it."""


class WriteError(StoreError):
    """A result that cannot be written: a full disk, no permission. What was stored before is
    untouched."""


@contextlib.contextmanager
def locked(out: Path | str) -> Iterator[None]:
    """Holds the folder's lock, so that of several runs in one folder one at a time changes its plan
    and its report.

    Raises:
      WriteError: the lock cannot be made, or another run keeps it for more than LOCK_SECONDS.
    """
    path = Path(out) / ".lock"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except filelock.Timeout:
            raise WriteError(
                f"{path} is held by another run for {LOCK_SECONDS:g} s; is one stuck?"
            ) from None
        except (
            NotImplementedError
        ):  # some network file systems have no locks: files are still whole, rows may be lost
            pass
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a failed write (disk full, no permission, a file where a folder should be) into a
    WriteError, one clear line."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from error


def write_atomic(path: Path, content: bytes) -> None:
    """Writes `content` aside, flushes it to the disk and renames it to `path`. Raises WriteError
    if that fails."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise


def cell_path(out: Path | str, key: str) -> Path:
    return Path(out) / "cells" / f"{key}.parquet"


def encode(key: str, rows: pa.Table | Mapping[str, Any], manifest: Mapping[str, Any]) -> bytes:
    """The bytes of a cell's file. `rows` has the columns of SCHEMA but for `cell`, which is
    filled with `key`."""
    names = rows.column_names if isinstance(rows, pa.Table) else list(rows)
    columns = {name: rows[name] for name in names if name != "cell"}
    count = len(next(iter(columns.values())))
    table = (
        pa.table({"cell": pa.array([key] * count, pa.string()), **columns})
        .select(SCHEMA.names)
        .cast(SCHEMA)
    )
    header = canonical({**manifest, "format": FORMAT, "key": key, "sha256": "0" * 64})
    buffer = io.BytesIO()
    # Without the Arrow copy of the schema the manifest, and so the digest to fill in, stands in the
    # file exactly once.
    with pq.ParquetWriter(buffer, SCHEMA, compression="zstd", store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({MANIFEST: header})
    blank = buffer.getvalue()
    if blank.count(_BLANK) != 1:
        raise ValueError("a manifest must not contain a field sha256 of its own")
    return blank.replace(_BLANK, b'"sha256":"' + hashlib.sha256(blank).hexdigest().encode() + b'"')


def write_cell(
    out: Path | str,
    spec: CellSpec,
    key: str,
    rows: pa.Table | Mapping[str, Any],
    manifest: Mapping[str, Any],
) -> Path:
    """Stores a finished cell and returns its path.

    A sound result that is already there, another worker's, is kept; a damaged or foreign file is
    never overwritten.

    Raises:
      StoreError: the file cannot be written, or one is there that cannot be used.
    """
    path = cell_path(out, key)
    content = encode(key, rows, {**manifest, "spec": spec.to_dict()})
    if not is_done(out, key):
        write_atomic(path, content)
    return path


def read_cell(path: Path | str) -> tuple[dict[str, Any], pa.Table]:
    """A cell's manifest and rows. Raises StoreError if the file is absent, damaged, foreign or
    under another cell's name."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise StoreError(f"{path} is missing; the same sweep command makes it") from None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    if content[:4] != b"PAR1" or content[-4:] != b"PAR1":
        raise StoreError(
            f"{path} is truncated or no Parquet file; move it away and run the sweep again"
        )
    found = list(_DIGEST.finditer(content))
    if not found:
        raise StoreError(
            f"{path} is not a cell of this project (or its manifest is damaged); move it away"
        )
    start, stop = found[-1].span()
    blank = content[:start] + _BLANK + content[stop:]
    if hashlib.sha256(blank).hexdigest().encode() != found[-1][1]:
        raise StoreError(
            f"{path} is damaged (its SHA-256 does not match); move it away and run the sweep again"
        )
    buffer = io.BytesIO(content)
    try:
        manifest = json.loads(pq.read_metadata(buffer).metadata[MANIFEST.encode()])
        table = pq.read_table(buffer)
    except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
        raise StoreError(
            f"{path} is not a cell of this project: {' '.join(str(error).split())}"
        ) from None
    if manifest.get("format") != FORMAT or table.schema != SCHEMA:
        raise StoreError(
            f"{path} was written in another format of this project; move it away and run the sweep "
            "again"
        )
    if manifest["key"] != path.stem:
        raise StoreError(
            f"{path} holds cell {manifest['key']}, not what its name says; move it away"
        )
    return manifest, table


def is_done(out: Path | str, key: str) -> bool:
    """Whether the cell's result is there. Raises StoreError if a file is there that does not
    verify."""
    path = cell_path(out, key)
    if not path.exists():
        return False
    read_cell(path)
    return True


def collect(out: Path | str, keys: Iterable[str]) -> pa.Table:
    """The verified rows of many cells in one table."""
    return pa.concat_tables([read_cell(cell_path(out, key))[1] for key in keys])


def _matrix(table: pa.Table, quantity: str, seeds: range, steps: range) -> np.ndarray | None:
    """float64[seeds, steps] of a final quantity at each T in `steps`; NaN where a row is
    missing, None if all are."""
    rows = table.filter(pc.equal(table["quantity"], quantity))
    seed, horizon = rows["seed"].to_numpy() - seeds.start, rows["T"].to_numpy() - steps.start
    keep = (seed >= 0) & (seed < len(seeds)) & (horizon >= 0) & (horizon < len(steps))
    if not keep.any():
        return None
    values = np.full((len(seeds), len(steps)), np.nan)
    values[seed[keep], horizon[keep]] = rows["value"].to_numpy()[keep]
    return values


def _entry_cells(out: Path | str, entry: Mapping[str, Any]) -> tuple[dict[str, Any], pa.Table]:
    """The manifest of an entry's first cell and the final rows of all its cells; checks that
    they belong to the entry."""
    tables: list[pa.Table] = []
    first: dict[str, Any] = {}
    for key in entry["cells"]:
        path = cell_path(out, key)
        manifest, table = read_cell(path)
        spec = manifest["spec"]
        if any(spec[name] != entry[name] for name in ("env", "algo", "mode")):
            raise StoreError(
                f"{path} is a cell of {spec['algo']} on {spec['env']} ({spec['mode']}), not what "
                "the plan says"
            )
        first = first or manifest
        tables.append(table.filter(pc.equal(table["round"], manifest["rounds"])))
    if not tables:
        raise StoreError(
            f"{Path(out) / 'plan.json'} lists no cell for {entry['algo']} on {entry['env']} "
            f"({entry['mode']})"
        )
    return first, pa.concat_tables(tables)


def _expert_entry(out: Path | str, entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for other in (read_plan(out) or {"entries": []})["entries"]:
        if other["algo"] == "expert" and all(
            other[name] == entry[name] for name in ("env", "mode")
        ):
            return other
    return None


def absent(out: Path | str, entry: Mapping[str, Any]) -> int:
    """How many of the cells that an entry of the plan rests on, those of its expert included,
    are not in the folder yet."""
    expert = _expert_entry(out, entry)
    keys = {*entry["cells"], *(expert["cells"] if expert else ())}
    return sum(not cell_path(out, key).exists() for key in keys)


def write_plan(out: Path | str, plan: Mapping[str, Any]) -> Path:
    """Stores `<out>/plan.json`, which cells the run's analysis consists of. Raises StoreError if
    it cannot be written."""
    path = Path(out) / "plan.json"
    body = {name: value for name, value in plan.items() if name != "sha256"}
    digest = hashlib.sha256(canonical(body).encode()).hexdigest()
    write_atomic(path, (json.dumps({**body, "sha256": digest}, indent=1) + "\n").encode())
    return path


def read_plan(out: Path | str) -> dict[str, Any] | None:
    """The plan of a run's folder, None if it has none. Raises StoreError if it is damaged or
    foreign."""
    path = Path(out) / "plan.json"
    try:
        plan = json.loads(path.read_bytes())
        digest = plan.pop("sha256")
        sound = hashlib.sha256(canonical(plan).encode()).hexdigest() == digest
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, AttributeError, TypeError):
        sound = False
    if not sound or plan.get("version") != FORMAT:
        raise StoreError(
            f"{path} is damaged or not a plan of this project; move it away and run the sweep again"
        )
    return plan


def curves(out: Path | str, entry: Mapping[str, Any]) -> Any:
    """The cost curves of one entry of the plan as `irl_bench.horizon.Curves`, read from its cells.

    The expert's cost comes from the entry of the reference `expert` in the same world and mode of
    `<out>/plan.json`; None if there is none.

    Args:
      out: the run's folder.
      entry: an entry of plan.json; the first `entry["seeds"][1]` seeds from `entry["seeds"][0]` are
        used.

    Raises:
      StoreError: a cell is missing, damaged, foreign or does not hold the seeds; one line that
        names the file.
    """
    from irl_bench.horizon import Curves

    expert = _expert_entry(out, entry)
    manifest, table = _entry_cells(out, entry)
    seeds = range(entry["seeds"][0], entry["seeds"][0] + entry["seeds"][1])
    grid = range(1, manifest["spec"]["horizon"] + 1)

    def curve(quantity: str) -> np.ndarray:
        found = _matrix(table, quantity, seeds, grid)
        return np.full((len(seeds), len(grid)), np.nan) if found is None else found

    def scalar(quantity: str) -> np.ndarray:
        found = _matrix(table, quantity, seeds, range(1))
        return np.full(len(seeds), np.nan) if found is None else found[:, 0]

    failed = scalar("failed")
    if np.isnan(failed).any():
        missing = seeds[int(np.flatnonzero(np.isnan(failed))[0])]
        raise StoreError(
            f"{Path(out) / 'plan.json'} asks for seed {missing} of {entry['algo']}, which none of "
            "its cells holds"
        )
    departures = scalar("departures")
    expert_cost = expert_graded = None
    if expert is not None:
        expert_seeds = range(expert["seeds"][0], expert["seeds"][0] + expert["seeds"][1])
        expert_rows = _entry_cells(out, expert)[1]
        expert_cost = _matrix(expert_rows, "cost", expert_seeds, grid)
        expert_graded = _matrix(expert_rows, "graded_cost", expert_seeds, grid)
    tolerances = ("0.05", "0.1", "0.2")
    consumes = manifest["consumes"]
    return Curves(
        env=entry["env"],
        algo=entry["algo"],
        mode=entry["mode"],
        seeds=np.asarray(seeds),
        T=np.asarray(grid),
        cost=curve("cost"),
        graded=curve("graded_cost"),
        expert_cost=expert_cost,
        on_steps=scalar("on_steps"),
        on_to_off=scalar("on_to_off"),
        off_steps=scalar("off_steps"),
        off_to_on=scalar("off_to_on"),
        eps_expert=np.stack([scalar(f"eps_expert@{tau}") for tau in tolerances], axis=1),
        eps_own=np.stack([scalar(f"eps_own@{tau}") for tau in tolerances], axis=1),
        departures=None if np.isnan(departures).all() else departures,
        failed=failed == 1,
        interactive=bool(consumes["interactive"]),
        episodes=int(manifest["spec"]["episodes"]),
        consumes=(consumes["expert_queries"], consumes["env_steps"]),
        labels=consumes.get("preference_labels", 0),
        expert_graded=expert_graded,
        expected=_matrix(table, "expected_cost", seeds, grid),
        returns=scalar("return"),
    )

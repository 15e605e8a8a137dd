"""The results on disk: one Parquet file per cell, `<out>/cells/<key>.parquet`. The file system is
the database.

A file is written aside and renamed into place, so it is there whole or not at all. Its manifest (in
the Parquet metadata under `irl_bench`) holds the SHA-256 of all its other bytes: every bit is
verified before anything in the file is parsed. Nothing in it depends on time, machine load or the
number of devices; equal results are equal bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from irl_bench.core.cell import CellSpec, canonical
from irl_bench.storage.files import StoreError, write_atomic

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
_DIGEST = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_BLANK = b'"sha256":"' + b"0" * 64 + b'"'


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

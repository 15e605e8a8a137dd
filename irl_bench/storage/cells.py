"""The results on disk: one Parquet file per cell, `<out>/cells/<key>.parquet`. The file system is
the database.

A file is written under another name and then renamed, so it exists completely or not at all. Its
manifest (in the Parquet metadata under `irl_bench`) holds the SHA-256 of all its other bytes: every
bit is verified before anything in the file is parsed. Nothing in a file depends on time or machine
load: equal results are equal bytes.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from irl_bench.core.cell import CellSpec, canonical
from irl_bench.storage import untrusted
from irl_bench.storage.arrow import Table, pa, pc, pq
from irl_bench.storage.files import StoreError, create, store_of, write_atomic, write_here
from irl_bench.storage.untrusted import Check, listed, mapped, name, whole

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
"""The columns of a cell's file."""
MANIFEST = "irl_bench"
"""Key of the manifest in the Parquet metadata."""
FORMAT = 1
"""Version of the file format."""
LEAST_BYTES = 512
"""Every file of a cell is larger [bytes]: one without rows and facts takes 693."""
MOST_BYTES = untrusted.MOST_IN["cells"]
"""The largest file of a cell, and the most that its columns may take in memory [bytes]."""
MOST_ROWS = 10**7
"""Most rows of a cell: what is compressed well may be far more than its file."""
_TEXT = [field.name for field in SCHEMA if pa.types.is_string(field.type)]
"""The columns of text."""
QUANTITY = re.compile(r"[A-Za-z0-9_@./:+-]{1,200}")
"""The form of the names of quantities."""
_SPEC: Mapping[str, Check] = {
    "env": name,
    "algo": name,
    "mode": name,
    "horizon": whole(1, 2**31),
    "episodes": whole(1),
    "width": whole(1, 10**6),
    "first_seed": whole(0, 2**31),
}
_MANIFEST: Mapping[str, Check] = {
    "key": untrusted.key,
    "rounds": whole(0, 2**31),
    "spec": lambda value: untrusted.fields(value, _SPEC) is None,
    "consumes": lambda value: (
        untrusted.fields(
            value,
            {
                "expert_queries": whole(),
                "env_steps": whole(),
                "interactive": lambda each: isinstance(each, bool),
            },
            {"preference_labels": whole()},
        )
        is None
    ),
}
_MANIFEST_TOO: Mapping[str, Check] = {
    "fingerprint": mapped(untrusted.anything),
    "failures": listed(lambda value: isinstance(value, dict)),
    "learned": lambda value: untrusted.text(value) and _SHA256.fullmatch(value) is not None,
}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_BLANK = b'"sha256":"' + b"0" * 64 + b'"'


def cell_path(out: Path | str, key: str) -> Path:
    """Returns the path of a cell's file in a run's folder."""
    return Path(out) / "cells" / f"{key}.parquet"


def learned_path(out: Path | str, key: str) -> Path:
    """Returns the path of the file of what a cell has learned in a run's folder."""
    return Path(out) / "learned" / f"{key}.safetensors"


def encode(key: str, rows: Table | Mapping[str, Any], manifest: Mapping[str, Any]) -> bytes:
    """Returns the bytes of a cell's file.

    Args:
      key: the cell's key, which fills the column `cell`.
      rows: the other columns of SCHEMA.
      manifest: JSON values; without a field `sha256`.

    Raises:
      ValueError: the manifest has a field `sha256`, or JSON cannot hold it.
    """
    source = cast("Any", rows)
    names: list[str] = source.column_names if isinstance(rows, pa.Table) else list(source)
    columns: dict[str, Any] = {name: source[name] for name in names if name != "cell"}
    count = len(next(iter(columns.values())))
    table = (
        pa.table({"cell": pa.array([key] * count, pa.string()), **columns})
        .select(SCHEMA.names)
        .cast(SCHEMA)
    )
    header = canonical({**manifest, "format": FORMAT, "key": key, "sha256": "0" * 64})
    buffer = io.BytesIO()
    # With the Arrow copy of the schema the manifest, and with it the blank digest, would stand in
    # the file twice.
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
    rows: Table | Mapping[str, Any],
    manifest: Mapping[str, Any],
    learned: bytes | None = None,
) -> Path:
    """Stores a finished cell and the file of what it has learned, and returns the cell's path.

    Keeps a sound cell that another worker has stored, and never overwrites a damaged or foreign
    one. Two workers that compute one cell may round differently. So the first cell stays, and only
    its writer replaces a learned file that it finds: in whatever order the two go, one cell stays,
    with the file that fits it. Only a writer that finds another's file and is killed between its
    cell and that file leaves one that does not fit, which readers refuse.

    Args:
      out: the run's folder.
      spec: the cell; it becomes part of the manifest.
      key: the cell's key.
      rows: the columns of SCHEMA other than `cell`.
      manifest: further JSON values.
      learned: the bytes of the file, whose SHA-256 becomes part of the manifest; None: no file.

    Raises:
      StoreError: a file cannot be written, or an existing one cannot be used.
    """
    path = cell_path(out, key)
    facts = {**manifest, "spec": spec.to_dict()}
    if learned is not None:
        facts["learned"] = hashlib.sha256(learned).hexdigest()
    content = encode(key, rows, facts)
    if is_done(out, key):
        return path
    # It comes first: whoever sees a cell takes it for a whole one.
    fits = learned is None or create(learned_path(out, key), learned)
    if not create(path, content):
        _take(out, key)
    elif learned is not None and not fits:
        write_atomic(learned_path(out, key), learned)
    return path


def _take(out: Path | str, key: str) -> None:
    """Brings the cell that another worker has stored into the working copy of an object store. A
    learned file there that does not fit it is removed, and brought when it is needed."""
    if not look(out, key):
        return
    manifest, _ = read_cell(cell_path(out, key))
    file = learned_path(out, key)
    if file.exists() and hashlib.sha256(file.read_bytes()).hexdigest() != manifest.get("learned"):
        file.unlink(missing_ok=True)


def read_cell(path: Path | str) -> tuple[dict[str, Any], Table]:
    """Returns a cell's manifest and rows, with the columns of SCHEMA.

    Raises StoreError if the file is missing, damaged, foreign or under another cell's name.
    """
    path = Path(path)
    try:
        content = untrusted.content(path, MOST_BYTES)
    except FileNotFoundError:
        raise StoreError(f"{path} is missing; run the same sweep command to compute it") from None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    return _decode(content, str(path), path.stem)


def _decode(content: bytes, path: str, key: str) -> tuple[dict[str, Any], Table]:
    """The manifest and rows in the bytes of cell `key`, which errors call `path`."""
    if content[:4] != b"PAR1" or content[-4:] != b"PAR1":
        raise StoreError(
            f"{path} is truncated or no Parquet file; move it away and run the sweep again"
        )
    digests = list(_DIGEST.finditer(content))
    if not digests:
        raise StoreError(
            f"{path} is not a cell of this project (or its manifest is damaged); move it away"
        )
    start, stop = digests[-1].span()
    blank = content[:start] + _BLANK + content[stop:]
    if hashlib.sha256(blank).hexdigest().encode() != digests[-1][1]:
        raise StoreError(
            f"{path} is damaged (its SHA-256 does not match); move it away and run the sweep again"
        )
    buffer = io.BytesIO(content)
    try:
        # A text that all rows repeat stands in the file once, and so it does in memory.
        file = pq.ParquetFile(buffer, read_dictionary=_TEXT)
        manifest = untrusted.parsed(file.metadata.metadata[MANIFEST.encode()])
        untrusted.check_parquet(file, MOST_ROWS, MOST_BYTES)
        table = _with_plain_text(file.read())
    except (KeyError, ValueError, TypeError, OSError, MemoryError, pa.ArrowException) as error:
        raise StoreError(
            f"{path} is not a cell of this project: {' '.join(str(error).split())}"
        ) from None
    if untrusted.fields(manifest, {"format": lambda value: value == FORMAT}) or (
        table.schema != SCHEMA
    ):
        raise StoreError(
            f"{path} was written in another format of this project; move it away and run the sweep "
            "again"
        )
    wrong = untrusted.fields(manifest, _MANIFEST, _MANIFEST_TOO) or _wrong_rows(table)
    if wrong:
        raise StoreError(f"{path} is not a cell of this project: {wrong}")
    if manifest["key"] != key:
        raise StoreError(
            f"{path} holds cell {manifest['key']}, not what its name says; move it away"
        )
    return manifest, table


def _with_plain_text(table: Table) -> Table:
    """The rows with plain columns of text. Raises ValueError if these take more than MOST_BYTES."""
    for column in set(_TEXT) & set(table.column_names):
        if pa.types.is_dictionary(table.schema.field(column).type):
            for chunk in table[column].chunks:
                longest = pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0
                if longest * table.num_rows > MOST_BYTES:
                    raise ValueError(
                        f"it has {table.num_rows:,} rows and a {column} of {longest:,} bytes"
                    )
            place = table.column_names.index(column)
            table = table.set_column(place, column, table[column].cast(pa.string()))
    return table


def _wrong_rows(table: Table) -> str | None:
    """What the rows of a cell cannot hold; None if there is nothing of that kind."""
    if any(table[column].null_count for column in SCHEMA.names):
        return "it has rows with missing values"
    for quantity in pc.unique(table["quantity"]).to_pylist():
        if not QUANTITY.fullmatch(quantity):
            return f"it has a quantity {untrusted.shown(quantity)}"
    return None


def is_done(out: Path | str, key: str) -> bool:
    """Whether the cell's result is stored. Raises StoreError if its file does not verify.

    A cell that an object store was last seen to hold is brought into the working copy.
    """
    path = cell_path(out, key)
    if not path.exists():
        store = store_of(path)
        return store is not None and store.has(path) and look(out, key)
    read_cell(path)
    return True


def look(out: Path | str, key: str) -> bool:
    """Whether an object store holds a cell, which then is brought into the working copy, though the
    store may not have held it when it was last listed.

    Raises:
      StoreError: the object does not verify.
    """
    path = cell_path(out, key)
    store = store_of(path)
    content = store and store.read(path)
    if store is None or content is None:
        return False
    _decode(content, store.url_of(path), key)
    write_here(path, content)
    return True


def survey(out: Path | str) -> None:
    """Lists the cells of an object store, for `present`. Any other folder shows its cells.

    Raises:
      StoreError: an object is too small for a cell, or has another size than the cell in the
        working copy.
    """
    folder = Path(out) / "cells"
    store = store_of(folder)
    if store is None:
        return
    store.look(folder)
    there = store.names(folder)
    for file, seen in there.items():
        if file.endswith(".parquet") and seen.size < LEAST_BYTES:
            raise StoreError(
                f"{store.url_of(folder / file)} is truncated or no cell: it has {seen.size} bytes; "
                "nearest: move it away and run the sweep again"
            )
    for path in folder.glob("*.parquet"):
        if path.name in there and path.stat().st_size != there[path.name].size:
            raise StoreError(
                f"{store.url_of(path)} and its copy {path} differ in size; move away the one that "
                "irl-bench verify finds damaged"
            )


def present(out: Path | str, keys: Iterable[str]) -> list[str]:
    """Returns those cells whose results are stored, in their order.

    What lies in an object store alone is listed as of the last `survey`, which sees its size, and
    neither read nor verified: whoever makes the report does that, once for all workers.

    Args:
      out: the run's folder.
      keys: of cells.

    Raises:
      StoreError: a file in the folder does not verify.
    """
    out = Path(out)
    if store_of(out) is None:
        return [key for key in keys if is_done(out, key)]
    here = {path.stem for path in (out / "cells").glob("*.parquet")}
    there = stored(out)
    return [key for key in keys if (is_done(out, key) if key in here else key in there)]


def fetch(out: Path | str, keys: Iterable[str]) -> None:
    """Brings cells that an object store holds into the working copy, after one listing. Any other
    folder has all of its cells already.

    Args:
      out: the run's folder.
      keys: of the cells that are wanted; they need not be there.

    Raises:
      StoreError: an object does not verify, or has another size than the cell in the working copy.
    """
    out = Path(out)
    store = store_of(out)
    if store is None:
        return
    survey(out)
    there = stored(out)
    paths = [cell_path(out, key) for key in keys if key in there]
    missing = [path for path in paths if not path.exists()]
    for path, content in store.read_all(missing):
        _decode(content, store.url_of(path), path.stem)
        write_here(path, content)


def stored(out: Path | str, anew: bool = False) -> set[str]:
    """Returns the keys of all cells whose files are in a run's folder, sound or not, or that its
    object store was last seen to hold.

    Args:
      out: the run's folder.
      anew: whether an object store is looked at again.
    """
    folder = Path(out) / "cells"
    store = store_of(folder)
    if store and anew:
        store.look(folder)
    names = {*(store.names(folder) if store else ()), *(p.name for p in folder.glob("*.parquet"))}
    return {name.removesuffix(".parquet") for name in names if name.endswith(".parquet")}

"""What a stranger who knows how hashes are made does to a run folder."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from irl_bench.core.cell import canonical
from irl_bench.storage.arrow import pa, pq
from irl_bench.storage.cells import MANIFEST, SCHEMA, read_cell
from irl_bench.storage.plans import write_plan

MARK = "<script>alert(1)</script>"
"""Text that no page may hold as it is."""
DEEP = "[" * 100_000 + "]" * 100_000
JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**70, 10**300, 1e308, "", "..", "../../x", "/etc/passwd", MARK,
    "\x1b[2J", "\ud800", "a\nb", [], [1], {}, {"a": {}}, [[[[]]]],
)  # fmt: skip
"""Values for any field."""


# Files with hashes that fit.


def plan_of(folder: Path) -> dict[str, Any]:
    """Returns the plan of a run, without its hash."""
    plan = json.loads((folder / "plan.json").read_text())
    del plan["sha256"]
    return plan


def _cell(folder: Path, draw: random.Random) -> tuple[Path, dict[str, Any], Any]:
    path = draw.choice(sorted(folder.glob("cells/*.parquet")))
    manifest, table = read_cell(path)
    return path, manifest, table


def _forge(path: Path, table: Any, header: str) -> None:
    """Writes a cell's file with any text as its manifest, whose field `sha256` is blank."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, table.schema, compression="zstd", store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({MANIFEST: header})
    blank, field = buffer.getvalue(), b'"sha256":"' + b"0" * 64 + b'"'
    digest = hashlib.sha256(blank).hexdigest().encode()
    path.write_bytes(blank.replace(field, b'"sha256":"' + digest + b'"'))


def _header(manifest: Mapping[str, Any]) -> str:
    blank = {**manifest, "sha256": "0" * 64}
    return json.dumps(blank, sort_keys=True, separators=(",", ":"))


def _learned(folder: Path, draw: random.Random) -> Path:
    return draw.choice(sorted(folder.glob("learned/*.safetensors")))


def _forge_learned(
    path: Path,
    change: Callable[[dict[str, Any]], Any],
    arrays: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes a file of a learned policy with a changed description."""
    stored = load_file(path) if arrays is None else dict(arrays)
    length = struct.unpack("<Q", path.read_bytes()[:8])[0]
    facts = json.loads(path.read_bytes()[8 : 8 + length])["__metadata__"]["irl_bench"]
    header = json.loads(facts)
    change(header)
    content = canonical(header["spec"]).encode() + save(dict(sorted(stored.items())))
    header["sha256"] = hashlib.sha256(content).hexdigest()
    path.write_bytes(save(stored, {"irl_bench": json.dumps(header)}))


def _any_field(value: Any, draw: random.Random) -> None:
    """Puts junk in the place of a random field of nested mappings and lists."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = draw.choice(keys)
        inner = value[key]
        if isinstance(inner, dict | list) and inner and draw.random() < 0.75:
            value = inner
            continue
        value[key] = draw.choice(JUNK)
        return


# What a stranger does to a folder: (folder, random numbers, a folder outside) -> None.


def plan_field(folder: Path, draw: random.Random, outside: Path) -> None:
    """A plan with junk in one of its fields."""
    plan = plan_of(folder)
    _any_field(plan, draw)
    _store_plan(folder, plan)


def _store_plan(folder: Path, plan: Mapping[str, Any]) -> None:
    try:
        write_plan(folder, plan)
    except (ValueError, OverflowError):
        (folder / "plan.json").write_text(json.dumps(plan))


def plan_path(folder: Path, draw: random.Random, outside: Path) -> None:
    """A plan whose cells' keys are paths that lead out of the folder."""
    plan = plan_of(folder)
    name = draw.choice(["../../outside/secret", str(outside / "secret"), "..", "a/../../b"])
    plan["entries"][0]["cells"][0] = name
    write_plan(folder, plan)


def plan_name(folder: Path, draw: random.Random, outside: Path) -> None:
    """A plan with names that are paths, code or HTML."""
    plan = plan_of(folder)
    entry = draw.choice(plan["entries"])
    field = draw.choice(["env", "algo", "mode"])
    entry[field] = draw.choice(["../../x", MARK, "a\x1b[2Jb", "x" * 10_000, "evil/../evil:make"])
    plan["worlds"][entry["env"]] = next(iter(plan["worlds"].values()))
    _store_plan(folder, plan)


def plan_command(folder: Path, draw: random.Random, outside: Path) -> None:
    """A plan whose command is HTML or moves the cursor."""
    plan = plan_of(folder)
    plan["command"] = draw.choice(
        [MARK, '"><img src=x onerror=alert(1)>', "\x1b]0;x\x07", "\ud800"]
    )
    _store_plan(folder, plan)


def plan_numbers(folder: Path, draw: random.Random, outside: Path) -> None:
    """A plan that asks for more seeds, steps or cells than any memory holds."""
    plan = plan_of(folder)
    entry = draw.choice(plan["entries"])
    choice = draw.randrange(4)
    if choice == 0:
        entry["seeds"] = [0, 2**31 - 1]
    elif choice == 1:
        entry["settings"]["width"] = 10**6 - 1
        entry["seeds"] = [0, 10**6 - 1]
    elif choice == 2:
        entry["cells"] = [f"{number:020x}" for number in range(20_000)]
    else:
        next(iter(plan["worlds"].values()))["horizon"] = 2**31 - 1
    write_plan(folder, plan)


def plan_deep(folder: Path, draw: random.Random, outside: Path) -> None:
    """A plan, a cell's manifest, a lease, a log or an index of values that are nested deep."""
    name = draw.choice(["plan.json", "log.jsonl", "study.json", "leases/0123456789abcdef0123.json"])
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(draw.choice([DEEP, '{"a":' * 50_000]))


def plan_not_finite(folder: Path, draw: random.Random, outside: Path) -> None:
    """A plan with numbers that are not finite."""
    plan = plan_of(folder)
    next(iter(plan["worlds"].values()))["dials"]["x"] = draw.choice([float("nan"), float("inf")])
    (folder / "plan.json").write_text(json.dumps({**plan, "sha256": "0" * 64}))


def special_file(folder: Path, draw: random.Random, outside: Path) -> None:
    """A pipe, an endless device, a folder or a loop of links in the place of a file."""
    cells, learned = sorted(folder.glob("cells/*")), sorted(folder.glob("learned/*"))
    lease = folder / "leases" / f"{cells[0].stem}.json"
    path = draw.choice(
        [folder / "plan.json", cells[0], learned[0], folder / "log.jsonl", folder / "study.json",
         lease]
    )  # fmt: skip
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    kind = draw.randrange(5)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.symlink_to("/dev/zero")
    elif kind == 2:
        path.mkdir()
    elif kind == 3:
        path.symlink_to(path.name)
    else:
        with path.open("wb") as file:
            file.truncate(2**40)  # without a block on the disk


def link_out(folder: Path, draw: random.Random, outside: Path) -> None:
    """Something that a command writes is a link out of the folder."""
    name = draw.choice(
        [".lock", "figures", "verdicts.json", "report.html", "log.jsonl", "leases", "checkpoints",
         "cells", "learned", "plan.json", "tensorboard", "pilot"]
    )  # fmt: skip
    path, target = folder / name, outside / ("secret" if "." in name else "empty")
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target if draw.random() < 0.5 else os.path.relpath(target, folder))


def cell_field(folder: Path, draw: random.Random, outside: Path) -> None:
    """A cell with junk in a field of its manifest, and a hash that fits."""
    path, manifest, table = _cell(folder, draw)
    _any_field(manifest, draw)
    _forge_any(path, table, manifest)


def _forge_any(path: Path, table: Any, manifest: Mapping[str, Any]) -> None:
    try:
        _forge(path, table, _header(manifest))
    except (ValueError, UnicodeError):
        path.write_bytes(b"PAR1" + repr(manifest).encode(errors="replace") + b"PAR1")


def cell_header(folder: Path, draw: random.Random, outside: Path) -> None:
    """A cell whose manifest is nested deep, huge, or no mapping."""
    path, manifest, table = _cell(folder, draw)
    blank = f'"sha256":"{"0" * 64}"'
    header = draw.choice(
        [
            f'{{{blank},"a":{DEEP}}}',
            f'{{{blank},"a":"{"x" * 20_000_000}"}}',
            f"[{{{blank}}}]",
            f'{{{blank},"a":{"9" * 5000}}}',
            f'{{{blank},"a":NaN}}',
            _header({**manifest, "fingerprint": {MARK: MARK}}),
        ]
    )
    _forge(path, table, header)


def cell_bomb(folder: Path, draw: random.Random, outside: Path) -> None:
    """A small file of a cell that takes gigabytes in memory."""
    path, manifest, _ = _cell(folder, draw)
    rows = draw.choice([20_000_000, 1_000_000])
    long = draw.random() < 0.5
    rows = 2_000 if long else rows
    text = "x" * 2_000_000 if long else "cost"
    columns = {
        "cell": pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [path.stem]).cast(
            pa.string()
        ),
        **{name: np.zeros(rows, np.int32) for name in ("seed", "round", "T")},
    }
    quantity = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [text])
    schema = SCHEMA.set(4, pa.field("quantity", quantity.type))
    table = pa.table({**columns, "quantity": quantity, "value": np.zeros(rows)}).select(
        SCHEMA.names
    )
    _forge(path, table.cast(schema), _header(manifest))


def cell_rows(folder: Path, draw: random.Random, outside: Path) -> None:
    """A cell with rows that no run writes: infinite values, other seeds and steps, HTML."""
    path, manifest, table = _cell(folder, draw)
    columns = table.to_pydict()
    place = draw.randrange(table.num_rows)
    name = draw.choice(["seed", "round", "T", "quantity", "value", "value"])
    junk: dict[str, list[Any]] = {
        "quantity": [MARK, "train/" + MARK, "", None, "cost"],
        "value": [float("inf"), float("-inf"), 1e308, -1e308, float("nan"), None],
    }
    columns[name][place] = draw.choice(junk.get(name, [-(2**31), 2**31 - 1, -1, None]))
    if draw.random() < 0.3:
        rows = draw.randrange(3)
        columns = {key: values[:rows] for key, values in columns.items()}
    _forge(path, pa.table(columns, SCHEMA), _header(manifest))


def cell_format(folder: Path, draw: random.Random, outside: Path) -> None:
    """A Parquet file with a footer that lies about its length, or of thousands of columns."""
    path, manifest, _ = _cell(folder, draw)
    content = bytearray(path.read_bytes())
    if draw.random() < 0.5:
        content[-8:-4] = struct.pack("<I", draw.choice([0, 2**31 - 1, 2**32 - 1, len(content)]))
        path.write_bytes(content)
        return
    wide = pa.table({f"c{number}": [1] for number in range(5_000)})
    _forge(path, wide, _header(manifest))


def learned_header(folder: Path, draw: random.Random, outside: Path) -> None:
    """A learned file with a header that lies about its length, or is nested deep."""
    path = _learned(folder, draw)
    body = draw.choice(
        [
            struct.pack("<Q", 2**63 - 1) + b"{}",
            struct.pack("<Q", 2**40) + b"{}",
            b"" + struct.pack("<Q", len(DEEP)) + DEEP.encode(),
            _safetensors({"__metadata__": {"irl_bench": DEEP}}),
            _safetensors({"__metadata__": {"irl_bench": "9" * 5000}}),
            _safetensors({"policy.000": _span([2**40], [0, 2**42])}),
            _safetensors({"policy.000": _span([2**31, 0], [0, 0])}),
            _safetensors({"policy.000": _span([-1], [0, 0])}),
            _safetensors({"policy.000": _span([1], [4, 0])}),
        ]
    )
    path.write_bytes(body)


def _span(shape: list[int], offsets: list[int]) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": offsets}


def _safetensors(header: Mapping[str, Any]) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


def learned_field(folder: Path, draw: random.Random, outside: Path) -> None:
    """A learned file with junk in its description, and a hash that fits."""
    path = _learned(folder, draw)

    def change(header: dict[str, Any]) -> None:
        _any_field(header["spec"] if draw.random() < 0.8 else header, draw)

    try:
        _forge_learned(path, change)
    except (ValueError, TypeError, KeyError, UnicodeError, OverflowError):
        path.write_bytes(b"\0" * 100)


def learned_arrays(folder: Path, draw: random.Random, outside: Path) -> None:
    """A learned file whose arrays have other names and shapes."""
    path = _learned(folder, draw)
    choices: list[dict[str, Any]] = [
        {"policy.000": np.zeros((0, 3), np.float32)},
        {"policy.000": np.float32(1).reshape(())},
        {"../x": np.zeros((1, 2), np.float32)},
        {"policy": np.zeros((1, 2), np.float32)},
        {f"policy.{i:03d}": np.zeros((1,), np.float32) for i in range(5_000)},
        {"reward.000": np.zeros((1, 2), np.float32)},
        {},
    ]
    arrays = draw.choice(choices)
    many = draw.random() < 0.3

    def change(header: dict[str, Any]) -> None:
        if many:
            header["spec"]["width"] = 2**31 - 1

    _forge_learned(path, change, arrays)


def code(folder: Path, draw: random.Random, outside: Path) -> None:
    """Names of code: a file in the folder that leaves a trace when it is imported, or a function of
    the standard library that ends the process."""
    number = draw.randrange(10**9)
    trace = str(outside / "executed")
    (folder / f"evil{number}.py").write_text(
        f"open({trace!r}, 'w').close()\ndef make(*a, **k):\n    open({trace!r}, 'w').close()\n"
    )
    name = draw.choice([f"evil{number}:make", "os:abort", "os:_exit", "builtins:exit", "this:d"])
    field = draw.choice(["algo", "env"])
    plan = plan_of(folder)
    for entry in plan["entries"]:
        entry[field] = name
    plan["worlds"][name] = next(iter(plan["worlds"].values()))
    write_plan(folder, plan)
    for path in sorted(folder.glob("learned/*")):
        _forge_learned(path, lambda header: header["spec"].update({field: name}))
    for path in sorted(folder.glob("cells/*")):
        manifest, table = read_cell(path)
        manifest["spec"][field] = name
        _forge(path, table, _header(manifest))
    _write_clips(folder, json.dumps({**CLIPS, "env": name}), np.array([[0, 1]]))


def lease(folder: Path, draw: random.Random, outside: Path) -> None:
    """A lease with a label that moves the cursor, or with junk."""
    key = plan_of(folder)["entries"][0]["cells"][0]
    (folder / "cells" / f"{key}.parquet").unlink(missing_ok=True)
    facts = {
        "worker": "w", "host": "h", "name": "n", "pid": 1, "since": 0.0, "renewals": 0,
        "label": "\x1b[2Jmine",
    }  # fmt: skip
    if draw.random() < 0.7:
        facts["label"] = "mine"
        _any_field(facts, draw)
    (folder / "leases").mkdir(exist_ok=True)
    (folder / "leases" / f"{key}.json").write_text(json.dumps(facts))


def log(folder: Path, draw: random.Random, outside: Path) -> None:
    """A log with junk in its lines."""
    line = json.loads((folder / "log.jsonl").read_text().splitlines()[0])
    lines: list[str] = []
    for _ in range(20):
        changed = json.loads(json.dumps(line))
        _any_field(changed, draw)
        lines.append(json.dumps(changed))
    lines += ["5", "null", "[]", '"x"', "{}", '{"wall":1e999}', '{"failed":5}']
    (folder / "log.jsonl").write_text("\n".join(lines))


def index(folder: Path, draw: random.Random, outside: Path) -> None:
    """An index of a study whose parts lead out of the folder, or with junk."""
    parts: dict[str, Any] = {"part": True}
    facts: dict[str, Any] = {
        "study": "demo_efficiency", "command": "x", "parts": parts, "entries": {}
    }  # fmt: skip
    choice = draw.randrange(4)
    if choice == 0:
        facts["parts"] = {draw.choice(["../outside", str(outside), "..", "a/../..", MARK]): True}
    elif choice == 1:
        (folder / "part").symlink_to(outside)
    elif choice == 2:
        _any_field(facts, draw)
    (folder / "study.json").write_text(json.dumps(facts))


def demonstrations(folder: Path, draw: random.Random, outside: Path) -> None:
    """Files of demonstrations that are bombs, hold objects, or lie about their shapes."""
    path = folder / "demos.npz"
    choice = draw.randrange(5)
    if choice == 0:
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
            file.open("observations.npy", "w", force_zip64=True) as inner,
        ):
            inner.write(_npy("<f4", (1, 2**29, 2)))
            for _ in range(draw.choice([66, 80])):
                inner.write(b"\0" * 2**24)
    elif choice == 1:
        np.savez(path, observations=np.array([{"a": 1}, Trap(str(outside))], object))
    elif choice in (2, 3):
        shape = draw.choice(["(2**62,)", "(10**12, 3)", "(-1, 3)", "(" + "1," * 200 + ")"])
        with zipfile.ZipFile(path, "w") as file:
            kind = draw.choice(["<f4", "|O"])
            file.writestr("observations.npy", _npy(kind, shape))
    else:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("../../outside/x.npy", _npy("<f4", (1,)) + b"\0" * 4)
            file.writestr("observations.npy", b"\x93NUMPY\x09\x09" + b"\xff" * 100)


class Trap:
    """An object that leaves a trace when it is unpickled."""

    def __init__(self, outside: str):
        self.outside = outside

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (f"{self.outside}/executed", "w")


def _npy(kind: str, shape: Any) -> bytes:
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


CLIPS: dict[str, Any] = {
    "env": "chain", "world": {}, "segment": 4, "pairs": 2, "seed": 0, "demos": 1,
    "demo_steps": 1, "steps": 4, "env_steps": 8,
}  # fmt: skip
"""The description of sound clips."""


def _write_clips(folder: Path, facts: str, pairs: np.ndarray) -> None:
    np.savez(
        folder / "clips.npz",
        observation=np.zeros((2, 4, 3), np.float32),
        action=np.zeros((2, 4), np.int32),
        pairs=pairs,
        facts=facts,
    )


def clips(folder: Path, draw: random.Random, outside: Path) -> None:
    """Clips and answers of people with junk, and pairs of clips that do not exist."""
    facts = json.loads(json.dumps(CLIPS))
    pairs = np.array([[0, 1], [1, draw.choice([0, 7, -3, 2**30])]])
    if draw.random() < 0.4:
        _any_field(facts, draw)
    text = draw.choice([json.dumps(facts), json.dumps(facts), DEEP, "[]", "5"])
    _write_clips(folder, text, pairs if draw.random() < 0.8 else np.zeros(3))
    lines = ['{"pair": 0, "answer": "left"}', '{"pair": 1, "answer": "right"}']
    lines.append(draw.choice([DEEP, "", '{"pair": true, "answer": []}', '{"pair": 1e999}']))
    (folder / "answers.jsonl").write_text("\n".join([*lines, ""]))


def checkpoint(folder: Path, draw: random.Random, outside: Path) -> None:
    """A cell's folder of checkpoints, or a checkpoint, that is a link out of the folder, beside
    files that are none of the program's."""
    place = folder / "checkpoints" / plan_of(folder)["entries"][0]["cells"][0]
    place.parent.mkdir(exist_ok=True)
    if draw.random() < 0.5:
        place.symlink_to(outside)
        return
    place.mkdir()
    for number in range(3):
        name = draw.choice([f"{number:012d}.0123abcd", "package", "..", f"{number}"])
        (place / f"{name}.json").write_text(draw.choice(["{}", DEEP, '{"body":{},"sha256":""}']))
        if not (place / name).exists():
            (place / name).symlink_to(draw.choice([outside, Path("/")]))


TRICKS: tuple[Callable[[Path, random.Random, Path], None], ...] = (
    plan_field, plan_path, plan_name, plan_command, plan_numbers, plan_deep, plan_not_finite,
    special_file, link_out, cell_field, cell_header, cell_bomb, cell_rows, cell_format,
    learned_header, learned_field, learned_arrays, code, lease, log, index, demonstrations, clips,
    checkpoint,
)  # fmt: skip
"""What strangers do."""

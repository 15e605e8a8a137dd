"""Files of a run with a flipped bit, or cut short."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irl_bench.core.settings import BadInput
from irl_bench.running import leases
from irl_bench.storage import artifacts, checkpoints
from irl_bench.storage.cells import cell_path, read_cell
from irl_bench.storage.files import StoreError
from irl_bench.storage.plans import read_plan
from irl_bench.tools.chaos.counts import Count
from irl_bench.tools.chaos.victims import Stage, last_line, one_line, resumed, sealed
from irl_bench.upkeep.status import Times

KINDS = ("checkpoint", "cell", "learned", "plan", "lease", "log")
"""What is damaged, in turn."""


def damage(stage: Stage, size: int, seed: int = 0) -> Count:
    """One flipped bit, or a file cut short, in each kind of file of a run in turn.

    Whoever reads the file either refuses it, in one line that names it, or reads what was written.
    A damaged checkpoint is passed over for the one before it. Leases and logs hold no results: a
    damaged one raises nothing.

    Args:
      stage: the sweep, and where it runs.
      size: number of damaged files.
      seed: of the files, bits and lengths.
    """
    count, draw, start = Count("damage"), random.Random(seed), time.monotonic()
    out = _interrupted(stage)
    files = _files(out)
    held = {
        path: _read(kind, out, path) for kind in ("cell", "learned", "plan") for path in files[kind]
    }
    for number in range(size):
        kind = KINDS[number % len(KINDS)]
        path = draw.choice(files[kind])
        sound = path.read_bytes()
        path.write_bytes(_damaged(sound, draw))
        count.made(kind)
        try:
            _judge(kind, out, path, held.get(path), count)
        except Exception as error:  # whatever it is: it is no answer to a damaged file
            count.bad("wrong", f"{kind} {path.name}: {type(error).__name__}: {error}")
        path.write_bytes(sound)
    _redone(stage, out, draw, count)
    count.seconds = time.monotonic() - start
    return count


def _interrupted(stage: Stage) -> Path:
    """The folder of a sweep that was killed where it has cells and two checkpoints of another
    one."""
    for number in range(20):
        out = stage.place / f"damaged-{number}"
        victim = stage.start(out, pause=0.12)
        while victim.alive:
            cells, whole = list(out.glob("cells/*.parquet")), _pairs(out)
            if whole and len(cells) > 2 and list(out.glob("learned/*")):
                break
            time.sleep(0.01)
        victim.kill()
        if _pairs(out) and _files(out)["lease"]:
            return out
        shutil.rmtree(out, ignore_errors=True)
    raise RuntimeError("no sweep could be killed with two checkpoints of a cell")


def _pairs(out: Path) -> list[Path]:
    """The folders with two complete checkpoints of a cell that is not stored."""
    found = [(out / name).parent for name in sealed(out)]
    twice = {folder for folder in found if found.count(folder) >= checkpoints.KEPT}
    return sorted(folder for folder in twice if not cell_path(out, folder.name).exists())


def _files(out: Path) -> Mapping[str, list[Path]]:
    """The files of each kind in a run's folder. Of checkpoints, those of the newest one."""
    newest = [sorted(folder.glob("*.json"))[-1] for folder in _pairs(out)]
    return {
        "checkpoint": [
            path
            for seal in newest
            for path in (seal, *sorted(seal.with_suffix("").rglob("*")))
            if path.is_file()
        ],
        "cell": sorted(out.glob("cells/*.parquet")),
        "learned": sorted(out.glob("learned/*.safetensors")),
        "plan": [out / "plan.json"],
        "lease": sorted(out.glob("leases/*.json")),
        "log": [out / "log.jsonl"],
    }


def _damaged(sound: bytes, draw: random.Random) -> bytes:
    """The content with one bit flipped, or cut short."""
    if not sound:
        return b"\0"
    if draw.random() < 0.3:
        return sound[: draw.randrange(len(sound))]
    flipped = bytearray(sound)
    flipped[draw.randrange(len(sound))] ^= 1 << draw.randrange(8)
    return bytes(flipped)


def _read(kind: str, out: Path, path: Path) -> Any:
    """What a file holds, as whoever needs it reads it; comparable by `==`."""
    if kind == "cell":
        manifest, table = read_cell(path)
        return manifest, table.to_pandas().to_csv()
    if kind == "learned":
        artifact = artifacts.read(path, ())
        leaves = {
            f"{seed} {part} {index}": (leaf.shape, leaf.tobytes())
            for seed, parts in artifact.arrays.items()
            for part, arrays in parts.items()
            for index, leaf in enumerate(arrays)
        }
        return artifact.sha256, artifact.kind, artifact.config, leaves
    return read_plan(out)


def _judge(kind: str, out: Path, path: Path, sound: Any, count: Count) -> None:
    """Reads a damaged file and counts what came of it.

    Args:
      kind: of the file.
      out: the run's folder.
      path: the file.
      sound: what the file held before, as `_read` returns it; None for checkpoints, leases and
        logs.
      count: what was counted so far.
    """
    if kind == "checkpoint":
        _judge_checkpoint(out, path, count)
    elif kind == "lease":
        lease = leases.read(path)
        if lease:
            leases.lost(out, path.stem, lease)
        count.ignored += 1
    elif kind == "log":
        Times(path).total([])
        count.ignored += 1
    else:
        try:
            got = _read(kind, out, path)
        except (StoreError, BadInput) as error:
            if "\n" in str(error) or str(path) not in str(error):
                count.bad("wrong", f"{path.name}: {error}")
            else:
                count.refused += 1
            return
        if got == sound:
            count.harmless += 1  # white space of a plan
        else:
            count.bad("wrong", f"damage of {path.name} was not noticed")


def _judge_checkpoint(out: Path, path: Path, count: Count) -> None:
    folder = out / "checkpoints" / path.relative_to(out / "checkpoints").parts[0]
    newest = sorted(folder.glob("*.json"))[-1]
    notes: list[str] = []
    restored = checkpoints.restore(folder, notes.append)
    if restored is None:
        count.bad("lost", f"no checkpoint is left after damage of {path.name}")
    elif len(notes) != 1 or newest.stem not in notes[0] or "one before" not in notes[0]:
        count.bad("wrong", f"damage of {path.name} was answered by {notes}")
    else:
        count.resumed += 1


def _redone(stage: Stage, out: Path, draw: random.Random, count: Count) -> None:
    """Ends the sweep with a damaged checkpoint and a damaged cell: it refuses the cell by its name,
    and computes it again once it is moved away."""
    (checkpoint, *_), (cell, *_) = _files(out)["checkpoint"], _files(out)["cell"]
    for path in (checkpoint, cell):
        path.write_bytes(_damaged(path.read_bytes(), draw))
    victim = stage.start(out)
    victim.end()
    for kind in ("checkpoint", "cell"):
        count.made(kind)
    if one_line(victim, [cell]):
        count.refused += 1
    else:
        count.bad("wrong", f"a damaged cell: {last_line(victim.text())}")
    cell.unlink()
    victim = stage.start(out)
    if victim.end():
        count.bad("wrong", f"it does not end: {last_line(victim.text())}")
    elif "is damaged" not in victim.text():
        count.bad("wrong", "a damaged checkpoint was not noticed")
    else:
        count.resumed += resumed(victim.text())
        stage.compare(out, count, again={cell.stem})

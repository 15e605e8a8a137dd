"""The data of a report, and how they are read from a run's folder. Nothing here draws or
formats."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from irl_bench import horizon
from irl_bench.horizon import Curves
from irl_bench.report import curves, drives, failures
from irl_bench.report.failures import Where
from irl_bench.storage import untrusted
from irl_bench.storage.cells import cell_path, fetch, read_cell, stored
from irl_bench.storage.files import StoreError
from irl_bench.storage.plans import PlanDocument, PlanEntry, read_plan

RULES = {
    "mask_failure": (
        ("rlhf", "rlhf_iterated", "best_of_n", "trex", "drex"),
        "its reward saw the world's failure flags where it has any",
    ),
    "centre_reward": (
        ("gail", "gailfo", "airl", "rlhf", "rlhf_iterated", "trex", "drex", "ppo:learned"),
        "its rewards were not centred",
    ),
}
"""Setting -> (algorithms, how they were trained before they had it). `ppo:learned` is PPO with
`reward=learned`."""

FILMS, LARGEST_FILM = "films", 1_000_000
"""The folder of films in a run's, and the size above which a report does not show one [bytes]."""

Entry = tuple[str, str, str]
"""(env, algo, mode)"""


class NothingFinished(StoreError):
    """A run's folder in which no entry is finished."""


@dataclasses.dataclass(frozen=True)
class ReportData:
    """All that a report shows; `figures.draw` and `page.build` are pure functions of it."""

    curves: list[Curves]
    """One per (env, algo, mode), references included."""
    verdicts: list[dict[str, Any]]
    """As `horizon.analyse` returns them."""
    sentences: list[str]
    """One plain sentence per world."""
    plan: PlanDocument
    """The content of plan.json."""
    manifests: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """Cell key -> the manifest stored in its file."""
    rounds: dict[Entry, dict[str, tuple[np.ndarray, np.ndarray]]] = dataclasses.field(
        default_factory=dict
    )
    """Entry -> metric -> (round int[R], value float[S, R]); NaN if a seed has no value at a
    round."""
    maps: dict[Entry, np.ndarray] = dataclasses.field(default_factory=dict)
    """Entry -> learned reward float[S', P] of the usable seeds over the world's probe."""
    unfinished: tuple[str, ...] = ()
    """One line for each entry of the plan that the report leaves out, since some of its cells are
    missing."""
    other_rules: tuple[str, ...] = ()
    """One line for each entry that was trained under rules of an earlier version."""
    other_cells: int = 0
    """Cells in the folder that this report does not use."""
    films: dict[str, bytes] = dataclasses.field(default_factory=dict)
    """World -> a GIF of its policies (`irl_bench.films.of_run`); of these cells, if there is
    one."""
    failures: list[Where] = dataclasses.field(default_factory=list)
    """Where the policies of the films fail, for worlds that can tell."""
    drives: dict[str, Mapping[str, Mapping[str, float | None]]] = dataclasses.field(
        default_factory=dict
    )
    """World -> policy of the films -> what the world's metrics say of it, for driving worlds."""


def film_path(folder: pathlib.Path, plan: PlanDocument, env: str) -> pathlib.Path:
    """Returns where the film of a world is stored. The name follows from the cells of its learners,
    so the film of other policies is never taken for theirs."""
    keys = sorted(k for entry in plan["entries"] if entry["env"] == env for k in entry["cells"])
    cells = hashlib.sha256(" ".join(keys).encode()).hexdigest()[:12]
    return folder / FILMS / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', env)}-{cells}.gif"


def _films(folder: pathlib.Path, plan: PlanDocument) -> dict[str, bytes]:
    """The films in a run's folder. One that is no GIF, or too large, is left out."""
    found = {}
    for env in dict.fromkeys(entry["env"] for entry in plan["entries"]):
        with contextlib.suppress(OSError):
            content = untrusted.content(film_path(folder, plan, env), LARGEST_FILM)
            if content.startswith(b"GIF8"):
                found[env] = content
    return found


def load(out: str | os.PathLike[str], partial: bool = False) -> ReportData:
    """Reads a run's folder and recomputes the verdicts from its cells.

    Args:
      out: the run's folder.
      partial: whether to leave out unfinished entries and list them in `unfinished`, instead of
        raising an error.

    Raises:
      ValueError: the folder has no plan, or a planned cell is missing, damaged or foreign; one line
        that names the file.
    """
    folder, plan = pathlib.Path(out), plan_of(out)
    unfinished: list[str] = []
    fetch(folder, [key for entry in plan["entries"] for key in entry["cells"]])
    if partial:
        plan, unfinished = _finished(folder, plan)
    all_curves, manifests, rounds, maps = [], {}, {}, {}
    for entry in plan["entries"]:
        curve = curves.read(folder, entry)
        all_curves.append(curve)
        tables = []
        for key in entry["cells"]:
            manifests[key], table = read_cell(cell_path(folder, key))
            columns = ("seed", "round", "T", "quantity", "value")
            tables.append({name: table[name].to_numpy(zero_copy_only=False) for name in columns})
        rounds[entry["env"], entry["algo"], entry["mode"]] = _rounds(tables, curve.seeds)
        learned = _map(tables, curve.seeds[curve.usable])
        probe = plan["worlds"][entry["env"]].get("probe")
        if learned is not None and (not probe or learned.shape[1] == len(probe.get("x", ()))):
            maps[entry["env"], entry["algo"], entry["mode"]] = learned
    analysis = plan.get("analysis", {})
    verdicts = horizon.analyse(
        all_curves, plan["worlds"], horizons=analysis.get("horizons", "auto")
    )
    return ReportData(
        curves=all_curves,
        verdicts=verdicts,
        sentences=horizon.sentences(verdicts, plan["worlds"]),
        plan=plan,
        manifests=manifests,
        rounds=rounds,
        maps=maps,
        films=_films(folder, plan),
        failures=[
            where
            for env in dict.fromkeys(entry["env"] for entry in plan["entries"])
            for where in failures.read(film_path(folder, plan, env).with_suffix(".json"), env)
        ],
        drives={
            env: found
            for env in dict.fromkeys(entry["env"] for entry in plan["entries"])
            if (found := drives.read(film_path(folder, plan, env)))
        },
        unfinished=tuple(unfinished),
        other_rules=tuple(_other_rules(plan)),
        other_cells=len(stored(folder) - manifests.keys()),
    )


def plan_of(out: str | os.PathLike[str]) -> PlanDocument:
    """Returns the plan of a run's folder.

    Raises ValueError, in one line, if there is no plan or it is damaged.
    """
    plan = read_plan(out)
    if not plan:
        raise StoreError(f"{out} is not the folder of a run: it holds no plan.json")
    return plan


def _finished(folder: pathlib.Path, plan: PlanDocument) -> tuple[PlanDocument, list[str]]:
    """The plan with only those entries whose cells are all stored, and one line for each of the
    others."""
    entries: list[PlanEntry] = []
    unfinished: list[str] = []
    for entry in plan["entries"]:
        absent = curves.absent(folder, entry)
        if absent:
            name = f"{entry['algo']} on {entry['env']} ({entry['mode']})"
            unfinished.append(
                f"not in the report: {name}, {absent} of its cells are missing; run its "
                "command to compute them"
            )
        else:
            entries.append(entry)
    if not entries:
        raise NothingFinished(
            f"{folder} holds no finished result yet; run the same sweep command to compute them"
        )
    used = {entry["env"] for entry in entries}
    worlds = {env: record for env, record in plan["worlds"].items() if env in used}
    return {**plan, "entries": entries, "worlds": worlds}, unfinished


def _other_rules(plan: PlanDocument) -> list[str]:
    """Returns a line for each entry whose settings lack one of RULES."""
    lines = []
    for entry in plan["entries"]:
        config = entry["settings"].get("config", {})
        names = {entry["algo"], f"{entry['algo']}:{config.get('reward')}"}
        how = [
            text
            for setting, (algos, text) in RULES.items()
            if names.intersection(algos) and setting not in config
        ]
        if how:
            lines.append(
                f"made under other rules: {entry['algo']} on {entry['env']} ({entry['mode']}): "
                f"{' and '.join(how)}; do not compare it with runs of today"
            )
    return lines


def _rounds(
    tables: list[dict[str, np.ndarray]], seeds: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`train/<metric>`, `level` and `failed_round` of the seeds, by name."""
    metrics: dict[str, dict[tuple[int, int], float]] = {}
    for table in tables:
        quantity = table["quantity"].astype(str)
        for name in np.unique(quantity):
            if name not in ("level", "failed_round") and not name.startswith("train/"):
                continue
            where = quantity == name
            values = metrics.setdefault(str(name), {})
            for seed, round_, value in zip(
                table["seed"][where], table["round"][where], table["value"][where], strict=True
            ):
                values[int(seed), int(round_)] = float(value)
    rounds = {}
    for name, values in metrics.items():
        index = sorted({round_ for _, round_ in values})
        if len(seeds) * len(index) > sum(len(table["seed"]) for table in tables):
            raise StoreError(f"the cells of an entry hold too few rows of {name} for their seeds")
        grid = [[values.get((int(seed), round_), math.nan) for round_ in index] for seed in seeds]
        rounds[name] = (
            np.array(index),
            np.array(grid, dtype=float).reshape(len(seeds), len(index)),
        )
    return rounds


def _map(tables: list[dict[str, np.ndarray]], seeds: np.ndarray) -> np.ndarray | None:
    """`reward_map` of the seeds that have one, float[S', P]; None if none has."""
    maps: dict[int, np.ndarray] = {}
    for table in tables:
        where = table["quantity"].astype(str) == "reward_map"
        order = np.argsort(table["T"][where], kind="stable")
        seed, value = table["seed"][where][order], table["value"][where][order]
        maps |= {int(each): value[seed == each] for each in np.unique(seed)}
    rows = [maps[int(seed)] for seed in seeds if int(seed) in maps]
    return np.stack(rows) if len({len(row) for row in rows}) == 1 else None


def plain(value: Any) -> Any:
    """Returns `value` in JSON's types; NaN and infinities become None (missing)."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def verdicts_json(verdicts: list[dict[str, Any]]) -> str:
    """Returns the text of verdicts.json; equal verdicts give equal bytes."""
    return (
        json.dumps(plain(verdicts), indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
        + "\n"
    )

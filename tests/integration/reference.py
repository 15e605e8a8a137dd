"""What every registered algorithm learned and was judged to be, at smoke size.

The program that writes `reference.json`:

    python tests/integration/reference.py tests/integration/reference.json [FOLDER [CASE ...]]

It is run again only after a change that is meant to change numbers; with a folder of its runs, it
goes on where it stopped. A case is an algorithm and a world, such as "bc chain".

`test_reference.py` compares a run of today with it: a change that only moves code must not change a
number. Learned parameters are stored as two figures of each leaf and seed, its norm and its product
with a fixed random vector.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from safetensors import safe_open

FILE = Path(__file__).with_name("reference.json")
WORLD = "chain"
ELSEWHERE = {
    "sac": "lane_keep",
    "dart": "lane_keep",
    "rlhf:airl": "lane_keep",
    "maxent_irl": "grid",
}
"""Where those are run that cannot learn on WORLD: it has discrete actions, AIRL's reward there is
of actions too, and its dynamics are no table."""
MORE = (
    *((case, "lane_keep") for case in ("bc", "dagger", "gail", "airl", "rlhf")),
    *((case, env) for env in ("hopper", "race", "highway", "merge") for case in ("bc", "dagger")),
)
"""Further (case, world): the car's learners, and bodies and traffic, whose physics are in no other
case."""
SEEDS = 2
DONORS = {"stored": "airl", "judged": "airl", "ppo:learned": "airl", "rlhf:airl": "airl"}
"""Cases that begin with what an earlier run has learned, and which run that is."""
CASES = (
    "bc",
    "dagger",
    "dart",
    "clone",
    "gail",
    "gailfo",
    "airl",
    "ppo",
    "sac",
    "rlhf",
    "rlhf_iterated",
    "best_of_n",
    "trex",
    "drex",
    "dpo",
    "cpl",
    *DONORS,
    "maxent_irl",
)
"""Algorithms, with `:` and a variant where one is run twice. `expert` and `untrained` are in each
run."""
VERDICT = (
    "verdict",
    "slope",
    "ci_low",
    "ci_high",
    "eps_expert",
    "eps_own",
    "hazard",
    "recovery",
    "level",
    "untrained_level",
    "expert_queries",
    "env_steps",
    "preference_labels",
    "usable_seeds",
)
"""Fields of a verdict that are compared, those of them that it has."""


def every() -> list[tuple[str, str]]:
    """All (case, world)."""
    return [*((case, ELSEWHERE.get(case, WORLD)) for case in CASES), *MORE]


def run(case: str, env: str, folder: Path) -> dict[str, Any]:
    """The figures of one case: fields of its verdicts, means of its cells, and what it learned."""
    import irl_bench

    algo, _, variant = case.partition(":")
    options: dict[str, Any] = {}
    if case in DONORS:
        donor = folder / f"{DONORS[case]}-{env}"
        if not donor.exists():
            irl_bench.run(DONORS[case], env, budget="smoke", seeds=SEEDS, out=str(donor))
        options["given"] = str(donor)
    if case == "ppo:learned":
        options["ppo"] = {"reward": "learned"}
    if case == "rlhf:airl":
        options["rlhf"] = {"init": "airl"}
    if case == "judged":
        options["judged"] = {"rollouts": 4}
    out = folder / f"{algo}{'-' * bool(variant)}{variant}-{env}"
    verdicts = irl_bench.run(algo, env, budget="smoke", seeds=SEEDS, out=str(out), **options)
    figures = {
        f"{one['algo']}/{one['mode']}": {k: plain(one[k]) for k in VERDICT if k in one}
        for one in verdicts
    }
    return {"verdicts": figures, "cells": cells(out), "learned": learned(out)}


def cells(out: Path) -> dict[str, float]:
    """{algorithm/mode/quantity: mean over its rows} of what is stored of a run."""
    found = {}
    for path in sorted((out / "cells").glob("*.parquet")):
        table = pq.read_table(path)
        spec = json.loads(pq.read_metadata(path).metadata[b"irl_bench"])["spec"]
        rows = table.to_pandas()
        for quantity, part in rows[rows.seed < SEEDS].groupby("quantity"):
            found[f"{spec['algo']}/{spec['mode']}/{quantity}"] = plain(float(part.value.mean()))
    return found


def plain(value: Any) -> Any:
    return float(f"{value:.9g}") if isinstance(value, float) else value


def learned(out: Path) -> dict[str, list[list[list[float]]]]:
    """{algorithm/mode/part: for each seed the (norm, product) of each leaf} of a run's folder."""
    found = {}
    for path in sorted((out / "learned").glob("*.safetensors")):
        with safe_open(path, "np") as file:
            spec = json.loads(file.metadata()["irl_bench"])["spec"]
            names = sorted(file.keys())
            for part in sorted({name.split(".")[0] for name in names}):
                leaves = [
                    file.get_tensor(name)[:SEEDS].astype(np.float64)
                    for name in names
                    if name.startswith(f"{part}.")
                ]
                found[f"{spec['algo']}/{spec['mode']}/{part}"] = [
                    [[plain(float(x)) for x in figures(leaf[seed])] for leaf in leaves]
                    for seed in range(SEEDS)
                ]
    return found


def figures(leaf: np.ndarray) -> tuple[float, float]:
    direction = np.random.default_rng(leaf.size).normal(size=leaf.size)
    return float(np.linalg.norm(leaf)), float(leaf.ravel() @ direction)


def everything(folder: Path, wanted: Sequence[str] = ()) -> dict[str, Any]:
    results = {}
    for case, env in every():
        if not wanted or f"{case} {env}" in wanted:
            results[f"{case} {env}"] = run(case, env, folder)
            print(f"{case} {env}: done", file=sys.stderr, flush=True)
    return results


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[2] if len(sys.argv) > 2 else scratch)
        text = json.dumps(everything(folder, sys.argv[3:]), separators=(",", ":"), sort_keys=True)
    Path(sys.argv[1]).write_text(text.replace('},"', '},\n"') + "\n")

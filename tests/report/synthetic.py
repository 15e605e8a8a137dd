"""Made-up runs with known numbers, so that the report is tested without training anything."""

from __future__ import annotations

import math
import pathlib

import numpy as np

from irl_bench import horizon
from irl_bench.horizon import Curves
from irl_bench.report.data import ReportData
from irl_bench.report.failures import Where

ROOT = pathlib.Path(__file__).parents[2]


def chain_cost(h: np.ndarray, rho: float, horizons: np.ndarray) -> np.ndarray:
    """J(T) [S, K] of the two-state chain with hazard h [S] and recovery rho."""
    k = h[:, None] + rho
    return h[:, None] / k * (horizons - (1 - (1 - k) ** horizons) / k)


def curves(
    env: str,
    algo: str,
    mode: str,
    h: float,
    rho: float,
    *,
    seeds: int = 10,
    first: int = 1000,
    t_max: int = 1024,
    failed: tuple[int, ...] = (),
    spread: float = 0.25,
) -> Curves:
    """A learner whose seeds are chains with log-normal hazards; the seeds at the indices
    `failed` are NaN."""
    rng = np.random.default_rng(sum(map(ord, env + algo + mode)))
    hazards = h * np.exp(spread * rng.standard_normal(seeds))
    horizons = np.arange(1, t_max + 1)
    cost = chain_cost(hazards, rho, horizons) + hazards[:, None] * 0.02 * rng.random((seeds, 1))
    bad = np.zeros(seeds, bool)
    bad[list(failed)] = True
    cost[bad] = np.nan
    episodes = 1000
    off = np.nan_to_num(cost[:, -1]) * episodes
    on = t_max * episodes - off
    interactive = algo == "dagger"
    eps = np.stack([hazards * scale for scale in (4.0, 3.0, 2.0)], axis=1)
    own = eps * (1.2 if rho else 25.0)
    eps[bad], own[bad] = np.nan, np.nan
    return Curves(
        env=env,
        algo=algo,
        mode=mode,
        seeds=np.arange(first, first + seeds),
        T=horizons,
        cost=cost,
        graded=cost * 0.8,
        expert_cost=np.zeros((seeds, t_max)),
        on_steps=on,
        on_to_off=np.round(on * hazards),
        off_steps=off,
        off_to_on=np.round(off * rho),
        eps_expert=eps,
        eps_own=np.minimum(own, 1.0),
        departures=np.full(seeds, 40.0) if interactive else None,
        failed=bad,
        interactive=interactive,
        episodes=episodes,
        consumes=(40000, 20000 if interactive else 0),
        departed=hazards[:, None] * (horizons - cost),
    )


def report_data(
    worlds: tuple[str, ...] = ("chain", "lane_keep"),
    h: float = 2e-4,
    failed: tuple[int, ...] = (3,),
) -> ReportData:
    """Worlds with recoverable twins, BC, DAgger and the references; BC in lane_keep has `failed`
    seeds."""
    all_curves = []
    for env in worlds:
        all_curves += [
            curves(env, "expert", mode, 1e-9, 0.5) for mode in ("nominal", "recoverable")
        ]
        all_curves.append(curves(env, "untrained", "nominal", 0.05, 0.0, spread=0.1))
        all_curves.append(
            curves(env, "bc", "nominal", h, 0.0, failed=failed if env == "lane_keep" else ())
        )
        all_curves.append(curves(env, "bc", "recoverable", h, 0.14))
        all_curves.append(curves(env, "dagger", "nominal", h / 2, 0.13))
    return with_curves(all_curves)


PROBE = {
    "x": [0.0, 1.0, 2.0, 0.0, 1.0, 2.0],
    "y": [0.0, 0.0, 0.0, 1.0, 1.0, 1.0],
    "cost": [0.0, 0.5, 1.0, 0.0, 0.5, 1.0],
    "x_name": "offset [m]",
    "y_name": "heading [rad]",
}
"""Where the synthetic worlds' learned rewards are looked at, row by row of y."""


def with_curves(all_curves: list[Curves]) -> ReportData:
    """The report of these curves, with a plan and manifests to match."""
    entries = []
    for curve in all_curves:
        config = (
            {}
            if curve.algo in ("expert", "untrained")
            else {"learning_rate": 1e-3, "hidden": [64, 64]}
        )
        settings = {
            "config": config,
            "dials": {
                "friction": 1.0,
                "recoverability": 1.0 if curve.mode == "recoverable" else 0.0,
            },
            "demos": 80,
            "demo_steps": 500,
            "horizon": int(curve.T[-1]),
            "episodes": 1000,
            "block": 250,
            "width": 10,
        }
        identity = {"env": curve.env, "algo": curve.algo, "mode": curve.mode}
        seeds = [int(curve.seeds[0]), len(curve.seeds)]
        entries.append(
            {
                **identity,
                "cells": [f"{len(entries):020x}"],
                "seeds": seeds,
                "settings": settings,
                "rounds": 30,
            }
        )
    described = {
        "u": 8,
        "latency": 2,
        "horizon": 1024,
        "nominal": "nominal",
        "probe": PROBE,
    }
    plan = {
        "version": 1,
        "entries": entries,
        "analysis": {"horizons": "auto"},
        "budget": "smoke",
        "command": "python launch/sweep.py --algo=bc,dagger --env=chain,lane_keep --seeds=10 "
        "--out=runs/demo",
        "worlds": dict.fromkeys((curve.env for curve in all_curves), described),
    }
    fingerprint = {
        "sources": "ab" * 32,
        "packages": {"jax": "0.10.2", "brax": "0.14.2"},
        "platform": "cpu",
    }
    manifests = {
        entry["cells"][0]: {"fingerprint": fingerprint, "key": entry["cells"][0]}
        for entry in entries
    }
    verdicts = horizon.analyse(all_curves, plan["worlds"])
    rounds = {
        (c.env, c.algo, c.mode): training(c) for c in all_curves if c.algo in ("bc", "dagger")
    }
    sentences = horizon.sentences(verdicts, plan["worlds"])
    maps = {(c.env, c.algo, c.mode): learned_map(c) for c in all_curves if c.algo == "dagger"}
    places = np.linspace(-1.0, 1.0, 80).reshape(40, 2)
    failures = [
        Where(c.env, c.algo, ("curvature [1/m]", "offset [m]"), 20, 5000, places, -places)
        for c in all_curves
        if c.algo in ("bc", "dagger") and c.mode == "nominal"
    ]
    return ReportData(
        all_curves, verdicts, sentences, plan, manifests, rounds, maps, other_cells=3,
        failures=failures,
    )  # fmt: skip


def learned_map(curve: Curves) -> np.ndarray:
    """A reward that falls with x, the same in every usable seed up to scale."""
    return np.outer(1.0 + np.arange(curve.usable.sum()), -np.asarray(PROBE["x"]))


def training(curve: Curves) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A level that falls with the round, and a loss; of DAgger, which drives while it learns,
    diagnostics too."""
    index = np.arange(0, 31, 5)
    scale = {"bc": 5.0, "dagger": 4.0}[curve.algo]
    level = (
        0.9 * np.exp(-index / scale)[None] * (1 + np.arange(len(curve.seeds))[:, None] / 20) + 1e-4
    )
    level[curve.failed] = math.nan
    metrics = {"level": (index, level), "train/loss": (index, level / 3)}
    return (
        metrics
        if curve.algo == "bc"
        else {**metrics, "train/cost": (index, level), "train/kl": (index, level / 9)}
    )

"""How does regret grow with T if the clone is trained anew at every T?

The horizon law holds for a fixed policy. Whoever wants to drive for T steps also demonstrates T
steps, and a longer demonstration holds more labels. At every T this study trains BC on the first T
steps of the same n demonstrations, with the same number of gradient steps, and evaluates it at that
T. It reports three slopes over log T side by side: that of the regret J, of the error rate eps on
held-out expert rollouts of T steps, and of J / eps. One compilation serves all T.

Foster, Block and Misra 2024 (arXiv 2407.15007) show that with log loss and shared parameters the
regret of BC need not be quadratic in T. Where the missing mass over kinds of situations falls like
(n T)^-b, J grows like T^(2 - b) and J / eps like T². A policy that is indexed by time shares
nothing between steps: its eps does not fall, and J grows like T² (`time_indexed`, worlds of
discrete actions and one-hot observations).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from envs import chain
from envs.core import World
from irl_bench.core.quantities import TAU
from irl_bench.core.settings import BadInput
from irl_bench.horizon import Curves, missing_mass, slopes
from irl_bench.horizon.window import settled_horizons
from irl_bench.nets import tables as action_tables
from irl_bench.plan import presets, registry
from irl_bench.plan.request import Request, check_horizons
from irl_bench.report import ReportData, series, tables
from irl_bench.storage.plans import WorldRecord
from irl_bench.studies.drawing import count_axis, log_axis, with_intervals
from irl_bench.studies.measures import spread
from irl_bench.studies.study import OVER_HORIZONS, Part, Result, Row, Study, narrowed, refuse

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "log_loss": {"loss": "nll"},
    "squared_error": {"loss": "mse"},
    "time_indexed": {"time_indexed": True},
}
"""Variant -> the settings of BC that differ."""
TAILS = ("2", "1.5", "3", "geometric")
"""The tails of `chain` for which theory gives an exponent. The first one runs in all variants."""
DEMONSTRATIONS = {"chain": 16}
"""World -> number of demonstrations, elsewhere the budget's: with it the regret stays far from its
limit of T, at which every slope is 1."""
STEPS = {"chain": {"rounds": 24}}
"""World -> settings of BC that give it four times the usual gradient steps. With the usual number a
table still errs, at long horizons, in situations that its data hold, and its slope is too steep.
A table for each time step does not."""
MORE_SEEDS = {"3": 4, "geometric": 4}
"""Tail -> factor on the number of seeds. The rarest situations decide its slope, and whether data
hold them differs from seed to seed."""
INDEXED_FAILURES = 0.2
"""Largest h T_max of a time-indexed table on `chain`, whose hazard is lowered for it: with the
usual one nearly all episodes would fail."""
QUANTITIES = {"J": "regret J(T) [steps]", "eps": "error rate eps(T)", "ratio": "J / eps [steps]"}
"""Quantity -> label of its axis."""


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    """Returns a sweep for each world, variant and horizon.

    Raises:
      BadInput: the request sets what the study varies; one line.
    """
    if request.demos_from is not None:
        raise BadInput(
            "--experiment=retrain cuts the demonstrations of the world's expert; nearest: leave "
            "out --demos_from"
        )
    if request.demo_steps is not None:
        raise BadInput(
            f"--demo_steps={request.demo_steps}: with --experiment=retrain demonstrations are as "
            f"long as the horizon; nearest: --T_max={request.demo_steps}"
        )
    refuse(request, "retrain", {"bc": {name for values in VARIANTS.values() for name in values}})
    sweeps, smoke = [], request.budget == "smoke"
    for env in request.env:
        world = registry.world(env).world
        usual = presets.budget_of(env, request.budget).demos
        count = demos[0] if demos else usual if smoke else DEMONSTRATIONS.get(env, usual)
        for place, options, variant in _groups(request, env, world):
            own = {**options, **request.settings.get(env, {})}
            grid = _horizons(request, env, registry.world(env, own).world)
            if variant == "time_indexed" and env == "chain":
                law = chain.TAILS[own.get("tail", "zipf")]
                unseen = missing_mass.missing_mass(law.probability, count)[0]
                own.setdefault("hazard", min(1.0, INDEXED_FAILURES / (grid[-1] * unseen)))
            steps = STEPS.get(env, {}) if variant != "time_indexed" and not smoke else {}
            cloning = {**steps, **request.settings.get("bc", {}), **VARIANTS[variant]}
            more = MORE_SEEDS if variant == "log_loss" and not smoke else {}
            seeds = request.seeds and request.seeds * more.get(str(own.get("tail")), 1)
            if variant == "time_indexed":
                cloning.pop("ema", None)  # a table has no weights to average
            settings = {**request.settings, env: own, "bc": cloning}
            if settings["bc"].get("chunk", 1) > grid[0]:
                raise BadInput(
                    f"bc.chunk={settings['bc']['chunk']} is longer than the shortest horizon, "
                    f"{grid[0]} steps; nearest: bc.chunk={grid[0]}"
                )
            for T in grid:
                name = f"{env}/{place}{variant}/{T}"
                part = narrowed(
                    request,
                    env=(env,),
                    mode=tuple(world.modes)[:1],
                    seeds=seeds,
                    demos=count,
                    demo_steps=grid[-1],
                    T_max=grid[-1],
                    shown_steps=T,
                    horizons=grid,
                    settings=settings,
                    out=str(out / name),
                )
                sweeps.append(Part(name, part, report=False))
    return sweeps


def _groups(request: Request, env: str, world: World) -> list[tuple[str, dict[str, Any], str]]:
    """(folder, options of the world, variant) of every line of the table for a world."""
    variants = [v for v in VARIANTS if v != "time_indexed" or action_tables.indexable(world)]
    if env != "chain" or "tail" in request.settings.get(env, {}):
        return [("", {}, variant) for variant in variants]
    first, *others = TAILS if request.budget != "smoke" else TAILS[:1]
    place = lambda tail: f"tail-{tail}/"
    groups = [(place(first), {"tail": first}, variant) for variant in variants]
    return groups + [(place(tail), {"tail": tail}, variants[0]) for tail in others]


def _horizons(request: Request, env: str, world: World) -> tuple[int, ...]:
    """The horizons of a world: those asked for, or a grid from the start of its window on."""
    longest = world.horizon if request.T_max is None else request.T_max
    check_horizons(request.horizons, env, longest)
    if not isinstance(request.horizons, str):
        return tuple(request.horizons)
    if request.budget == "smoke":
        return (max(1, longest // 4), longest)
    return tuple(settled_horizons(world.recovery_steps, world.latency, longest).tolist())


def read(reports: Mapping[str, ReportData]) -> Result:
    """Returns J, eps and J / eps over T and their slopes, by world and variant."""
    groups: dict[str, dict[int, Curves]] = {}
    records: dict[str, WorldRecord] = {}
    for name, data in reports.items():
        group, T = name.rsplit("/", 1)
        (curve,) = (c for c in data.curves if c.algo == "bc")
        groups.setdefault(group, {})[int(T)] = curve
        records[group] = data.plan["worlds"][curve.env]
    points: list[Row] = []
    rows: list[Row] = []
    for group, curves in groups.items():
        env, *_, variant = group.split("/")
        record = records[group]
        tail = record["options"].get("tail")
        grid = np.array(sorted(curves))
        regret, eps = _by_seed(curves, grid)
        point = {"env": env, "tail": tail, "variant": variant, **measured(grid, regret, eps)}
        point["theory"] = _theory(env, variant, grid, record)
        unseen = _per_unseen(env, variant, grid[[0, -1]], eps[:, [0, -1]].mean(axis=0), record)
        point["eps_per_unseen"] = unseen
        points.append(point)
        rows.append(
            {
                "world": env if tail is None else f"{env}, tail {tail}",
                "trained with": variant.replace("_", " "),
                "T": f"{grid[0]} to {grid[-1]}",
                "demonstrations": record["demos"],
                "slope of J": spread(point["slope_J"]),
                "by theory": point["theory"],
                "slope of eps": spread(point["slope_eps"]),
                "eps / unseen": unseen and " to ".join(tables.number(x, 2) for x in unseen),
                "slope of J / eps": spread(point["slope_ratio"]),
                "J at the longest T": float(regret[:, -1].mean()),
                "seeds": len(regret),
            }
        )
    text = [
        "J: regret at T of a policy that was trained on the first T steps of each demonstration. "
        "eps: its error rate on held-out expert rollouts of T steps. Slopes are fits over log T to "
        "means over seeds, with their jackknife-t intervals of 95 %.",
        "By theory: the same fit to the closed form of a table on the chain, from the missing mass "
        "of the situations. It is a theory of log loss. eps / unseen: at the shortest and the "
        "longest T, over the expected share of situations that the data do not hold. A table that "
        "guesses one of three actions there has 0.67 throughout. Where it rises with T, the policy "
        "errs in situations that its data hold. The tails 3 and geometric have four times the "
        "seeds.",
        "The law of T² is about a fixed policy or, here, about J / eps: the first T steps of more "
        "data make the policy itself better.",
    ]
    return {
        "title": "Trained anew at every horizon",
        "text": text,
        "tables": {"Slopes over T": rows},
        "points": points,
    }


def measured(grid: np.ndarray, regret: np.ndarray, eps: np.ndarray) -> Row:
    """Returns means and slopes over T, each as [value, low, high].

    Args:
      grid: int[K], horizons [steps].
      regret, eps: float[S, K], of each seed.

    Returns:
      "T", "seeds"; of each of QUANTITIES its values [K, 3] and, as "slope_...", its slope [3].
    """
    count, both = len(grid), np.concatenate([regret, eps], axis=1)

    def ratio(mean: np.ndarray) -> np.ndarray:
        rate = mean[..., count:]
        return mean[..., :count] / np.where(rate > 0, rate, np.nan)

    statistics = {
        "J": lambda mean: mean[..., :count],
        "eps": lambda mean: mean[..., count:],
        "ratio": ratio,
    }
    row: Row = {"T": grid.tolist(), "seeds": len(regret)}
    for quantity, of in statistics.items():
        row[quantity] = np.stack(slopes.jackknife_t(both, of), axis=1).tolist()
        fit = slopes.jackknife_t(both, lambda mean, of=of: slopes.slope(grid, of(mean)))
        row[f"slope_{quantity}"] = [float(x) for x in fit]
    return row


def _by_seed(curves: Mapping[int, Curves], grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Regret and eps of the seeds that are usable at every T, float[S, K] each."""
    seeds = None
    for curve in curves.values():
        usable = set(np.asarray(curve.seeds)[curve.usable].tolist())
        seeds = usable if seeds is None else seeds & usable
    wanted = sorted(seeds or ())
    regret, eps = [], []
    for T in grid:
        curve = curves[int(T)]
        ids = np.asarray(curve.seeds)
        places = [int(np.flatnonzero(ids[curve.usable] == seed)[0]) for seed in wanted]
        regret.append(curve.regret(np.array([T]))[places, 0])
        eps.append(np.asarray(curve.eps_expert, float)[curve.usable][places, TAU])
    return np.stack(regret, axis=1), np.stack(eps, axis=1)


def _theory(env: str, variant: str, grid: np.ndarray, record: WorldRecord) -> float | None:
    """The slope of J in closed form; None without one."""
    if env != "chain" or variant == "squared_error":
        return None
    return missing_mass.retrained_slope(
        chain.TAILS[record["options"]["tail"]].probability,
        grid,
        record["demos"],
        float(record["dials"]["hazard"]),
        time_indexed=variant == "time_indexed",
    )


def _per_unseen(
    env: str, variant: str, horizons: np.ndarray, eps: np.ndarray, record: WorldRecord
) -> list[float] | None:
    """The error rates over the share of situations that the data do not hold; None off the chain.

    Args:
      env, variant: names.
      horizons: int[H] [steps].
      eps: float[H], means over seeds.
      record: of the world.
    """
    if env != "chain":
        return None
    law = chain.TAILS[record["options"]["tail"]]
    labels = [record["demos"] * (1 if variant == "time_indexed" else int(T)) for T in horizons]
    unseen = [missing_mass.missing_mass(law.probability, count)[0] for count in labels]
    return [float(e / mass) for e, mass in zip(eps, unseen, strict=True)]


def _line(point: Mapping[str, Any]) -> str:
    """The name of a line of the figure."""
    tail = "" if point["tail"] is None else f"tail {point['tail']}, "
    return tail + point["variant"].replace("_", " ")


def draw(result: Mapping[str, Any]) -> Figure:
    """Draws J, eps and J / eps over T, a row per world, a line per variant."""
    points = [{**point, "line": _line(point)} for point in result["points"]]
    worlds = list(dict.fromkeys(point["env"] for point in points))
    colours = series.colours(list(dict.fromkeys(point["line"] for point in points)))
    figure = Figure(figsize=(7.0, 3.6 * len(worlds)), layout="constrained")
    axes = figure.subplots(len(worlds), len(QUANTITIES), squeeze=False)
    for line, env in zip(axes, worlds, strict=True):
        for axis, (quantity, label) in zip(line, QUANTITIES.items(), strict=True):
            for point in points:
                if point["env"] != env:
                    continue
                values = np.array(point[quantity], float)
                values[~(values[:, 0] > 0)] = np.nan  # such a mean has no place on the axis
                slope = point[f"slope_{quantity}"][0]
                text = "–" if slope is None else f"{slope:.2f}"
                colour = colours[point["line"]]
                with_intervals(axis, point["T"], values, colour, f"{point['line']}: {text}")
            grid = next(p["T"] for p in points if p["env"] == env)
            count_axis(axis, {grid[0], grid[len(grid) // 2], grid[-1]})
            log_axis(axis.yaxis)  # an interval that ends at or below 0 leaves it downwards
            axis.set(xlabel="T [steps]", ylabel=label, title=env if quantity == "J" else "")
            axis.legend(
                loc="lower center",
                bbox_to_anchor=(0.5, 1.1),
                frameon=False,
                fontsize=6,
                title="slope",
                title_fontsize=6,
            )
    return figure


STUDY = Study(
    name="retrain",
    help="BC trained anew at every horizon: slopes of regret, of eps and of regret / eps",
    algo=("bc",),
    env=("chain",),
    fixed=True,
    sizes={
        "smoke": {"seeds": 2},
        "default": {"seeds": 20, "episodes": 256, **OVER_HORIZONS},
        "full": {"seeds": 40, **OVER_HORIZONS},
    },
    parts=parts,
    read=read,
    draw=draw,
)

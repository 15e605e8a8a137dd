"""Can rewards learned from rankings of bad demonstrations rank good behaviour? T-REX and D-REX
learn from a demonstrator half as good as the expert.

Both learn a reward and a policy. Does the policy outperform the demonstrator's best, and
does the reward rank rollouts that are better still as the world does (Brown et al. 2020, arXiv
1907.03976, section 5)? These rollouts are those of better demonstrators, with more and more random
actions (`algos/judged.py`). The learners never see them. Ranking is measured by Spearman's
correlation of the learned with the true return, over all of them and for each demonstrator alone: a
reward that ranks the rollouts of each rightly may still prefer one demonstrator's to another's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from irl_bench.plan import registry
from irl_bench.plan.request import Request
from irl_bench.report import ReportData, series, tables, training
from irl_bench.studies import iqm
from irl_bench.studies.failure_flag import FLAG_HIDDEN, UNMASKED, check_arms
from irl_bench.studies.measures import spread
from irl_bench.studies.qualities import kept_up, measured, option_of
from irl_bench.studies.study import Part, Result, Row, Study, narrowed, refuse

QUALITY = "50"
"""Quality of the demonstrator that the learners imitate."""
BETTER = ("75", "100")
"""Qualities of the demonstrators whose rollouts the learned rewards rank, if the world has them."""
CLONES = ("bc", "clone")
"""What no reward trains: BC, and the recipe of the clone that the others start from."""
RANKED = ("trex", "drex")
"""The algorithms that learn rewards from rankings."""
SEEN = "learn_flag_seen"
"""The folder of the learners whose rewards see the world's failure flag."""
SHUFFLED = "learn_shuffled"
"""The folder of the learners whose rankings are in a random order, the control."""
LEARNT = {"learn": "", SEEN: " (flag seen)", SHUFFLED: " (random ranking)"}
"""Folder -> what the names of its learners have added in the table."""
STORED = (
    "seed_ids", "returns", "demonstrator", "best", "best_rollout", "random", "unit", "over_best",
    "p",
)  # fmt: skip
"""What is stored of every learner, in the names of `qualities.measured`."""
LEAST = 10
"""A seed with fewer rollouts above the best one has no correlation."""
ABOVE = "Spearman, above the best rollout"
"""The column of the correlation over the rollouts of all better demonstrators."""


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    """Returns, for each world, a sweep that learns and sweeps that evaluate each learned reward on
    the rollouts of each better demonstrator."""
    (count,) = demos
    check_arms(request, "extrapolation", STUDY.algo)
    worlds = [registry.world(env).name for env in request.env]
    refuse(request, "extrapolation", dict.fromkeys(worlds, ("demonstrator",)))
    learners, ranked, better = (*CLONES, *RANKED), RANKED, BETTER
    if request.budget == "smoke":  # one learner, the flag hidden, one better demonstrator
        learners = ranked = RANKED[-1:]
        better = BETTER[-1:]
    sweeps = []
    for env in request.env:
        mode = next(iter(registry.world(env).world.modes))

        def part(
            place: str,
            algos: tuple[str, ...],
            quality: str,
            source: str | None = None,
            changes: Mapping[str, Any] = {},
            env: str = env,
            mode: str = mode,
        ) -> Part:
            """Returns a sweep; `source` is the algorithm whose learned reward it uses, `changes`
            are settings of all its algorithms."""
            chosen = {
                **request.settings,
                env: {**request.settings.get(env, {}), **option_of(quality)},
            }
            if changes:
                chosen |= {a: {**request.settings.get(a, {}), **changes} for a in algos}
            name, learned = f"{env}/{place}", f"{env}/learn"
            changed = narrowed(
                request,
                algo=algos,
                env=(env,),
                mode=(mode,),
                demos=count,
                settings=chosen,
                out=str(out / name),
                given=f"{out / learned}:{source}" if source else None,
            )
            return Part(name, changed, report=False, after=learned if source else None)

        sweeps.append(part("learn", learners, QUALITY))
        if request.budget != "smoke":
            if registry.world(env).world.failure_flags:
                sweeps.append(part(SEEN, ranked, QUALITY, changes=UNMASKED))
            sweeps.append(part(SHUFFLED, ranked, QUALITY, changes={"shuffled": True}))
        values = request.settings.get(env, {})
        available = [
            quality
            for quality in better
            if registry.world(env, {**values, **option_of(quality)}).world.has_expert
        ]
        sweeps += [
            part(f"{algo}-{quality}", ("judged",), quality, algo)
            for algo in ranked
            for quality in available
        ]
    return sweeps


def ranking(true: np.ndarray, learned: np.ndarray, above: float) -> float:
    """Returns Spearman's correlation of learned with true returns, float[N] each, over the rollouts
    whose true return exceeds `above`.

    NaN with fewer than LEAST such rollouts, and where one of the two is constant.
    """
    kept = true > above
    if kept.sum() < LEAST or np.ptp(true[kept]) == 0 or np.ptp(learned[kept]) == 0:
        return float("nan")
    correlation: Any = stats.spearmanr(true[kept], learned[kept])  # SciPy's stubs: no statistic
    return float(correlation.statistic)


def above_the_best(data: ReportData, best: float) -> np.ndarray:
    """Returns each seed's `ranking` of one part's rollouts above `best`, float[S]."""
    return np.array([ranking(*pair, best) for pair in zip(*judged([data]), strict=True)])


def correlated(values: np.ndarray) -> list[float]:
    """Returns [IQM, low, high] of float[S] over the seeds that have a correlation; NaN if none
    has."""
    kept = values[~np.isnan(values)]
    return iqm.interval(kept) if len(kept) else [float("nan")] * 3


def judged(parts: Sequence[ReportData]) -> tuple[np.ndarray, np.ndarray]:
    """Returns (true, learned) returns of the R rollouts of all parts for S seeds, float[S, R]
    each."""
    pairs = []
    for data in parts:
        (curve,) = (c for c in data.curves if c.algo == "judged")
        true, learned = (
            training.metric(data, curve, f"judged_{name}") for name in ("true", "learned")
        )
        assert true and learned
        pairs.append((true[1], learned[1]))
    true, learned = (np.concatenate(values, 1) for values in zip(*pairs, strict=True))
    return true, learned


def read(reports: Mapping[str, ReportData]) -> Result:
    """Returns how good the policies and the rewards' rankings are beyond the demonstrations."""
    rows: dict[str, list[Row]] = {}
    points: list[Row] = []
    for env in dict.fromkeys(name.split("/")[0] for name in reports):
        learnt = [
            (place, point)
            for place in LEARNT
            if f"{env}/{place}" in reports
            for point in measured(env, QUALITY, place, reports[f"{env}/{place}"])
        ]
        for place, point in learnt:
            algo, best = point["algo"], point["best_rollout"]
            row = {
                "algorithm": algo + LEARNT[place],
                "return": spread(point["return"]),
                "best rollout": best,
                "the bar": point["best"],
                "above the bar, in scores": spread(point["over_best"]),
                ABOVE: spread((np.nan,) * 3),
                **{f"of the driver of {quality} %": spread((np.nan,) * 3) for quality in BETTER},
                "lowest seed": None,
                "Spearman, all": spread((np.nan,) * 3),
                "seeds without": tables.MISSING,
                "such rollouts": 0,
                "labels": point["labels"],
                "env steps": point["consumes"][1],
                "seeds": point["seeds"],
            }
            stored = {
                "env": env,
                "algo": algo,
                "place": place,
                **{name: point[name] for name in STORED},
            }
            rollouts = {
                quality: reports[name]
                for quality in BETTER
                if (name := f"{env}/{algo}-{quality}") in reports
            }
            if rollouts and place == "learn":
                true, learned = judged(list(rollouts.values()))
                beyond, every = (
                    np.array([ranking(*pair, above) for pair in zip(true, learned, strict=True)])
                    for above in (best, -np.inf)
                )
                row |= {
                    f"of the driver of {quality} %": spread(correlated(above_the_best(data, best)))
                    for quality, data in rollouts.items()
                }
                row |= {
                    ABOVE: spread(correlated(beyond)),
                    "lowest seed": float(np.fmin.reduce(beyond)),
                    "Spearman, all": spread(correlated(every)),
                    "seeds without": f"{np.isnan(beyond).sum()} / {np.isnan(every).sum()}",
                    "such rollouts": int((true > best).sum(1).min()),
                }
                stored |= {
                    "true": true.tolist(),
                    "learned": learned.tolist(),
                    "spearman": beyond.tolist(),
                }
            points.append(stored)
            rows.setdefault(
                f"{env}: demonstrator of {QUALITY} %, IQM over seeds [interval]",
                [],
            ).append(row)
    text = [
        "Score: 1 is the expert, 0 uniformly random actions. Spearman: rank correlation of the "
        "learned with the true return over rollouts of better demonstrators (drivers) with random "
        "actions, for each seed. Best rollout: of 64 of the demonstrator, none of them a "
        "demonstration. The bar: the same, or the best of the demonstrations' steps kept up where "
        "that is higher. Such rollouts: the number with a true return above the best rollout, in "
        f"the seed that has fewest. A seed with fewer than {LEAST} of them, or "
        "with returns that are all the same, has no correlation. It is left out, and counted under "
        "`seeds without`, for the first / the second correlation. Rows `(random ranking)` are the "
        "control: their rollouts are ranked in a random order, all else is the same. They and rows "
        "`(flag seen)` have no Spearman, because their rewards are not judged on such rollouts; BC "
        "and the clone have none. T-REX asks for a ranking of its rollouts (labels); D-REX needs "
        "none.",
        f"{iqm.TEXT} Returns and correlations are shown the same way.",
        FLAG_HIDDEN,
        *kept_up(points),
    ]
    return {
        "title": "Rewards beyond the demonstrations",
        "text": text,
        "tables": rows,
        "points": points,
    }


def draw(result: Mapping[str, Any]) -> Figure:
    """Draws learned over true returns, a row per world and a column per algorithm."""
    points = [p for p in result["points"] if "true" in p]
    worlds, algos = (list(dict.fromkeys(p[name] for p in points)) for name in ("env", "algo"))
    figure = Figure(
        figsize=(3.5 * max(1, len(algos)), 2.6 * max(1, len(worlds))), layout="constrained"
    )
    axes = figure.subplots(max(1, len(worlds)), max(1, len(algos)), squeeze=False)
    colours = series.colours(RANKED)
    for p in points:
        axis = axes[worlds.index(p["env"]), algos.index(p["algo"])]
        true, learned = np.array(p["true"]), np.array(p["learned"])
        # Learned rewards have no common unit, so each seed's returns are standardised.
        learned = (learned - learned.mean(1, keepdims=True)) / np.maximum(
            learned.std(1, keepdims=True), 1e-9
        )
        axis.plot(true.ravel(), learned.ravel(), ".", color=colours[p["algo"]], ms=2)
        axis.axvline(p["best_rollout"], color="#444444", lw=0.7, ls=(0, (4, 3)))
        axis.set(xlabel="true return (dashed: best rollout)", ylabel="learned return, standardised")
        axis.set(title=f"{p['env']}, {p['algo']}")
        axis.locator_params(axis="x", nbins=6)
    return figure


STUDY = Study(
    name="extrapolation",
    help="T-REX and D-REX from a half-good demonstrator: are policy and reward good beyond the "
    "data?",
    algo=(*CLONES, *RANKED, "judged"),
    env=("lane_keep",),
    fixed=True,
    sizes={
        "smoke": {"demos": (8,), "seeds": 5},
        "default": {"seeds": 20, "demos": (64,), "episodes": 128},
        "full": {"seeds": 20, "demos": (64,), "episodes": 512},
    },
    parts=parts,
    read=read,
    draw=draw,
)

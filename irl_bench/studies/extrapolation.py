"""Do rankings of bad driving tell what good driving is? T-REX and D-REX, from a demonstrator half
as good as the expert.

Both learn a reward and a policy; the question is whether the policy outperforms the best
demonstration, and whether the reward ranks rollouts that are better than any demonstration as the
world does (Brown et al. 2020, arXiv 1907.03976, section 5). These rollouts are those of better
demonstrators, with more and more random actions (`algos/judged.py`): the learners never saw one.
Ranking is measured by Spearman's correlation of the learned with the true return.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from irl_bench.plan import registry
from irl_bench.plan.build import Request
from irl_bench.report import ReportData, series, training
from irl_bench.studies.demo_efficiency import spread
from irl_bench.studies.qualities import measured, option_of
from irl_bench.studies.study import FLAG_SEEN, Part, Study, mean, narrowed

QUALITY = "50"
"""Of the demonstrator whose data are learned from."""
BETTER = ("75", "100")
"""Of the demonstrators, those there are, whose rollouts are judged."""
RANKED = ("trex", "drex")
LEAST = 10
"""Rollouts above the best demonstration without which a seed has no correlation."""


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    (count,) = demos
    learners, ranked, judges = ("bc", *RANKED), RANKED, BETTER
    if (
        request.budget == "smoke"
    ):  # once through everything: one learner, one demonstrator whose rollouts it judges
        learners = ranked = RANKED[-1:]
        judges = BETTER[-1:]
    found = []
    for env in request.env:
        mode = next(iter(registry.world(env).world.modes))

        def one(
            place: str,
            algos: tuple[str, ...],
            quality: str,
            given: str | None = None,
            env: str = env,
            mode: str = mode,
        ) -> Part:
            chosen = {
                **request.settings,
                env: {**request.settings.get(env, {}), **option_of(quality)},
            }
            name, learned = f"{env}/{place}", f"{env}/learn"
            asked = narrowed(
                request,
                algo=algos,
                env=(env,),
                mode=(mode,),
                demos=count,
                settings=chosen,
                out=str(out / name),
                given=f"{out / learned}:{given}" if given else None,
            )
            return Part(name, asked, report=False, after=learned if given else None)

        found.append(one("learn", learners, QUALITY))
        own = request.settings.get(env, {})
        better = [
            quality
            for quality in judges
            if registry.world(env, {**own, **option_of(quality)}).world.has_expert
        ]
        found += [
            one(f"{algo}-{quality}", ("judged",), quality, algo)
            for algo in ranked
            for quality in better
        ]
    return found


def ranking(true: np.ndarray, learned: np.ndarray, above: float) -> float:
    """Spearman's correlation over the rollouts float[N] whose true return is higher than
    `above`; NaN with fewer than LEAST, and where one of the two is the same for all."""
    kept = true > above
    if kept.sum() < LEAST or np.ptp(true[kept]) == 0 or np.ptp(learned[kept]) == 0:
        return float("nan")
    return float(stats.spearmanr(true[kept], learned[kept]).statistic)


def judged(parts: list[ReportData]) -> tuple[np.ndarray, np.ndarray]:
    """(true, learned) returns of the rollouts of all parts, float[S, R]."""
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


def read(found: Mapping[str, ReportData]) -> dict[str, Any]:
    rows, points = {}, []
    for env in dict.fromkeys(name.split("/")[0] for name in found):
        data = found[f"{env}/learn"]
        for point in measured(env, QUALITY, "learn", data):
            algo, best = point["algo"], point["best"]
            row = {
                "algorithm": algo,
                "return": spread(point["return"]),
                "best demonstration": best,
                "above it, in scores": spread(point["over_best"]),
                "Spearman, better than any demonstration": spread((np.nan,) * 3),
                "lowest seed": None,
                "Spearman, all": spread((np.nan,) * 3),
                "such rollouts": 0,
                "labels": point["labels"],
                "env steps": point["consumes"][1],
                "seeds": point["seeds"],
            }
            rollouts = [data for name, data in found.items() if name.startswith(f"{env}/{algo}-")]
            if rollouts:
                true, learned = judged(rollouts)
                beyond, every = (
                    np.array([ranking(*pair, above) for pair in zip(true, learned, strict=True)])
                    for above in (best, -np.inf)
                )
                row |= {
                    "Spearman, better than any demonstration": spread(mean(beyond)),
                    "lowest seed": float(beyond.min()),
                    "Spearman, all": spread(mean(every)),
                    "such rollouts": int((true > best).sum(1).min()),
                }
                points.append(
                    {
                        "env": env,
                        "algo": algo,
                        "best": best,
                        "true": true.tolist(),
                        "learned": learned.tolist(),
                        "spearman": beyond.tolist(),
                        "over_best": point["over_best"],
                        "returns": point["returns"],
                    }
                )
            rows.setdefault(
                f"{env}: demonstrator of {QUALITY} %, mean over seeds [95 % interval]", []
            ).append(row)
    text = [
        "Score: 1 is the expert, 0 a random policy. Spearman: rank correlation of the learned with "
        "the true return over "
        "rollouts of better demonstrators with random actions, seed by seed. Such rollouts: fewest "
        "of any seed with a true "
        f"return above the best demonstration's; with fewer than {LEAST} there is no correlation. "
        "T-REX asks for a ranking of "
        "its rollouts (labels), D-REX for nothing.",
        FLAG_SEEN,
    ]
    return {
        "title": "Rewards beyond the demonstrations",
        "text": text,
        "tables": rows,
        "points": points,
    }


def draw(found: Mapping[str, Any]) -> Figure:
    points = found["points"]
    worlds, algos = (list(dict.fromkeys(p[name] for p in points)) for name in ("env", "algo"))
    figure = Figure(
        figsize=(3.5 * max(1, len(algos)), 2.6 * max(1, len(worlds))), layout="constrained"
    )
    axes = figure.subplots(max(1, len(worlds)), max(1, len(algos)), squeeze=False)
    colours = series.colours(RANKED)
    for p in points:
        axis = axes[worlds.index(p["env"]), algos.index(p["algo"])]
        true, learned = np.array(p["true"]), np.array(p["learned"])
        # Every seed's reward has a unit of its own.
        learned = (learned - learned.mean(1, keepdims=True)) / np.maximum(
            learned.std(1, keepdims=True), 1e-9
        )
        axis.plot(true.ravel(), learned.ravel(), ".", color=colours[p["algo"]], ms=2)
        axis.axvline(p["best"], color="#444444", lw=0.7, ls=(0, (4, 3)))
        axis.set(
            xlabel="true return (dashed: best demonstration)", ylabel="learned return, standardised"
        )
        axis.set(title=f"{p['env']}, {p['algo']}")
        axis.locator_params(axis="x", nbins=6)
    return figure


STUDY = Study(
    name="extrapolation",
    help="T-REX and D-REX from a half-good demonstrator: are policy and reward good beyond the "
    "data",
    algo=("bc", *RANKED, "judged"),
    env=("lane_keep",),
    fixed=False,
    sizes={
        "smoke": {"demos": (8,), "seeds": 5},
        "default": {"seeds": 10, "demos": (64,), "episodes": 128},
        "full": {"seeds": 20, "demos": (64,), "episodes": 512},
    },
    parts=parts,
    read=read,
    draw=draw,
)

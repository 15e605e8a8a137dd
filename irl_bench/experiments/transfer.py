"""Does a reward outlive the dynamics it was learned under? The claim AIRL was made for (Fu et al. 2018, section 7).

Rewards and policies are learned in the world as it is. Then one dial is changed, and compared are: the learned policies as they
are (policy transfer), and policies trained from scratch in the changed world on AIRL's g(s), on AIRL's g(s, a), on GAIL's
reward and on the true reward. Learned rewards are held fixed while they are maximised.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from irl_bench.experiments.demo_efficiency import spread
from irl_bench.experiments.study import Part, Study, narrowed, scores
from irl_bench.horizon import slopes
from irl_bench.plan import Request
from irl_bench.report import ReportData, series

SOURCES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "airl": ("airl", {"g": "state", "mask_failure": False}),
    "airl_state_action": ("airl", {"g": "state_action", "mask_failure": False}),
    "gail": ("gail", {"mask_failure": False}),
}
"""What is learned in the world as it is: name -> (algorithm, settings). The failure flags are not masked: beyond the lane's
edge the offset reads 0, so a reward that cannot see the flag takes the shoulder for the middle of the lane, and a policy
trained on it from scratch stays there."""

CHANGES: Mapping[str, Mapping[str, float]] = {
    "none": {},
    "friction": {"friction": 0.25},
    "mass": {"mass": 3.0},
    "crosswind": {"crosswind": 15.0},
}
"""Changed dials of lane_keep; "none" shows what training again costs where nothing has changed."""

METHODS: Mapping[str, tuple[str, str | None, Mapping[str, Any]]] = {
    "AIRL's policy": ("stored", "airl", {}),
    "GAIL's policy": ("stored", "gail", {}),
    "AIRL's g(s)": ("ppo", "airl", {"reward": "learned"}),
    "AIRL's g(s, a)": ("ppo", "airl_state_action", {"reward": "learned"}),
    "GAIL's reward": ("ppo", "gail", {"reward": "learned"}),
    "true reward": ("ppo", None, {"reward": "true"}),
}
"""What is compared: title -> (algorithm, source, settings)."""


def folder(title: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in title.replace("'s", "")).strip("_").replace("__", "_")


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    (count,) = demos
    changes = ("none", "friction") if request.budget == "smoke" else CHANGES
    base = narrowed(request, demos=count)
    found = []
    for name, (algo, settings) in SOURCES.items():
        found.append(Part(f"learn/{name}", _with(request, base, algo, settings, {}, out / "learn" / name)))
    for title, (algo, source, settings) in METHODS.items():  # the program of a method serves all changes
        for change in changes:
            dials = CHANGES[change]
            place = f"{change}/{folder(title)}"
            own = _with(request, base, algo, settings, dials, out / place)
            if source is None:
                found.append(Part(place, own, report=False))
            else:
                given = str(out / "learn" / source)
                found.append(Part(place, narrowed(own, given=given), report=False, after=f"learn/{source}"))
    return found


def _with(
    request: Request, base: Request, algo: str, settings: Mapping[str, Any], dials: Mapping[str, float], out: Path
) -> Request:
    """One algorithm with settings under changed dials; the command line's settings hold, but for those that are compared."""
    merged = {name: dict(values) for name, values in request.settings.items()}
    merged[algo] = {**merged.get(algo, {}), **settings}
    if dials:
        merged["lane_keep"] = {**merged.get("lane_keep", {}), **dials}
    return narrowed(base, algo=(algo,), mode=("nominal",), settings={k: v for k, v in merged.items() if v}, out=str(out))


def read(found: Mapping[str, ReportData]) -> dict[str, Any]:
    rows: dict[str, list[dict[str, Any]]] = {}
    points = []
    for change, dials in CHANGES.items():
        if not any(name.startswith(f"{change}/") for name in found):
            continue
        name = ", ".join(f"{dial} = {value:g}" for dial, value in dials.items()) or "nothing changed"
        policy = None
        for title, (algo, _, _) in METHODS.items():
            data = found[f"{change}/{folder(title)}"]
            (curve,) = (c for c in data.curves if c.algo == algo)
            score = scores(data, curve.env, algo, curve.mode)
            assert score is not None
            policy = score if policy is None else policy
            mean, low, high = (float(x) for x in slopes.jackknife_t(score, lambda m: m))
            paired = len(score) == len(policy) and title not in ("AIRL's policy", "true reward")
            gain = [float(x) for x in slopes.jackknife_t(score - policy, lambda m: m)] if paired else None
            level = {c.algo: float(np.mean(c.cost[c.usable, -1]) / c.T[-1]) for c in data.curves}
            verdict = series.verdict_of(data, curve)
            points.append({"change": name, "method": title, "score": mean, "score_ci": [low, high], "scores": score.tolist(),
                           "gain_on_policy": gain})  # fmt: skip
            rows.setdefault(f"lane_keep, {name}", []).append(
                {
                    "method": title,
                    "trained again": "no" if algo == "stored" else "yes",
                    "score": spread(mean, low, high),
                    "less AIRL's policy": spread(*gain) if gain else "–",
                    "worst seed": float(score.min()),
                    "level": level[algo],
                    "expert's": level["expert"],
                    "random": level["untrained"],
                    "h": verdict.get("hazard"),
                    "ρ": verdict.get("recovery"),
                    "seeds": len(score),
                    "env steps": curve.consumes[1],
                }
            )
    text = [
        "Score: 1 is the expert, 0 a random policy, both in the changed world. Rewards and policies were learned in the "
        "unchanged world; 'trained again': PPO from a random policy in the changed one. Intervals: jackknife-t over seeds; "
        "differences paired by seed.",
    ]
    return {"title": "Reward transfer", "text": text, "tables": rows, "points": points}


def draw(found: Mapping[str, Any]) -> dict[str, Figure]:
    points = found["points"]
    changes = list(dict.fromkeys(point["change"] for point in points))
    figure = Figure(figsize=(7.0, 1.9 * ((len(changes) + 1) // 2)), layout="constrained")
    axes = figure.subplots((len(changes) + 1) // 2, 2, squeeze=False, sharey=True).ravel()
    for axis in axes[len(changes) :]:
        axis.set_axis_off()
    for axis, change in zip(axes, changes, strict=False):
        own = [point for point in points if point["change"] == change][::-1]
        for y, point in enumerate(own):
            axis.plot(point["scores"], [y] * len(point["scores"]), ".", color="#999999", ms=2.5)
            low, high = (np.nan if end is None else end for end in point["score_ci"])
            axis.plot([low, high], [y, y], color="#0072B2", lw=1.5)
            axis.plot([point["score"]], [y], "o", color="#0072B2", ms=4)
        axis.axvline(1.0, color="#444444", lw=0.7, ls=(0, (4, 3)))
        axis.set_yticks(range(len(own)), [point["method"] for point in own])
        axis.set(title=change, xlabel="normalised score")
    return {"transfer": figure}


STUDY = Study(
    name="transfer",
    help="rewards and policies of AIRL and GAIL under changed friction, mass and crosswind, trained on again from scratch",
    defaults={
        "smoke": {"env": ("lane_keep",), "demos": (8,)},
        "default": {"env": ("lane_keep",), "seeds": 10, "demos": (64,), "episodes": 256},
        "full": {"env": ("lane_keep",), "seeds": 20, "demos": (64,), "episodes": 1024},
    },
    algos=("airl", "gail", "ppo", "stored"),
    parts=parts,
    read=read,
    draw=draw,
)

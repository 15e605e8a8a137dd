"""Does a reward outlive the dynamics it was learned under? The claim AIRL was made for (Fu et al.
2018, section 7).

Rewards and policies are learned in the world as it is. Then it is changed, and compared are: the
learned policies as they are (policy transfer), and policies trained from scratch in the changed
world on AIRL's g(s), on AIRL's g(s, a), on GAIL's reward and on the true reward. Learned rewards
are held fixed while they are maximised.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from irl_bench.core.settings import BadInput, nearest
from irl_bench.plan import registry
from irl_bench.plan.build import Request
from irl_bench.report import ReportData, series, tables
from irl_bench.studies.demo_efficiency import spread
from irl_bench.studies.study import Part, Study, mean, narrowed, scores

SOURCES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "airl": ("airl", {"g": "state", "mask_failure": False}),
    "airl_state_action": ("airl", {"g": "state_action", "mask_failure": False}),
    "gail": ("gail", {"mask_failure": False}),
}
"""What is learned in the world as it is: name -> (algorithm, settings). The failure flags are
not masked: beyond the lane's edge the offset reads 0, so a reward that cannot see the flag takes
the shoulder for the middle of the lane, and a policy trained on it from scratch stays there."""

CHANGES: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "lane_keep": {
        "none": {},
        "friction": {"friction": 0.25},
        "mass": {"mass": 3.0},
        "crosswind": {"crosswind": 15.0},
    },
    # The hip and the ankle of one leg in four: an ant with it in the way has to learn another gait.
    "ant": {"none": {}, "leg": {"disabled_joint": 1.0, "disabled_count": 2.0}},
}
"""World -> changed dials; "none" shows what training again costs where nothing has changed."""
SMOKE = 2
"""So many of them are left by the smallest budget."""

METHODS: Mapping[str, tuple[str, str, str | None]] = {
    "policy_airl": ("AIRL's policy", "stored", "airl"),
    "policy_gail": ("GAIL's policy", "stored", "gail"),
    "reward_airl": ("AIRL's g(s)", "ppo", "airl"),
    "reward_airl_state_action": ("AIRL's g(s, a)", "ppo", "airl_state_action"),
    "reward_gail": ("GAIL's reward", "ppo", "gail"),
    "reward_true": ("true reward", "ppo", None),
}
"""What is compared: folder -> (title, algorithm, source of what it is given)."""


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    (count,) = demos
    found = []
    for env in request.env:
        if env not in CHANGES:
            raise BadInput(
                f"--env={env}: transfer knows what to change in {', '.join(CHANGES)}; nearest: "
                f"{nearest(env, CHANGES)}"
            )
        mode = next(iter(registry.world(env).world.modes))
        changes = list(CHANGES[env])[: SMOKE if request.budget == "smoke" else None]

        def one(
            place: str,
            algo: str,
            settings: Mapping[str, Any],
            dials: Mapping[str, float],
            given: str | None = None,
            env: str = env,
            mode: str = mode,
        ) -> Request:
            """What is compared is set here; the command line's other settings hold."""
            merged = {algo: settings, env: dials}
            merged = {
                name: {**request.settings.get(name, {}), **own} for name, own in merged.items()
            }
            merged = {name: own for name, own in merged.items() if own}
            return narrowed(
                request,
                algo=(algo,),
                env=(env,),
                mode=(mode,),
                demos=count,
                settings=merged,
                given=given,
                out=str(out / place),
            )

        for name, (algo, settings) in SOURCES.items():
            place = f"{env}/learn/{name}"
            found.append(Part(place, one(place, algo, settings, {})))
        for method, (
            _,
            algo,
            source,
        ) in METHODS.items():  # the program of a method serves all changes
            settings = {"reward": "learned" if source else "true"} if algo == "ppo" else {}
            after = f"{env}/learn/{source}" if source else None
            for change in changes:
                place = f"{env}/{change}/{method}"
                asked = one(
                    place, algo, settings, CHANGES[env][change], str(out / after) if after else None
                )
                found.append(Part(place, asked, report=False, after=after))
    return found


def read(found: Mapping[str, ReportData]) -> dict[str, Any]:
    rows: dict[str, list[dict[str, Any]]] = {}
    points = []
    for env, changes in CHANGES.items():
        for change, dials in changes.items():
            if f"{env}/{change}/{min(METHODS)}" not in found:
                continue  # another world, or the smallest budget
            name = (
                ", ".join(f"{dial} = {value:g}" for dial, value in dials.items())
                or "nothing changed"
            )
            policy = None
            for method, (title, algo, source) in METHODS.items():
                data = found[f"{env}/{change}/{method}"]
                (curve,) = (c for c in data.curves if c.algo == algo)
                score = scores(data, curve.env, algo, curve.mode, of=found[f"{env}/none/{method}"])
                assert score is not None
                policy = score if policy is None else policy
                paired = len(score) == len(policy) and method != "policy_airl" and source
                gain = mean(score - policy) if paired else None
                level = {
                    c.algo: float(np.mean(c.cost[c.usable, -1]) / c.T[-1]) for c in data.curves
                }
                verdict = series.verdict_of(data, curve)
                points.append(
                    {
                        "env": env,
                        "change": name,
                        "method": title,
                        "score": mean(score),
                        "gain": gain,
                        "scores": score.tolist(),
                        "returns": curve.returns[curve.usable].tolist(),
                    }
                )
                rows.setdefault(f"{env}, {name}", []).append(
                    {
                        "method": title,
                        "trained again": "no" if algo == "stored" else "yes",
                        "score": spread(mean(score)),
                        "less AIRL's policy": spread(gain) if gain else tables.MISSING,
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
    if not points:
        raise ValueError(
            "no part of transfer: an earlier version's folder? The study's command completes it"
        )
    text = [
        "Score: 1 is the expert in the unchanged world, 0 a random policy in the changed one. "
        "Rewards and policies were "
        "learned in the unchanged world; 'trained again': PPO from a random policy in the changed "
        "one. 'expert's': the share "
        "of failed steps of the expert in the changed world. Intervals: jackknife-t over seeds; "
        "differences paired by seed.",
    ]
    return {"title": "Reward transfer", "text": text, "tables": rows, "points": points}


def draw(found: Mapping[str, Any]) -> Figure:
    points = found["points"]
    changes = list(dict.fromkeys((point["env"], point["change"]) for point in points))
    figure = Figure(figsize=(7.0, 1.9 * ((len(changes) + 1) // 2)), layout="constrained")
    axes = figure.subplots((len(changes) + 1) // 2, 2, squeeze=False, sharey=True).ravel()
    for axis in axes[len(changes) :]:
        axis.set_axis_off()
    for axis, change in zip(axes, changes, strict=False):
        own = [point for point in points if (point["env"], point["change"]) == change][::-1]
        for y, point in enumerate(own):
            axis.plot(point["scores"], [y] * len(point["scores"]), ".", color="#999999", ms=2.5)
            middle, low, high = np.array(
                point["score"], float
            )  # an end that is missing reads as NaN
            axis.plot([low, high], [y, y], color="#0072B2", lw=1.5)
            axis.plot([middle], [y], "o", color="#0072B2", ms=4)
        axis.axvline(1.0, color="#444444", lw=0.7, ls=(0, (4, 3)))
        axis.set_yticks(range(len(own)), [point["method"] for point in own])
        axis.set(title=": ".join(change), xlabel="normalised score")
    return figure


STUDY = Study(
    name="transfer",
    help="rewards and policies of AIRL and GAIL under changed dynamics, trained on again from "
    "scratch (lane_keep, ant)",
    algo=("airl", "gail", "ppo", "stored"),
    env=("lane_keep",),
    fixed=True,
    sizes={
        "smoke": {"demos": (8,)},
        "default": {"seeds": 10, "demos": (64,), "episodes": 256},
        "full": {"seeds": 20, "demos": (64,), "episodes": 1024},
    },
    parts=parts,
    read=read,
    draw=draw,
)

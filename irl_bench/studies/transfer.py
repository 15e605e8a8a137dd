"""Does a learned reward stay useful when the dynamics change? AIRL claims that it does (Fu et al.
2018, section 7).

Rewards and policies are learned in the unchanged world. In the changed world, the study compares
the learned policies without further training (policy transfer) with policies that are trained from
scratch on AIRL's g(s), on AIRL's g(s, a), on GAIL's reward and on the true reward. Learned rewards
are fixed while they are maximised.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from irl_bench.core.settings import BadInput, nearest
from irl_bench.plan import registry
from irl_bench.plan.request import Request
from irl_bench.report import ReportData, series, tables
from irl_bench.studies.demo_efficiency import spread
from irl_bench.studies.study import Part, Result, Row, Study, interval, narrowed, returns_of, scores

SOURCES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "airl": ("airl", {"g": "state", "mask_failure": False}),
    "airl_state_action": ("airl", {"g": "state_action", "mask_failure": False}),
    "gail": ("gail", {"mask_failure": False}),
}
"""What is learned in the unchanged world: name -> (algorithm, settings).

Failure flags are not masked. Beyond the lane's edge the observed offset is 0, so a reward that does
not see the flag takes the shoulder for the middle of the lane, and a policy that is trained on it
from scratch stays there."""

CHANGES: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "lane_keep": {
        "none": {},
        "friction": {"friction": 0.25},
        "mass": {"mass": 3.0},
        "crosswind": {"crosswind": 15.0},
    },
    # The hip and the ankle of one of the four legs: the ant has to learn another gait.
    "ant": {"none": {}, "leg": {"disabled_joint": 1.0, "disabled_count": 2.0}},
}
"""World -> change -> dials; "none" shows what training again costs if nothing changes."""
SMOKE = 2
"""Number of changes in the smallest budget."""

METHODS: Mapping[str, tuple[str, str, str | None]] = {
    "policy_airl": ("AIRL's policy", "stored", "airl"),
    "policy_gail": ("GAIL's policy", "stored", "gail"),
    "reward_airl": ("AIRL's g(s)", "ppo", "airl"),
    "reward_airl_state_action": ("AIRL's g(s, a)", "ppo", "airl_state_action"),
    "reward_gail": ("GAIL's reward", "ppo", "gail"),
    "reward_true": ("true reward", "ppo", None),
}
"""What is compared: folder -> (title, algorithm, the entry of `SOURCES` whose policy or reward it
uses)."""


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    """Returns, for each world, a sweep for each source and one for each method under each change.

    Raises:
      BadInput: a world without an entry in `CHANGES`; one line.
    """
    (count,) = demos
    sweeps = []
    for env in request.env:
        if env not in CHANGES:
            raise BadInput(
                f"--env={env}: transfer has changes for {', '.join(CHANGES)}; nearest: "
                f"{nearest(env, CHANGES)}"
            )
        mode = next(iter(registry.world(env).world.modes))
        changes = list(CHANGES[env])[: SMOKE if request.budget == "smoke" else None]

        def changed(
            place: str,
            algo: str,
            settings: Mapping[str, Any],
            dials: Mapping[str, float],
            given: str | None = None,
            env: str = env,
            mode: str = mode,
        ) -> Request:
            """Returns the request of one sweep. `settings` and `dials` override the command line's;
            `given` is the folder of the policy or reward that it uses."""
            merged = {
                name: {**request.settings.get(name, {}), **values}
                for name, values in {algo: settings, env: dials}.items()
            }
            merged = {name: values for name, values in merged.items() if values}
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

        flags = registry.world(env).world.failure_flags
        for name, (algo, values) in SOURCES.items():
            settings = {k: v for k, v in values.items() if flags or k != "mask_failure"}
            place = f"{env}/learn/{name}"
            sweeps.append(Part(place, changed(place, algo, settings, {})))
        # A method's compiled program serves all changes, so the changes are the inner loop.
        for method, (_, algo, source) in METHODS.items():
            settings = {"reward": "learned" if source else "true"} if algo == "ppo" else {}
            after = f"{env}/learn/{source}" if source else None
            for change in changes:
                place = f"{env}/{change}/{method}"
                given = str(out / after) if after else None
                sweep = changed(place, algo, settings, CHANGES[env][change], given)
                sweeps.append(Part(place, sweep, report=False, after=after))
    return sweeps


def read(reports: Mapping[str, ReportData]) -> Result:
    """Returns the scores of all methods under each change.

    Raises:
      ValueError: the folder holds no part of this study; one line.
    """
    rows: dict[str, list[Row]] = {}
    points: list[Row] = []
    for env, changes in CHANGES.items():
        for change, dials in changes.items():
            if f"{env}/{change}/{min(METHODS)}" not in reports:
                continue  # not in this run
            name = (
                ", ".join(f"{dial} = {value:g}" for dial, value in dials.items())
                or "nothing changed"
            )
            policy = None
            for method, (title, algo, source) in METHODS.items():
                data = reports[f"{env}/{change}/{method}"]
                (curve,) = (c for c in data.curves if c.algo == algo)
                unchanged = reports[f"{env}/none/{method}"]
                score = scores(data, curve.env, algo, curve.mode, of=unchanged)
                assert score is not None
                policy = score if policy is None else policy
                paired = len(score) == len(policy) and method != "policy_airl" and source
                gain = interval(score - policy) if paired else None
                level = {
                    c.algo: float(np.mean(c.cost[c.usable, -1]) / c.T[-1]) for c in data.curves
                }
                verdict = series.verdict_of(data, curve)
                points.append(
                    {
                        "env": env,
                        "change": name,
                        "method": title,
                        "score": interval(score),
                        "gain": gain,
                        "scores": score.tolist(),
                        "returns": returns_of(curve).tolist(),
                    }
                )
                rows.setdefault(f"{env}, {name}", []).append(
                    {
                        "method": title,
                        "trained again": "no" if algo == "stored" else "yes",
                        "score": spread(interval(score)),
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
            "the folder holds no part of transfer, or those of an earlier version; the study's "
            "command completes it"
        )
    text = [
        "Score: 1 is the expert in the unchanged world, 0 a random policy in the changed one. "
        "Rewards and policies were learned in the unchanged world; 'trained again': PPO from a "
        "random policy in the changed one. 'expert's': the share of failed steps of the expert in "
        "the changed world. Intervals: jackknife-t over seeds; differences paired by seed.",
    ]
    return {"title": "Reward transfer", "text": text, "tables": rows, "points": points}


def draw(result: Mapping[str, Any]) -> Figure:
    """Draws the scores of all methods, a panel per world and change."""
    points = result["points"]
    changes = list(dict.fromkeys((point["env"], point["change"]) for point in points))
    figure = Figure(figsize=(7.0, 1.9 * ((len(changes) + 1) // 2)), layout="constrained")
    axes = figure.subplots((len(changes) + 1) // 2, 2, squeeze=False, sharey=True).ravel()
    for axis in axes[len(changes) :]:
        axis.set_axis_off()
    for axis, change in zip(axes, changes, strict=False):
        group = [point for point in points if (point["env"], point["change"]) == change][::-1]
        for y, point in enumerate(group):
            axis.plot(point["scores"], [y] * len(point["scores"]), ".", color="#999999", ms=2.5)
            middle, low, high = np.array(point["score"], float)  # a missing end becomes NaN
            axis.plot([low, high], [y, y], color="#0072B2", lw=1.5)
            axis.plot([middle], [y], "o", color="#0072B2", ms=4)
        axis.axvline(1.0, color="#444444", lw=0.7, ls=(0, (4, 3)))
        axis.set_yticks(range(len(group)), [point["method"] for point in group])
        axis.set(title=": ".join(change), xlabel="normalised score")
    return figure


STUDY = Study(
    name="transfer",
    help="rewards and policies of AIRL and GAIL under changed dynamics: policies as they are, and "
    "policies trained from scratch on the rewards (lane_keep, ant)",
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

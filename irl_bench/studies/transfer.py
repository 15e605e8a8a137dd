"""Does a learned reward stay useful when the dynamics change? AIRL claims that it does (Fu et al.
2018, section 7).

Rewards and policies are learned in the unchanged world. In the changed world, the study compares
the learned policies without further training (policy transfer) with policies that are trained from
a random policy on AIRL's g(s), on AIRL's g(s, a), on GAIL's reward and on the true reward. Learned
rewards are fixed while they are maximised.

Two things may decide whether a reward transfers, and the study crosses them:

- the start: whether the policy beside which the reward was learned began as a clone or at random;
- the sight: what the reward sees of a failure. In `lane_keep` the observation shows no offset
  beyond the lane's edge (`hidden`), also with the failure flag in the reward's sight
  (`flag_seen`), or it shows the offset everywhere (`visible`).

Neither is varied alone. A random start needs other settings than a clone does, above all more
steps (`presets.FROM_RANDOM`), and these were searched for with the offset visible. So the study
shows which rewards transfer, and not that the start or the sight by itself is the cause.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from irl_bench.core.settings import BadInput, nearest
from irl_bench.plan import registry
from irl_bench.plan.request import Request
from irl_bench.report import ReportData, series, tables
from irl_bench.studies import iqm
from irl_bench.studies.drawing import forest_rows
from irl_bench.studies.failure_flag import FLAG_HIDDEN, check_arms
from irl_bench.studies.measures import returns_of, scores, spread
from irl_bench.studies.study import (
    Part,
    Result,
    Row,
    Study,
    first_of_each,
    narrowed,
    not_run,
    refuse,
)

SOURCES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "airl": ("airl", {"g": "state"}),
    "airl_state_action": ("airl", {"g": "state_action"}),
    "gail": ("gail", {}),
}
"""What is learned in the unchanged world: name -> (algorithm, settings)."""
STARTS = ("clone", "random")
"""How the policy begins beside which a reward is learned."""
VIEWS: Mapping[str, tuple[str, bool]] = {
    "hidden": ("hidden", True),
    "flag_seen": ("hidden", False),
    "visible": ("visible", True),
}
"""What a reward sees of a failure, in a world with views and failure flags: name -> (view, whether
the flag is masked)."""
ONLY = "only"
"""The place of VIEWS in a world without them."""

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
SMOKE = ("policy_airl", "reward_airl", "reward_true")
"""The methods of the smallest budget, under "none", from which scores are told, and the first
change."""

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
    """Returns, for each world, sight and start, a sweep for each source and one for each method
    under each change. The true reward does not depend on the start and is run once.

    Raises:
      BadInput: a world without an entry in `CHANGES`; one line.
    """
    (count,) = demos
    check_arms(request, "transfer", STUDY.algo)
    for env in request.env:
        turned = {dial for dials in CHANGES.get(env, {}).values() for dial in dials}
        refuse(request, "transfer", {registry.world(env).name: turned}, "changes it")
    refuse(request, "transfer", {"airl": ("g", "init"), "gail": ("init",), "ppo": ("reward",)})
    sweeps = []
    for env in request.env:
        if env not in CHANGES:
            raise BadInput(
                f"--env={env}: transfer has changes for {', '.join(CHANGES)}; nearest: "
                f"{nearest(env, CHANGES)}"
            )
        changes = list(CHANGES[env])[: 2 if request.budget == "smoke" else None]
        for sight, options, masked in _sights(request, env):
            for start in STARTS if request.budget != "smoke" else STARTS[:1]:
                sweeps += _crossed(request, env, sight, options, masked, start, changes, count, out)
    return sweeps


def _sights(request: Request, env: str) -> Sequence[tuple[str, Mapping[str, Any], bool | None]]:
    """Returns (place, options of the world, whether rewards are masked) of every sight of a world,
    or of those with the view that the request asks for. None: the world has no flags."""
    world = registry.world(env).world
    if "view" not in world.options:
        return [(ONLY, {}, True if world.failure_flags else None)]
    asked = request.settings.get(env, {}).get("view")
    chosen = [
        (sight, {"view": view}, masked)
        for sight, (view, masked) in VIEWS.items()
        if asked in (None, view)
    ]
    return chosen[:1] if request.budget == "smoke" else chosen


def _crossed(
    request: Request,
    env: str,
    sight: str,
    options: Mapping[str, Any],
    masked: bool | None,
    start: str,
    changes: Sequence[str],
    count: int,
    out: Path,
) -> list[Part]:
    """Returns the sweeps of one sight and start."""
    mode = next(iter(registry.world(env).world.modes))

    def changed(
        place: str,
        algo: str,
        fixed: Mapping[str, Any],
        dials: Mapping[str, float],
        given: str | None = None,
    ) -> Request:
        """Returns the request of one sweep. `fixed` settings and `dials` override the command
        line's; `given` is the folder of the policy or reward that it uses."""
        merged = {
            algo: {**request.settings.get(algo, {}), **fixed},
            env: {**request.settings.get(env, {}), **options, **dials},
        }
        return narrowed(
            request,
            algo=(algo,),
            env=(env,),
            mode=(mode,),
            demos=count,
            settings={name: values for name, values in merged.items() if values},
            given=given,
            out=str(out / place),
        )

    at = f"{env}/{sight}/{start}"
    sweeps = []
    methods = {
        name: method
        for name, method in METHODS.items()
        if request.budget != "smoke" or name in SMOKE
    }
    used = {source for _, _, source in methods.values()}
    for name, (algo, values) in SOURCES.items():
        if name not in used:
            continue
        fixed = {**values, "init": {"clone": "bc", "random": "random"}[start]}
        if masked is not None:
            fixed["mask_failure"] = masked
        place = f"{at}/learn/{name}"
        sweeps.append(Part(place, changed(place, algo, fixed, {})))
    # A method's compiled program serves all changes, so the changes are the inner loop.
    for method, (_, algo, source) in methods.items():
        if source is None and start != STARTS[0]:
            continue
        settings = {"reward": "learned" if source else "true"} if algo == "ppo" else {}
        after = f"{at}/learn/{source}" if source else None
        for change in changes:
            place = f"{at}/{change}/{method}"
            given = str(out / after) if after else None
            sweep = changed(place, algo, settings, CHANGES[env][change], given)
            scale = f"{at}/none/{method}" if change != "none" else None
            sweeps.append(Part(place, sweep, report=False, after=after, beside=scale))
    return sweeps


def measure(reports: Mapping[str, ReportData]) -> list[Row]:
    """Returns the score of each method under each change, sight and start. One that was not run in
    the unchanged world too has no scale and is left out."""
    points: list[Row] = []
    for env, changes in CHANGES.items():
        for sight, change in itertools.product((*VIEWS, ONLY), changes):
            for method, start in itertools.product(METHODS, STARTS):
                at = f"{env}/{sight}/{start}"
                data, unchanged = (reports.get(f"{at}/{of}/{method}") for of in (change, "none"))
                if data is None or unchanged is None:
                    continue  # not in this run
                if not _finished(data, method) or not _finished(unchanged, method):
                    continue
                dials = ", ".join(f"{dial} = {value:g}" for dial, value in changes[change].items())
                learned = METHODS[method][2] is not None
                source = reports.get(f"{at}/learn/{METHODS[method][2]}")
                points.append(
                    {
                        "part": f"{at}/{change}/{method}",
                        "env": env,
                        "source_steps": max(c.consumes[1] for c in source.curves)
                        if source
                        else None,
                        "sight": sight,
                        "change": dials or "nothing changed",
                        "start": start if learned else None,
                        **_point(data, unchanged, method),
                    }
                )
    return points


def read(reports: Mapping[str, ReportData]) -> Result:
    """Returns the scores of all methods under each change, sight and start.

    Raises:
      ValueError: the folder holds no part of this study; one line.
    """
    points = measure(reports)
    if not points:
        raise ValueError(
            "the folder holds no part of transfer, or those of an earlier version; the study's "
            "command completes it"
        )
    return join(points)


def join(points: Sequence[Mapping[str, Any]], parts: Iterable[str] = ()) -> Result:
    """Returns what `read` does, and what is missing of `parts`, from the points of any parts."""
    points, rows = sorted(first_of_each(points), key=_order), dict[str, list[Row]]()
    for point in points:
        group = [p for p in points if _place(p) == _place(point)]
        policy = next((p for p in group if p["method"] == METHODS["policy_airl"][0]), None)
        compared = policy is not None and point["start"] and policy is not point
        gain = _gain(point, policy) if compared and policy else None
        where = "" if point["sight"] == ONLY else f", {TITLES[point['sight']]}"
        rows.setdefault(f"{point['env']}, {point['change']}{where}", []).append(
            {
                "method": point["method"],
                "learned beside": _beside(point["start"]),
                "trained again": point["again"],
                "score": spread(point["score"]),
                "less AIRL's policy": spread(gain) if gain else tables.MISSING,
                "worst seed": min(point["scores"]),
                "level": point["level"],
                "expert's": point["level of the expert"],
                "random": point["level of random"],
                "h": point["h"],
                "ρ": point["rho"],
                "seeds": len(point["scores"]),
                "env steps": point["env_steps"],
                "env steps to learn the reward": point["source_steps"],
            }
        )
    text = [
        "Score: 1 is the expert in the unchanged world, 0 uniformly random actions in the changed "
        "one. Rewards and policies were learned in the unchanged world, beside a policy that began "
        "as a clone or at random. The two starts also differ in steps and settings. 'Trained "
        "again': PPO from a random policy in the changed one. 'expert's': the share of failed "
        "steps of the expert in the changed world. Differences are paired by seed. Intervals are "
        "not corrected for their number.",
        iqm.TEXT,
        FLAG_HIDDEN,
        *not_run(points, (part for part in parts if "/learn/" not in part)),
    ]
    return {"title": "Reward transfer", "text": text, "tables": rows, "points": points}


TITLES = {
    "hidden": "no offset in sight off the lane, flag hidden",
    "flag_seen": "no offset in sight off the lane, flag seen",
    "visible": "the offset always in sight, flag hidden",
}
"""Sight -> what tables call it."""


def _beside(start: str | None) -> str:
    """Returns what tables call a start."""
    return {None: tables.MISSING, "clone": "a clone", "random": "a random policy"}[start]


def _place(point: Row) -> tuple[Any, ...]:
    """Returns what points have in common that are compared with one another."""
    return point["env"], point["sight"], point["change"], point["start"]


def _order(point: Row) -> tuple[int, ...]:
    """Returns what orders points as tables show them."""
    env, sight, start, change, method = point["part"].split("/")
    orders = (CHANGES, (*VIEWS, ONLY), CHANGES[env], METHODS, STARTS)
    names = (env, sight, change, method, start)
    return tuple(list(order).index(name) for order, name in zip(orders, names, strict=True))


def _gain(point: Row, policy: Row) -> list[float] | None:
    """Returns the score less that of AIRL's policy, paired by seed, with its interval; None if the
    usable seeds differ."""
    if point["seed_ids"] != policy["seed_ids"]:
        return None
    return iqm.interval(np.array(point["scores"]) - np.array(policy["scores"]))


def _finished(data: ReportData, method: str) -> bool:
    """Whether all is there of a method and of the references beside it."""
    return {METHODS[method][1], "expert", "untrained"} <= {curve.algo for curve in data.curves}


def _point(data: ReportData, unchanged: ReportData, method: str) -> Row:
    """Returns what one method reached under one change; `unchanged` holds its expert's returns."""
    title, algo, _ = METHODS[method]
    (curve,) = (c for c in data.curves if c.algo == algo)
    score = scores(data, curve.env, algo, curve.mode, of=unchanged)
    assert score is not None
    level = {c.algo: float(np.mean(c.cost[c.usable, -1]) / c.T[-1]) for c in data.curves}
    verdict = series.verdict_of(data, curve)
    return {
        "method": title,
        "again": "no" if algo == "stored" else "yes",
        "score": iqm.interval(score),
        "scores": score.tolist(),
        "seed_ids": np.asarray(curve.seeds)[curve.usable].tolist(),
        "returns": returns_of(curve).tolist(),
        "level": level[algo],
        "level of the expert": level["expert"],
        "level of random": level["untrained"],
        "h": verdict.get("hazard"),
        "rho": verdict.get("recovery"),
        "env_steps": curve.consumes[1],
    }


def draw(result: Mapping[str, Any]) -> Figure:
    """Draws the scores of all methods, a panel per world, sight and change; every seed is a dot."""
    points = result["points"]
    panels = list(dict.fromkeys((p["env"], p["sight"], p["change"]) for p in points))
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    most = max(
        sum((p["env"], p["sight"], p["change"]) == panel for p in points) for panel in panels
    )
    height = max(1.4, 0.6 + 0.16 * most)
    figure = Figure(figsize=(3.5 * columns, height * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    colours = {None: "#444444", "clone": "#0072B2", "random": "#D55E00"}
    for axis, panel in zip(axes, panels, strict=False):
        group = [p for p in points if (p["env"], p["sight"], p["change"]) == panel][::-1]
        for y, point in enumerate(group):
            axis.plot(point["scores"], [y] * len(point["scores"]), ".", color="#999999", ms=2.5)
            middle, low, high = np.array(point["score"], float)  # a missing end becomes NaN
            colour = colours[point["start"]]
            axis.plot([low, high], [y, y], color=colour, lw=1.5)
            axis.plot([middle], [y], "o", color=colour, ms=4)
        axis.axvline(1.0, color="#444444", lw=0.7, ls=(0, (4, 3)))
        names = [
            point["method"] + (f", {point['start']}" if point["start"] else "") for point in group
        ]
        forest_rows(axis, names)
        env, sight, change = panel
        where = "" if sight == ONLY else f", {sight.replace('_', ' ')}"
        axis.set_title(f"{env}{where}: {change}", fontsize=8)
        axis.set_xlabel("normalised score", fontsize=7)
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
        "default": {"seeds": 20, "demos": (64,), "episodes": 256},
        "full": {"seeds": 20, "demos": (64,), "episodes": 1024},
    },
    parts=parts,
    read=read,
    draw=draw,
    measure=measure,
    join=join,
)

"""Does a policy that sees more of the past imitate worse?

A clone that sees its last action, or can tell it from former frames, may repeat it: the error on
held-out demonstrations falls, and the cost of the closed loop rises (de Haan et al. 2019, arXiv
1905.11979; Wen et al. 2020, arXiv 2010.14876). Spencer et al. (2021, arXiv 2102.02872) say that
this is plain covariate shift, which the slope of regret over the horizon can tell.

Every view of a world is a twin of it (`envs.history`) with the same demonstrations:

- present: the world's own observation, the control of `last action`;
- last action: the action that led to the observation as well;
- positions: no velocities, the control of what follows;
- positions and action: the last action without velocities, of which it tells something;
- frames: the latest 2, 4 or 8 frames without velocities, from which velocities can be told;
- frames and action: both.

In two of the views that show the past stand remedies beside plain BC: dropout on the past, an
adversary that guesses the last action, masks that are chosen by driving, and DAgger, which asks the
expert.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from irl_bench.core.settings import BadInput
from irl_bench.horizon import Curves
from irl_bench.plan import registry
from irl_bench.plan.request import Request
from irl_bench.report import ReportData, training
from irl_bench.studies.drawing import regret_bars
from irl_bench.studies.measures import interval, paired_ratio, same_seeds, spread
from irl_bench.studies.study import OVER_HORIZONS, Part, Result, Row, Study, narrowed, refuse

VIEWS: Mapping[str, Mapping[str, str]] = {
    "present": {},
    "last-action": {"last_action": "visible"},
    "positions": {"velocities": "hidden"},
    "positions-action": {"velocities": "hidden", "last_action": "visible"},
    "frames-2": {"velocities": "hidden", "frames": "2"},
    "frames-4": {"velocities": "hidden", "frames": "4"},
    "frames-8": {"velocities": "hidden", "frames": "8"},
    "frames-4-action": {"velocities": "hidden", "frames": "4", "last_action": "visible"},
}
"""Folder -> options of the world."""
CONTROLS = {
    "last-action": "present",
    **dict.fromkeys(
        ("positions-action", "frames-2", "frames-4", "frames-8", "frames-4-action"), "positions"
    ),
}
"""View that shows the past -> the one without it."""
PLAIN = "bc"
REMEDIES: Mapping[str, Mapping[str, Any]] = {
    "dropout": {"history_dropout": 0.5},
    "adversary": {"adversary": 1.0},
    "masks": {"interventions": 10},
}
"""Folder -> settings of BC."""
ASKS = "dagger"
TREATED = ("positions-action", "frames-4-action")
"""The views in which remedies stand beside plain BC."""
NAMES = {
    PLAIN: "none",
    "dropout": "dropout on the past",
    "adversary": "adversary",
    "masks": "masks by intervention, which drives",
    ASKS: "DAgger, which asks",
}
MEASURES = ("predictable", "repeats", "shift")
"""Training metrics of BC in views of the past."""
SMOKE, SMOKE_ARMS = ("positions", "positions-action"), ("dropout",)
"""The views and remedies of the smallest budget."""


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    """Returns a sweep for each world, view and remedy.

    Raises:
      BadInput: a world without such views, or an option or setting that the study varies.
    """
    del demos  # one number, which `request` holds
    smoke = request.budget == "smoke"
    sweeps = []
    for env in request.env:
        world = registry.world(env).world
        if "frames" not in world.options or not world.velocities:
            raise BadInput(
                f"--env={env}: it has no views of the past; nearest: --env=lane_keep,race,hopper"
            )
        for group, varied in ((env, ("frames", "last_action", "velocities")),
                              ("bc", ("history_dropout", "adversary"))):  # fmt: skip
            refuse(request, "copycat", {group: varied})
        mode = next(iter(world.modes))
        for view, options in VIEWS.items():
            if smoke and view not in SMOKE:
                continue
            arms: dict[str, tuple[str, Mapping[str, Any]]] = {PLAIN: ("bc", {})}
            if view in TREATED:
                arms |= {
                    name: ("bc", REMEDIES[name]) for name in (SMOKE_ARMS if smoke else REMEDIES)
                }
                arms |= {} if smoke else {ASKS: ("dagger", {})}
            for arm, (algo, settings) in arms.items():
                part = narrowed(
                    request,
                    algo=(algo,),
                    env=(env,),
                    mode=(mode,),
                    settings={
                        **request.settings,
                        env: {**request.settings.get(env, {}), **options},
                        algo: {**request.settings.get(algo, {}), **settings},
                    },
                    out=str(out / env / view / arm),
                )
                sweeps.append(Part(f"{env}/{view}/{arm}", part, report=False))
    return sweeps


def _last(data: ReportData, curve: Curves, name: str) -> np.ndarray | None:
    """A training metric of the last round, float[S'] of the usable seeds; None if there is none."""
    found = training.metric(data, curve, name)
    return None if found is None else found[1][:, -1]


def read(reports: Mapping[str, ReportData]) -> Result:
    """Returns for every view and remedy how much it copies, its held-out error, regret and slope,
    and the last three against its control's."""
    found: dict[str, tuple[ReportData, Curves]] = {}
    points: list[Row] = []
    rows: dict[str, list[Row]] = {}
    text: list[str] = []
    for name, data in reports.items():
        env, view, arm = name.split("/")
        algo = ASKS if arm == ASKS else "bc"
        (curve,) = (c for c in data.curves if c.algo == algo)
        (verdict,) = (v for v in data.verdicts if v["algo"] == algo)
        found[name] = data, curve
        before = CONTROLS.get(view) if arm == PLAIN else view
        control = f"{env}/{before}/{PLAIN}" if before else None
        base = found.get(control) if control else None
        last = curve.T[-1:]
        held_out = _last(data, curve, "best_held_out_loss")
        measured = {m: _last(data, curve, m) for m in MEASURES}
        point: Row = {
            "world": env,
            "view": view,
            "remedy": NAMES[arm],
            "control": f"{before}, {NAMES[PLAIN]}" if base else None,
            "T": int(last[0]),
            "J": interval(curve.regret(last)[:, 0]),
            "held_out": None if held_out is None else interval(held_out),
            "held_out_change": None,
            "ratio": None,
            "slope": [verdict["slope"], verdict["ci_low"], verdict["ci_high"]],
            **{m: None if values is None else interval(values) for m, values in measured.items()},
            **{key: verdict[key] for key in ("hazard", "recovery", "level", "verdict")},
        }
        if base is not None:
            other, its = base
            point["ratio"] = paired_ratio(curve, its, last)
            theirs = _last(other, its, "best_held_out_loss")
            mine, yours = same_seeds(curve, its)
            if held_out is not None and theirs is not None and len(mine):
                point["held_out_change"] = interval(held_out[mine] - theirs[yours])
        points.append(point)
        shown = lambda values: spread(values) if values else None
        shown_view = view.replace("-", " ")
        rows.setdefault(f"{env}: at T = {int(last[0])} steps", []).append(
            {
                "view": shown_view,
                "remedy": NAMES[arm],
                "held-out loss less control's": shown(point["held_out_change"]),
                "regret": spread(point["J"]),
                "regret / control's": shown(point["ratio"]),
                "slope": shown(point["slope"] if point["slope"][0] is not None else None),
                "verdict": point["verdict"],
                "h": point["hazard"],
                "ρ": point["recovery"],
                "repeats": shown(point["repeats"]),
                "R² of the next action on the last": shown(point["predictable"]),
                "shift": shown(point["shift"] if "action" in view else None),
                "seeds": verdict["usable_seeds"],
            }
        )
        if arm == PLAIN and base is not None:
            text.append(f"{env}, {shown_view}: {sentence(point)}")
    text += [
        "The control of a view is the view without the past; that of a remedy is plain BC in its "
        "view. Differences and ratios are paired by seed.",
        "Each view is judged by itself, with two intervals of 95 %. Of many views, some may be "
        "called a copycat by chance.",
        "All have the same demonstrations, but DAgger, which has as many labels. Masks by "
        "intervention also take environment steps and see the world's reward; DAgger takes "
        "environment steps too.",
        "Intervals: mean over seeds and its jackknife-t interval of 95 %.",
        "repeats: among the tenth of the held-out steps in which the expert's action changes most, "
        "the share in which the policy's action is nearer to the last one than to the expert's. "
        "shift: how far the policy's action moves if the last action alone is exchanged with that "
        "of another row, relative to the spread of the expert's actions. A policy that lags or is "
        "noisy repeats too, so read repeats beside its control's.",
    ]
    return {"title": "Copycats", "text": text, "tables": rows, "points": points}


def sentence(point: Mapping[str, Any]) -> str:
    """Says whether the view's held-out loss falls while its regret rises."""
    change, ratio = point["held_out_change"], point["ratio"]
    if change is None or ratio is None:
        return "cannot be compared with its control."
    falls = "falls" if change[2] < 0 else "rises" if change[1] > 0 else "is not shown to change"
    cost = "rises" if ratio[1] > 1 else "falls" if ratio[2] < 1 else "is not shown to change"
    ends = "; a copycat" if (falls, cost) == ("falls", "rises") else ""
    return f"the held-out loss {falls}, the regret {cost}{ends}."


def draw(result: Mapping[str, Any]) -> Figure:
    """Draws the regret of each view and remedy with its interval, a panel per world."""

    def name(point: Mapping[str, Any]) -> str:
        remedy = "" if point["remedy"] == NAMES[PLAIN] else f", {point['remedy']}"
        return point["view"].replace("-", " ") + remedy

    return regret_bars(result["points"], name, (3.7, 3.0))


STUDY = Study(
    name="copycat",
    help="whether policies that see their last action or former frames imitate worse, and what "
    "keeps them from it",
    algo=("bc", "dagger"),
    env=("lane_keep", "race", "hopper"),
    brief=("lane_keep",),
    fixed=True,
    sizes={
        "smoke": {"seeds": 2},
        "default": {"seeds": 20, **OVER_HORIZONS},
        "full": {"seeds": 40, **OVER_HORIZONS},
    },
    parts=parts,
    read=read,
    draw=draw,
)

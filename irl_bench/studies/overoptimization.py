"""Gold against proxy: what the world pays while a learned reward is pressed, over the distance from
the reference policy.

`rlhf` without a penalty (beta = 0) over labels and the reward's width, and best-of-n on rewards of
the same kinds. Per round: proxy (the learned reward), gold (the world's return) and d = sqrt(KL(pi
|| pi_ref)) per step. Gains over the first round are fitted by

    R(d) = d (a - b log d)   and   R(d) = d (a - b d)
                                                 Gao et al. 2023 (arXiv 2210.10760), section 3.2

both by least squares, with R² and AIC. Best-of-n has d² = log n - (n - 1) / n per rollout.

Are rewards that go on learning harder to exploit? At the same step size, without a penalty: AIRL's
reward frozen after its run and pressed by PPO from the clone (`frozen`), AIRL itself
(`adversarial`), one-shot and iterated RLHF.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from irl_bench.plan import registry
from irl_bench.plan.build import Request
from irl_bench.report import ReportData, series, tables, training
from irl_bench.studies.demo_efficiency import spread
from irl_bench.studies.study import Part, Study, mean, narrowed, shared

LABELS = {"smoke": (50,), "default": (100, 300, 1000, 3000), "full": (100, 300, 1000, 3000)}
WIDTHS = {"smoke": ((64, 64),), "default": ((4,), (64, 64)), "full": ((4,), (16, 16), (64, 64))}
PRESSED = {"learning_rate": 1e-3, "reference_kl": 0.0, "linger": 1_000_000}
"""Of every policy here; a fall counts whole in gold."""
LAST = {**PRESSED, "keep": "last"}
"""Of those that learn from comparisons: what is read are rounds, and no policy is kept."""
ALIKE = ("rounds", "log_std", "log_std_min", "log_std_max", "policy_delay")
"""Settings of `adversarial` that are RLHF's too, for the same pressure and the same unit of d."""
PRESSURE: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "source": ("airl", {}),
    "frozen": ("ppo", {"reward": "learned", "init": "bc"}),
    "adversarial": ("airl", PRESSED),
    "one_shot": ("rlhf", LAST),
    "iterated": ("rlhf_iterated", LAST),
}
"""Folder -> (algorithm, settings). `source` is where `frozen` has its reward from; `frozen` has
RLHF's settings otherwise."""
BRIEF = ("one_shot",)
"""Of the smallest budget: at its one number of labels and width the program of `rlhf`, which is
compiled already."""
HELD = 1e-6
"""A KL per step up to this is rounding: the policy is the clone."""
SMOOTH = 5
"""Rounds over which gold and proxy are averaged: a round's own rollout is noisy."""
DECLINE = 0.1
"""Gold falls if it ends this share of its gain's height below its peak, the interval of the fall
above 0."""


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    (count,) = demos
    found = []
    for env in request.env:
        mode = next(iter(registry.world(env).world.modes))

        def one(
            place: str,
            algo: str,
            own: Mapping[str, Any],
            env: str = env,
            mode: str = mode,
            **more: Any,
        ) -> Part:
            settings = {
                **request.settings,
                algo: {**own, **request.settings.get(algo, {}), **more.pop("over", {})},
            }
            asked = narrowed(
                request,
                algo=(algo,),
                env=(env,),
                mode=(mode,),
                demos=count,
                out=str(out / env / place),
                settings=settings,
                given=str(out / env / "pressure/source") if more else None,
            )
            return Part(f"{env}/{place}", asked, report=False, **more)

        for labels in LABELS[request.budget]:
            for width in WIDTHS[request.budget]:
                place = f"{labels}/{'x'.join(map(str, width))}"
                own = {"labels": labels, "reward_hidden": width}
                found.append(one(f"{place}/rlhf", "rlhf", LAST, over=own))
                found.append(one(f"{place}/best_of_n", "best_of_n", {}, over=own))
        for name in BRIEF if request.budget == "smoke" else PRESSURE:
            algo, own = PRESSURE[name]
            usual = shared("rlhf", algo, request, env)
            if name == "frozen":
                found.append(
                    one(
                        f"pressure/{name}",
                        algo,
                        {**usual, **own, **PRESSED},
                        after=f"{env}/pressure/source",
                    )
                )
            else:
                more = {key: usual[key] for key in ALIKE} if name == "adversarial" else {}
                found.append(one(f"pressure/{name}", algo, {**more, **own}))
    return found


def smooth(values: np.ndarray, width: int = SMOOTH) -> np.ndarray:
    """Moving average of float[S, R] over w rounds, `width` but at most half of all, float[S, R -
    w + 1]."""
    width = min(width, max(1, values.shape[1] // 2))
    return np.stack([np.convolve(row, np.ones(width) / width, "valid") for row in values])


def fits(d: np.ndarray, gain: np.ndarray) -> dict[str, dict[str, float]]:
    """{form: {"a", "b", "r2", "aic"}} of gain(d) at d > 0, by least squares; {} with fewer than
    four points."""
    kept = d > 1e-6
    d, gain = d[kept], gain[kept]
    if len(d) < 4:
        return {}
    found = {}
    for name, second in (("d (a - b log d)", -d * np.log(d)), ("d (a - b d)", -d * d)):
        columns = np.stack([d, second], 1)
        (a, b), *_ = np.linalg.lstsq(columns, gain, rcond=None)
        residual = gain - columns @ (a, b)
        rss = max(float(residual @ residual), 1e-300)
        total = max(float(np.sum((gain - gain.mean()) ** 2)), 1e-300)
        found[name] = {
            "a": float(a),
            "b": float(b),
            "r2": 1 - rss / total,
            "aic": len(d) * np.log(rss / len(d)) + 4,
        }
    return found


def peaks(gold: np.ndarray) -> np.ndarray:
    """float[S]: each seed's gold gain [S, R] in the round where the mean of the *other* half of the
    seeds is highest.

    A maximum over noisy rounds is above the end even where nothing falls; a round that other seeds
    chose is not.
    """
    half = np.arange(len(gold)) % 2
    at = [
        int(np.argmax(gold[half != side].mean(0))) if (half != side).any() else -1
        for side in (0, 1)
    ]
    return gold[np.arange(len(gold)), np.array(at)[half]]


def over_optimised(peak: np.ndarray, end: np.ndarray, proxy: np.ndarray) -> str:
    """yes: the proxy rose, and gold fell by DECLINE of its gain or more, both intervals above 0.
    Gains float[S]."""
    fallen, risen = mean(peak - end), mean(proxy)
    return (
        "yes"
        if risen[1] > 0 and fallen[1] > 0 and fallen[0] >= DECLINE * max(float(peak.mean()), 0.0)
        else "no"
    )


def curves_of(data: ReportData, algo: str) -> dict[str, np.ndarray] | None:
    """Gains of gold and proxy over the first round and d by round, float[S, R], all smoothed; None
    if a metric is missing.

    The first round is the last in which the policy was still held: all worlds of a training start
    afresh, and before they have settled gold is higher than the clone's.
    """
    (curve,) = (c for c in data.curves if c.algo == algo)
    proxy = training.metric(data, curve, "proxy") or training.metric(data, curve, "reward_mean")
    gold, kl = (training.metric(data, curve, name) for name in ("true_return", "reference_kl"))
    if gold is None or proxy is None or kl is None:
        return None
    width = (
        SMOOTH if algo != "best_of_n" else 1
    )  # its rounds are different n, each a mean over many choices
    held = int(np.argmax((kl[1] > HELD).any(0))) - 1
    gain, rise, kl = (smooth(values[1][:, max(held, 0) :], width) for values in (gold, proxy, kl))
    d = np.sqrt(kl.clip(0))
    return {"gold": gain - gain[:, :1], "proxy": rise - rise[:, :1], "d": d}


def read(found: Mapping[str, ReportData]) -> dict[str, Any]:
    points, rows = [], {}
    for name, data in found.items():
        env, *place, last = name.split("/")
        pressure = place == ["pressure"]
        algo = PRESSURE[last][0] if pressure else last
        if last == "source" or (values := curves_of(data, algo)) is None:
            continue
        labels, width = (None, None) if pressure else (int(place[0]), place[1])
        gain, risen, d = values["gold"], values["proxy"][:, -1], values["d"]
        fitted, peak = fits(d.mean(0), gain.mean(0)), peaks(gain)
        points.append(
            {
                "env": env,
                "what": last,
                "pressure": pressure,
                "labels": labels,
                "width": width,
                "fits": fitted,
                "d": d.mean(0).tolist(),
                "gold": gain.mean(0).tolist(),
                "proxy": values["proxy"].mean(0).tolist(),
            }
        )
        (curve,) = (c for c in data.curves if c.algo == algo)
        accuracy = training.metric(data, curve, "reward_accuracy")
        best = min(fitted, key=lambda form: fitted[form]["aic"]) if fitted else tables.MISSING
        row = {
            "accuracy kept back": float(np.mean(accuracy[1][:, -1])) if accuracy else None,
            "d at the end": float(d[:, -1].mean()),
            "gold gain at its peak": spread(mean(peak)),
            "at the end": spread(mean(gain[:, -1])),
            "fall": spread(mean(peak - gain[:, -1])),
            "proxy gain": spread(mean(risen)),
            "over-optimised": over_optimised(peak, gain[:, -1], risen)
            if last != "adversarial"
            else tables.MISSING,
            "better form (AIC)": best,
            "R²": fitted[best]["r2"] if fitted else None,
            "other form's R²": next((fitted[form]["r2"] for form in fitted if form != best), None),
            "seeds": len(gain),
        }
        if pressure:
            heading = f"{env}: rewards under the same pressure, mean over seeds [95 % interval]"
            row = {
                "reward": last.replace("_", " "),
                "algorithm": algo,
                **row,
                "labels": curve.labels,
                "env steps": curve.consumes[1],
            }
        else:
            heading = (
                f"{env}: rlhf without a penalty, and best-of-n, mean over seeds [95 % interval]"
            )
            row = {"by": last, "labels": labels, "reward's layers": width, **row}
        rows.setdefault(heading, []).append(row)
    text = [
        "Gold: return of a training episode, above the clone's. d: root of the KL per step from "
        "the clone. "
        f"Over-optimised: the proxy rose while gold ended {100 * DECLINE:.0f} % of its gain or "
        "more below its peak, both "
        "intervals above 0; where the peak is, the other half of the seeds says. "
        f"Rounds are averaged over {SMOOTH}. The adversarial reward changes from round to round, "
        "so its proxy has no unit.",
    ]
    return {"title": "Gold against proxy", "text": text, "tables": rows, "points": points}


def draw(found: Mapping[str, Any]) -> Figure:
    points = found["points"]
    panels = list(
        dict.fromkeys((p["env"], p["what"], p["width"]) for p in points if not p["pressure"])
    )
    worlds = list(dict.fromkeys(p["env"] for p in points if p["pressure"]))
    lines = max(1, len(panels) + len(worlds))
    figure = Figure(figsize=(7.0, 2.3 * lines), layout="constrained")
    axes = figure.subplots(lines, 2, squeeze=False)

    def line(axes: Any, own: list[Mapping[str, Any]], label: Any, title: str) -> None:
        colours = series.colours([label(p) for p in own])
        for axis, key in zip(axes, ("gold", "proxy"), strict=True):
            for p in own:
                marker = "o" if p["what"] == "best_of_n" else None
                axis.plot(
                    p["d"],
                    p[key],
                    color=colours[label(p)],
                    lw=1.2,
                    marker=marker,
                    ms=3,
                    label=label(p),
                )
            axis.axhline(0.0, color="#444444", lw=0.7)
            axis.set(xlabel="d = √KL per step", ylabel=f"{key} gain", title=title)
            axis.locator_params(axis="x", nbins=6)
        if own:
            axes[0].legend(loc="best", frameon=False, fontsize=7)

    for place, panel in zip(axes, panels, strict=False):
        own = [p for p in points if (p["env"], p["what"], p["width"]) == panel]
        env, what, width = panel
        line(
            place,
            own,
            lambda p: f"{p['labels']} labels",
            f"{env}, {what.replace('_', '-')}, reward of {width}",
        )
    for place, env in zip(axes[len(panels) :], worlds, strict=False):
        own = [p for p in points if p["env"] == env and p["pressure"]]
        line(place, own, lambda p: p["what"].replace("_", " "), f"{env}, the same pressure")
    return figure


STUDY = Study(
    name="overoptimization",
    help="gold against proxy while a learned reward is pressed without a penalty; frozen and "
    "learning rewards side by side",
    algo=("rlhf", "rlhf_iterated", "best_of_n", "airl", "ppo"),
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

"""Gold against proxy: what the world pays while a learned reward is pressed, over the distance from the reference policy.

`rlhf` without a penalty (beta = 0) over labels and the reward's width. Per round: proxy (the learned reward), gold (the world's
return) and d = sqrt(KL(pi || pi_ref)) per step. Gains over the first round are fitted by

    R(d) = d (a - b log d)   and   R(d) = d (a - b d)            Gao et al. 2023 (arXiv 2210.10760), section 3.2

both by least squares, with R² and AIC. Best-of-n has d² = log n - (n - 1) / n.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from irl_bench import plugins
from irl_bench.experiments.demo_efficiency import spread
from irl_bench.experiments.study import Part, Study, mean, narrowed
from irl_bench.plan import Request
from irl_bench.report import ReportData, series, tables, training

LABELS = {"smoke": (50,), "default": (100, 300, 1000, 3000), "full": (100, 300, 1000, 3000)}
WIDTHS = {"smoke": ((8,),), "default": ((4,), (64, 64)), "full": ((4,), (16, 16), (64, 64))}
ALGO = "rlhf"
SMOOTH = 5
"""Rounds over which gold and proxy are averaged: a round's own rollout is noisy."""
DECLINE = 0.1
"""Gold falls if it ends this share of its gain's height below its peak, the interval of the fall above 0."""


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    (count,) = demos
    found = []
    for env in request.env:
        mode = next(iter(plugins.world(env).world.modes))
        for labels in LABELS[request.budget]:
            for width in WIDTHS[request.budget]:
                place = f"{env}/{labels}/{'x'.join(map(str, width))}"
                own = {"learning_rate": 1e-3, **request.settings.get(ALGO, {})}
                own |= {"labels": labels, "reward_hidden": width, "reference_kl": 0.0}
                asked = narrowed(
                    request, algo=(ALGO,), env=(env,), mode=(mode,), demos=count, out=str(out / place),
                    settings={**request.settings, ALGO: own},
                )  # fmt: skip
                found.append(Part(place, asked, report=False))
    return found


def smooth(values: np.ndarray) -> np.ndarray:
    """Moving average of float[S, R] over up to SMOOTH rounds, float[S, R - w + 1]."""
    width = min(SMOOTH, values.shape[1])
    return np.stack([np.convolve(row, np.ones(width) / width, "valid") for row in values])


def fits(d: np.ndarray, gain: np.ndarray) -> dict[str, dict[str, float]]:
    """{form: {"a", "b", "r2", "aic"}} of gain(d) at d > 0, by least squares; {} with fewer than four points."""
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
        found[name] = {"a": float(a), "b": float(b), "r2": 1 - rss / total, "aic": len(d) * np.log(rss / len(d)) + 4}
    return found


def peaks(gold: np.ndarray) -> np.ndarray:
    """float[S]: each seed's gold gain [S, R] in the round where the mean of the *other* half of the seeds is highest.

    A maximum over noisy rounds is above the end even where nothing falls; a round that other seeds chose is not.
    """
    half = np.arange(len(gold)) % 2
    at = [int(np.argmax(gold[half != side].mean(0))) if (half != side).any() else -1 for side in (0, 1)]
    return gold[np.arange(len(gold)), np.array(at)[half]]


def over_optimised(peak: np.ndarray, end: np.ndarray, proxy: np.ndarray) -> str:
    """yes: the proxy rose, and gold fell by DECLINE of its gain or more, both intervals above 0. Gains float[S]."""
    fallen, risen = mean(peak - end), mean(proxy)
    return "yes" if risen[1] > 0 and fallen[1] > 0 and fallen[0] >= DECLINE * max(float(peak.mean()), 0.0) else "no"


def read(found: Mapping[str, ReportData]) -> dict[str, Any]:
    points, rows = [], {}
    for name, data in found.items():
        env, labels, width = name.split("/")
        (curve,) = (c for c in data.curves if c.algo == ALGO)
        values = {key: training.metric(data, curve, key) for key in ("true_return", "proxy", "reference_kl", "reward_accuracy")}
        if any(found is None for found in values.values()):
            continue
        gold, proxy, kl = (smooth(values[key][1]) for key in ("true_return", "proxy", "reference_kl"))  # type: ignore[index]
        d = np.sqrt(kl.clip(0))
        gain = gold - gold[:, :1]
        fitted = fits(d.mean(0), gain.mean(0))
        peak, risen = peaks(gain), proxy[:, -1] - proxy[:, 0]
        accuracy = values["reward_accuracy"][1][:, -1]  # type: ignore[index]
        points.append(
            {
                "env": env, "labels": int(labels), "width": width, "fits": fitted, "d": d.mean(0).tolist(),
                "gold": gain.mean(0).tolist(), "proxy": (proxy - proxy[:, :1]).mean(0).tolist(),
            }
        )  # fmt: skip
        best = min(fitted, key=lambda form: fitted[form]["aic"]) if fitted else tables.MISSING
        rows.setdefault(f"{env}: {ALGO} without a penalty, mean over seeds [95 % interval]", []).append(
            {
                "labels": int(labels),
                "reward's layers": width,
                "accuracy kept back": float(np.mean(accuracy)),
                "d at the end": float(d[:, -1].mean()),
                "gold gain at its peak": spread(mean(peak)),
                "at the end": spread(mean(gain[:, -1])),
                "fall": spread(mean(peak - gain[:, -1])),
                "proxy gain": spread(mean(risen)),
                "over-optimised": over_optimised(peak, gain[:, -1], risen),
                "better form (AIC)": best,
                "R²": fitted[best]["r2"] if fitted else None,
                "seeds": len(gold),
            }
        )
    text = [
        "Gold: return of a training episode, above the first rounds'. d: root of the KL per step from the clone. "
        f"Over-optimised: the proxy rose while gold ended {100 * DECLINE:.0f} % of its gain or more below its peak, both "
        "intervals above 0; where the peak is, the other half of the seeds says. "
        f"Rounds are averaged over {SMOOTH}.",
    ]
    return {"title": "Gold against proxy", "text": text, "tables": rows, "points": points}


def draw(found: Mapping[str, Any]) -> Figure:
    points = found["points"]
    panels = list(dict.fromkeys((p["env"], p["width"]) for p in points)) or [("", "")]
    figure = Figure(figsize=(7.0, 2.4 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 2, squeeze=False)
    colours = series.colours([str(p["labels"]) for p in points])
    for line, (env, width) in zip(axes, panels, strict=True):
        for axis, key in zip(line, ("gold", "proxy"), strict=True):
            for p in points:
                if (p["env"], p["width"]) == (env, width):
                    axis.plot(p["d"], p[key], color=colours[str(p["labels"])], lw=1.2, label=f"{p['labels']} labels")
            axis.axhline(0.0, color="#444444", lw=0.7)
            axis.set(xlabel="d = √KL per step", ylabel=f"{key} gain", title=f"{env}, reward of {width}")
        line[0].legend(loc="best", frameon=False, fontsize=7)
    return figure


STUDY = Study(
    name="overoptimization",
    help="gold against proxy while a learned reward is pressed without a penalty, over labels and the reward's width",
    algo=(ALGO,),
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

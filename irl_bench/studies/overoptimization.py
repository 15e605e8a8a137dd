"""Gold against proxy: how the true reward of a rollout changes while a policy maximises a learned
one, over the distance from the reference policy.

`rlhf` runs without a penalty (beta = 0) at several numbers of labels and widths of the reward
network, and best-of-n on rewards of the same kinds. In every round a probe (`ppo.PPO.probe`)
measures rollouts of `length` steps that begin in states which the clone has reached in 0 to
`warm` - 1 steps from a reset (best-of-n's settings, 100 and 200 by default): their learned reward
(proxy), their true reward (gold), both summed over a rollout, and the distance
d = sqrt(KL(pi || pi_ref)) per rollout [root of nats]. So gold is no return of an episode. All
rounds of a run share these states and all random numbers. Best-of-n is measured on rollouts of the
same length, with d² = log n - (n - 1) / n. RLHF and best-of-n with one seed share the clone and the
states, but not the random numbers of the rollouts. `frozen` and `adversarial` have a clone and
states of their own.

A round's probe comes before the round's update. The last round thus measures the policy that begins
it, and the last update is not measured. Gains over the reference are fitted by

    R(d) = d (a - b log d)   and   R(d) = d (a - b d)
                                                 Gao et al. 2023 (arXiv 2210.10760), section 3.2

both by least squares, with R². Neither form is chosen: the rounds of a training are not
independent, so a criterion that counts them as such (AIC) would be far too certain.

A reward is over-optimised if its proxy rose and gold fell from its peak, by a rule over seeds
(`over_optimised`) with Holm's correction over all rows of a world, those of both tables.

Are rewards that go on learning harder to exploit? The study compares four rewards under the same
settings of PPO's training (`ALIKE`) and without a penalty: AIRL's reward, frozen after its run and
maximised by PPO from the clone (`frozen`), AIRL itself (`adversarial`), one-shot and iterated RLHF.
The proxy of AIRL is g, the reward that it stores, and `frozen` maximises g too. AIRL's own policy
maximises f = g + gamma h(s') - h(s), less log pi if its actions are discrete.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from irl_bench.plan import build, registry
from irl_bench.plan.request import Request
from irl_bench.report import ReportData, series, tables, training
from irl_bench.rl import ppo
from irl_bench.storage.files import StoreError
from irl_bench.studies import iqm
from irl_bench.studies.drawing import with_seeds
from irl_bench.studies.failure_flag import FLAG_HIDDEN, UNMASKED, check_arms
from irl_bench.studies.label_efficiency import FRESH
from irl_bench.studies.measures import spread
from irl_bench.studies.significance import SIGNIFICANT, holm, is_small
from irl_bench.studies.study import (
    Part,
    Result,
    Row,
    Study,
    first_of_each,
    narrowed,
    not_run,
    refuse,
    shared,
)

LABELS = {"smoke": (50,), "default": (100, 300, 1000, 3000), "full": (100, 300, 1000, 3000)}
"""Numbers of labels by budget."""
WIDTHS = {"smoke": ((64, 64),), "default": ((4,), (64, 64)), "full": ((4,), (16, 16), (64, 64))}
"""Hidden layers of the reward network by budget."""
PRESSED = {"learning_rate": 1e-3, "reference_kl": 0.0, "linger": 1_000_000}
"""Settings of every policy. With a long `linger` no training episode is cut soon after a fall, as
the presets of some robots do otherwise. Elsewhere it is the default. The probe's rollouts are never
cut."""
LAST = {**PRESSED, "keep": "last"}
"""Settings of `rlhf`. The study reads rounds, so it need not keep its best policy."""
ALIKE = tuple(field.name for field in dataclasses.fields(ppo.TrainingConfig))
"""Settings that all entries of `PRESSURE` but `source` take from RLHF under `PRESSED`, for equal
pressure and an equal unit of d: all of PPO's training. All other settings are the learner's own."""
PRESSURE: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "source": ("airl", {}),
    "frozen": ("ppo", {"reward": "learned", "init": "bc"}),
    "adversarial": ("airl", {"init": "bc"}),
    "one_shot": ("rlhf", {"keep": "last"}),
    "iterated": ("rlhf_iterated", {"keep": "last"}),
}
"""Folder -> (algorithm, settings). `frozen` takes its reward from `source`."""
BRIEF = ("one_shot",)
"""The folders of the smallest budget. `one_shot` repeats the only run of `rlhf`, whose program is
compiled already."""
SEEN = "flag_seen"
"""The folder of the learners whose rewards see the failure flag."""
MARK = " (flag seen)"
"""What their names end with in the tables."""
SEEN_AT = 1000
"""Number of labels at which they run."""
HELD = 1e-4
"""A KL per rollout up to this is rounding: the policy is still the clone [nats]."""
DECLINE = 0.1
"""Gold falls if it ends below its peak by this share of its gain."""


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    """Returns, for each world, sweeps of `rlhf` and best-of-n at each number of labels and width,
    sweeps of the learners whose rewards see the failure flag, if the world has one, and a sweep for
    each entry of `PRESSURE`; at the budget `smoke` `rlhf` alone, with the flag hidden. Probes have
    the number, the warm-up and the length of best-of-n's rollouts."""
    (count,) = demos
    check_arms(request, "overoptimization", STUDY.algo)
    for algo in ("rlhf", "best_of_n"):
        refuse(request, "overoptimization", {algo: ("labels", "reward_hidden")})
    probed = dict.fromkeys(STUDY.algo, ("probe", "probe_warm", "probe_length"))
    refuse(request, "overoptimization", probed, "takes best_of_n's begins, warm and length")
    sweeps, smoke = [], request.budget == "smoke"
    for env in request.env:
        world = registry.world(env).world
        mode = next(iter(world.modes))
        best = build.resolved(registry.algorithm("best_of_n"), request, env)
        probe = {
            "probe": best["begins"],
            "probe_warm": best["warm"],
            "probe_length": best["length"],
        }
        learners: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
            "rlhf": (LAST, probe),
            "best_of_n": ({}, {}),
        }

        def part(
            place: str,
            algo: str,
            defaults: Mapping[str, Any],
            fixed: Mapping[str, Any] | None = None,
            after: str | None = None,
            env: str = env,
            mode: str = mode,
        ) -> Part:
            """Returns a sweep of one algorithm. Flags override `defaults` but not `fixed`; `after`
            is the part whose reward it maximises."""
            settings = {
                **request.settings,
                algo: {**defaults, **request.settings.get(algo, {}), **(fixed or {})},
            }
            changed = narrowed(
                request,
                algo=(algo,),
                env=(env,),
                mode=(mode,),
                demos=count,
                out=str(out / env / place),
                settings=settings,
                given=str(out / env / "pressure/source") if after else None,
            )
            return Part(f"{env}/{place}", changed, report=False, after=after)

        for labels in LABELS[request.budget]:
            for width in WIDTHS[request.budget]:
                place = f"{labels}/{'x'.join(map(str, width))}"
                for algo, (defaults, more) in learners.items():
                    if smoke and algo == "best_of_n":  # its program takes long to compile
                        continue
                    fixed = {"labels": labels, "reward_hidden": width, **more}
                    sweeps.append(part(f"{place}/{algo}", algo, defaults, fixed))
        for width in WIDTHS[request.budget] if world.failure_flags and not smoke else ():
            place = f"{SEEN_AT}/{'x'.join(map(str, width))}/{SEEN}"
            for algo, (defaults, more) in learners.items():
                fixed = {"labels": SEEN_AT, "reward_hidden": width, **more, **UNMASKED}
                sweeps.append(part(f"{place}/{algo}", algo, defaults, fixed))
        for name in BRIEF if smoke else PRESSURE:
            algo, settings = PRESSURE[name]
            place, alike, fixed = f"pressure/{name}", {}, {}
            if name != "source":
                of_rlhf = shared("rlhf", algo, request, env)
                of_rlhf |= {**PRESSED, **request.settings.get("rlhf", {})}
                alike, fixed = {key: of_rlhf[key] for key in ALIKE}, probe
            after = f"{env}/pressure/source" if name == "frozen" else None
            sweeps.append(part(place, algo, {**alike, **settings}, fixed, after=after))
    return sweeps


FORMS = ("d (a - b log d)", "d (a - b d)")
"""The forms that are fitted; the first is that of PPO in the paper, the second of best-of-n."""


def fits(d: np.ndarray, gain: np.ndarray) -> dict[str, dict[str, float]]:
    """Fits both forms of gain(d) by least squares.

    Args:
      d: float[R], distance from the reference policy [root of nats]; points at which the policy is
        still the reference are left out.
      gain: float[R].

    Returns:
      {form: {"a", "b", "r2"}}; {} with fewer than four points.
    """
    kept = d**2 > HELD
    d, gain = d[kept], gain[kept]
    if len(d) < 4:
        return {}
    fitted = {}
    for name, second in zip(FORMS, (-d * np.log(d), -d * d), strict=True):
        columns = np.stack([d, second], 1)
        (a, b), *_ = np.linalg.lstsq(columns, gain, rcond=None)
        residual = gain - columns @ (a, b)
        rss = float(residual @ residual)
        total = max(float(np.sum((gain - gain.mean()) ** 2)), 1e-300)
        fitted[name] = {"a": float(a), "b": float(b), "r2": 1 - rss / total}
    return fitted


def peaks(gold: np.ndarray) -> np.ndarray:
    """Returns each seed's gold gain, float[S], in the round where the mean of the *other* half of
    the seeds is highest.

    A seed's own maximum over noisy rounds lies above its end even if nothing falls. A round that
    other seeds choose has no such bias. Halves are used, and not all other seeds, because with the
    latter nearly all seeds choose the same round, and it is one whose noise they share. By
    simulation (20 seeds, 60 rounds of independent noise) `over_optimised` then says "yes" of 7 % of
    flat curves that are judged alone, and of any in up to 24 % of families of 20. With halves it is
    2 and 6 %; where noise adds up from round to round, 1 and 3 %. In families of 33, as of the
    budget `full`, it is 6 and 4 %.

    Args:
      gold: float[S, R], gold gain by seed and round.
    """
    half = np.arange(len(gold)) % 2
    at = [
        int(np.argmax(gold[half != side].mean(0))) if (half != side).any() else -1
        for side in (0, 1)
    ]
    return gold[np.arange(len(gold)), np.array(at)[half]]


def fall_p(fall: np.ndarray) -> float:
    """Returns the one-sided p-value of gold not falling on average, from the falls of seeds
    float[S]: that of Student's t-test, which keeps its level far in the tail, where Holm's
    correction reads it and a bootstrap of 20 seeds does not; NaN with fewer than two seeds."""
    if len(fall) < 2:
        return float("nan")
    if np.ptp(fall) == 0:
        return float(fall[0] <= 0)
    test: Any = stats.ttest_1samp(fall, 0.0, alternative="greater")  # SciPy's stubs: no p-value
    return float(test.pvalue)


def fallen_seeds(peak: np.ndarray, fall: np.ndarray) -> int:
    """Returns how many seeds fall by at least DECLINE of their gain. A seed that fell before the
    round of the peak, which other seeds choose, is not among them.

    Args:
      peak: float[S], gold gain in the round of the peak. A gain below 0 counts as 0.
      fall: float[S], gold gain there less gold gain in the last round.
    """
    return int(np.sum((fall > 0) & (fall >= DECLINE * peak.clip(0))))


def over_optimised(
    peak: np.ndarray, fall: np.ndarray, proxy: np.ndarray, adjusted: float | None
) -> str:
    """Applies the rule on over-optimisation.

    Args:
      peak: float[S], gold gain in the round of the peak.
      fall: float[S], gold gain there less gold gain in the last round.
      proxy: float[S], gain of the proxy in the last round.
      adjusted: `fall_p` after Holm's correction over the rows of the world.

    Returns:
      "yes" if the interval of the proxy's gain lies above 0, that of the fall too, the fall is at
      least DECLINE of the gain at the peak, and `adjusted` is below SIGNIFICANT; "no" if the
      interval of the proxy's gain, or of the fall less DECLINE of the gain, ends at or below 0;
      else, and with fewer than `iqm.LEAST` seeds, "undetermined". All are interquartile means over
      seeds; a gain below 0 counts as 0.
    """
    if len(fall) < iqm.LEAST:
        return "undetermined"
    fallen, risen = iqm.interval(fall), iqm.interval(proxy)
    enough = fallen[0] >= DECLINE * max(iqm.interval(peak)[0], 0.0)
    if risen[1] > 0 and fallen[1] > 0 and enough and is_small(adjusted):
        return "yes"
    over = iqm.interval(fall - DECLINE * peak.clip(0))
    return "no" if over[2] <= 0 or risen[2] <= 0 else "undetermined"


def curves_of(data: ReportData, algo: str, name: str) -> dict[str, np.ndarray] | None:
    """Returns {"gold", "proxy", "d"} by round, float[S, R] each; None if no seed is usable.

    Gold and proxy are sums over a probe's rollout, less those of the reference on rollouts from the
    same states. The policy of a round is the one that begins it; that of the first round is the
    reference. A reward that goes on learning changes, so both sides of the proxy's difference are
    of the round's reward.

    Raises:
      StoreError: the part `name` was run without a probe; one line.
    """
    (curve,) = (c for c in data.curves if c.algo == algo)
    if not curve.usable.any():
        return None
    found = [
        training.metric(data, curve, f"probe_{what}")
        for what in ("gold", "proxy", "proxy_start", "kl")
    ]
    gold, proxy, start, kl = (values[1] if values else None for values in found)
    if gold is None or proxy is None or start is None or kl is None:
        raise StoreError(f"{name}: no probe was recorded; run the study again, in another folder")
    return {"gold": gold - gold[:, :1], "proxy": proxy - start, "d": np.sqrt(kl.clip(0))}


def measure(reports: Mapping[str, ReportData]) -> list[Row]:
    """Returns gold and proxy over d of every run, with their fits."""
    points: list[Row] = []
    for name, data in reports.items():
        env, *place, last = name.split("/")
        pressure, seen = place == ["pressure"], place[-1] == SEEN
        algo = PRESSURE[last][0] if pressure else last
        if last == "source" or all(curve.algo != algo for curve in data.curves):
            continue
        if (values := curves_of(data, algo, name)) is None:
            continue
        (curve,) = (c for c in data.curves if c.algo == algo)
        accuracy = training.metric(data, curve, "reward_accuracy")
        labels, width = (None, None) if pressure else (int(place[0]), place[1])
        gain, d = values["gold"], values["d"]
        peak = peaks(gain)
        points.append(
            {
                "part": name,
                "env": env,
                "what": last,
                "algo": algo,
                "pressure": pressure,
                "labels": labels,
                "width": width,
                "flag_seen": seen,
                "asked": curve.labels,
                "env_steps": curve.consumes[1],
                "accuracy": float(np.mean(accuracy[1][:, -1])) if accuracy else None,
                "fits": fits(d.mean(0), gain.mean(0)),
                "d": d.mean(0).tolist(),
                "gold": gain.mean(0).tolist(),
                "proxy": values["proxy"].mean(0).tolist(),
                "peaks": peak.tolist(),
                "falls": (peak - gain[:, -1]).tolist(),
                "risen": values["proxy"][:, -1].tolist(),
            }
        )
    return points


def read(reports: Mapping[str, ReportData]) -> Result:
    """Returns gold and proxy over d of every run, with their fits."""
    return join(measure(reports))


def join(points: Sequence[Mapping[str, Any]], parts: Iterable[str] = ()) -> Result:
    """Returns what `read` does, and what is missing of `parts`, from the points of any parts. The
    answers are given anew, since Holm's correction runs over all of them."""
    parts = tuple(parts)
    order = {name: place for place, name in enumerate(parts)}
    found = sorted(first_of_each(points), key=lambda p: order.get(p["part"], len(order)))
    for env in dict.fromkeys(point["env"] for point in found):
        _judge([point for point in found if point["env"] == env])
    rows: dict[str, list[Row]] = {}
    for point in found:
        kind = "rewards under the same pressure" if point["pressure"] else "rlhf without a penalty"
        more = "" if point["pressure"] else ", and best-of-n"
        rows.setdefault(f"{point['env']}: {kind}{more}, {SHOWN}", []).append(_row(point))
    text = [
        "Gold: true reward of a rollout above the clone's. It is no return of an episode: a "
        "rollout has as many steps as best-of-n's `length` says, and begins in a state that the "
        "clone has reached in less than `warm` steps from a reset. Proxy: learned reward of a "
        "rollout above that of the clone's rollouts. d: root of the KL from the clone per rollout "
        "[root of nats]. All rounds of a run share these states and all random numbers. RLHF and "
        "best-of-n share the clone and the states, but not the random numbers of the rollouts. "
        "AIRL and PPO on its reward have a clone and states of their own, made in the same way. "
        "These rollouts train nothing and count in no budget of PPO. The figure's lines are means "
        "over seeds, and its dots at their ends the seeds.",
        "A round measures the policy that begins it. So `at the end` is the policy that begins the "
        "last round, and the last update is not measured. For best-of-n it is the largest n.",
        "Gold gain at its peak: each seed's gain in the round that the other half of the seeds "
        "chooses. Fall: that gain less the seed's gain at the end. p: one-sided t-test of no "
        "fall, after Holm's correction over all rows of the world, of both tables and with the "
        "flag seen too. A run that is in both tables counts twice in it. Seeds that fall: those "
        f"that end {100 * DECLINE:.0f} % of their gain or more below it. A gain below 0 counts as "
        "0 there.",
        f"{iqm.TEXT} Gains and falls are shown the same way. Accuracy and d: means over seeds.",
        "Over-optimised: the proxy rose and gold fell, both intervals above 0, the fall is at "
        f"least {100 * DECLINE:.0f} % of the gain, and p is below {SIGNIFICANT:g}. Not: the "
        f"interval of the fall less {100 * DECLINE:.0f} % of the gain, or of the proxy's gain, "
        f"ends at or below 0. Else, and below {iqm.LEAST} seeds, undetermined. In simulations "
        "of 20 and of 33 rows without any fall, the rule said `yes` of at least one row in up to "
        "6 % of cases. The adversarial reward moves with its policy, so the question is not asked "
        "of it; its proxy gain is by its last reward.",
        "The same pressure: all have RLHF's settings of PPO's training, AIRL too. AIRL's proxy is "
        "g, the reward that it stores, and PPO on the frozen reward maximises g. AIRL's own policy "
        "maximises f = g + gamma h(s') - h(s), less log pi if its actions are discrete. So AIRL's "
        "proxy gain is not of what its policy maximises.",
        FRESH,
        "Both forms are fitted to means over seeds, and none is chosen: the rounds of a training "
        "are not independent, so a criterion such as AIC, which counts them as such, would be far "
        "too certain.",
        FLAG_HIDDEN,
        *not_run(found, (part for part in parts if not part.endswith("/source"))),
    ]
    return {"title": "Gold against proxy", "text": text, "tables": rows, "points": found}


SHOWN = "IQM over seeds [interval]"
"""What the values of the tables are."""


def _judge(points: Sequence[Row]) -> None:
    """Writes p, p after Holm's correction, and the answer into the points of one world."""
    for point in points:
        # The adversarial reward moves with its policy: there is nothing to over-optimise.
        adversarial = point["what"] == "adversarial"
        point["p"] = None if adversarial else fall_p(np.array(point["falls"]))
    asked = [point for point in points if point["p"] is not None]
    for point, adjusted in zip(asked, holm([point["p"] for point in asked]), strict=True):
        peak, fall, risen = (np.array(point[key]) for key in ("peaks", "falls", "risen"))
        answer = over_optimised(peak, fall, risen, adjusted)
        point |= {"p_holm": adjusted, "over_optimised": answer}


def _row(point: Mapping[str, Any]) -> Row:
    """Returns a point as a row of its table."""
    peak, fall, risen = (np.array(point[key]) for key in ("peaks", "falls", "risen"))
    shown = lambda values: spread(iqm.interval(values))
    row: Row = {
        "accuracy on fresh pairs": point["accuracy"],
        "d at the end": point["d"][-1],
        "gold gain at its peak": shown(peak),
        "at the end": shown(peak - fall),
        "fall": shown(fall),
        "p (Holm)": point.get("p_holm"),
        "seeds that fall": f"{fallen_seeds(peak, fall)} of {len(fall)}",
        "proxy gain": shown(risen),
        "over-optimised": point.get("over_optimised", tables.MISSING),
        **{f"R² of {form}": point["fits"][form]["r2"] if point["fits"] else None for form in FORMS},
    }
    if point["pressure"]:
        name = {"reward": point["what"].replace("_", " "), "algorithm": point["algo"]}
        return {**name, **row, "labels": point["asked"], "env steps": point["env_steps"]}
    by = point["what"] + (MARK if point["flag_seen"] else "")
    return {"by": by, "labels": point["labels"], "reward's layers": point["width"], **row}


UNITS = {"gold": "true reward per rollout", "proxy": "learned reward per rollout"}
"""Gain -> its unit."""


def draw(result: Mapping[str, Any]) -> Figure:
    """Draws gold and proxy gains over d, a row per world and kind of reward: means over seeds, and
    each seed at the end."""
    points = result["points"]
    panels = list(
        dict.fromkeys(
            (p["env"], p["what"], p["width"], p["flag_seen"]) for p in points if not p["pressure"]
        )
    )
    worlds = list(dict.fromkeys(p["env"] for p in points if p["pressure"]))
    lines = max(1, len(panels) + len(worlds))
    figure = Figure(figsize=(7.0, 2.3 * lines), layout="constrained")
    axes = figure.subplots(lines, 2, squeeze=False)

    def line(
        axes: Sequence[Axes],
        runs: Sequence[Mapping[str, Any]],
        label: Callable[[Mapping[str, Any]], str],
        title: str,
    ) -> None:
        """Draws the gains of some runs on two axes."""
        colours = series.colours([label(p) for p in runs])
        for axis, (key, unit) in zip(axes, UNITS.items(), strict=True):
            for p in runs:
                peak, fall, risen = (np.array(p[name]) for name in ("peaks", "falls", "risen"))
                ends = peak - fall if key == "gold" else risen
                count = f"{len(ends)} seed{'s' if len(ends) > 1 else ''}"
                marker = "o" if p["what"] == "best_of_n" else None
                axis.plot(
                    p["d"],
                    p[key],
                    color=colours[label(p)],
                    lw=1.2,
                    marker=marker,
                    ms=3,
                    label=f"{label(p)}, {count}",
                )
                with_seeds(axis, p["d"][-1:], [ends.tolist()], colours[label(p)])
            axis.axhline(0.0, color="#444444", lw=0.7)
            axis.set(xlabel="d = √KL per rollout [√nat]", ylabel=f"{key} gain\n[{unit}]")
            axis.set_title(title)
            axis.locator_params(axis="x", nbins=6)
        if runs:
            axes[0].legend(loc="best", frameon=False, fontsize=7)

    for place, panel in zip(axes, panels, strict=False):
        runs = [p for p in points if (p["env"], p["what"], p["width"], p["flag_seen"]) == panel]
        env, what, width, seen = panel
        line(
            place,
            runs,
            lambda p: f"{p['labels']} labels",
            f"{env}, {what.replace('_', '-')}{MARK if seen else ''}, reward of {width}",
        )
    for place, env in zip(axes[len(panels) :], worlds, strict=False):
        runs = [p for p in points if p["env"] == env and p["pressure"]]
        line(place, runs, lambda p: p["what"].replace("_", " "), f"{env}, the same pressure")
    return figure


STUDY = Study(
    name="overoptimization",
    help="gold against proxy while a policy maximises a learned reward without a penalty; frozen "
    "and learning rewards side by side",
    algo=("rlhf", "rlhf_iterated", "best_of_n", "airl", "ppo"),
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
    measure=measure,
    join=join,
)

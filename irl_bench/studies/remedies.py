"""What repairs a clone when no expert can be asked?

Each remedy changes one thing of its control, a setting of BC or its demonstrations, and each has an
effect that a paper predicts or reports:

- chunks of actions: errors do not compound on a plant that is stable by itself (Zhang et al. 2025,
  arXiv 2507.09061); on one that is not, waiting does harm;
- noise on what the expert executes in every second demonstration, with clean labels: the clone sees
  states beside the expert's (the mixture of Zhang et al. 2025, arXiv 2507.09061; that spread
  demonstrations help, Simchowitz et al. 2025, arXiv 2503.09722);
- an average of the weights: less noise of gradient steps, which a closed loop amplifies (Block et
  al. 2023, arXiv 2310.11428);
- the expert's derivatives: the clone answers small deviations as the expert does (Pfrommer et al.
  2022, arXiv 2205.14812), where the expert is a function of the observation. On `plant` they say
  nothing of a feature that the clone has dropped because its demonstrations hold it constant. There
  the clone keeps such features, and is compared with one that keeps them and is told no more;
- DART: noise of the clone's own kind while demonstrating (Laskey et al. 2017, arXiv 1703.09327).
  Its strength is a setting here and its shape is fitted to the clone's errors. So where actions
  have one component, as on `plant` and `swing_up`, it is noise of that strength in every rollout.

Plain BC and DAgger, which asks, stand beside them with the same seeds. DAgger and DART ask in
rounds: they hold no labels out and have batches of 512 where BC has its own, in as many gradient
steps. DART leaves out rollouts that hold a failure where demonstrations are clean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from envs.core import World
from irl_bench.algos import bc
from irl_bench.core.settings import BadInput
from irl_bench.horizon import Curves, growth_figures, outgrows_powers
from irl_bench.plan import registry
from irl_bench.plan.request import Request
from irl_bench.report import ReportData, tables
from irl_bench.studies.drawing import regret_bars
from irl_bench.studies.measures import common_horizons, interval, paired_ratio, spread
from irl_bench.studies.study import OVER_HORIZONS, Part, Result, Row, Study, narrowed

PLAIN, KEPT = "plain", "kept"
"""BC without a remedy, and with features that are constant in its demonstrations."""
NOISE = "noise"
"""Noise on executed actions; `--demo_noise` is its strength."""
REMEDIES: Mapping[str, Mapping[str, Any]] = {
    PLAIN: {},
    "chunk": {"chunk": 4},
    NOISE: {},
    "ema": {"ema": 0.999},
    KEPT: {"keep_constant": True},
    "tasil": {"tasil": 1.0},
}
"""Folder -> settings of BC. That of a remedy with a strength has its setting's name."""
DEMO_NOISE = 0.05
"""Strength of NOISE [action]."""
WEAKEST: Mapping[str, float] = {"chunk": 2, "ema": 0.9, "tasil": 0.1}
"""Setting with a strength -> a weak one, which is proposed where the value asked for is none."""
CONSTANT = ("plant",)
"""Worlds whose demonstrations hold a feature constant. There tasil needs KEPT, its control."""
OTHERS = {"dart": "DART", "dagger": "DAgger, which asks"}
"""Algorithms that stand beside the remedies: folder -> name."""
SYSTEMS = ("unstable", "stable")
"""The systems of `plant`, which are compared."""
SMOKE = (PLAIN, "chunk")
"""The remedies of the smallest budget, beside those whose strength is asked for."""


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    """Returns a sweep of BC for each world and remedy, and one of DART and DAgger for each world.

    Raises:
      BadInput: a world of discrete actions, or a flag that would be no remedy or have no effect;
        one line.
    """
    del demos  # one number, which `request` holds
    asked = _strengths(request)
    smoke = request.budget == "smoke"
    sweeps = []
    for env in request.env:
        world = registry.world(env).world
        if world.n_actions is not None:
            raise BadInput(
                f"--env={env}: remedies are for continuous actions; nearest: --env=plant,lane_keep"
            )
        remedies = [name for name in REMEDIES if _applies(name, env, world)]
        if smoke:
            wanted = {*SMOKE, *asked, *([NOISE] if request.demo_noise else [])}
            wanted |= {_control(name, env) for name in wanted}
            remedies = [name for name in remedies if name in wanted]
        system = request.settings.get(env, {}).get("system")
        systems: Sequence[str] = (
            (system,) if system else SYSTEMS if "system" in world.options else ("",)
        )
        for system in systems:
            options = {"system": system} if system else {}
            place = f"{env}-{system}" if system else env
            for name in remedies:
                settings = {**REMEDIES[_control(name, env)], **REMEDIES[name]}
                noise = (request.demo_noise or DEMO_NOISE) if name == NOISE else 0.0
                part = _part(request, env, options, "bc", out / place / name, settings, noise)
                sweeps.append(Part(f"{place}/{name}", part, report=False))
            for algo in () if smoke else OTHERS:
                part = _part(request, env, options, algo, out / place / algo, {}, 0.0)
                sweeps.append(Part(f"{place}/{algo}", part, report=False))
    return sweeps


def _strengths(request: Request) -> Mapping[str, Any]:
    """The strengths of remedies that flags set. Raises BadInput for one that is no remedy, and for
    flags without an effect."""
    given = request.settings.get("bc", {})
    asked = {name: value for name, value in given.items() if name in WEAKEST}
    for name, value in asked.items():
        if value == getattr(bc.Config, name):
            raise BadInput(
                f"--bc.{name}={value:g} is no remedy; nearest: --bc.{name}={WEAKEST[name]:g}"
            )
    if "tasil" in asked and not any(
        registry.world(env).world.expert_reads_observations for env in request.env
    ):
        raise BadInput(
            f"--bc.tasil={asked['tasil']:g} needs an expert that is a function of the observation; "
            "nearest: --env=plant"
        )
    compared = [env for env in request.env if env in CONSTANT]
    if "keep_constant" in given and compared:
        raise BadInput(
            f"--bc.keep_constant: remedies compares its values on {compared[0]}; nearest: leave it "
            "out"
        )
    return asked


def _applies(remedy: str, env: str, world: World) -> bool:
    """Whether a remedy means something in a world."""
    if remedy == "tasil":
        return world.expert_reads_observations
    return remedy != KEPT or env in CONSTANT


def _control(remedy: str, env: str) -> str:
    """What a remedy is compared with: BC without the one thing that it changes."""
    return KEPT if remedy == "tasil" and env in CONSTANT else PLAIN


def _part(
    request: Request,
    env: str,
    options: Mapping[str, str],
    algo: str,
    out: Path,
    settings: Mapping[str, Any],
    noise: float,
) -> Request:
    """The request of one sweep. A remedy's setting on the command line is its strength where it is
    applied, and has no effect elsewhere."""
    given = request.settings.get(algo, {})
    own = {name: value for name, value in given.items() if name not in WEAKEST}
    own |= {name: given.get(name, value) for name, value in settings.items()}
    mode = next(iter(registry.world(env).world.modes))
    return narrowed(
        request,
        algo=(algo,),
        env=(env,),
        mode=(mode,),
        demo_noise=noise,
        settings={
            **request.settings,
            env: {**options, **request.settings.get(env, {})},
            algo: own,
        },
        out=str(out),
    )


def _title(remedy: str, cell: Mapping[str, Any]) -> str:
    """The name of a row, from the fields of its cells."""
    config = cell["config"]
    if remedy == "dart":
        return f"DART, squared noise {config['error']:g}"
    if remedy in OTHERS:
        return OTHERS[remedy]
    return {
        PLAIN: "plain BC",
        "chunk": f"chunks of {config['chunk']} actions",
        NOISE: f"noise {cell['demo_noise']:g} while demonstrating",
        "ema": f"average of the weights, decay {config['ema']:g}",
        KEPT: "constant features kept",
        "tasil": f"the expert's derivatives, weight {config['tasil']:g}",
    }[remedy]


def read(reports: Mapping[str, ReportData]) -> Result:
    """Returns slope, level and rates of every remedy, and its regret against its control's and
    against plain BC's."""
    controls: dict[tuple[str, str], tuple[str, Curves]] = {}
    points: list[Row] = []
    rows: dict[str, list[Row]] = {}
    for name, data in reports.items():
        place, remedy = name.rsplit("/", 1)
        algo = remedy if remedy in OTHERS else "bc"
        (curve,) = (c for c in data.curves if c.algo == algo)
        (found,) = (v for v in data.verdicts if v["algo"] == algo)
        (entry,) = (e for e in data.plan["entries"] if e["algo"] == algo)
        title = _title(remedy, entry["settings"])
        control, base = controls.get((place, _control(remedy, curve.env)), (None, None))
        controls[place, remedy] = title, curve
        last = curve.T[-1:]
        J = interval(curve.regret(last)[:, 0])
        ratio = None if base is None else paired_ratio(curve, base, last)
        _, plain = controls[place, PLAIN]
        to_plain = None if remedy == PLAIN else paired_ratio(curve, plain, last)
        grid = common_horizons(data, curve.env)
        growth = growth_figures(curve, grid.tolist())
        point = {
            "world": place,
            "remedy": title,
            "control": control,
            "T": int(last[0]),
            "J": J,
            "ratio": ratio,
            "to_plain": to_plain,
            "horizons": grid.tolist(),
            "slope": [growth[key] for key in ("slope", "ci_low", "ci_high")],
            "slope_rise": [growth["slope_rise"], *growth["slope_rise_ci"]],
            "outgrows_powers": outgrows_powers(growth),
            "labels": found["expert_queries"],
            **{key: found[key] for key in ("hazard", "recovery", "level", "verdict")},
        }
        points.append(point)
        rows.setdefault(f"{place}: at T = {int(last[0])} steps", []).append(
            {
                "remedy": title,
                "regret": spread(J),
                "control": control or tables.MISSING,
                "regret / control's": spread(ratio) if ratio else None,
                "regret / plain's": spread(to_plain) if to_plain else None,
                "slope": spread(point["slope"]) if growth["slope"] is not None else None,
                "rises as an exponential does": point["outgrows_powers"],
                "verdict": found["verdict"],
                "labels": point["labels"],
                "h": found["hazard"],
                "ρ": found["recovery"],
                "seeds": found["usable_seeds"],
            }
        )
    text = [
        "Regret: mean over seeds and its jackknife-t interval of 95 %. Ratios are paired by seed, "
        "with the interval of their logarithm. Labels: the expert's, per seed; the derivatives are "
        "beside them. DART leaves out rollouts that hold a failure where demonstrations are clean, "
        "and their labels are counted all the same.",
        "Control: what a row is compared with. Rows of BC differ from it in the remedy alone. "
        "DART and DAgger ask in rounds, hold no labels out and have other batches.",
        "Slopes: all rows over the same horizons, from the start of the world's window to T_max. "
        "Rises as an exponential does: the exponential fits best and the local slopes rise. A "
        "verdict has its own window, which ends where its policy fails too often.",
    ]
    return {"title": "Repair without asking", "text": text, "tables": rows, "points": points}


def draw(result: Mapping[str, Any]) -> Figure:
    """Draws the regret of each remedy with its interval, a panel per world."""
    return regret_bars(result["points"], lambda point: point["remedy"], (3.5, 2.6))


STUDY = Study(
    name="remedies",
    help="chunks, noise while demonstrating, averaged weights and the expert's derivatives beside "
    "plain BC and DAgger",
    algo=("bc", "dart", "dagger"),
    env=("plant", "lane_keep", "swing_up"),
    brief=("plant", "lane_keep"),
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

"""Studies: several sweeps whose figures are read together, run by `launch/sweep.py
--experiment=NAME`.

A study is a list of parts. Each part is a sweep of its own in a folder of its own; what the study
adds is read from those folders alone and written beside them:

    <out>/<part>/          as any run
    <out>/study.json       which study and parts the folder holds
    <out>/<study>.json     every figure of the study
    <out>/<study>.html     tables and figures on one page
    <out>/figures/         the figures for print
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from irl_bench import sweep
from irl_bench.core import folders
from irl_bench.core.settings import BadInput, nearest
from irl_bench.horizon import slopes
from irl_bench.plan import build as plans
from irl_bench.plan import registry
from irl_bench.plan.build import Request
from irl_bench.report import ReportData, figures, load, page, tables
from irl_bench.report.data import plain
from irl_bench.report.terminal import aligned
from irl_bench.storage.cells import StoreError, locked, write_atomic
from irl_bench.studies import STUDIES

INDEX = "study.json"


@dataclasses.dataclass(frozen=True)
class Part:
    """One sweep of a study."""

    name: str
    """Its folder within the study's, with / between levels."""
    request: Request
    report: bool = True
    """Whether the part gets a report of its own at once; `launch/report.py` makes one at any
    time."""
    after: str | None = None
    """The part whose learned policy or reward `request.given` points to."""


@dataclasses.dataclass(frozen=True)
class Study:
    """What `STUDY` of a study's module says.

    Attributes:
      name: as in --experiment=NAME.
      help: one line.
      algo, env: what it runs where --algo and --env name nothing.
      fixed: whether it runs no other algorithms, at one number of demonstrations.
      sizes: {budget: fields of a Request that no flag gives}; "demos" is a tuple of numbers.
      parts: (request, numbers of demonstrations, folder) -> sweeps in the order to run.
      read: {part's name: its report's data} -> JSON values: {"title", "text": [str], "tables":
        {heading: equal dicts}, ...}.
      draw: what `read` returned -> the figure.
    """

    name: str
    help: str
    algo: tuple[str, ...]
    env: tuple[str, ...]
    fixed: bool
    sizes: Mapping[str, Mapping[str, Any]]
    parts: Callable[[Request, tuple[int, ...], Path], list[Part]]
    read: Callable[[Mapping[str, ReportData]], dict[str, Any]]
    draw: Callable[[Mapping[str, Any]], Figure]


def find(name: str) -> Study:
    """The study of that name. Raises BadInput with the nearest name if there is none."""
    if name not in STUDIES:
        near = nearest(name, STUDIES)
        raise BadInput(
            f"--experiment: unknown study {name!r} ({' | '.join(STUDIES)}); did you mean {near!r}?"
        )
    return importlib.import_module(STUDIES[name]).STUDY


def narrowed(request: Request, **changes: Any) -> Request:
    """`request` with changes, and without the settings of algorithms and worlds that are then
    not in it."""
    changed = dataclasses.replace(request, **changes)
    names = {registry.algorithm(ref).name for ref in changed.algo} | {
        registry.world(ref).name for ref in changed.env
    }
    return dataclasses.replace(
        changed, settings={k: v for k, v in changed.settings.items() if k in names}
    )


def run(
    study: Study,
    request: Request,
    demos: tuple[int, ...],
    line: str,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Runs what is missing of every part, then writes the study's files; returns what `study.read`
    found.

    Raises:
      BadInput, StoreError, runner.Interrupted: as `sweep.sweep`; for bad input before anything is
        written.
    """
    out = folders.expand(request.out)
    sweep.check_folder(out)
    parts = study.parts(request, demos, out)
    for part in parts:
        if not part.after:
            plans.build(part.request)
    index = {
        "study": study.name,
        "command": line,
        "parts": {part.name: part.report for part in parts},
    }
    index["entries"] = {}
    with locked(out):
        earlier = (
            json.loads((out / INDEX).read_text())["study"] if (out / INDEX).exists() else study.name
        )
        if earlier != study.name:
            raise BadInput(
                f"--out={request.out} holds the study {earlier}; nearest: "
                f"--out={request.out}-{study.name}"
            )
        write_atomic(out / INDEX, _text(index))
    for number, part in enumerate(parts, 1):
        say(f"part {number} of {len(parts)}: {part.name}")
        folder, document, compilations = sweep.compute(part.request, line, say)
        index["entries"][part.name] = [
            [entry["env"], entry["algo"], entry["mode"]] for entry in document["entries"]
        ]
        if part.report:
            sweep.finish(folder, document, compilations, say)
    write_atomic(out / INDEX, _text(index))
    return rebuild(out, say)


def _text(index: Mapping[str, Any]) -> bytes:
    return (json.dumps(index, indent=1) + "\n").encode()


def _load(out: Path, part: str, wanted: Sequence[Sequence[str]] | None) -> ReportData:
    """A part's data; entries of another run that are not finished are left out, the study's own
    must be there."""
    if wanted is None:
        return load(out / part)
    data = load(out / part, partial=True)
    there = {(entry["env"], entry["algo"], entry["mode"]) for entry in data.plan["entries"]}
    for entry in wanted:
        if tuple(entry) not in there:
            env, algo, mode = entry
            raise StoreError(
                f"{out / part}: results of {algo} on {env} ({mode}) are missing; the same sweep "
                "command makes them"
            )
    return data


def rebuild(out: Path, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Writes a study's files from its parts' stored cells alone, and says its tables; returns what
    `study.read` found.

    Raises:
      ValueError: a part is missing or cannot be used; one line that names it.
    """
    index = json.loads((out / INDEX).read_text())
    study, parts, entries = find(index["study"]), index["parts"], index.get("entries", {})
    data = {name: _load(out, name, entries.get(name)) for name in parts}
    shown = {name: value for name, value in index.items() if name != "entries"}
    found = plain({**shown, **study.read(data)})
    drawn = figures.files(study.name, lambda: study.draw(found))
    pictures = {name: content for name, content in drawn.items() if name.endswith(".png")}
    reported = [name for name, report in parts.items() if report]
    with locked(out):
        for name, content in drawn.items():
            write_atomic(out / "figures" / name, content)
        write_atomic(
            out / f"{study.name}.json",
            (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode(),
        )
        write_atomic(out / f"{study.name}.html", page.study(found, pictures, reported).encode())
    for heading, rows in found["tables"].items():
        table = tables.of(rows)
        say("\n".join(["", heading, *aligned([table.header, *table.rows], table.text)]))
    say("\n".join(["", *found["text"], f"study: {out / study.name}.html"]))
    return found


def shared(one: str, other: str, request: Request, env: str) -> dict[str, Any]:
    """The settings that algorithm `one` has in a world, those that `other` has too."""
    names = registry.algorithm(other).settings
    return {
        name: value
        for name, value in plans.resolved(registry.algorithm(one), request, env).items()
        if name in names
    }


def same_seeds(one: Any, other: Any) -> tuple[np.ndarray, np.ndarray]:
    """Where the seeds that two Curves both have usable lie among the usable ones of either,
    int[S] and int[S]."""
    ids = [np.asarray(curve.seeds)[curve.usable] for curve in (one, other)]
    _, here, there = np.intersect1d(*ids, return_indices=True)
    return here, there


def mean(values: np.ndarray) -> list[float]:
    """[mean over seeds float[S], low, high], the ends of its 95 % interval."""
    return [float(x) for x in slopes.jackknife_t(values, lambda m: m)]


FLAG_SEEN = (
    "Where an observation tells of a failure as such (`World.failure_flags`), the reward models of "
    "RLHF, T-REX and D-REX see "
    "that entry; the discriminators of GAIL and AIRL do not, unless told otherwise."
)
"""What a reader of scores of both kinds has to know."""


def scores(
    data: ReportData, env: str, algo: str, mode: str, of: ReportData | None = None
) -> np.ndarray | None:
    """float[S]: normalised score of each usable seed over the longest horizon, (G - G_0) / (G* -
    G_0).

    G is the return, G* the expert's mean one in the same world and mode, G_0 that of a random
    policy (the untrained network): the score is 1 for the expert and 0 for a policy that knows
    nothing. None if one of the three was not run. `of`: where the expert is taken from instead, as
    one that is worth nothing in a changed world is no measure there.
    """
    curves, experts = (
        {(c.env, c.algo, c.mode): c for c in one.curves} for one in (data, of or data)
    )
    own, expert = curves.get((env, algo, mode)), experts.get((env, "expert", mode))
    untrained = curves.get((env, "untrained", mode))
    if own is None or expert is None or untrained is None:
        return None
    best, worst = (float(np.mean(c.returns[c.usable])) for c in (expert, untrained))
    return (own.returns[own.usable] - worst) / (best - worst)


def count_axis(axis: Axes, counts: Iterable[int]) -> None:
    """A logarithmic x axis whose ticks are `counts`, written out."""
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(sorted(set(counts))))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.xaxis.set_minor_locator(NullLocator())


def with_intervals(axis: Axes, x: Any, values: Any, colour: str, label: str) -> None:
    """A line through means over x [N]; `values` [N, 3]: mean and ends of its interval, one that
    is missing is not drawn."""
    y, low, high = np.array(values, float).T
    ends = np.nan_to_num(np.stack([y - low, high - y]).clip(0))
    axis.errorbar(x, y, ends, color=colour, marker="o", ms=3, lw=1.2, capsize=2, label=label)

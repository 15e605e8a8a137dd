"""Studies: several sweeps whose figures are read together, run by `launch/sweep.py --experiment=NAME`.

A study is a list of parts. Each part is a sweep of its own in a folder of its own, with its own verdicts and report; what the
study adds is read from those folders alone and written beside them:

    <out>/<part>/          as any run
    <out>/<study>.json     every figure of the study
    <out>/<study>.html     tables and figures on one page
    <out>/figures/         the figures for print
"""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from irl_bench import programs
from irl_bench.algos.config import BadInput, nearest
from irl_bench.plan import Request
from irl_bench.report import ReportData, load
from irl_bench.report.data import plain
from irl_bench.report.figures import STYLE, UNDATED
from irl_bench.store import write_atomic


@dataclasses.dataclass(frozen=True)
class Part:
    """One sweep of a study."""

    name: str
    """Its folder within the study's, with / between levels."""
    request: Request
    report: bool = True
    """Whether the part gets a report of its own at once; `launch/report.py` makes one at any time."""
    after: str | None = None
    """The part whose learned policy or reward `request.given` points to."""


@dataclasses.dataclass(frozen=True)
class Study:
    """A study: `parts` makes its sweeps of a request whose unset fields are filled from `defaults`.

    Attributes:
      name: as in --experiment=NAME.
      help: one line.
      defaults: fields of a Request by budget; "demos" may hold several numbers.
      algos: algorithms that are run whatever --algo says; empty if --algo decides.
      parts: (request, numbers of demonstrations, folder) -> sweeps in the order to run.
      read: {part's name: its report's data} -> JSON values: {"title", "text": [str], "tables": {title: rows}}.
      draw: what `read` returned -> {name: figure}.
    """

    name: str
    help: str
    defaults: Mapping[str, Mapping[str, Any]]
    algos: tuple[str, ...]
    parts: Callable[[Request, tuple[int, ...], Path], list[Part]]
    read: Callable[[Mapping[str, ReportData]], dict[str, Any]]
    draw: Callable[[Mapping[str, Any]], dict[str, Figure]]

    def probe(self, algos: Sequence[str]) -> tuple[str, ...]:
        """The algorithms whose plan can be made before anything has been run."""
        return tuple(algo for algo in algos if algo != "stored")


def find(name: str) -> Study:
    """The study of that name. Raises BadInput with the nearest name if there is none."""
    from irl_bench.experiments import demo_efficiency, transfer

    known = {study.name: study for study in (demo_efficiency.STUDY, transfer.STUDY)}
    if name not in known:
        raise BadInput(f"--experiment: unknown study {name!r} ({' | '.join(known)}); did you mean {nearest(name, known)!r}?")
    return known[name]


NAMES = ("demo_efficiency", "transfer")


def narrowed(request: Request, **changes: Any) -> Request:
    """`request` with changes, and without the settings of algorithms that are then not in it."""
    changed = dataclasses.replace(request, **changes)
    from irl_bench import plugins

    names = {plugins.algorithm(ref).name for ref in changed.algo} | {plugins.world(ref).name for ref in changed.env}
    return dataclasses.replace(changed, settings={k: v for k, v in changed.settings.items() if k in names})


def run(
    study: Study,
    request: Request,
    demos: tuple[int, ...],
    ways: tuple[Callable[..., Any], Callable[..., Any]],
    line: str,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Runs what is missing of every part, then writes the study's files; returns what `study.read` found.

    `ways`: how a part is run without and with a report, each called as (request, line, say).
    """
    out = Path(request.out).expanduser()
    parts = study.parts(request, demos, out)
    shapes = None
    for number, part in enumerate(parts, 1):
        say(f"part {number} of {len(parts)}: {part.name}")
        previous, shapes = shapes, (part.request.algo, part.request.demos, part.request.given)
        if shapes != previous:  # nothing that was compiled for the part before serves this one
            programs.forget()
        ways[part.report](part.request, line, say)
    return rebuild(study, parts, out, line, say)


def rebuild(study: Study, parts: Sequence[Part], out: Path, line: str, say: Callable[[str], None]) -> dict[str, Any]:
    """The study's files from the stored parts alone."""
    found = plain({"study": study.name, "command": line, **study.read({part.name: load(out / part.name) for part in parts})})
    figures = {}
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, "backend": "agg", **STYLE}):
        for name, figure in study.draw(found).items():
            for ending, metadata in UNDATED.items():
                content = io.BytesIO()
                figure.savefig(content, format=ending, dpi=200, metadata=metadata)
                figures[f"{name}.{ending}"] = content.getvalue()
                figure.set_layout_engine("none")
    for name, content in figures.items():
        write_atomic(out / "figures" / name, content)
    write_atomic(out / f"{study.name}.json", (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())
    write_atomic(out / f"{study.name}.html", _page(found, figures, [part.name for part in parts if part.report]).encode())
    for title, rows in found["tables"].items():
        say("")
        say(title)
        for row in aligned(rows):
            say(row)
    for text in found["text"]:
        say(text)
    say(f"study: {out / study.name}.html")
    return found


def rows_of(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Header and cells of a table of equal dicts; numbers with three digits."""
    names = list(rows[0]) if rows else []
    return [[name.replace("_", " ") for name in names], *([_text(row[name]) for name in names] for row in rows)]


def aligned(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = rows_of(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1e5 else f"{value:.2e}"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return str(value)


def _page(found: Mapping[str, Any], figures: Mapping[str, bytes], parts: Sequence[str]) -> str:
    """One page that opens without a network; equal figures give equal text."""
    style = (
        "body{font:15px/1.45 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}"
        "table{border-collapse:collapse;font-size:13px}td,th{padding:.25rem .6rem;text-align:left;border-bottom:1px solid #ddd;"
        "white-space:nowrap}div.wide{overflow-x:auto}img{max-width:100%;height:auto}code{overflow-wrap:anywhere}"
    )
    lines = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{html.escape(found['title'])}</title><style>{style}</style></head><body><h1>{html.escape(found['title'])}</h1>",
        *(f"<p>{html.escape(text)}</p>" for text in found["text"]),
    ]
    for name, content in figures.items():
        if name.endswith(".png"):
            data = base64.b64encode(content).decode()
            lines.append(f'<p><img alt="{html.escape(name)}" src="data:image/png;base64,{data}"></p>')
    for title, rows in found["tables"].items():
        head, *body = rows_of(rows)
        lines.append(f"<h2>{html.escape(title)}</h2><div class=wide><table><tr>")
        lines += [f"<th>{html.escape(cell)}</th>" for cell in head]
        lines.append("</tr>")
        for row in body:
            lines.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>")
        lines.append("</table></div>")
    links = ", ".join(f'<a href="{html.escape(part)}/report.html">{html.escape(part)}</a>' for part in parts)
    lines.append(f"<h2>Reports of the parts</h2><p>{links or 'none'}</p>")
    lines.append(f"<h2>Command</h2><p><code>{html.escape(found['command'])}</code></p>")
    return "\n".join([*lines, "</body></html>", ""])


def scores(data: ReportData, env: str, algo: str, mode: str) -> np.ndarray | None:
    """float[S]: normalised score of each usable seed at the longest horizon, (J_0 - J) / (J_0 - J*).

    J* is the expert's mean cost in the same world and mode, J_0 that of a random policy (the untrained network): the score is
    1 for the expert and 0 for a policy that knows nothing. None if one of the three was not run.
    """
    curves = {(c.env, c.algo, c.mode): c for c in data.curves}
    own, expert = curves.get((env, algo, mode)), curves.get((env, "expert", mode))
    untrained = curves.get((env, "untrained", mode))
    if own is None or expert is None or untrained is None:
        return None
    best, worst = (float(np.mean(c.cost[c.usable, -1])) for c in (expert, untrained))
    return (worst - own.cost[own.usable, -1]) / (worst - best)

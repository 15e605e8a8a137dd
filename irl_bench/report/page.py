"""The report as one HTML file that opens without a network.

It holds text, tables, interactive plots and one copy of plotly's script.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import markupsafe
import plotly.offline

from irl_bench.report import interactive, series, tables
from irl_bench.report.data import ReportData

MEANINGS = {
    "NO-WINDOW": "No range of horizons exists in which an exponent means something; no slope is "
    "fitted.",
    "NO-REGRET": "At every horizon of the window the learner is as good as the expert, or better, "
    "so log regret has no slope.",
    "UNDERCOVERED": "An interactive learner with a seed that never came back from off-distribution "
    "states.",
    "SATURATED": "Nearly every episode has failed. Nothing is left to lose, so regret grows "
    "linearly.",
    "SUPER-POLY": "Local slopes rise with the horizon, surely above 2.15 over its upper half, and "
    "an exponential fits best of six models; a sum of two powers may look the same.",
    "QUADRATIC": "The interval of the slope lies above 1.7, reaches 1.85 and begins by 2.15: "
    "errors compound.",
    "LINEAR": "The interval of the slope lies in [0.85, 1.15]; recovering: the learner comes back; "
    "rare: by its rates it does not, or not as surely.",
    "RECOVERABLE": "The learner is brought back well within the shortest horizon, yet the slope is "
    "not within LINEAR.",
    "CROSSOVER": "Coming back is not sure to be much quicker than the shortest horizon: between T² "
    "and T.",
    "INCONCLUSIVE": "None of the above; the reason is given.",
}
"""Verdict -> its meaning on the page."""


def build(data: ReportData) -> str:
    """The page's HTML. Equal data give equal text; every name and value in it is escaped."""
    sections = [
        ("Regret against horizon", interactive.regret(data), REGRET),
        (
            "Local slopes",
            interactive.local_slopes(data),
            SLOPES,
        ),
        ("Errors on the expert's and on the learner's own states", interactive.eps(data), EPS),
        ("Hazard and recovery", interactive.hazard_recovery(data), HAZARD),
        ("Hazard over time", interactive.hazard_over_time(data), OVER_TIME),
        (
            "Learning curves",
            interactive.learning(data),
            LEARNING,
        ),
        ("Learned rewards", interactive.reward_maps(data), REWARDS),
        ("Where failures begin", interactive.failures(data), series.WHERE),
        ("Training diagnostics", interactive.diagnostics(data), DIAGNOSTICS),
    ]
    plots: list[Any] = []
    shown: list[dict[str, Any]] = []
    for title, panels, caption in sections:
        caption = caption.replace(" %", "\u00a0%")  # a number and its sign stay on one line
        for panel in panels:
            plots.append(panel["figure"])
        if panels:
            shown.append(
                {
                    "title": title,
                    "caption": caption,
                    "panels": panels,
                    "first": len(plots) - len(panels),
                }
            )
    reached = {verdict["verdict"] for verdict in data.verdicts}
    return _template("template.html").render(
        sentences=data.sentences,
        verdicts=tables.verdicts(data),
        notes=(*data.unfinished, *data.other_rules),
        meanings={name: words for name, words in MEANINGS.items() if name in reached},
        mixed=any(verdict.get("mixed") for verdict in data.verdicts),
        sections=shown,
        growth=tables.growth(data),
        regrets=tables.regrets(data),
        errors=tables.errors(data),
        models=tables.models(data),
        worlds=tables.worlds(data),
        budgets=tables.budgets(data),
        seeds=tables.seeds(data),
        settings=tables.settings(data),
        versions=tables.versions(data),
        cells=tables.cells(data),
        command=shown_command(data.plan.get("command")),
        budget=data.plan.get("budget") or tables.MISSING,
        horizons=data.plan.get("analysis", {}).get("horizons", "auto"),
        used=len(data.manifests),
        films={
            env: "data:image/gif;base64," + base64.b64encode(content).decode()
            for env, content in data.films.items()
        },
        drives={env: tables.drives(found) for env, found in data.drives.items()},
        other_cells=data.other_cells,
        figures=markupsafe.Markup(_json(plots)),
        plotly=markupsafe.Markup(plotly.offline.get_plotlyjs()),
    )


def study(results: Mapping[str, Any], pictures: Mapping[str, bytes], parts: Sequence[str]) -> str:
    """The HTML of a study's page.

    Args:
      results: the study's `title`, `text` (paragraphs), `tables` (heading -> rows) and
        `command`.
      pictures: name -> PNG.
      parts: folders of the parts that have their own reports.
    """
    return _template("study.html").render(
        title=results["title"],
        text=results["text"],
        pictures={name: base64.b64encode(content).decode() for name, content in pictures.items()},
        tables={heading: tables.of(rows) for heading, rows in results["tables"].items()},
        parts=parts,
        command=shown_command(results["command"]),
    )


def shown_command(command: str | None) -> str:
    """A command line as a user types it; a dash for None."""
    return (
        f"python {command}"
        if command and command.startswith("launch/")
        else command or tables.MISSING
    )


def breakable(text: str) -> markupsafe.Markup:
    """Escaped text that may break after `.`, `_`, `:` and `/`, so that long names do not widen a
    table."""
    return markupsafe.Markup(
        re.sub(r"(?<=[A-Za-z])([._:/])(?=\w)", r"\1<wbr>", str(markupsafe.escape(text)))
    )


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("irl_bench.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    return environment.get_template(name)


REGRET = (
    "Thin: seeds. Thick: mean over seeds, with a 95 % jackknife interval. Shaded: the window in "
    "which slopes are fitted. "
    "Dashed: guide lines that grow as T and as T². Dotted: an untrained policy."
)
SLOPES = "The exponent over the octave around each T, with 95 % jackknife intervals over seeds."
REWARDS = (
    "The reward of standing still in a state, each seed's standardised, then averaged: brighter is "
    "better. Each world's first "
    "map is minus the true graded cost. A learned reward cannot depend on what the learner did not "
    "observe."
)
DIAGNOSTICS = (
    "Per training round, measured on the training rollouts; which policy is kept is decided on "
    "separate rollouts. Line: mean over seeds. "
    "Band: their middle 80 %."
)
LEARNING = (
    "Mean cost per step over T_max after each round (few episodes). Thin: seeds. Thick: their mean."
)
EPS = (
    "Filled: on held-out expert rollouts. Open: on the learner's own states, the expert asked "
    "there. An error is an action "
    "further than 0.1 from the expert's; the bar spans tolerances 0.05 to 0.2. Dots: seeds."
)
OVER_TIME = (
    "The rate of leaving in twelve equal parts of an episode: mean over seeds, with 95 % jackknife "
    "intervals. The law of T² takes a constant rate. Where it rises with t, the slope is above 2; "
    "where it falls, below."
)
HAZARD = (
    "Rates of leaving (on → off) and of coming back (off → on), measured from transitions. Dots: "
    "seeds. Above the dashed line, which is there if the world has a window, "
    "a learner recovers well within the shortest horizon of it. A seed that never left has "
    "no ρ."
)


def _json(value: object) -> str:
    """JSON that is safe inside a <script> element, whatever its strings contain."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text

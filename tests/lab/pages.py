"""What the tables of lab pages share: where they are and how values are written."""

import json
import pathlib

import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
LAB = ROOT / "docs" / "lab"
RESULTS = {
    view: ROOT / "results" / f"seed_table-{view}-seeds-60000.json" for view in ("hidden", "visible")
}
NAMES = {
    "bc": "BC",
    "clone": "the clone",
    "dagger": "DAgger",
    "gail": "GAIL",
    "gailfo": "GAIL from observation",
    "airl": "AIRL",
    "rlhf": "RLHF, one-shot",
    "rlhf_iterated": "RLHF, iterated",
}
T_MAX = 1024


def interval(values):
    middle, low, high = values
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def score(point):
    return (np.array(point["returns"]) - point["random"]) / point["unit"]


def mark(point):
    """A dagger stands behind what was computed on a CPU."""
    return "†" if point["device"] == "cpu" else ""


def whole(values):
    middle, low, high = values
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def stored_runs(name):
    """{command: its learner} of runs of one learner each."""
    runs = json.loads((ROOT / "results" / name).read_text())["runs"]
    return {run["command"]: run["learners"][0] for run in runs}


def filled(text, kinds):
    """A page with other rows in its tables: (how a head begins, what makes the rows, the points of
    each table with such a head) of each kind."""
    for head, made, views in kinds:
        start = 0
        for rows in map(made, views):
            start = text.index("\n", text.index("|---", text.index(head, start))) + 1
            end = start
            while text[end] == "|":
                end = text.index("\n", end) + 1
            lines = [f"| {' | '.join(row)} |\n" for row in rows]
            text = text[:start] + "".join(lines) + text[end:]
    return text

"""The table of the page on copycats."""

import json

from tests.lab.pages import ROOT, filled, interval


def copycat_rows(points):
    shown = lambda values: interval(values) if values else "–"
    rows = []
    for point in points:
        middle, low, high = point["J"]
        rows.append(
            [
                point["view"].replace("-", " "),
                point["remedy"],
                shown(point["held_out_change"]),
                f"{middle:.1f} [{low:.1f}, {high:.1f}]",
                shown(point["ratio"]),
                shown(point["slope"] if point["slope"][0] is not None else None),
                shown(point["repeats"]),
            ]
        )
    return rows


def of_copycats(text):
    """The page with the rows of its table as the stored result says."""
    path = ROOT / "results" / "copycat-lane_keep-seeds-60000.json"
    points = json.loads(path.read_text())["points"]
    return filled(text, (("| view | remedy |", copycat_rows, [points]),))

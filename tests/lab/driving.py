"""Tables of the page on the driving worlds: their experts and their speeds."""

import json

from scipy import stats

from tests.lab.pages import ROOT, filled

STEPS = {"lane_keep": 0.1, "race": 0.05, "highway": 0.1, "merge": 0.1}
"""Duration of a step [s]."""


def expert_rows(worlds):
    """Rows of experts: failed steps, episodes with a failure and how many of all that may be,
    episodes with a collision, episodes at fault, uncomfortable steps, speed."""
    rows = []
    for name, row in worlds.items():
        count = round(row["failed"] * row["episodes"])
        found = stats.binomtest(count, row["episodes"]).proportion_ci(method="exact")
        share = lambda key, row=row: f"{row[key]:.2g}" if key in row else "–"
        of_episodes = lambda key, row=row: (
            f"{round(row[key] * row['episodes'])}" if key in row else "–"
        )
        comfort = f"{100 * row['uncomfortable']:.1f} %" if "uncomfortable" in row else "–"
        speed = f"{row['progress'] / STEPS[name]:.1f}" if "progress" in row else "–"
        rows.append(
            [
                f"`{name}`",
                share("cost"),
                f"{count}",
                f"[{found.low:.1g}, {found.high:.1g}]",
                of_episodes("episodes with collision"),
                of_episodes("episodes with at_fault"),
                comfort,
                speed,
            ]
        )
    return rows


def speed_rows(speeds):
    """Rows of our experts and of peers: steps, and seconds of driving, per second."""
    traffic = ("highway", "merge")
    named = {f"{world}, expert": f"`{world}` with 20 cars, expert" for world in traffic}
    rows = []
    for name, value in speeds["steps"].items():
        if name.endswith("random actions"):
            continue
        world, comma, driver = name.partition(", ")
        peer = name.removeprefix("highway-env ")
        shown = f"`{world}`{comma}{driver}" if comma else f"highway-env `{peer}`"
        rows.append([named.get(name, shown), f"{value:,.0f}", f"{speeds['driving'][name]:,.0f}"])
    return rows


def of_driving(text):
    """The page with the rows of its tables as the stored results say."""
    stored = json.loads((ROOT / "results" / "driving.json").read_text())
    return filled(
        text,
        (
            ("| world | failed steps |", expert_rows, [stored["experts"]["worlds"]]),
            ("| world | steps per second |", speed_rows, [stored["speeds"]]),
        ),
    )

"""Tables of pages on the horizon law: swing_up, dials, retraining, falls over time, remedies."""

import json

from irl_bench.report import tables
from irl_bench.studies.measures import spread
from tests.lab.pages import ROOT, filled, interval


def law_cells(row):
    """Cells of a horizon verdict: mode, algorithm, verdict, slope, the chain's, h and ρ."""
    return [
        row["mode"] + (" (control)" if row["mode"] == "recoverable" else ""),
        row["algo"],
        row["verdict"],
        f"{row['slope']:.2f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}]",
        f"{row['chain_slope']:.2f}",
        f"{row['hazard']:.1e}",
        f"{row['recovery']:.2g}",
    ]


def swing_up_rows(verdicts):
    """Rows of the learners of several sets of seeds."""
    return [
        [str(seed), *law_cells(row), f"{row['level']:.2g}"]
        for seed, several in verdicts.items()
        for row in several
        if row["algo"] in ("bc", "dagger")
    ]


def of_swing_up(text):
    """The page with the rows of its table as the stored results say."""
    verdicts = {
        seed: json.loads((ROOT / "results" / f"swing_up-seeds-{seed}.json").read_text())["verdicts"]
        for seed in (71000, 72000, 73000)
    }
    return filled(text, (("| seeds from | mode |", swing_up_rows, [verdicts]),))


def remedy_rows(points):
    """Rows of remedies: regret, that over plain BC's, slope over the common horizons, verdict."""
    rate = lambda value: tables.number(value, 2)
    rows = []
    for p in points:
        regret, ratio = p["J"], p["to_plain"]
        rows.append(
            [
                p["world"],
                p["remedy"],
                spread(regret),
                "–" if ratio is None else spread(ratio),
                interval(p["slope"]),
                "yes" if p["outgrows_powers"] else "no",
                p["verdict"],
                rate(p["hazard"]),
                rate(p["recovery"]),
            ]
        )
    return rows


def dial_rows(points):
    """Rows of a dial: its value, the slope beside the chain's, and how much fails."""
    shown = lambda value: "–" if value is None else tables.number(value, 2)
    return [
        [
            p["env"],
            f"{p['dial'].replace('_', ' ')} {p['value']:.3g}",
            interval(p["slope"]),
            f"{p['chain_slope']:.2f}",
            interval(p["less_chain"]),
            shown(p["hazard_T_max"]),
            shown(p["level"]),
            p["verdict"],
        ]
        for p in points
    ]


def of_dials(text):
    """The page with the rows of its tables as the stored results say."""
    heads = {"recoverability": "| world | dial |", "hazard": "| world | dial, hazards |"}
    stored = {name: ROOT / "results" / f"{name}-seeds-60000.json" for name in heads}
    points = {name: json.loads(path.read_text())["points"] for name, path in stored.items()}
    return filled(text, [(head, dial_rows, [points[name]]) for name, head in heads.items()])


def retrained_rows(points):
    """Rows of BC trained anew at every T: three slopes, and the closed form."""
    limits = {"2": 3 / 2, "1.5": 5 / 3, "3": 4 / 3, "geometric": 1.0}
    rows = []
    for p in points:
        known = p["theory"] is not None
        limit = 2.0 if p["variant"] == "time_indexed" else limits[p["tail"]]
        rows.append(
            [
                p["tail"],
                p["variant"].replace("_", " "),
                interval(p["slope_J"]),
                f"{p['theory']:.2f}" if known else "–",
                f"{limit:.2f}" if known else "–",
                interval(p["slope_eps"]),
                interval(p["slope_ratio"]),
                " to ".join(f"{x:.2f}" for x in p["eps_per_unseen"]),
                str(p["seeds"]),
            ]
        )
    return rows


def retrained_car_rows(points):
    """Rows of BC trained anew at every T on the car: J and eps at three horizons, and J / eps."""
    rows = []
    for p in points:
        J, eps = ([p[name][i][0] for i in (0, len(p[name]) // 2, -1)] for name in ("J", "eps"))
        rows.append(
            [
                str(p["demos"]),
                p["variant"].replace("_", " "),
                ", ".join(f"{x:.0f}" for x in J),
                ", ".join(f"{x:.1e}" for x in eps),
                interval(p["slope_ratio"]),
            ]
        )
    return rows


def of_retrained(text):
    """The page with the rows of its tables as the stored results say."""

    def points(name):
        stored = json.loads((ROOT / "results" / f"retrain{name}-seeds-60000.json").read_text())
        demos = [row["demonstrations"] for row in stored["tables"]["Slopes over T"]]
        return [{**p, "demos": n} for p, n in zip(stored["points"], demos, strict=True)]

    car = [p for n in (16, 96) for p in points(f"-lane_keep-{n}")]
    return filled(
        text,
        (
            ("| tail | trained with |", retrained_rows, [points("")]),
            ("| demonstrations | trained with |", retrained_car_rows, [car]),
        ),
    )


def fall_time_rows(runs):
    """Rows of falls by the time in the episode."""
    names = {"bc": "BC", "expert": "the expert"}
    return [
        [str(run["burn_in"]), names[curve["algo"]], *map(str, curve["departures"])]
        for run in runs
        for curve in run["curves"]
    ]


def of_hopper(text):
    """The page with the rows of its table as the stored result says."""
    path = ROOT / "results" / "hopper-hazard-seeds-60000.json"
    runs = json.loads(path.read_text())["runs"]
    return filled(text, (("| burn-in | who |", fall_time_rows, [runs]),))


def of_remedies(text):
    """The page with the rows of its table as the stored result says."""
    path = ROOT / "results" / "remedies-seeds-60000.json"
    points = json.loads(path.read_text())["points"]
    return filled(text, (("| world | remedy |", remedy_rows, [points]),))


ROBOTS, DRIVING = ("hopper",), ("race",)
"""The worlds of the pages on the law, each with a stored result."""


def law_rows(results):
    """Rows of BC and DAgger in both modes of each world."""
    rows = []
    for name, result in results.items():
        for row in result["verdicts"]:
            if row["algo"] not in ("bc", "dagger"):
                continue
            low, high = row["regret_ci"][-1]
            digits = 0 if row["regret"][-1] >= 10 else 2
            regret = f"{row['regret'][-1]:,.{digits}f} [{low:,.{digits}f}, {high:,.{digits}f}]"
            rows.append([name, *law_cells(row), regret, f"{row['horizons'][-1]:,}"])
    return rows


def _laws(names):
    """{world: its stored result}."""
    paths = {name: ROOT / "results" / f"{name}-law-seeds-60000.json" for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items()}


def of_robots(text):
    """The page with the rows of its table as the stored results say."""
    return filled(text, (("| robot | mode |", law_rows, [_laws(ROBOTS)]),))


def of_driving(text):
    """The page with the rows of its table as the stored results say."""
    return filled(text, (("| world | mode |", law_rows, [_laws(DRIVING)]),))

"""The tables of lab pages hold what their stored results say. `python -m tests.test_lab_tables`
writes them anew."""

import json
import pathlib

import numpy as np
import pytest

from irl_bench.studies import claims, extrapolation, seed_table
from irl_bench.studies.qualities import QUALITIES, paired

ROOT = pathlib.Path(__file__).parents[1]
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
RANKERS = {"bc": "BC", "clone": "the clone", "trex": "T-REX", "drex": "D-REX"}
KINDS = {extrapolation.SEEN: ", flag seen", extrapolation.SHUFFLED: ", random ranking"}
"""What the names of learners have added, by the folder of their part."""
FALLS = "| algorithm | fall of regret against BC at"
SCORES, CONTROLS = "| demonstrator (its score, its best) |", "| demonstrator | control |"
"""How the heads of the tables begin. There is one of falls, for the hidden view."""


def interval(values):
    middle, low, high = values
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def score(point):
    return (np.array(point["returns"]) - point["random"]) / point["unit"]


def mark(point):
    """A dagger stands behind what was computed on a CPU."""
    return "†" if point["device"] == "cpu" else ""


def fall_rows(points):
    found = {p["algo"]: p for p in points if (p["quality"], p["place"]) == ("100", "compared")}
    rows = []
    for algo in ("clone", "dagger", "gail", "gailfo", "airl", "rlhf", "rlhf_iterated"):
        point, asked = found[algo], algo in claims.CLASSES
        rows.append(
            [
                NAMES[algo] + mark(point),
                interval(point["fall"]),
                f"{point['fall_p_holm']:.2g}" if asked else "–",
                interval(point["fall_clone"]) if point["fall_clone"] else "–",
                point["corrects"] if asked else "–",
            ]
        )
    return rows


def score_rows(points):
    found = {(p["quality"], p["place"], p["algo"]): p for p in points}
    rows = []
    for quality in QUALITIES:
        for algo, name in NAMES.items():
            point, seen = (found.get((quality, place, algo)) for place in ("compared", claims.SEEN))
            demonstrator = [(point[key] - point["random"]) / point["unit"] for key in (
                "demonstrator", "best"
            )]  # fmt: skip
            asked = algo in claims.CLASSES
            p = point.get("p_holm")
            rows.append(
                [
                    "{} % ({:.2f}, {:.2f})".format(quality, *demonstrator) if algo == "bc" else "",
                    name + mark(point),
                    interval(seed_table.iqm.interval(score(point))),
                    str(seed_table.lost(point)),
                    interval(point["over_best"]),
                    f"{p:.2g}" if asked and p is not None else "–",
                    point["outperforms"] if asked else "–",
                    interval(seed_table.iqm.interval(score(seen))) + mark(seen) if seen else "–",
                    str(seed_table.lost(seen)) if seen else "–",
                ]
            )
    return rows


def control_rows(points):
    found = {(p["quality"], p["place"], p["algo"]): p for p in points}
    rows = []
    for (quality, place, algo), point in sorted(
        found.items(), key=lambda item: (float(item[0][0]), item[0][1])
    ):
        if place in ("compared", claims.SEEN):
            continue
        learner = found.get((quality, seed_table.TREATMENTS.get(place, "compared"), algo))
        gain = paired(learner, point) if place in seed_table.CONTROLS else None
        rows.append(
            [
                f"{quality} %",
                f"{place.replace('_', ' ')} ({algo}){mark(point)}",
                interval(seed_table.iqm.interval(score(point))),
                f"{score(point).min():.2f}",
                str(seed_table.lost(point)),
                interval(gain) if gain else "–",
            ]
        )
    return rows


def returned(point):
    middle, low, high = seed_table.iqm.interval(np.array(point["returns"]))
    return f"{middle:.0f} [{low:.0f}, {high:.0f}]"


def policy_rows(points):
    rows = []
    for point in points:
        kind = KINDS.get(point["place"], "")
        rows.append(
            [
                RANKERS[point["algo"]] + kind,
                returned(point),
                interval(seed_table.iqm.interval(score(point))),
                f"{score(point).min():.2f}",
                str(seed_table.lost(point)),
                str((np.array(point["returns"]) > point["best"]).sum()),
                interval(point["over_best"]),
                f"{point['p']:.2g}",
            ]
        )
    return rows


def ranking_rows(points):
    rows = []
    for point in points:
        if "spearman" in point:
            beyond = np.array(point["spearman"])
            pairs = zip(np.array(point["true"]), np.array(point["learned"]), strict=True)
            every = np.array([extrapolation.ranking(*pair, -np.inf) for pair in pairs])
            shown = [interval(extrapolation.correlated(values)) for values in (beyond, every)]
            rows.append([RANKERS[point["algo"]], shown[0], f"{beyond.min():.2f}", shown[1]])
    return rows


def control_of_rankings_rows(points):
    found = {(p["algo"], p["place"]): p for p in points}
    rows = []
    for algo in extrapolation.RANKED:
        control = found[algo, extrapolation.SHUFFLED]
        minus = [found[pair] for pair in ((algo, "learn"), ("clone", "learn"))]
        assert all(p["seed_ids"] == control["seed_ids"] for p in minus)
        by_ranking, by_clone = (score(p) - score(control) for p in minus)
        rows.append(
            [
                RANKERS[algo],
                interval(seed_table.iqm.interval(by_ranking)),
                f"{(by_ranking > 0).sum()} of {len(by_ranking)}",
                interval(seed_table.iqm.interval(by_clone)),
            ]
        )
    return rows


def of_equal_footing(text):
    """The page with the rows of its tables as the stored results say. The hidden view's table comes
    first of each kind."""
    points = [json.loads(path.read_text())["points"] for path in RESULTS.values()]
    kinds = (
        (FALLS, fall_rows, points[:1]),
        (SCORES, score_rows, points),
        (CONTROLS, control_rows, points),
    )
    return filled(text, kinds)


def of_rankings(text):
    """The page with the rows of its tables as the stored results say."""
    points = json.loads((ROOT / "results" / "extrapolation-seeds-60000.json").read_text())["points"]
    kinds = (
        ("| algorithm | return |", policy_rows, [points]),
        ("| | the ranking minus a random one |", control_of_rankings_rows, [points]),
        ("| algorithm | ρ, rollouts better", ranking_rows, [points]),
    )
    return filled(text, kinds)


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


PAGES = {
    "2026-11-27-equal-footing.md": of_equal_footing,
    "2026-11-28-rankings-without-the-flag.md": of_rankings,
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_what_is_stored(name):
    text = (LAB / name).read_text()
    assert text.splitlines() == PAGES[name](text).splitlines()


if __name__ == "__main__":
    for name, of in PAGES.items():
        (LAB / name).write_text(of((LAB / name).read_text()))

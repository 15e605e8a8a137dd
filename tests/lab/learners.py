"""Tables of pages that compare learners: scores, falls of regret, rankings, demonstrations."""

import json

import numpy as np

from irl_bench.studies import claims, decomposition, demo_efficiency, extrapolation, seed_table
from irl_bench.studies.qualities import QUALITIES, fall, paired
from tests.lab.pages import NAMES, RESULTS, ROOT, T_MAX, filled, interval, mark, score

RANKERS = {"bc": "BC", "clone": "the clone", "trex": "T-REX", "drex": "D-REX"}
KINDS = {extrapolation.SEEN: ", flag seen", extrapolation.SHUFFLED: ", random ranking"}
"""What the names of learners have added, by the folder of their part."""
FALLS = "| algorithm | fall of regret against BC at"
OVER_CLONE = "| demonstrator | learner | hidden view |"
SCORES, CONTROLS = "| demonstrator (its score, its best) |", "| demonstrator | control |"
"""How the heads of the tables begin. There is one of falls, for the hidden view."""


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
    # The car's return is the number of steps without a failure, so regrets differ as returns do.
    places = {(p["place"], p["algo"]): p for p in points if p["quality"] == "100"}
    more, bc, clone = (
        places[pair] for pair in (("more_demos", "bc"), ("compared", "bc"), ("compared", "clone"))
    )
    failed = lambda p: T_MAX - np.array(p["returns"])
    against = [interval(fall(failed(more), failed(p))) for p in (bc, clone)]
    rows.append([f"BC, 49 more demonstrations{mark(more)}", against[0], "–", against[1], "–"])
    richer = T_MAX - np.array(clone_of_more()["returns"])
    against = [interval(fall(richer, failed(p))) for p in (bc, clone)]
    rows.append(["the clone, 49 more demonstrations†", against[0], "–", against[1], "–"])
    return rows


def clone_of_more():
    """What is stored of the clone with 49 further demonstrations."""
    runs = json.loads((ROOT / "results" / "more-demos-seeds-60000.json").read_text())["runs"]
    (run,) = (run for run in runs if "demonstrator" not in run["command"])
    return next(learner for learner in run["learners"] if learner["algo"] == "clone")


def over_clone_rows(views):
    """What learners gain over the clone in both views."""
    found = [{(p["quality"], p["place"], p["algo"]): p for p in points} for points in views]
    rows = []
    for quality in QUALITIES:
        for algo in ("gail", "gailfo", "airl", "rlhf", "rlhf_iterated"):
            gains = [
                paired(view[quality, "compared", algo], view[quality, "compared", "clone"])
                for view in found
            ]
            first = f"{quality} %" if algo == "gail" else ""
            rows.append([first, NAMES[algo], *map(interval, gains)])
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
        clone = found[quality, "compared", "clone"]
        rows.append(
            [
                f"{quality} %",
                f"{place.replace('_', ' ')} ({algo}){mark(point)}",
                interval(seed_table.iqm.interval(score(point))),
                f"{score(point).min():.2f}",
                str(seed_table.lost(point)),
                interval(gain) if gain else "–",
                interval(paired(point, clone)),
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
            # The first half of the rollouts is that of the driver of 75 %.
            drivers = [
                np.array(
                    [
                        extrapolation.ranking(*pair, point["best"])
                        for pair in zip(*halves, strict=True)
                    ]
                )
                for halves in zip(
                    *(np.split(np.array(point[name]), 2, axis=1) for name in ("true", "learned")),
                    strict=True,
                )
            ]
            shown = [
                interval(extrapolation.correlated(values)) for values in (beyond, *drivers, every)
            ]
            above = [f"{(values > 0).sum()}" for values in (beyond, *drivers)]
            cells = [f"{text} ({n})" for text, n in zip(shown[:3], above, strict=True)]
            rows.append([RANKERS[point["algo"]], *cells, shown[3]])
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


def with_flag(points):
    """(point, the one whose reward sees the flag or None) of all whose rewards do not see it."""
    seen = {decomposition._key(p): p for p in points if decomposition._sees(p)}
    hidden = (p for p in points if not decomposition._sees(p))
    return [(p, seen.get(decomposition._key(p))) for p in hidden]


def exposure_rows(points, of_rlhf):
    """Rows of RLHF at each number of labels, or of the learners beside it."""
    rows, before = [], None
    clones = {p["quality"]: {} for p in points}
    for p in points:
        if p["algo"] in ("bc", "clone"):
            clones[p["quality"]][p["algo"]] = p
    for point, seen in with_flag(points):
        if (point["algo"] == "rlhf") != of_rlhf:
            continue
        quality = point["quality"]
        gains = [
            "–" if point["algo"] == name else interval(paired(point, clones[quality][name]))
            for name in ("bc", "clone")
        ]
        first = (
            [f"{point['labels']:,}", f"{point['accuracy']:.2f}"]
            if of_rlhf
            else [NAMES[point["algo"]]]
        )
        rows.append(
            [
                "" if quality == before else f"{quality} %",
                *first,
                interval(seed_table.iqm.interval(score(point))),
                *gains,
                str(decomposition.lost(point)),
                interval(seed_table.iqm.interval(score(seen))) if seen else "–",
                str(decomposition.lost(seen)) if seen else "–",
            ]
        )
        before = quality
    return rows


def demonstration_rows(points):
    """A row for each algorithm whose reward does not see the flag, at each number of
    demonstrations."""
    found = {(p["algo"], p["demos"]): p for p in points}
    lost = lambda p: str(int((np.array(p["scores"]) < 0.5).sum()))
    rows, before = [], None
    for (algo, demos), point in found.items():
        if algo.endswith(demo_efficiency.MARK):
            continue
        seen = found.get((algo + demo_efficiency.MARK, demos))
        middle, low, high = point["regret"]
        rows.append(
            [
                "" if demos == before else str(demos),
                NAMES[algo],
                interval(point["score"]),
                interval(point["gain_over_clone"]) if algo != "clone" else "–",
                lost(point),
                f"{middle:.0f} [{low:.0f}, {high:.0f}]",
                interval(seen["score"]) if seen else "–",
                lost(seen) if seen else "–",
            ]
        )
        before = demos
    return rows


def of_demonstrations(text):
    """The page with the rows of its table as the stored result says."""
    path = ROOT / "results" / "demo_efficiency-seeds-60000.json"
    points = json.loads(path.read_text())["points"]
    return filled(text, (("| demonstrations | algorithm |", demonstration_rows, [points]),))


def of_exposure_bias(text):
    """The page with the rows of its tables as the stored results say."""
    points = json.loads((ROOT / "results" / "decomposition-seeds-60000.json").read_text())["points"]
    kinds = (
        ("| demonstrator | labels |", lambda p: exposure_rows(p, True), [points]),
        ("| demonstrator | algorithm |", lambda p: exposure_rows(p, False), [points]),
    )
    return filled(text, kinds)


def of_equal_footing(text):
    """The page with the rows of its tables as the stored results say. The hidden view's table comes
    first of each kind."""
    points = [json.loads(path.read_text())["points"] for path in RESULTS.values()]
    kinds = (
        (FALLS, fall_rows, points[:1]),
        (SCORES, score_rows, points),
        (OVER_CLONE, over_clone_rows, [points]),
        (CONTROLS, control_rows, points),
    )
    return filled(text, kinds)


def of_rankings(text):
    """The page with the rows of its tables as the stored results say."""
    points = json.loads((ROOT / "results" / "extrapolation-seeds-60000.json").read_text())["points"]
    kinds = (
        ("| algorithm | return |", policy_rows, [points]),
        ("| | the ranking minus a random one |", control_of_rankings_rows, [points]),
        ("| algorithm | ρ, both drivers", ranking_rows, [points]),
    )
    return filled(text, kinds)

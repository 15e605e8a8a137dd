"""The tables of lab pages hold what their stored results say. `python -m tests.test_lab_tables`
writes them anew."""

import json
import pathlib

import numpy as np
import pytest

from irl_bench.report import tables
from irl_bench.studies import (
    claims,
    decomposition,
    demo_efficiency,
    extrapolation,
    iqm,
    overoptimization,
    seed_table,
    transfer,
)
from irl_bench.studies.measures import spread
from irl_bench.studies.qualities import QUALITIES, fall, paired

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
T_MAX = 1024
RANKERS = {"bc": "BC", "clone": "the clone", "trex": "T-REX", "drex": "D-REX"}
KINDS = {extrapolation.SEEN: ", flag seen", extrapolation.SHUFFLED: ", random ranking"}
"""What the names of learners have added, by the folder of their part."""
FALLS = "| algorithm | fall of regret against BC at"
OVER_CLONE = "| demonstrator | learner | hidden view |"
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
    # The car's return is the number of steps without a failure, so regrets differ as returns do.
    places = {(p["place"], p["algo"]): p for p in points if p["quality"] == "100"}
    more, bc, clone = (
        places[pair] for pair in (("more_demos", "bc"), ("compared", "bc"), ("compared", "clone"))
    )
    failed = lambda p: T_MAX - np.array(p["returns"])
    against = [interval(fall(failed(more), failed(p))) for p in (bc, clone)]
    rows.append([f"BC, 49 more demonstrations{mark(more)}", against[0], "–", against[1], "–"])
    return rows


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


def swing_up_rows(verdicts):
    """Rows of the learners of several sets of seeds."""
    rows = []
    for seed, row in ((seed, row) for seed, several in verdicts.items() for row in several):
        if row["algo"] not in ("bc", "dagger"):
            continue
        control = row["mode"] == "recoverable"
        rows.append(
            [
                str(seed),
                row["mode"] + (" (control)" if control else ""),
                row["algo"],
                row["verdict"],
                f"{row['slope']:.2f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}]",
                f"{row['chain_slope']:.2f}",
                f"{row['hazard']:.1e}",
                f"{row['recovery']:.2g}",
                f"{row['level']:.2g}",
            ]
        )
    return rows


def gain_rows(points):
    """Rows of the sweep over labels and sizes of the reward (`pressure` False)."""
    rows = []
    for p in points:
        if p["pressure"]:
            continue
        by = {"rlhf": "RLHF", "best_of_n": "best-of-n"}[p["what"]]
        rows.append(
            [
                by + (", flag seen" if p["flag_seen"] else ""),
                f"{p['labels']:,}",
                p["width"].replace("x", " x "),
                f"{p['accuracy']:.2f}",
                *gains(p),
            ]
        )
    return rows


def gains(p):
    """Cells that all points of over-optimisation have."""
    peak, fall, risen = (np.array(p[key]) for key in ("peaks", "falls", "risen"))
    adjusted = p.get("p_holm")
    return [
        f"{p['d'][-1]:.2f}",
        whole(iqm.interval(peak)),
        whole(iqm.interval(peak - fall)),
        f"{np.sum(peak < fall)} of {len(fall)}",
        whole(iqm.interval(fall)),
        "–" if adjusted is None else f"{adjusted:.2g}",
        f"{overoptimization.fallen_seeds(peak, fall)} of {len(fall)}",
        interval(iqm.interval(risen)),
        p.get("over_optimised", "–"),
    ]


def whole(values):
    middle, low, high = values
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


PRESSED = {
    "frozen": "AIRL's, frozen",
    "adversarial": "AIRL's, still learning",
    "one_shot": "from comparisons, one-shot",
    "iterated": "from comparisons, iterated",
}


def pressure_rows(points):
    """Rows of the rewards under the same pressure."""
    return [
        [PRESSED[p["what"]], p["algo"], *gains(p), f"{p['asked']:,}", f"{p['env_steps']:,}"]
        for p in points
        if p["pressure"]
    ]


def difference_rows(points):
    """Rows of gains at the end less those of another run, paired by seed."""
    runs = {(p["what"], p["labels"], p["width"], p["flag_seen"], p["pressure"]): p for p in points}
    small, large = "4", "64x64"
    pairs = [
        *(("rlhf", "best_of_n", labels, width, seen)
          for seen, counts in ((False, (100, 300, 1000, 3000)), (True, (1000,)))
          for labels in counts for width in (small, large)),
    ]  # fmt: skip
    rows = []

    def row(name, labels, width, one, other):
        ends = [np.array(p["peaks"]) - np.array(p["falls"]) for p in (one, other)]
        apart = ends[0] - ends[1]
        rows.append([name, labels, width, whole(iqm.interval(apart)),
                     f"{np.sum(apart > 0)} of {len(apart)}"])  # fmt: skip

    for first, second, labels, width, seen in pairs:
        row("best-of-n less RLHF" + (", flag seen" if seen else ""), f"{labels:,}",
            width.replace("x", " x "), runs[second, labels, width, seen, False],
            runs[first, labels, width, seen, False])  # fmt: skip
    for labels in (100, 300, 1000, 3000):
        row("RLHF with 64 x 64 less RLHF with 4", f"{labels:,}", "–",
            runs["rlhf", labels, large, False, False],
            runs["rlhf", labels, small, False, False])  # fmt: skip
    for what, name in (("rlhf", "RLHF"), ("best_of_n", "best-of-n")):
        for width in (small, large):
            row(f"{name} with the flag seen less hidden", "1,000", width.replace("x", " x "),
                runs[what, 1000, width, True, False],
                runs[what, 1000, width, False, False])  # fmt: skip
    alone = {p["what"]: p for p in points if p["pressure"]}
    row("iterated less one-shot RLHF", "1,000", "64 x 64", alone["iterated"], alone["one_shot"])
    row("AIRL less PPO on its frozen reward", "0", "–", alone["adversarial"], alone["frozen"])
    return rows


def of_over_optimisation(text):
    """The page with the rows of its tables as the stored result says."""
    path = ROOT / "results" / "overoptimization-seeds-60000.json"
    points = json.loads(path.read_text())["points"]
    kinds = (
        ("| by | labels |", gain_rows, [points]),
        ("| reward | algorithm |", pressure_rows, [points]),
        ("| less the other |", difference_rows, [points]),
    )
    return filled(text, kinds)


def transfer_rows(points):
    """Rows of one sight: what each method scores under each change."""
    found = {(p["method"], p["start"]): {} for p in points}
    for p in points:
        found[p["method"], p["start"]][p["change"]] = p
    rows = []
    for start in (None, "clone", "random"):
        for method, (title, *_) in transfer.METHODS.items():
            changes = found.get((title, start))
            if changes:
                again = ", trained again" if method.startswith("reward") else ", as it is"
                beside = {None: "–", "clone": "a clone", "random": "a random policy"}[start]
                cells = [f"{interval(p['score'])} ({p['scores'][lowest(p)]:.2f})"
                         for p in changes.values()]  # fmt: skip
                rows.append([title + again, beside, *cells])
    return rows


def lowest(point):
    return int(np.argmin(point["scores"]))


def of_transfer(text):
    """The page with the rows of its tables as the stored result says. The hidden view comes
    first."""
    path = ROOT / "results" / "transfer-seeds-60000.json"
    points = json.loads(path.read_text())["points"]
    views = [[p for p in points if p["sight"] == sight] for sight in ("hidden", "visible")]
    return filled(text, (("| method | learned beside |", transfer_rows, views),))


def stored_runs(name):
    """{command: its learner} of runs of one learner each."""
    runs = json.loads((ROOT / "results" / name).read_text())["runs"]
    return {run["command"]: run["learners"][0] for run in runs}


def quality_in(command):
    """The demonstrator's quality that a command names."""
    return next((q for q in QUALITIES if f"demonstrator={q}" in command), "100")


def searched_rows(points):
    """Rows of GAIL and AIRL with the settings of a search, beside their defaults."""
    found = {(p["quality"], p["algo"]): p for p in points if p["place"] == "compared"}
    runs = stored_runs("searched-inverse-rl-seeds-60000.json")
    rows, asked = [], []
    for algo in ("airl", "gail"):
        for quality in QUALITIES:
            default, clone = found[quality, algo], found[quality, "clone"]
            kinds = [("as searched for", run) for command, run in runs.items()
                     if run["algo"] == algo and quality_in(command) == quality
                     and "constant" not in command]  # fmt: skip
            kinds += [("default" + mark(default), default)]
            kinds += [("as searched for, constant reward", run) for command, run in runs.items()
                      if run["algo"] == algo and quality_in(command) == quality
                      and "constant" in command]  # fmt: skip
            for place, (kind, run) in enumerate(kinds):
                scores = (np.array(run["returns"]) - default["random"]) / default["unit"]
                best, typical = ((default[key] - default["random"]) / default["unit"]
                                 for key in ("best", "demonstrator"))  # fmt: skip
                first = f"{NAMES[algo]}, {quality} % ({typical:.2f}, {best:.2f})"
                rows.append(
                    [
                        "" if place else first,
                        kind,
                        interval(iqm.interval(scores)),
                        f"{scores.min():.2f}",
                        str(int((scores < typical / 2).sum())),
                        interval(iqm.interval(scores - best)) if quality != "100" else "–",
                        "–",
                        "–",
                        interval(iqm.interval(scores - score(clone))),
                    ]
                )
                if kind == "as searched for" and quality != "100":
                    gain = iqm.interval(scores - best)
                    asked.append((rows[-1], gain, iqm.p_at_most(scores - best)))
    for (row, gain, _), p in zip(asked, claims.holm([p for *_, p in asked]), strict=True):
        row[6:8] = [f"{p:.2g}", claims.outperforms(gain, p)]
    return rows


def shown_half_rows(points):
    """Rows of the scores that the demonstrators' first 512 steps would have, kept up, and of the
    learners that end above the best of them."""
    found = {(p["quality"], p["algo"]): p for p in points if p["place"] == "compared"}
    runs = stored_runs("searched-inverse-rl-seeds-60000.json")
    halves = json.loads((ROOT / "results" / "demonstrators-lane_keep.json").read_text())
    rows = []
    for quality in ("25", "50", "75"):
        unit, random = (found[quality, "clone"][key] for key in ("unit", "random"))
        kept_up = [(T_MAX / 512 * total - random) / unit
                   for total in halves["demonstrators"][quality]["512"]]  # fmt: skip
        whole = [(total - random) / unit for total in halves["demonstrators"][quality]["1024"]]
        cells = []
        for algo in ("airl", "gail"):
            (run,) = (run for command, run in runs.items() if run["algo"] == algo
                      and quality_in(command) == quality and "constant" not in command)  # fmt: skip
            cells.append((np.array(run["returns"]) - random) / unit - kept_up[1])
        cells += [score(found[quality, a]) - kept_up[1] for a in ("rlhf", "rlhf_iterated")]
        rows.append(
            [
                f"{quality} %",
                *(f"{value:.2f}" for value in (*whole, *kept_up)),
                *(interval(iqm.interval(values)) for values in cells),
            ]
        )
    return rows


def published_rows(views):
    """Rows of AIRL's two rewards in both views."""
    runs = stored_runs("airl-log-ratio-seeds-60000.json")
    rows = []
    for view, points in zip(("hidden", "visible"), views, strict=True):
        f, clone = (next(p for p in points if (p["quality"], p["place"], p["algo"])
                         == ("100", "compared", algo)) for algo in ("airl", "clone"))  # fmt: skip
        (ratio,) = (run for command, run in runs.items()
                    if ("visible" in command) == (view == "visible"))  # fmt: skip
        for name, run in (("f", f), ("f - log π, as published", ratio)):
            scores = (np.array(run["returns"]) - f["random"]) / f["unit"]
            low = T_MAX - np.array(run["returns"])
            # The intervals of the seed table's slopes are not stored.
            slope = run["slope"][0] if run is not f else run["slope"]
            rows.append(
                [
                    view,
                    name + (mark(f) if run is f else "†"),
                    interval(iqm.interval(scores)),
                    f"{scores.min():.2f}",
                    f"{low.mean():.1f}",
                    f"{slope:.2f}" if slope is not None else "–",
                    run["verdict"],
                    interval(iqm.interval(scores - score(f))) if run is not f else "–",
                    interval(iqm.interval(scores - score(clone))),
                ]
            )
    return rows


def of_searched_settings(text):
    """The page with the rows of its tables as the stored results say."""
    hidden, visible = (json.loads(path.read_text())["points"] for path in RESULTS.values())
    kinds = (
        ("| algorithm, demonstrator (", searched_rows, [hidden]),
        ("| demonstrator | mean of 1,024 steps |", shown_half_rows, [hidden]),
        ("| view | AIRL maximises |", published_rows, [(hidden, visible)]),
    )
    return filled(text, kinds)


def of_copycats(text):
    """The page with the rows of its table as the stored result says."""
    path = ROOT / "results" / "copycat-lane_keep-seeds-60000.json"
    points = json.loads(path.read_text())["points"]
    return filled(text, (("| view | remedy |", copycat_rows, [points]),))


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
    "2026-11-28-swing-up.md": of_swing_up,
    "2026-11-29-repaired-exposure-bias.md": of_exposure_bias,
    "2026-11-29-demonstrations-on-the-car.md": of_demonstrations,
    "2026-11-29-copycat.md": of_copycats,
    "2026-11-29-gold-and-proxy.md": of_over_optimisation,
    "2026-11-29-inverse-rl-searched.md": of_searched_settings,
    "2026-11-29-car-reward-transfer.md": of_transfer,
    "2026-11-30-dials.md": of_dials,
    "2026-11-30-hopper-hazard.md": of_hopper,
    "2026-11-30-retrained.md": of_retrained,
    "2026-11-30-repair-without-asking.md": of_remedies,
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_what_is_stored(name):
    text = (LAB / name).read_text()
    assert text.splitlines() == PAGES[name](text).splitlines()


if __name__ == "__main__":
    for name, of in PAGES.items():
        (LAB / name).write_text(of((LAB / name).read_text()))

"""Tables of the page on inverse RL with settings that were searched for."""

import json

import numpy as np

from irl_bench.studies import claims, iqm
from irl_bench.studies.qualities import QUALITIES
from tests.lab.pages import (
    NAMES,
    RESULTS,
    ROOT,
    T_MAX,
    filled,
    interval,
    mark,
    score,
    stored_runs,
)


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

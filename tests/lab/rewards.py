"""Tables of pages on learned rewards: over-optimisation and transfer."""

import json

import numpy as np

from irl_bench.studies import iqm, overoptimization, transfer
from tests.lab.pages import ROOT, filled, interval, whole


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

"""How often the intervals of falls of regret hold the truth, if the stored seeds are all there
are: what the page of equal footing and README say of them."""

import json

import numpy as np
import pytest
from scipy import stats

from irl_bench.studies.qualities import fall
from tests.lab.pages import LAB, RESULTS, ROOT, T_MAX

LEARNERS = ("clone", "gail", "gailfo", "airl", "rlhf", "rlhf_iterated")
SAMPLES = 20_000


def regrets():
    """{algorithm: float[20]}, failed steps from the expert's demonstrations in the hidden view."""
    points = json.loads(RESULTS["hidden"].read_text())["points"]
    chosen = (p for p in points if (p["quality"], p["place"]) == ("100", "compared"))
    return {p["algo"]: T_MAX - np.array(p["returns"]) for p in chosen}


def intervals(regret, bc):
    """(low, high) of the falls of samples float[N, S], as `qualities.fall`."""
    seeds = regret.shape[1]
    means = [regret.mean(1), bc.mean(1)]
    without = [(x.sum(1, keepdims=True) - x) / (seeds - 1) for x in (regret, bc)]
    left_out = 1.0 - without[0] / without[1]
    spread = np.sum((left_out - left_out.mean(1, keepdims=True)) ** 2, axis=1)
    width = stats.t.ppf(0.975, seeds - 1) * np.sqrt((seeds - 1) / seeds * spread)
    share = 1.0 - means[0] / means[1]
    return share - width, share + width


def test_the_intervals_are_those_of_the_study():
    found = regrets()
    low, high = intervals(found["gail"][None], found["bc"][None])
    np.testing.assert_allclose(fall(found["gail"], found["bc"])[1:], [low[0], high[0]], rtol=1e-6)


def test_coverage_is_what_the_page_says():
    found = regrets()
    rows = np.random.default_rng(0).integers(0, 20, (SAMPLES, 20))
    covered, below = {}, {}
    for algo in LEARNERS:
        truth = 1.0 - found[algo].mean() / found["bc"].mean()
        low, high = intervals(found[algo][rows], found["bc"][rows])
        covered[algo] = np.mean((low <= truth) & (truth <= high))
        below[algo] = np.mean(truth < low)
    assert min(covered, key=covered.get) == "rlhf" and max(covered, key=covered.get) == "gailfo"
    assert covered["rlhf"] == pytest.approx(0.86, abs=0.01)
    assert covered["gailfo"] == pytest.approx(0.95, abs=0.01)
    assert below["rlhf"] > 0.8 * (1 - covered["rlhf"])
    for text in (
        (LAB / "2026-11-27-equal-footing.md").read_text(),
        (ROOT / "README.md").read_text(),
    ):
        assert "0.86" in text and "0.95" in text

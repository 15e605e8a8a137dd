"""Verdicts, stored quantities and learned parameters of every registered algorithm are those of
`reference.json`, which was made before the code was moved to where it is."""

import json
import math

import pytest

from irl_bench.algos import ALGORITHMS
from irl_bench.core.quantities import REFERENCES
from tests.integration import reference

STORED = json.loads(reference.FILE.read_text())
QUICK = ("bc chain", "dagger chain")


def close(mine, stored, path, scale=0.0):
    """Equal names, words and counts; numbers as near as another CPU's may be."""
    if isinstance(stored, dict):
        assert mine.keys() == stored.keys(), path
        for name in stored:
            close(mine[name], stored[name], f"{path}/{name}")
    elif isinstance(stored, list):
        assert len(mine) == len(stored), path
        pair = len(stored) == 2 and all(isinstance(x, float) for x in stored)
        for index, (a, b) in enumerate(zip(mine, stored, strict=True)):
            # A leaf: its norm, and a product that is about as large.
            close(a, b, f"{path}[{index}]", abs(stored[0]) if pair else 0.0)
    elif isinstance(stored, float) and not math.isnan(stored):
        assert math.isclose(mine, stored, rel_tol=2e-3, abs_tol=1e-3 + 1e-2 * scale), (
            path, mine, stored,
        )  # fmt: skip
    elif not isinstance(stored, float):
        assert mine == stored, path
    else:
        assert math.isnan(mine), path


def test_the_reference_holds_every_algorithm_on_every_world():
    cases = {name.split()[0].partition(":")[0] for name in STORED}
    assert cases == ALGORITHMS.keys() - set(REFERENCES)
    for case in reference.CASES:
        for env in (*reference.WORLDS, *reference.TABULAR):
            assert (f"{case} {env}" in STORED) != reference.skipped(case, env)
    of_references = {algo for name in STORED for algo in STORED[name]["verdicts"]}
    assert {name.partition("/")[0] for name in of_references} >= set(REFERENCES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in STORED]
)
def test_nothing_that_computes_has_changed_its_numbers(name, folder):
    case, env = name.split()
    close(json.loads(json.dumps(reference.run(case, env, folder))), STORED[name], name)

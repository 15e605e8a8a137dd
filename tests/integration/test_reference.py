"""Verdicts, stored quantities and learned parameters of every registered algorithm are those of
`reference.json`: a change that only moves code changes no number."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from irl_bench.algos import ALGORITHMS
from irl_bench.core.quantities import REFERENCES
from tests.integration import reference

STORED = json.loads(reference.FILE.read_text())
ROOT = Path(__file__).parents[2]
QUICK = ("bc chain",)


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
            # A leaf: its norm, and a product with a random vector, which may cancel.
            close(a, b, f"{path}[{index}]", abs(stored[0]) if pair and index else 0.0)
    elif isinstance(stored, float) and not math.isnan(stored):
        assert math.isclose(mine, stored, rel_tol=2e-3, abs_tol=1e-5 + 1e-2 * scale), (
            path, mine, stored,
        )  # fmt: skip
    elif not isinstance(stored, float):
        assert mine == stored, path
    else:
        assert math.isnan(mine), path


def test_the_reference_holds_every_algorithm():
    cases = {name.split()[0].partition(":")[0] for name in STORED}
    assert cases == ALGORITHMS.keys() - set(REFERENCES)
    assert STORED.keys() == {f"{case} {env}" for case, env in reference.every()}
    of_references = {algo for name in STORED for algo in STORED[name]["verdicts"]}
    assert {name.partition("/")[0] for name in of_references} >= set(REFERENCES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.mark.usefixtures("quick_compilation", "no_pictures")
@pytest.mark.parametrize("name", QUICK)
def test_nothing_that_computes_has_changed_its_numbers(name, folder):
    case, env = name.split()
    close(json.loads(json.dumps(reference.run(case, env, folder))), STORED[name], name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in STORED if name not in QUICK])
def test_nothing_that_computes_has_changed_its_numbers_anywhere(name, folder, tmp_path):
    """In a program of its own, without the flags that compile tests faster: a robot's contacts and
    a discriminator's game blow the last bit up until it is seen."""
    clean = {
        k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "IRL_BENCH_CHECK_SHAPES")
    }
    program = [sys.executable, reference.__file__, str(tmp_path / "new.json"), str(folder), name]
    subprocess.run(program, check=True, env={**clean, "PYTHONPATH": str(ROOT)}, cwd=ROOT)
    close(json.loads((tmp_path / "new.json").read_text())[name], STORED[name], name)

"""GAIL and AIRL on the car with their default settings, in fewer rounds: what they make of a clone,
against the clone itself.

Both are candidates of one program: the clone is the same learner with a step size so small that its
policy stays where it was.
"""

import dataclasses

import numpy as np
import pytest

from irl_bench.plan import registry
from irl_bench.tools.search import search


def levels(algo, seeds, rounds, **changes):
    """(trained, clone): mean cost per step over T_max, each float[seeds]."""
    found = registry.algorithm(algo)
    settings = {**dataclasses.asdict(found.config()), "rounds": rounds, **changes}
    del settings["learning_rate"]
    steps = np.array([1e-4, 1e-8], np.float32)
    record = search(
        algo,
        "lane_keep",
        {"learning_rate": steps},
        settings=settings,
        seeds=seeds,
        demos=64,
        episodes=32,
        say=lambda _: None,
    )
    rows = {
        row["settings"]["learning_rate"] > 1e-6: np.array(row["level"])
        for row in record["candidates"]
    }
    print(
        algo,
        rounds,
        {"trained": rows[True].round(4).tolist(), "clone": rows[False].round(4).tolist()},
    )
    return rows[True], rows[False]


@pytest.mark.slow
def test_airl_mends_its_clone():
    trained, clone = levels("airl", range(200, 202), 48)
    assert clone.mean() > 0.03, "the clone is too good to tell"
    assert trained.mean() <= 0.6 * clone.mean()


@pytest.mark.slow
def test_gail_mends_its_clone():
    trained, clone = levels("gail", range(200, 205), 80)
    assert clone.mean() > 0.03, "the clone is too good to tell"
    assert trained.mean() <= 0.6 * clone.mean()

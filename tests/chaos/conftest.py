"""The sweeps that the tests of the chaos suite disturb."""

import pytest

from irl_bench.plan.request import Request
from irl_bench.tools.chaos import suite, sweeps
from irl_bench.tools.chaos.victims import Stage

TOY = Request(
    algo=("tests.worlds.toys:make",),
    env=("tests.worlds.toys:TwoState",),
    mode=("nominal", "recoverable"),
    seeds=2,
    seeds_at_once=1,
    demos=4,
    demo_steps=8,
    episodes=32,
)
"""Four cells of one program that is traced and compiled in no time."""


@pytest.fixture(scope="session")
def _toy(tmp_path_factory):
    place = tmp_path_factory.mktemp("toy")
    plan = sweeps.write(place / "sweep.json", (TOY,), references=False)
    return Stage(place, plan, place / "cache")


@pytest.fixture(scope="session")
def _small(tmp_path_factory):
    return suite.stages(tmp_path_factory.mktemp("small"), ["damage"])["small"]


def elsewhere(stage, place):
    assert stage.undisturbed
    return stage.elsewhere(place)


@pytest.fixture
def toy(_toy, tmp_path):
    """A sweep of the toys, in a folder of the test's own. Compiled functions and the undisturbed
    run are shared."""
    return elsewhere(_toy, tmp_path)


@pytest.fixture
def small(_small, tmp_path):
    """The small sweep of the suite, likewise."""
    return elsewhere(_small, tmp_path)

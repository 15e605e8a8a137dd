"""Where the small sweep of the chaos suite runs in tests."""

import pytest

from irl_bench.tools.chaos import suite


@pytest.fixture(scope="session")
def _small(tmp_path_factory):
    return suite.stages(tmp_path_factory.mktemp("chaos"), ["damage"])[False]


@pytest.fixture
def small(_small, tmp_path):
    """The small sweep, in a folder of the test's own. Compiled functions and the undisturbed run
    are shared."""
    assert _small.undisturbed
    return _small.elsewhere(tmp_path)

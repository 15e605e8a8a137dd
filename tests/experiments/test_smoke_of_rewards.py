"""Studies of learned rewards and what they are worth at their smallest budget, from the command line to their files."""

import pytest

from tests.experiments.smoke import runs_to_its_files

pytestmark = pytest.mark.usefixtures("quick_compilation", "shared_compilation")


@pytest.mark.parametrize("name", ["overoptimization", "extrapolation"])
def test_smoke_runs_to_its_files(name, tmp_path):
    runs_to_its_files(name, tmp_path)

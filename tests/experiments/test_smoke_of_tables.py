"""Studies of who learns what from how much at their smallest budget, from the command line to their files."""

import pytest

from tests.experiments.smoke import runs_to_its_files

pytestmark = pytest.mark.usefixtures("quick_compilation", "shared_compilation")


@pytest.mark.parametrize("name", ["seed_table", "decomposition", "label_efficiency"])
def test_smoke_runs_to_its_files(name, tmp_path):
    runs_to_its_files(name, tmp_path)

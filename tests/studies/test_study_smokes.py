"""Each study of preferences at its smallest budget, from the command line to its files."""

import json

import pytest

from irl_bench.cli import sweep

pytestmark = pytest.mark.usefixtures("quick_compilation")


# Each takes a tenth of the suite's time, so the quickest is run by default. It needs no lesser
# demonstrator, so the world that compiles fastest will do.
@pytest.mark.parametrize(
    ("name", "more"),
    [
        pytest.param("seed_table", [], marks=pytest.mark.slow),
        pytest.param("decomposition", [], marks=pytest.mark.slow),
        ("label_efficiency", ["--env=chain"]),
        pytest.param("overoptimization", ["--env=chain"], marks=pytest.mark.slow),
        pytest.param("extrapolation", [], marks=pytest.mark.slow),
    ],
)
def test_smoke_runs_to_its_files(name, more, tmp_path):
    assert (
        sweep.main(
            sweep.parse(
                ["sweep.py", f"--experiment={name}", "--budget=smoke", *more, f"--out={tmp_path}"]
            )
        )
        == 0
    )
    found = json.loads((tmp_path / f"{name}.json").read_text())
    assert any(found["tables"].values())
    assert (tmp_path / f"{name}.html").stat().st_size > 0
    assert (tmp_path / "figures" / f"{name}.png").exists()

"""Studies of learned rewards at their smallest budget, from the command line to their files."""

import json
import shutil
import subprocess
import sys

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
        pytest.param("label_efficiency", ["--env=chain"], marks=pytest.mark.slow),
        pytest.param("overoptimization", ["--env=chain"], marks=pytest.mark.slow),
        pytest.param("extrapolation", [], marks=pytest.mark.slow),
        pytest.param("transfer", [], marks=pytest.mark.slow),
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


@pytest.mark.slow
def test_a_table_whose_part_is_lost_is_completed_from_its_stored_result(tmp_path):
    """By the commands of a user."""
    out, stored = tmp_path / "study", tmp_path / "stored.json"
    line = ["--experiment=overoptimization", "--budget=smoke"]
    assert sweep.main(sweep.parse(["sweep.py", *line, f"--out={out}"])) == 0
    whole = (out / "overoptimization.json").read_text()
    stored.write_text(whole)
    shutil.rmtree(out / "lane_keep" / "pressure")
    report = [sys.executable, "launch/report.py", str(out)]
    run = lambda *more: subprocess.run([*report, *more], capture_output=True, text=True)
    lost = run()
    assert lost.returncode == 2 and len(lost.stderr.splitlines()) == 1
    partial = run("--partial")
    assert partial.returncode == 0 and "Not run: lane_keep/pressure/one_shot." in partial.stdout
    assert run(f"--stored={stored}").returncode == 0
    assert json.loads((out / "overoptimization.json").read_text()) == json.loads(whole)

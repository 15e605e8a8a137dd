"""Roads that a user brings: from the file to a sweep, its report and a loaded policy."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import irl_bench
from tests import conftest
from tests.envs.driving.scenarios import bend

ROOT = Path(__file__).parents[2]


def program(name, *arguments, folder):
    return run([ROOT / "launch" / name, *arguments], folder)


def module(*arguments, folder):
    return run(["-m", "irl_bench", *arguments], folder)


def run(arguments, folder):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, **conftest.QUICK, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def oval():
    """The text of a track: two straights and two half circles."""
    angles = np.linspace(0, 2 * math.pi, 60, endpoint=False)
    rows = [(120 * math.cos(a), 60 * math.sin(a), 5.0, 5.0) for a in angles]
    return "# x_m,y_m,w_tr_right_m,w_tr_left_m\n" + "\n".join(
        ",".join(f"{x:.3f}" for x in row) for row in rows
    )


@pytest.mark.parametrize(
    ("env", "option", "name", "text"),
    [
        ("highway", "scenario", "bend.xml", bend),
        pytest.param("race", "track", "oval.csv", oval, marks=pytest.mark.slow),
    ],
)
def test_a_road_from_a_file_end_to_end(env, option, name, text, tmp_path):
    (tmp_path / name).write_text(text())
    flag = f"--{env}.{option}={name}"
    sweep = [
        "--algo=bc",
        f"--env={env}",
        "--mode=nominal",
        "--budget=smoke",
        "--seeds=1",
        "--out=run",
    ]
    done = program("sweep.py", *sweep, flag, *conftest.TINY, folder=tmp_path)
    assert done.returncode == 0 and env in done.stdout, done.stderr
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    (kept,) = (tmp_path / "run/files").iterdir()
    assert plan["worlds"][env]["options"][option] == kept.name and kept.stem.startswith(name[:4])
    assert (tmp_path / "run/report.html").exists()
    # The run is the same where the file lies elsewhere, and needs it no more.
    (tmp_path / "roads").mkdir()
    (tmp_path / name).rename(tmp_path / "roads" / name)
    flag = f"--{env}.{option}=roads/{name}"
    again = program("sweep.py", *sweep, flag, *conftest.TINY, folder=tmp_path)
    assert again.returncode == 0 and "3 cells, 3 already there" in again.stdout, again.stdout
    (tmp_path / "roads" / name).unlink()
    policy = irl_bench.load(tmp_path / "run", "bc", env, seed=0)
    state = policy.world.reset(jax.random.PRNGKey(0))
    assert np.isfinite(policy.act(state.obs, jax.random.PRNGKey(1))).all()
    if env == "race":  # the slower one, of the slow tests
        shown = program("report.py", "run", "--films", folder=tmp_path)
        assert shown.returncode == 0 and f"film: run/films/{env}" in shown.stdout, shown.stderr
        sound = module("verify", "run", folder=tmp_path)
        assert "the same bytes" in sound.stdout, sound.stdout + sound.stderr
        (tmp_path / "run").rename(tmp_path / "one")
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        joined = module("merge", "one", "two", "--out=run", folder=tmp_path)
        assert joined.returncode == 0 and (tmp_path / "run/files" / kept.name).exists()
        kept = tmp_path / "run/files" / kept.name
        kept.write_text(kept.read_text() + "# another road\n")
        lost = program("render.py", "--policy=run:bc", "--out=f", folder=tmp_path)
        assert lost.returncode == 2 and f"{kept.name} is not known here" in lost.stderr
    missing = program("sweep.py", *sweep, f"--{env}.{option}=no{name}", folder=tmp_path)
    assert missing.returncode == 2 and len(missing.stderr.strip().splitlines()) == 1
    assert f"no{name}" in missing.stderr and "No such file" in missing.stderr

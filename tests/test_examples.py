"""The examples run as a user runs them; each is skipped where its packages are not installed."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

from tests.conftest import QUICK

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLES = {
    "drive_gym.py": (("gymnasium",), (), "200 steps: return"),
    "score_torch.py": (("torch",), (), "leaves the lane with probability"),
    "score_sb3.py": (("torch", "stable_baselines3"), ("512",), "leaves the lane with probability"),
}
"""File -> (packages it needs, arguments that make it small, words that it prints at its end)."""


def test_every_example_is_run():
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == EXAMPLES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name, tmp_path):
    packages, arguments, words = EXAMPLES[name]
    absent = [package for package in packages if importlib.util.find_spec(package) is None]
    if absent:
        pytest.skip(f"{', '.join(absent)} not installed: make setup EXTRAS=dev,examples")
    program = f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); sys.argv[:] = sys.argv[1:]; runpy.run_path(sys.argv[0])"
    line = [sys.executable, "-c", program, str(ROOT / "examples" / name), *arguments]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=600, env={**os.environ, **QUICK})
    assert done.returncode == 0, done.stderr
    assert words in done.stdout.splitlines()[-1]

"""The command that films: which scene and moment it takes, and mistakes of its flags."""

import json
import os
import pathlib
import re
import subprocess
import sys
import types

import numpy as np
import pytest

import irl_bench
from irl_bench.cli import render
from irl_bench.core.settings import BadInput
from irl_bench.films import footage
from tests.conftest import QUICK

pytestmark = pytest.mark.usefixtures("quick_compilation")
ROOT = pathlib.Path(__file__).parents[2]
SMALL = {"budget": "smoke", "seeds": 1, "demos": 4, "demo_steps": 32, "episodes": 16}


class Values(types.SimpleNamespace):
    """Flags of the command, with their defaults."""

    def __init__(self, **changes):
        defaults = {
            "policy": "expert", "vs": [], "env": "grid", "mode": None, "seed": None, "scene": 0,
            "start": 0, "steps": 4, "every": 1, "layout": "side", "formats": ["gif"],
            "metrics": 0, "out": "film",
        }  # fmt: skip
        super().__init__(**{**defaults, **changes})
        self._given = changes

    def __getitem__(self, name):
        return types.SimpleNamespace(present=name in self._given)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("irl_bench.report.figures.draw", lambda data: {})
        irl_bench.run("bc", "chain", mode="cliff", out=str(out), **SMALL)
    return out


def test_a_policy_of_a_run_is_filmed_beside_the_expert(run, tmp_path):
    """As a user types it."""
    command = [
        sys.executable, ROOT / "launch" / "render.py", f"--policy={run}:bc", "--vs=expert,random",
        "--steps=30", "--metrics=16", "--out=films/first",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **QUICK}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"bc fails first in step \d+ of scene \d+, the first of \d+ of 64", done.stdout
    )
    assert (tmp_path / "films" / "first.gif").stat().st_size > 1000
    page = (tmp_path / "films" / "first.html").read_text()
    assert all(f'"name": "{name}"' in page for name in ("bc", "expert", "random"))
    figures = json.loads((tmp_path / "films" / "first.json").read_text())
    assert set(figures) == {"bc", "expert", "random"} and figures["bc"]["episodes"] == 16
    assert f"{figures['bc']['cost']:.4g}" in done.stdout and "means over 16 scenes" in done.stdout


def test_the_name_may_end_in_a_format(tmp_path):
    render.main(Values(out=str(tmp_path / "film.html")))
    assert [path.name for path in tmp_path.iterdir()] == ["film.html"]


@pytest.mark.parametrize(
    ("firsts", "given", "expected"),
    [
        ([footage.NEVER, 50, 9], {}, (1, 30, "step 50 of scene 1, the first of 2 of 64")),
        ([footage.NEVER, 5, 9], {}, (1, 0, "step 5 of scene 1")),
        ([footage.NEVER, 99, 9], {"steps": 40}, (1, 60, "shown from step 60")),
        ([footage.NEVER] * 3, {}, (0, 0, "fails in none of 64 scenes")),
        ([33], {"scene": 8}, (8, 13, "step 33 of scene 8; shown from step 13")),
        ([footage.NEVER], {"scene": 8}, (8, 0, "fails in no step of this scene")),
        ([7], {"scene": 8, "start": 4}, (8, 4, "scene 8, from step 4")),
    ],
)
def test_a_film_begins_before_the_first_failure(monkeypatch, firsts, given, expected):
    found = lambda *_: np.array(firsts)
    monkeypatch.setattr(footage, "first_failures", found)
    world = types.SimpleNamespace(horizon=100)
    values = Values(**{"scene": None, "start": None, **given})
    scene, start, said = render._moment(values, world, footage.Driver("bc", lambda *_: None))
    assert (scene, start) == expected[:2] and expected[2] in said


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"policy": None}, r"--policy is missing; nearest: --policy=runs/sweep:bc"),
        ({"policy": "bc"}, r"a run and an algorithm are needed; nearest: --policy=runs/sweep:bc"),
        ({"env": None}, r"--policy=expert needs a world; nearest: --env=lane_keep"),
        ({"mode": "nominl"}, r"--mode=nominl: grid has nominal.*nearest: --mode=nominal"),
        ({"vs": ["dagger"]}, r"--vs=dagger: of which run\? nearest: --vs=runs/sweep:dagger"),
        ({"layout": "sid"}, r"must be side or ghosts; nearest: --layout=side"),
        ({"layout": "ghosts"}, r"grid is not drawn on a road.*nearest: layout=side"),
        ({"steps": 10**6}, r"longer than an episode of grid, \d+ steps; nearest: --steps=\d+"),
        ({"start": 10**6}, r"longer than an episode of grid, (\d+) steps; nearest: --start=\d+"),
        ({"env": "race", "steps": 4000}, r"at most 1500 frames; nearest: --every=3$"),
        ({"formats": ["avi"]}, r"formats=avi: must be of gif, html, mp4"),
        (
            {"vs": ["random", "expert"]},
            r"^expert would drive twice; nearest: leave it out of --vs$",
        ),
        ({"policy": "nowhere:bc"}, r"nowhere is not the folder of a run|nowhere does not exist"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, changes, line):
    with pytest.raises(BadInput, match=line) as error:
        render.main(Values(**{"out": str(tmp_path / "film"), **changes}))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_policy_of_another_world_is_one_line(run, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="grid") as error:
        render.main(Values(vs=[f"{run}:bc"], out=str(tmp_path / "film")))
    assert "\n" not in str(error.value)
    monkeypatch.setattr("irl_bench.films.footage.expert", lambda world: None)
    elsewhere = types.SimpleNamespace(name="chain", chosen={"view": "visible"})
    monkeypatch.setattr(
        "irl_bench.loading.load", lambda *_, **__: types.SimpleNamespace(world=elsewhere)
    )
    line = r"--vs=x:bc: learned on chain \{'view': 'visible'\}, and the film is of grid; nearest: a"
    with pytest.raises(BadInput, match=line):
        render._cast(Values(vs=["x:bc"]))

"""The films of a run: whose seed, which moment, and how the report shows them."""

import os
import pathlib
import re
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import irl_bench
from irl_bench import report
from irl_bench.films import footage, of_run
from irl_bench.report import data as report_data
from irl_bench.report import drives, page
from tests.conftest import QUICK
from tests.horizon.conftest import curves_of, growing
from tests.worlds.toys import TwoState

pytestmark = pytest.mark.usefixtures("quick_compilation")
ROOT = pathlib.Path(__file__).parents[2]
GIF = b"GIF89a" + bytes(20)


def test_the_seed_is_the_one_with_the_median_regret():
    curve = curves_of(growing(lambda T: T**2))
    regret = curve.regret(curve.T[-1:])[:, 0]
    chosen = of_run.median_seed(curve)
    below = (regret < regret[list(np.asarray(curve.seeds)[curve.usable]).index(chosen)]).sum()
    assert below == (len(regret) - 1) // 2


class Drawn(TwoState):
    """`TwoState` with a picture, two parts and what connects them, and with places."""

    name = "drawn"
    horizon = 100

    def picture(self, state):
        off = state.metrics["cost"]
        places = jnp.stack([jnp.zeros(2), jnp.stack([1.0 + off, 1.0 - off])])
        return {"bodies": places, "parents": jnp.array([-1, 0])}

    def _state(self, off, word):
        state = super()._state(off, word)
        return state.replace(metrics={**state.metrics, "off_road": off, "progress": 1.0 - off})

    def whereabouts(self, state):
        off = state.metrics["cost"]
        return {"height [m]": 1.0 - off, "place [m]": 1.0 + off}


WORLD = "tests.films.test_of_run:Drawn"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    settings = {"hidden": (4,), "rounds": 1, "steps_per_round": 5, "batch_size": 8}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("irl_bench.report.figures.draw", lambda data: {})
        irl_bench.run(
            "bc", [WORLD, "chain"], mode=["nominal", "dagger_chain"], out=str(out),
            budget="smoke", seeds=2, demos=2, demo_steps=16, episodes=4, T_max=64, bc=settings,
        )  # fmt: skip
    return out


def test_the_report_shows_a_film_of_every_world_that_has_a_picture(run):
    """As a user types it; a chart of the chain's observation is no film."""
    command = [sys.executable, ROOT / "launch" / "report.py", str(run), "--films"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **QUICK, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = re.findall(r"^film: .*", done.stdout, re.MULTILINE)
    assert re.search(r"bc beside expert, seed [01], .* BC fails in \d+ of 64 scenes$", line)
    path, places, figures = sorted((run / "films").iterdir())
    assert (
        path.name.startswith("tests.films.test_of_run-Drawn-")
        and path.stat().st_size <= report_data.LARGEST_FILM
    )
    assert places == path.with_suffix(".json") and figures == path.with_suffix(".metrics.json")
    text = (run / "report.html").read_text()
    assert "<h2>Where failures begin</h2>" in text and "height [m]" in text
    assert text.count('src="data:image/gif;base64,') == 1
    told = report.load(run).drives[WORLD]
    assert list(told) == ["bc", "expert"] and told["expert"]["progress_ratio"] == 1.0
    assert "<h2>What drivers are judged by</h2>" in text and "episodes with" in text
    assert "<details><summary>tests.films.test_of_run:Drawn</summary><img" in text


def test_a_film_that_cannot_be_small_enough_is_left_out_and_said(run, monkeypatch):
    monkeypatch.setattr(of_run, "LARGEST_FILM", 100)
    monkeypatch.setattr(of_run, "film_path", lambda *_: run / "large" / "film.gif")
    said = []
    assert of_run.write(run, report.load(run), said.append) == []
    assert said == [f"no film of {WORLD}: it is larger than 100 bytes"]
    assert not list((run / "large").glob("*.gif"))


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"{}", b'{"bc": {"a": "1"}}', b'{"bc": {"a": 1}, "expert": {"b": 1}}',
     b'{"bc": {"a": true}}', b'{"bc": {"a": 1e999}}', b" " * 200_000],
)  # fmt: skip
def test_figures_of_another_form_are_left_out(tmp_path, content):
    film = tmp_path / "a.gif"
    film.with_suffix(drives.ENDING).write_bytes(content)
    assert drives.read(film) == {} and drives.read(tmp_path / "none.gif") == {}
    film.with_suffix(drives.ENDING).write_bytes(b'{"bc": {"a": 1.5, "b": null}}')
    assert drives.read(film) == {"bc": {"a": 1.5, "b": None}}


def test_a_film_of_other_cells_is_not_shown(run):
    data = report.load(run)
    name = report_data.film_path(run, data.plan, WORLD).name
    (entry,) = (e for e in data.plan["entries"] if (e["env"], e["algo"]) == (WORLD, "bc"))
    kept = entry["cells"]
    entry["cells"] = ["0" * 20]
    assert report_data.film_path(run, data.plan, WORLD).name != name
    entry["cells"] = kept


@pytest.mark.parametrize("content", [b"<script>", GIF + bytes(report_data.LARGEST_FILM)])
def test_what_is_no_small_gif_is_left_out(run, content, monkeypatch):
    data = report.load(run)
    path = report_data.film_path(run, data.plan, WORLD)
    path.parent.mkdir(exist_ok=True)
    before = path.read_bytes() if path.exists() else None
    for written, shown in ((content, {}), (GIF, {WORLD: GIF})):
        path.write_bytes(written)
        assert report.load(run).films == shown
    path.write_bytes(before) if before is not None else path.unlink()


def test_the_page_without_films_has_no_section():
    data = report_data.ReportData(
        [], [], [], {"entries": [], "worlds": {}, "settings": {}, "versions": {}}  # type: ignore[typeddict-item]
    )  # fmt: skip
    assert "<h2>Films</h2>" not in page.build(data)


def test_a_film_that_is_too_large_shows_fewer_frames(run, monkeypatch, tmp_path):
    monkeypatch.setattr(of_run, "LARGEST_FILM", 60_000)
    monkeypatch.setattr(of_run, "film_path", lambda out, plan, env: tmp_path / "films" / "a.gif")
    lines = []
    (path,) = of_run.write(run, report.load(run), lines.append)
    assert len(lines) == 1
    with Image.open(path) as film:
        frames = film.n_frames
    assert frames == 12 or (frames in (23, 45) and path.stat().st_size <= 60_000)


def test_no_failure_is_said(monkeypatch):
    monkeypatch.setattr(
        footage, "first_failures", lambda *_: np.array([footage.NEVER, footage.NEVER])
    )
    world = type("World", (), {"horizon": 100})()
    found = footage.moment(world, None, range(2), 30)  # type: ignore[arg-type]
    assert (found.scene, found.start, found.failing) == (0, 0, ())

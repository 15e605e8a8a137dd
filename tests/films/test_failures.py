"""Where policies fail: the places before a failure, and how a report shows them."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.core import State
from irl_bench.core.settings import BadInput
from irl_bench.films import failures, footage
from irl_bench.report import data as report_data
from irl_bench.report import failures as stored
from irl_bench.report import figures, page, series
from tests.worlds.helpers import Line

pytestmark = pytest.mark.usefixtures("quick_compilation")


class Counted(Line):
    """Counts its steps n. Every tenth of them fails. Its place is (n, the last action)."""

    observation_size: object = 1
    action_size: object = 1
    horizon = 40

    def reset(self, rng):
        del rng
        return self._made(jnp.zeros(()), jnp.zeros(()))

    def step(self, state, action):
        return self._made(state.pipeline_state[0] + 1.0, action[0])

    def _made(self, n, action):
        cost = 1.0 * (n > 0) * (jnp.mod(n, 10) == 0)
        return State(
            (n, action), n[None], -cost, jnp.zeros(()), {"cost": cost, "graded_cost": cost}
        )

    def whereabouts(self, state):
        n, action = state.pipeline_state
        return {"steps": n, "action [1]": action}


def driver(name="bc"):
    return footage.Driver(name, lambda state, memory, key: (jnp.full(1, 0.5), memory))


@functools.cache
def counted():
    return failures.places(Counted(), [driver(), driver("dagger")])


def test_the_place_is_that_of_a_second_before_each_failure():
    found = counted()
    assert found["axes"] == ["steps", "action [1]"] and list(found["drivers"]) == ["bc", "dagger"]
    row = found["drivers"]["bc"]
    # Four failures in each of 256 episodes of 40 steps, which are taken to last 0.1 s.
    back = round(failures.BEFORE / 0.1)
    assert (row["failures"], row["episodes"], row["steps"]) == (1024, 256, 40)
    places = np.array(row["before"])
    assert len(places) == failures.KEPT and set(places[:, 1]) == {0.5}
    # The first step is the earliest place.
    assert set(places[:, 0]) == {max(n - back, 1) for n in (10, 20, 30, 40)}
    usual = np.array(row["usual"])
    assert len(usual) == failures.KEPT and not np.any(usual[:, 0] % 10 == 0)


@pytest.mark.parametrize(
    "odd",
    [{}, {"a": 0.0}, {"a": 0.0, "b": 0.0, "c": 0.0}, {"a": jnp.zeros(2), "b": jnp.zeros(2)},
     {"a\x1b": 0.0, "b": 0.0}, [0.0, 1.0]],
)  # fmt: skip
def test_places_of_another_form_are_refused_in_one_line(odd, monkeypatch):
    given = jax.tree.map(jnp.asarray, odd)
    monkeypatch.setattr(Counted, "whereabouts", lambda self, state: given)
    with pytest.raises(
        BadInput, match=r"whereabouts must return two numbers by name, not"
    ) as error:
        failures.places(Counted(), [driver()])
    assert "\n" not in str(error.value)


def test_a_world_without_places_has_none():
    assert failures.places(envs.make("chain"), [driver()]) is None


def test_blocks_of_episodes_are_those_of_one_call():
    """The last block is filled up, and what fills it is dropped."""
    world = envs.make("lane_keep")
    seen = lambda state, action: state.obs
    scenes = [3, 1, 4, 1, 5]
    whole = next(footage.episodes(world, footage.uniform(world), scenes, 8, seen))
    parts = list(footage.episodes(world, footage.uniform(world), scenes, 8, seen, block=2))
    assert [len(part) for part in parts] == [2, 2, 1]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lane_keep", {}),
        ("race", {}),
        ("highway", {}),
        ("merge", {}),
        ("lane_keep", {"frames": "2"}),
    ],
)
def test_places_of_cars(name, options):
    """The numbers are those that the observation or the state holds by other ways."""
    world = envs.make(name, **options)
    state = jax.jit(world.reset)(jax.random.PRNGKey(3))
    found = world.whereabouts(state)
    assert found is not None and len(found) == 2
    x, y = (float(value) for value in found.values())
    inner = state.pipeline_state.pipeline_state if options else state.pipeline_state
    if name in ("highway", "merge"):
        assert 0.0 <= x <= 150.0 and y == pytest.approx(float(state.obs[0]), abs=1e-5)
    else:
        assert y == pytest.approx(float(inner.car.e_y)) and abs(x) < 0.2


def data_of(found, tmp_path):
    (path := tmp_path / "a.json").write_text(json.dumps(found))
    return report_data.ReportData(
        [], [], [], {"entries": [], "worlds": {}, "settings": {}, "versions": {}},  # type: ignore[typeddict-item]
        failures=stored.read(path, "counted<b>"),
    )  # fmt: skip


def test_the_report_draws_them(tmp_path):
    data = data_of(counted(), tmp_path)
    assert [where.driver for where in data.failures] == ["bc", "dagger"]
    assert data.failures[0].before.shape == (failures.KEPT, 2)
    text = page.build(data)
    assert "<h2>Where failures begin</h2>" in text
    assert "counted&lt;b&gt;: bc, 1,024 failures in 10,240 steps" in text
    assert figures.draw(data).keys() >= {"failures.png", "failures.pdf"}
    assert "Where failures begin" not in page.build(data_of({}, tmp_path))


def test_lines_hold_half_and_nine_tenths_of_the_places():
    rng = np.random.default_rng(0)
    before = np.concatenate(
        [rng.normal([0, 1], 0.2, (600, 2)), rng.normal([1, -1], [0.1, 0.3], (200, 2))]
    )
    where = stored.Where("a", "bc", ("x", "y"), 800, 9000, before, rng.normal(0, 1, (900, 2)))
    found = series.density(where, series.around([where]))
    assert found is not None and found.height.max() == 1.0
    column = np.abs(before[:, :1] - found.x).argmin(axis=1)
    row = np.abs(before[:, 1:] - found.y).argmin(axis=1)
    low, high = found.levels
    height = found.height[row, column]
    assert (height >= high).mean() == pytest.approx(0.5, abs=0.03)
    assert (height >= low).mean() == pytest.approx(0.9, abs=0.03)
    # Rows follow y: the larger heap is at x = 0, y = 1.
    top = np.unravel_index(found.height.argmax(), found.height.shape)
    assert abs(found.x[top[1]]) < 0.2 and abs(found.y[top[0]] - 1) < 0.2


def test_few_places_have_no_density_nor_has_one_place():
    usual = np.random.default_rng(1).normal(size=(99, 2))
    few = stored.Where("a", "bc", ("x", "y"), 19, 99, usual[:19], usual)
    assert series.density(few, series.around([few])) is None
    same = dataclasses.replace(few, before=np.zeros((50, 2)))
    assert series.density(same, series.around([same])) is None


EMPTY = {"failures": 0, "episodes": 1, "steps": 5, "before": [], "usual": []}


@pytest.mark.parametrize(
    "change",
    [
        {"axes": ["one"]}, {"axes": ["a\x1b[2J", "b"]}, {"drivers": []},
        {"drivers": {"bc": {}}},
        {"drivers": {"bc": {**EMPTY, "before": [[1.0]]}}},
        {"drivers": {"bc": {**EMPTY, "steps": -1}}},
        {"drivers": {"bc": {**EMPTY, "usual": [[0.0, 1.7e308], [0.0, -1.7e308]]}}},
        {"drivers": {f"bc{i}": EMPTY for i in range(5)}}, {"drivers": {"bc" * 999 + "!": EMPTY}},
    ],
)  # fmt: skip
def test_a_file_of_another_form_is_left_out(change, tmp_path):
    (path := tmp_path / "a.json").write_text(json.dumps({**counted(), **change}))
    assert stored.read(path, "chain") == []
    path.write_text("{")
    assert stored.read(path, "chain") == [] == stored.read(tmp_path / "none.json", "chain")


def test_a_driver_that_never_failed_is_drawn(tmp_path):
    row = {**EMPTY, "usual": [[0.0, 1.0]]}
    data = data_of({"axes": ["a", "b"], "drivers": {"stranger": row}}, tmp_path)
    assert "failures.png" in figures.draw(data) and "0 failures in 5 steps" in page.build(data)

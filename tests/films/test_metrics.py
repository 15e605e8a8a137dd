"""What the metrics of a world say of drivers: sums against a loop in NumPy, events by episode, and
progress beside the expert's."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.core import State
from irl_bench.films import footage, metrics
from tests.worlds.toys import TwoState

pytestmark = pytest.mark.usefixtures("quick_compilation")
SCENES, STEPS = range(5), 12


class Ride(TwoState):
    """On the road each step is a metre of the way and brings a wall closer; off it, the car backs
    up by a quarter of one."""

    def _state(self, off, word):
        state = super()._state(off, word)
        near = 1.0 + state.obs[1]  # 0.5 to 1.5 s
        return state.replace(
            reward=1.0 - off,
            metrics={
                **state.metrics,
                "progress": jnp.where(off > 0.0, -0.25, 1.0),
                "collision": (off > 0.0).astype(jnp.float32) * (state.obs[2] > 0.0),
                "time_to_collision": near,
            },
        )


@pytest.fixture(scope="module")
def world():
    bare = Ride()
    return bare.bind(bare.dials_for("recoverable"))


def rows(world, driver):
    """{name: float[scenes, STEPS]}, scene by scene."""
    seen = [
        next(footage.episodes(world, driver, [scene], STEPS, lambda s, _: {**s.metrics, "reward":
             s.reward}))
        for scene in SCENES
    ]  # fmt: skip
    return {name: np.concatenate([one[name] for one in seen]) for name in seen[0]}


def test_figures_are_those_of_a_loop_over_scenes(world):
    drivers = [footage.uniform(world), footage.expert(world)]
    found = metrics.measure(world, drivers, SCENES, STEPS, block=2)
    assert list(found) == ["random", "expert"]
    way = {}
    for driver in drivers:
        row, seen = found[driver.name], rows(world, driver)
        for name in ("cost", "graded_cost", "progress", "collision", "time_to_collision", "reward"):
            assert row[name] == pytest.approx(seen[name].mean()), name
        assert row["failed"] == (seen["cost"] > 0).any(1).mean()
        assert row["episodes with collision"] == (seen["collision"] > 0).any(1).mean()
        assert row["episodes below 0.95 s"] == (seen["time_to_collision"] < 0.95).any(1).mean()
        assert (row["episodes"], row["steps"]) == (5, STEPS)
        way[driver.name] = (seen["progress"] * (seen["cost"] == 0)).sum(1)
    assert found["random"]["failed"] > 0 and 0 < found["random"]["collision"] < 1
    share = np.clip(way["random"] / way["expert"], 0, 1)
    assert found["random"]["progress_ratio"] == pytest.approx(share.mean())
    assert found["expert"]["progress_ratio"] == 1.0 > found["random"]["progress_ratio"] >= 0.0


def test_a_ratio_needs_the_expert_and_asks_nothing_where_it_stands(world):
    alone = metrics.measure(world, [footage.uniform(world)], SCENES, STEPS)
    assert "progress_ratio" not in alone["random"]
    way = np.array([3.0, -1.0, 4.0, 1.0])
    assert metrics._ratio(way, np.array([4.0, 2.0, 2.0, 0.0])) == (0.75 + 0 + 1 + 1) / 4
    for broken in (0, 1):
        ways = [way.copy(), np.array([4.0, 2.0, 2.0, 0.0])]
        ways[broken][0] = np.nan
        assert np.isnan(metrics._ratio(*ways))


def test_broken_physics_is_no_success(world):
    class Broken(Ride):
        def step(self, state: State, action):
            after = super().step(state, action)
            return after.replace(metrics={**after.metrics, "cost": jnp.float32(jnp.nan)})

    broken = Broken().bind(world.dials)
    row = metrics.measure(broken, [footage.expert(broken)], SCENES, STEPS)["expert"]
    assert np.isnan(row["cost"]) and row["failed"] == 1.0
    assert json.loads(metrics.content({"expert": row}))["expert"]["cost"] is None


def test_a_table_has_a_column_each(world):
    drivers = [footage.uniform(world), footage.expert(world)]
    found = metrics.measure(world, drivers, SCENES, STEPS)
    head, names, *lines = metrics.table(world, found).splitlines()
    assert head == "means over 5 scenes of 1.2 s" and names.split() == ["random", "expert"]
    told = {line.rsplit(maxsplit=2)[0].strip(): line.split()[-2:] for line in lines}
    assert told["progress_ratio"][1] == "1" and told["cost"][0] == f"{found['random']['cost']:.4g}"
    assert "episodes" not in told


@pytest.mark.parametrize("name", ["race", "highway", "merge"])
def test_a_driving_world_tells_what_drivers_are_judged_by(name):
    world = envs.make(name)
    bound = world.bind(world.dials_for("nominal"))
    row = metrics.measure(bound, [footage.expert(bound)], [0, 1], 5)["expert"]
    assert {"progress", "collision", "off_road", "uncomfortable", "progress_ratio"} <= row.keys()
    assert row["progress"] > 0.5 and row["collision"] == 0.0
    if name != "race":
        assert {"at_fault", "speeding", "episodes below 0.95 s"} <= row.keys()

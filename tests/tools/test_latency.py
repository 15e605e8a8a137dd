"""The time from wrong actions to a failure, in a world where it is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from envs.core import State, World
from irl_bench.tools import latency

pytestmark = pytest.mark.usefixtures("quick_compilation")


@struct.dataclass
class Dials:
    unused: float = 0.0


class Fuse(World):
    """A world that fails for good seven steps after the first action other than the expert's 0."""

    name, horizon = "fuse", 100

    def __init__(self):
        self.dials = Dials()

    observation_size, action_size = 1, 1

    def reset(self, rng):
        zero = jnp.zeros(())
        return State(
            jnp.int32(-1), jnp.zeros(1), zero, zero, {"cost": zero, "graded_cost": zero}, {}
        )

    def step(self, state, action):
        left = state.pipeline_state
        left = jnp.where(
            left > 0, left - 1, jnp.where((left < 0) & (jnp.abs(action[0]) > 0), 6, left)
        )
        cost = (left == 0).astype(jnp.float32)
        return state.replace(pipeline_state=left, metrics={"cost": cost, "graded_cost": cost})

    def expert(self, state, key):
        return jnp.zeros(1)


def test_a_fuse_of_seven_steps():
    """From the last random action on, but from the first where the burst outlasts the fuse."""
    none, *rows = latency.measure(Fuse(), episodes=16, before=5, watched=20)
    assert none == {"burst": 0, "episodes": 16, "failed": 0.0, "steps": None}
    steps = {1: 7.0, 2: 6.0, 4: 4.0, 8: 7.0, 16: 7.0, 32: 7.0}
    assert [row["burst"] for row in rows] == list(steps) == list(latency.BURSTS[1:])
    for row in rows:
        assert row["failed"] == 1.0 and row["episodes"] == 16
        assert row["steps"] == [steps[row["burst"]]] * 3
    assert latency.latency([none, *rows]) == (7, 1)


def test_failures_that_come_anyway_give_no_latency():
    class Clock(Fuse):
        def step(self, state, action):
            age = state.pipeline_state - 1
            cost = (age <= -15).astype(jnp.float32)
            return state.replace(pipeline_state=age, metrics={"cost": cost, "graded_cost": cost})

    rows = latency.measure(Clock(), episodes=4, before=5, watched=20)
    assert all(row["failed"] == 1.0 for row in rows) and rows[0]["steps"] == [9.0] * 3
    assert latency.latency(rows) is None


def test_the_latency_is_that_of_the_shortest_burst_that_makes_enough_episodes_fail():
    shares, steps = [0.05, 0.14, 0.16, 0.9], [300.0, 200.0, 40.5, 3.0]
    rows = [
        {"burst": burst, "failed": share, "steps": [1.0, median, 400.0]}
        for burst, share, median in zip((0, 1, 2, 4), shares, steps, strict=True)
    ]
    assert latency.latency(rows) == (41, 2)
    assert latency.latency(rows[:2]) is None


def test_failures_before_and_after_what_is_watched_do_not_count():
    class Down(Fuse):
        def reset(self, rng):
            state = super().reset(rng)
            return state.replace(pipeline_state=jnp.where(jax.random.bernoulli(rng), 0, -1))

        def step(self, state, action):
            after = super().step(state, action)
            return after.replace(
                metrics=jax.tree.map(
                    lambda _: (after.pipeline_state == 0).astype(jnp.float32), after.metrics
                )
            )

    some = latency.measure(Down(), episodes=64, before=5, watched=20)
    assert all(16 < row["episodes"] < 48 for row in some)
    assert [row["failed"] for row in some] == [0.0] + [1.0] * (len(some) - 1)
    assert all(
        row["failed"] == 0.0 and row["steps"] is None
        for row in latency.measure(Fuse(), episodes=4, watched=6)
    )
    assert np.isfinite([row["failed"] for row in some]).all()

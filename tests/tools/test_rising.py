"""Whether an expert gets up, in a world where the answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from scipy import stats

from envs.core import State, World
from irl_bench.tools import rising

pytestmark = pytest.mark.usefixtures("quick_compilation")


@struct.dataclass
class Dials:
    share: float = 0.25
    stands: float = 0.0
    relapse: float = 0.0


class Climb(World):
    """A world in which a share of the starts gets up after twelve steps. The other starts lie for
    good or stand already; those that relapse are down at the end."""

    name, horizon = "climb", 100
    observation_size, action_size = 1, 1

    def __init__(self, **dials):
        self.dials = Dials(**dials)

    def reset(self, rng):
        zero, kinds = jnp.zeros(()), jax.random.uniform(rng)
        dials = self.dials
        after = jnp.where(
            kinds < dials.share, 12, jnp.where(kinds < dials.share + dials.stands, 0, 1000)
        )
        return State(
            (after, jnp.int32(0)), jnp.zeros(1), zero, zero, {"cost": zero, "graded_cost": zero}, {}
        )

    def step(self, state, action):
        after, t = state.pipeline_state
        lies = (t < after) | ((t > 90) & (self.dials.relapse > 0)) | (jnp.abs(action[0]) > 0)
        cost = lies.astype(jnp.float32)
        return state.replace(
            pipeline_state=(after, t + 1), metrics={"cost": cost, "graded_cost": cost}
        )

    def expert(self, state, key):
        return jnp.zeros(1)


def test_those_who_get_up_are_counted_with_the_steps_that_it_takes():
    found = rising.measure(Climb(), states=200, steps=100)
    assert found["fallen"] == 200 and 30 < found["up"] < 70 and found["steps"] == [12.0, 12.0, 12.0]
    # Wilson's interval: the p at which the count lies 1.96 standard deviations off.
    z, n, share = stats.norm.ppf(0.975), 200, found["up"] / 200
    for p in found["interval"]:
        assert np.isclose(abs(share - p), z * np.sqrt(p * (1 - p) / n))


def test_who_did_not_start_fallen_or_lies_again_at_the_end_does_not_count():
    found = rising.measure(Climb(stands=0.5), states=200, steps=100)
    assert 70 < found["fallen"] < 130 and 30 < found["up"] < 70
    down = rising.measure(Climb(relapse=1.0), states=20, steps=100)
    assert down["up"] == 0 and down["steps"] is None and down["fallen"] == 20
    none = rising.measure(Climb(share=0.0, stands=1.0), states=20, steps=100)
    assert none["fallen"] == 0 and none["interval"] is None

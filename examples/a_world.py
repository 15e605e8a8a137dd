# %% [markdown]
# # Bring your own world
#
# A world is a Brax environment with three additions: a *cost* that says whether a state is a
# failure, an *expert* that can be asked in any state, and *dials*, numbers that can be turned
# without compiling anything again.
#
# This notebook writes a world, checks it, scores two hand-written policies on it, and sweeps `bc`
# and `dagger`.

# %%
import importlib
import pathlib

import jax.numpy as jnp
import matplotlib.pyplot as plt
import pandas as pd

import irl_bench

# %% [markdown]
# ## The file
#
# Somebody walks along a narrow ledge. Every 16 steps a gust of wind pushes sideways. There are 64
# kinds of gust, most of them rare, and each announces itself by a sign of its own. Whoever knows
# the sign steps against the wind. Whoever does not may fall. A fallen walker hangs from the ledge,
# and only the action `CLIMB` leads back up, sometimes after several tries.

# %%
LEDGE = '''
"""A walk along a ledge in gusts of wind. Who falls hangs from the ledge and can climb back."""

import jax
import jax.numpy as jnp
from brax.envs.base import State
from flax import struct

from envs import World, dial

KINDS, PERIOD, STRIDE, PUSH = 64, 16, 0.5, 1.0
LEFT, STAY, RIGHT, CLIMB = range(4)
SHIFT = jnp.array([-STRIDE, 0.0, STRIDE, 0.0])  # of each action [m]
SIDE = jnp.where(jnp.arange(KINDS) % 2 == 0, 1.0, -1.0)  # where a kind of gust pushes
COMMON = jnp.log(1.0 / jnp.arange(1, KINDS + 1) ** 2)  # the k-th kind in proportion to 1 / k²


@struct.dataclass
class Dials:
    grip: float = dial(0.5, "probability that one try at climbing succeeds", low=0.0, high=1.0)
    rope: float = dial(0.0, "probability per step of being pulled up", low=0.0, high=1.0)
    sway: float = dial(0.05, "standard deviation of swaying", unit="m", low=0.0, high=1.0)


class Ledge(World):
    """Observation float32[67]: offset [m], whether hanging, whether a gust is coming, its kind."""

    name = "ledge"
    modes = {"nominal": {}, "recoverable": {"rope": 0.25}}
    horizon = 768
    recovery_steps = 7  # 0.5 ** 7 < 1 %
    latency = 1
    n_actions = 4
    action_size = 4
    observation_size = 3 + KINDS
    failure_flags = (1,)

    def __init__(self):
        self.dials = Dials()

    def reset(self, rng):
        rng, draw = jax.random.split(rng)
        start = jnp.zeros(()), jnp.array(False), jnp.zeros((), jnp.int32)
        return self._state(*start, draw, rng)

    def step(self, state, action):
        offset, hanging, time, kind, rng = state.pipeline_state
        rng, sway, climb, rope, draw = jax.random.split(rng, 5)
        moved = offset + SHIFT[action] + self._push(time, kind)
        moved += self.dials.sway * jax.random.normal(sway)
        climbed = (action == CLIMB) & (jax.random.uniform(climb) < self.dials.grip)
        pulled = jax.random.uniform(rope) < self.dials.rope
        down = jnp.where(hanging, ~(climbed | pulled), jnp.abs(moved) > 1.0)
        return self._state(jnp.where(hanging | down, 0.0, moved), down, time + 1, draw, rng)

    def expert(self, state, key):
        offset, hanging, time, kind, _ = state.pipeline_state
        after = offset + SHIFT[:3] + self._push(time, kind)
        return jnp.where(hanging, CLIMB, jnp.argmin(jnp.abs(after))).astype(jnp.int32)

    def _push(self, time, kind):
        return jnp.where(time % PERIOD == PERIOD - 1, PUSH * SIDE[kind], 0.0)

    def _state(self, offset, hanging, time, draw, rng):
        kind = jax.random.categorical(draw, COMMON)
        gust = (~hanging & (time % PERIOD == PERIOD - 1)).astype(jnp.float32)
        cost = hanging.astype(jnp.float32)
        sign = gust * jax.nn.one_hot(kind, KINDS)
        view = jnp.concatenate([jnp.stack([offset, cost, gust]), sign])
        cost = jnp.where(jnp.isfinite(offset), cost, jnp.nan)  # broken numbers are no success
        metrics = {"cost": cost, "graded_cost": jnp.maximum(cost, jnp.abs(offset))}
        inner = (offset, hanging, time, kind, rng)
        return State(inner, view, 1.0 - cost, jnp.zeros(()), metrics)


def make(**dials):
    world = Ledge()
    return world.bind(world.dials.replace(**dials))
'''
_ = pathlib.Path("ledge.py").write_text(LEDGE.lstrip())

# %% [markdown]
# `recovery_steps` and `latency` decide where the window of horizons begins: a horizon has to be
# much longer than it takes the expert to undo a failure. A failure never ends an episode.
#
# The mode `recoverable` is a control. A rope pulls every fallen walker up, so errors stay cheap
# whatever the learner knows.
#
# ## Score two policies
#
# The world is named `module:attribute`, and `score` puts one policy through the protocol on it
# without writing any file. One policy ignores the wind and stands still. The other ignores it too,
# but climbs when it hangs.

# %%
STAY, CLIMB = 1, 3


def stand(observation, key):
    return jnp.int32(STAY)


def stand_or_climb(observation, key):
    return jnp.where(observation[1] > 0.5, CLIMB, STAY).astype(jnp.int32)


rows = []
for policy in (stand, stand_or_climb):
    figures = irl_bench.score(policy, "ledge:make", seeds=10, episodes=64, eps_episodes=16)
    rows.append({"policy": policy.__name__, **figures})
pd.DataFrame(rows)[["policy", "verdict", "hazard", "recovery", "level"]].round(4)

# %% [markdown]
# Both fall equally often, about once in 25 steps. `stand` hangs for the rest of the episode, so
# nearly every episode is lost: SATURATED. `stand_or_climb` is back after two steps on average, and
# its cost grows like T: LINEAR. `level` is the share of steps spent hanging.
#
# ## Let it be checked
#
# A world from outside is checked before anything runs in it: its attributes, the shapes and types
# that its methods return, and the numbers of a short rollout. What is wrong is one line. Here is a
# slip that is easy to make, a cost that is a boolean.

# %%
ledge = importlib.import_module("ledge")  # the file written above


class Slip(ledge.Ledge):
    name = "slip"

    def _state(self, *parts):
        state = super()._state(*parts)
        return state.replace(metrics={**state.metrics, "cost": state.metrics["cost"] > 0.5})


try:
    irl_bench.score(stand, Slip(), seeds=2, episodes=4)
except irl_bench.BadInput as error:
    print(error)

# %% [markdown]
# ## Sweep it
#
# 40 demonstrations leave the rarest kinds of gust unseen. That is what the clone will fall for.

# %%
verdicts = irl_bench.run(
    ["bc", "dagger"], "ledge:make", seeds=10, demos=40, budget="default", out="runs/ledge"
)

# %%
table = pd.DataFrame(verdicts).query("not reference")
table[["mode", "algo", "verdict", "slope", "ci_low", "ci_high", "hazard", "recovery"]].round(5)

# %%
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
for row in table.to_dict("records"):
    label = f"{row['algo']}, {row['mode']}: {row['verdict']}"
    axes.plot(row["horizons"], row["regret"], marker="o", ms=3, label=label)
ticks = [100, 200, 400, 700]
axes.set(xscale="log", yscale="log", xlabel="horizon T [steps]", ylabel="regret [cost]")
axes.set_xticks(ticks, ticks)
axes.minorticks_off()
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Turn a dial
#
# Dials are settings of the run, by the world's name: `ledge={"grip": 0.1}` in Python,
# `--ledge.grip=0.1` on the command line. A value out of range is refused.

# %%
try:
    irl_bench.run("bc", "ledge:make", budget="smoke", out="runs/refused", ledge={"grip": 2.0})
except irl_bench.BadInput as error:
    print(error)

# %% [markdown]
# # Bring your own algorithm
#
# An algorithm is one file with a function `make(spec, config)` that returns a `Learner`: a few pure
# functions over one state. It knows nothing of seeds, files or devices. The sweep runs it on every
# seed at once, evaluates it and stores what it has learned.
#
# This notebook writes a clone that counts, compares it with `bc` on the world `chain`, and then
# changes its verdict with one setting.

# %%
import pathlib

import matplotlib.pyplot as plt
import pandas as pd

import irl_bench

# %% [markdown]
# ## The file
#
# In `chain` an observation names one of 64 situations, or says that the learner is off the states
# that demonstrations cover. So a clone can simply count which action the expert took in each
# situation, and take the most frequent one.
#
# What should it do where it has counted nothing? That is its one setting, `fallback`.

# %%
TALLY = '''
"""A clone that counts: in each situation it takes the expert's most frequent action."""

import dataclasses

import jax
import jax.numpy as jnp

from irl_bench import BadInput, Consumes, Learner, Spec, Task, setting


@dataclasses.dataclass(frozen=True)
class Config:
    fallback: int = setting(0, "action in a situation that was never demonstrated", low=0, high=3)


def make(spec: Spec, config: Config) -> Learner:
    if spec.n_actions is None:
        raise BadInput(f"tally needs discrete actions, unlike {spec.world.name}; nearest: chain")

    def init(key, task: Task):
        counts = jnp.zeros((spec.observation_size, spec.n_actions))
        return counts.at[:, config.fallback].set(0.5)  # outvoted by a single demonstration

    def update(counts, task: Task):
        demos = task.demonstrations  # observation [N, T, O], action [N, T], mask [N, T]
        actions = jax.nn.one_hot(demos.action, spec.n_actions)
        seen = jnp.einsum("nt,nto,nta->oa", demos.mask, demos.observation, actions)
        return counts + seen, {"situations_seen": jnp.sum(seen.sum(axis=1) > 0)}

    def act(counts, observation, key):
        return jnp.argmax(observation @ counts).astype(jnp.int32)

    return Learner(
        init=init,
        update=update,
        policy=lambda counts: counts,
        act=act,
        rounds=1,
        consumes=Consumes(expert_queries=spec.labels()),
    )
'''
_ = pathlib.Path("tally.py").write_text(TALLY.lstrip())

# %% [markdown]
# | part | what it does |
# |---|---|
# | `Spec` | what is static: the world, its shapes, the number and length of demonstrations |
# | `Task` | what is data: the demonstrations and the world's dials |
# | `init`, `update` | make the state; improve it by one round, and return metrics |
# | `policy`, `act` | pick the part of the state that is evaluated; choose one action with it |
# | `rounds` | how often `update` is called |
# | `Consumes` | what the algorithm uses up, so that scores are compared at stated budgets |
# | `setting` | a default with its meaning and range; it becomes the flag `--tally.fallback` |
# | `BadInput` | an error of the user, shown as one line |
#
# ## Run it
#
# A reference `module:attribute` names the algorithm. The module is looked up in the current folder
# and on the path.

# %%
verdicts = irl_bench.run(
    ["tally:make", "bc"], "chain", mode="dagger_chain", seeds=10, budget="default", out="runs/tally"
)

# %% [markdown]
# Both clones make the same kind of error: they fail where their demonstrations hold no example.
# Neither knows the way back, so both are QUADRATIC.
#
# ## Change the setting
#
# Action 3 of `chain` is `recover`. It is wrong in all 64 situations and the only way back when off.
# With `fallback=3` the clone takes it wherever it has counted nothing. It still errs in the
# situations that it never saw, but then it comes back.

# %%
verdicts += irl_bench.run(
    "tally:make",
    "chain",
    mode="dagger_chain",
    seeds=10,
    budget="default",
    out="runs/tally_recovers",
    tally={"fallback": 3},
)

# %%
table = pd.DataFrame(verdicts).query("not reference").reset_index(drop=True)
table["learner"] = ["tally, fallback=0", "bc", "tally, fallback=3"]
table[["learner", "verdict", "slope", "ci_low", "ci_high", "hazard", "recovery"]].round(5)

# %%
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
for row in table.to_dict("records"):
    axes.plot(row["horizons"], row["regret"], marker="o", ms=3, label=row["learner"])
ticks = [128, 256, 512, 1024]
axes.set(xscale="log", yscale="log", xlabel="horizon T [steps]", ylabel="regret [cost]")
axes.set_xticks(ticks, ticks)
axes.minorticks_off()
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## What the user of your algorithm sees
#
# Settings are checked before anything runs, and the message names the nearest valid value. The
# same holds for a world that the algorithm cannot handle.

# %%
for world, settings in (("chain", {"fallback": 7}), ("lane_keep", {})):
    try:
        irl_bench.run("tally:make", world, budget="smoke", out="runs/refused", tally=settings)
    except irl_bench.BadInput as error:
        print(error)

# %% [markdown]
# The SHA-256 of `tally.py` is part of the name of each result. An edited file never passes for the
# old one: the next run trains again.

# %% [markdown]
# # Maps of a learned reward
#
# Inverse reinforcement learning explains demonstrations by a reward. This notebook lets `airl`
# learn one on `grid`, a walk on 6 x 6 cells whose true reward is known, and draws both.

# %%
import matplotlib.pyplot as plt
import numpy as np

import envs
import irl_bench

# %% [markdown]
# ## Learn
#
# The demonstrator of `grid` walks to the goal, avoids mud and dislikes gravel. `airl` sees 256 of
# its walks and never the reward.

# %%
SEEDS = 5
verdicts = irl_bench.run(
    "airl",
    "grid",
    budget="smoke",
    seeds=SEEDS,
    demos=256,
    demo_steps=100,
    airl={"rounds": 100},
    out="runs/reward_maps",
)

# %% [markdown]
# ## Ask for the reward of each cell
#
# `irl_bench.load` returns the reward of a seed as a function of observation, action and next
# observation. An observation of `grid` is a one-hot vector, so the rows of an identity matrix are
# all of its cells. `airl` learns a reward of the state alone, so the action does not matter.
#
# Adding a constant to a reward, or multiplying it by a positive number, changes no optimal policy.
# So each seed's map is standardised first.

# %%
cells = np.eye(36, dtype=np.float32)
stay = np.zeros(36, np.int32)


def standardised(values):
    values = np.asarray(values, float)
    return (values - values.mean()) / values.std()


seeds = [irl_bench.load("runs/reward_maps", "airl", "grid", seed=seed) for seed in range(SEEDS)]
learned = np.stack([standardised(one.reward(cells, stay, cells)) for one in seeds])
true = standardised(seeds[0].world.rewards())
for seed, values in enumerate(learned):
    print(f"seed {seed}: correlation with the true reward {np.corrcoef(values, true)[0, 1]:.2f}")
print(f"mean of seeds: {np.corrcoef(learned.mean(axis=0), true)[0, 1]:.2f}")

# %% [markdown]
# ## Draw them

# %%
ground = np.asarray(seeds[0].world.features).argmax(axis=1)  # plain, mud, gravel, goal
names = np.array(["", "mud", "gravel", "goal"])[ground]


def draw(axes, values, title):
    image = axes.imshow(values.reshape(6, 6), vmin=-3, vmax=3)
    for place, name in enumerate(names):
        row, column = divmod(place, 6)
        axes.text(column, row, name, ha="center", va="center", color="white", fontsize=8)
    axes.set(title=title, xticks=[], yticks=[])
    return image


figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
draw(left, true, "true reward")
image = draw(right, learned.mean(axis=0), "learned by airl, mean of seeds")
figure.colorbar(image, ax=(left, right), label="standard deviations")
plt.show()

# %% [markdown]
# What matters for the demonstrator is found: the goal is bright and mud is dark. Cells that nobody
# visits are guesses. Comparing the seeds shows which parts of a map to trust.

# %%
figure, axes = plt.subplots(1, SEEDS, figsize=(8, 1.9), layout="constrained", squeeze=False)
for seed, (axis, values) in enumerate(zip(axes[0], learned)):
    axis.imshow(values.reshape(6, 6), vmin=-3, vmax=3)
    axis.set(title=f"seed {seed}", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## Worlds with continuous states
#
# A car has no list of states to ask about. Such a world says itself where its reward is worth a
# look: `world.probe()` returns observations on a grid of two quantities, and the true cost there.
# On `lane_keep` these are the offset from the middle of the lane and the heading.

# %%
probe = envs.make("lane_keep").probe()
x, y = np.unique(probe["x"]), np.unique(probe["y"])
figure, axes = plt.subplots(figsize=(6, 2.8), layout="constrained")
mesh = axes.pcolormesh(x, y, -probe["cost"].reshape(len(y), len(x)))
axes.set(xlabel=probe["x_name"], ylabel=probe["y_name"], title="minus the true cost")
figure.colorbar(mesh)
plt.show()

# %% [markdown]
# After `irl_bench.run("airl", "lane_keep", out="runs/airl")`, which takes minutes, a learned reward
# is asked about the same points:
#
# ```python
# learned = irl_bench.load("runs/airl", seed=0)
# observation = probe["observation"]
# values = learned.reward(observation, np.zeros((len(observation), 2)), observation)
# ```
#
# The report of such a run has these maps already, and the values are stored in `cells/*.parquet` as
# the quantity `reward_map`.

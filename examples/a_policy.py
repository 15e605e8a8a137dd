# %% [markdown]
# # Score a policy that was trained elsewhere
#
# A policy from PyTorch, stable-baselines3 or plain NumPy can be measured like any learner here.
# `irl_bench.host_policy` wraps it, and `irl_bench.score` returns its verdict, hazard, recovery and
# regret. Nothing is trained and no file is written.
#
# This notebook scores three policies on `lane_keep`, a car that has to stay on its lane. The two
# that need other packages are skipped where these are not installed:
# `pip install 'irl-bench[examples]'`.

# %%
import importlib.util

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import envs
import irl_bench

# %% [markdown]
# ## Demonstrations
#
# A world is an ordinary Brax environment with an expert, so a rollout is a scan. Here the expert
# drives 16 episodes of 200 steps.

# %%
world = envs.make("lane_keep")


def drive(key):
    def step(state, key):
        action = world.expert(state, key)
        return world.step(state, action), (state.obs, action)

    return jax.lax.scan(step, world.reset(key), jax.random.split(key, 200))[1]


keys = jax.random.split(jax.random.PRNGKey(0), 16)
states, actions = (np.array(rows) for rows in jax.jit(jax.vmap(drive))(keys))
states, actions = states.reshape(-1, states.shape[-1]), actions.reshape(-1, actions.shape[-1])
print(states.shape, actions.shape)

# %% [markdown]
# ## NumPy
#
# `host_policy` takes any function from a batch of observations `[N, O]` to actions `[N, A]`. This
# one is a linear clone, fitted by least squares.

# %%
inputs = np.column_stack([states, np.ones(len(states))])
weights = np.linalg.lstsq(inputs, actions, rcond=None)[0]


def linear(observations):
    return np.clip(observations @ weights[:-1] + weights[-1], -1.0, 1.0)


policies = {"NumPy, linear clone": irl_bench.host_policy(linear)}

# %% [markdown]
# ## PyTorch
#
# A `torch.nn.Module` is wrapped as it is. This one clones the same demonstrations.


# %%
def clone_with_torch():
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(states.shape[1], 64),
        torch.nn.Tanh(),
        torch.nn.Linear(64, actions.shape[1]),
        torch.nn.Tanh(),
    )
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    x, y = torch.tensor(states), torch.tensor(actions)
    for _ in range(600):
        rows = torch.randint(len(x), (256,))
        loss = torch.nn.functional.mse_loss(network(x[rows]), y[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network


if importlib.util.find_spec("torch"):
    policies["PyTorch, clone"] = irl_bench.host_policy(clone_with_torch())
else:
    print("PyTorch is not installed, so its policy is skipped.")

# %% [markdown]
# ## stable-baselines3
#
# A model with `predict` is wrapped as it is too. To its trainer the world is an ordinary Gymnasium
# environment. A few thousand steps of PPO are far too few to learn to drive, but enough for a
# policy to score.


# %%
def train_with_sb3(steps):
    import stable_baselines3
    from stable_baselines3.common.env_util import make_vec_env

    import envs.gym  # noqa: F401  makes the names known to Gymnasium

    many = make_vec_env("irl_bench/lane_keep-v0", n_envs=2, seed=0, env_kwargs={"horizon": 256})
    model = stable_baselines3.PPO("MlpPolicy", many, n_steps=256, device="cpu", seed=0)
    return model.learn(steps)


if importlib.util.find_spec("stable_baselines3"):
    policies["stable-baselines3, PPO"] = irl_bench.host_policy(train_with_sb3(steps=2048))
else:
    print("stable-baselines3 is not installed, so its policy is skipped.")

# %% [markdown]
# ## Score them
#
# JAX cannot trace these policies. Each step of a rollout leaves the compiled program, asks the
# policy about all episodes in one batch, and comes back.

# %%
scores = {
    name: irl_bench.score(policy, "lane_keep", seeds=5, episodes=16, eps_episodes=16)
    for name, policy in policies.items()
}
table = pd.DataFrame(scores).T
print(table[["verdict", "hazard", "recovery", "level", "eps_expert"]].to_string())

# %% [markdown]
# | column | meaning |
# |---|---|
# | hazard | how often per step the policy leaves the lane |
# | recovery | how often per step it comes back |
# | level | share of all steps off the lane, beyond the expert's |
# | eps_expert | share of the expert's states in which the action is wrong by more than 0.1 |
#
# The clones are right in almost all of the expert's states. Still they spend most of their steps
# off the lane: they leave it seldom, but hardly ever find the way back, which no demonstration
# shows. Agreement with the expert on the expert's own states says little about driving. A policy
# that leaves more often but comes back may do better, as that of PPO shows.
#
# `reason` holds the figures that a verdict rests on. SATURATED means that a policy leaves the lane
# so often that nearly all episodes have failed before the longest horizon: its regret then grows
# like T because nothing is left to lose.

# %%
for name, figures in scores.items():
    print(f"{name}: {figures['verdict']}, {figures['reason']}")

# %%
figure, axes = plt.subplots(figsize=(6, 2.4), layout="constrained")
axes.barh(list(scores), [figures["level"] for figures in scores.values()], color="tab:blue")
axes.set(xlabel="share of steps off the lane", xlim=(0, 1))
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## When a policy does not fit
#
# A policy is asked once before any rollout. What is wrong with its answer is one line.

# %%
try:
    irl_bench.score(irl_bench.host_policy(lambda rows: rows[:, :1]), "lane_keep", seeds=2)
except irl_bench.BadInput as error:
    print(error)

# %% [markdown]
# In a sweep, name the policy as `module:attribute`, for example
# `irl_bench.run(policy="my_policy:policy", env="lane_keep")` with
# `policy = irl_bench.host_policy(model)` in `my_policy.py`. It then stands in the same table and
# the same report as the learners.

"""Scores a PyTorch policy on lane keeping.

Needs the extra `examples`: pip install 'irl-bench[examples]'. A network that was trained elsewhere is a function of batches on
the host, and `host_policy` lets a jitted rollout ask it. Here it clones an expert in a few lines, to have one to score.
"""

import numpy as np
import torch

import envs
import irl_bench
from irl_bench import rollout

world = envs.make("lane_keep")
demonstrations = rollout.record(world, seed=0, episodes=16, steps=200).demonstrations
states = torch.tensor(np.array(demonstrations.observation)).reshape(-1, world.observation_size)
actions = torch.tensor(np.array(demonstrations.action)).reshape(-1, world.action_size)

torch.manual_seed(0)
policy = torch.nn.Sequential(
    torch.nn.Linear(world.observation_size, 64), torch.nn.Tanh(), torch.nn.Linear(64, world.action_size), torch.nn.Tanh()
)
optimiser = torch.optim.Adam(policy.parameters(), 3e-3)
for _ in range(600):
    rows = torch.randint(len(states), (256,))
    loss = torch.nn.functional.mse_loss(policy(states[rows]), actions[rows])
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()

figures = irl_bench.score(irl_bench.host_policy(policy), "lane_keep", seeds=5, episodes=16, eps_episodes=16)
print(f"{figures['verdict']}: {figures['reason']}")
print(f"leaves the lane with probability {figures['hazard']:.4f} per step; {figures['level']:.2f} of all steps are off it")

"""Trains with stable-baselines3 on lane keeping and scores the policy.

Needs the extra `examples`: pip install 'irl-bench[examples]'. For the trainer the world is an ordinary Gymnasium environment;
`irl_bench.score` puts the model through the protocol.
"""

import sys

import stable_baselines3
from stable_baselines3.common.env_util import make_vec_env

import envs.gym  # noqa: F401  makes the names known to Gymnasium
import irl_bench

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 2048

env = make_vec_env("irl_bench/lane_keep-v0", n_envs=2, seed=0, env_kwargs={"horizon": 256})
model = stable_baselines3.PPO("MlpPolicy", env, n_steps=256, device="cpu", seed=0)
model.learn(steps)

figures = irl_bench.score(irl_bench.host_policy(model), "lane_keep", seeds=5, episodes=16, eps_episodes=16)
print(f"{figures['verdict']}: {figures['reason']}")
print(f"leaves the lane with probability {figures['hazard']:.4f} per step; {figures['level']:.2f} of all steps are off it")

"""Trains GAIL at a small size and drives a Gymnasium environment with its policy and its reward.

Needs the extra `data`: pip install 'irl-bench[data]'.
"""

import tempfile

import gymnasium

import envs.gym  # noqa: F401  makes the names known to Gymnasium
import irl_bench

with tempfile.TemporaryDirectory() as out:
    irl_bench.run(
        "gail", "chain", mode="dagger_chain", budget="smoke", seeds=1, out=out, gail={"rounds": 5}
    )
    learned = irl_bench.load(out, "gail", "chain", seed=0)

env = gymnasium.make("irl_bench/chain-v0", horizon=200)
observation, info = env.reset(seed=0)
paid = rewarded = failed = 0.0
done = False
while not done:
    action = learned.act(observation)
    after, reward, terminated, truncated, info = env.step(int(action))
    rewarded += float(learned.reward(observation, action, after))
    paid, failed = paid + reward, failed + info["cost"]
    observation, done = after, terminated or truncated
print(f"200 steps: return {paid:.0f}, failed steps {failed:.0f}, learned reward {rewarded:.1f}")

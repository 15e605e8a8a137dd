"""The probe: what it measures, that it begins where best-of-n begins, and that training is the same
with and without it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_bench.algos import airl, best_of_n, ppo, rlhf
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Spec, Task
from irl_bench.rl import ppo as loop
from irl_bench.rollouts import starts
from irl_bench.rollouts.evaluation import collect
from tests.worlds.helpers import Windy, train

KEYS = jax.random.split(jax.random.PRNGKey(0), 3)
pytestmark = pytest.mark.usefixtures("quick_compilation")
SMALL = {
    "hidden": (8,), "value_hidden": (8,), "bc_steps": 50, "reward_hidden": (8,), "pool_worlds": 16,
    "pool_steps": 32, "segment": 8, "reward_steps": 50, "labels": 60, "worlds": 8, "unroll": 16,
    "minibatches": 2, "episode_steps": 16, "rounds": 4, "policy_delay": 2, "learning_rate": 1e-2,
    "reference_kl": 0.0, "keep": "last", "disc_hidden": (8,), "init": "bc", "samples": 16,
}  # fmt: skip
PROBE = {"probe": 64, "probe_warm": 6, "probe_length": 8}
BEGINS = {"begins": 64, "warm": 6, "length": 8}
NAMES = {"probe_gold", "probe_proxy", "probe_proxy_start", "probe_kl"}


def made(module, **settings):
    known = module.Config.__dataclass_fields__
    config = {name: value for name, value in {**SMALL, **settings}.items() if name in known}
    return module.make(Spec(Windy(), 16, 4, 8), module.Config(**config))


def trained(module, **settings):
    """(states, metrics [seeds, rounds])"""
    learner, task = made(module, **settings), Task(collect(Windy(), KEYS[0], 4, 8), Windy().dials)
    states, metrics = jax.jit(jax.vmap(lambda key: train(learner, key, task)))(KEYS)
    return states, jax.tree.map(np.asarray, metrics)


@pytest.mark.parametrize(
    "module", [*(pytest.param(module, marks=pytest.mark.slow) for module in (rlhf, airl)), ppo]
)
def test_training_is_the_same_with_a_probe_and_without(module):
    bare, none = trained(module)
    _, found = trained(module, **PROBE)
    assert set(found) - set(none) == NAMES
    assert (bare if module is ppo else bare.policy).probe is None
    for name, values in none.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-4, err_msg=name)
    held = {name: found[name][:, :3] for name in NAMES}  # rounds 0 to 2 collect with the clone
    assert (held["probe_kl"] < 1e-6).all() and (found["probe_kl"][:, 3] > 1e-4).all()
    # The same starts and the same noise, so the same policy earns the same in every round.
    np.testing.assert_array_equal(held["probe_gold"], held["probe_gold"][:, :1].repeat(3, 1))
    assert (found["probe_gold"][:, 3] != found["probe_gold"][:, 2]).all()
    # The reward of AIRL changes from round to round; of one policy both sides change alike.
    np.testing.assert_allclose(held["probe_proxy"], held["probe_proxy_start"], rtol=1e-4)
    assert (found["probe_proxy"][:, 3] != found["probe_proxy_start"][:, 3]).all()
    # Per rollout of 8 steps, where the training's own is per step.
    ratio = found["probe_kl"][:, 3] / (8 * found["reference_kl"][:, 3])
    assert ((ratio > 0.3) & (ratio < 3)).all()


def test_a_probe_needs_a_reference_that_stays_the_same():
    with pytest.raises(BadInput, match=r"probe=64 .*; nearest: statistics=demonstrations"):
        made(ppo, statistics="running", **PROBE)
    made(ppo, statistics="running")


def test_gold_and_proxy_are_sums_over_a_rollout():
    for reward, expected in (("true", None), ("constant", 8.0)):
        _, found = trained(ppo, reward=reward, **PROBE)
        proxy = found["probe_gold"] if expected is None else expected
        np.testing.assert_allclose(found["probe_proxy"], proxy, rtol=1e-5)


@pytest.mark.slow
def test_the_clone_earns_the_same_as_the_best_of_one():
    states, probed = trained(rlhf, **PROBE)
    _, best = trained(best_of_n, **BEGINS)
    assert (best["probe_kl"][:, 0] == 0).all() and (np.diff(best["probe_proxy"], axis=1) > 0).all()
    start = best["probe_proxy_start"]
    np.testing.assert_array_equal(start, start[:, :1].repeat(5, 1))
    np.testing.assert_allclose(best["probe_proxy"][:, 0], start[:, 0], rtol=1e-3, atol=1e-4)
    rolled = states.policy.probe.reference  # [seeds, 64, 1, 8]
    after = rolled.next_observation
    learned = jax.vmap(made(rlhf).reward_fn)(states.reward, after, rolled.action, after)
    for name, reward in (("probe_gold", rolled.reward), ("probe_proxy", learned)):
        total = np.asarray(reward).sum(-1)[..., 0]
        np.testing.assert_allclose(total.mean(1), probed[name][:, 0], rtol=1e-3, atol=1e-4)
        error = total.std(1) / np.sqrt(64)
        gap = np.abs(probed[name][:, 0] - best[name][:, 0])
        assert (gap < 3 * error).all() and (error > 0).all(), (name, gap, error)


@pytest.mark.slow
def test_ppo_and_best_of_n_begin_in_the_same_states(monkeypatch):
    seen, reached = [], starts.reached

    def recording(*arguments):
        state = reached(*arguments)
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), state.obs)
        return state

    monkeypatch.setattr(starts, "reached", recording)
    task = Task(collect(Windy(), KEYS[0], 4, 8), Windy().dials)
    jax.block_until_ready(jax.jit(made(rlhf, **PROBE).init)(KEYS[1], task))
    learner = made(best_of_n, **BEGINS)
    state, update = jax.jit(learner.init)(KEYS[1], task), jax.jit(learner.update)
    for _ in range(2):
        state, metrics = update(state, task)
        jax.block_until_ready(metrics)
    jax.effects_barrier()
    ours, *theirs = seen
    assert ours.shape[0] == 64 and len(np.unique(ours[:, 0])) == 64 and len(theirs) == 2
    for other in theirs:
        np.testing.assert_allclose(other, ours, atol=1e-4)


@pytest.mark.slow
def test_a_policy_from_elsewhere_is_the_reference_of_the_probe():
    config = ppo.Config(hidden=(8,), value_hidden=(8,), worlds=8, unroll=16, minibatches=2, **PROBE)
    inner = loop.PPO(Spec(Windy(), 16, 4, 8), config, init="given")
    task = Task(collect(Windy(), KEYS[0], 4, 8), Windy().dials)
    first, other = inner.init(KEYS[0], task), inner.init(KEYS[1], task)
    state = inner.with_policy(first, inner.params(other), task.dials)
    found = inner.probe(state, task.dials, lambda batch: batch.reward)
    assert float(found["probe_kl"]) == 0
    assert float(found["probe_gold"]) == pytest.approx(float(found["probe_proxy_start"]), rel=1e-5)
    assert not jnp.array_equal(state.probe.reference.raw, first.probe.reference.raw)

"""No learned reward reads an entry that it may not see, nor is fitted to one."""

import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_bench.adversarial import discriminator
from irl_bench.algos import ALGORITHMS
from irl_bench.core.settings import BadInput, settings_of
from irl_bench.core.types import Spec
from irl_bench.preferences import reward_model
from irl_bench.preferences.reward_model import Comparisons, Segments
from tests.algos.test_contract import KEY, LEARNT_ALONE, TINY, WORLDS, task_of

pytestmark = pytest.mark.usefixtures("quick_compilation")

MASKED = [
    algo
    for algo in LEARNT_ALONE
    if "mask_failure"
    in settings_of(getattr(importlib.import_module(ALGORITHMS[algo]), "Config", None))
]
FORMS = {
    "gail": [{"inputs": "state_action"}, {"inputs": "state"}, {"inputs": "state_transition"}],
    "airl": [{"g": "state"}, {"g": "state_action"}],
    "rlhf": [{}, {"reward_inputs": "state_action"}],
}


def learned(algo, changes, world="chain"):
    """(reward of steps on the chain, their observations, actions) after one round."""
    module = importlib.import_module(ALGORITHMS[algo])
    known = settings_of(module.Config)
    config = {name: value for name, value in TINY.items() if name in known}
    learner = module.make(Spec(WORLDS[world](), 8, 4, 4), module.Config(**{**config, **changes}))
    task = task_of(world)

    @jax.jit
    def trained(key):
        return learner.reward(learner.update(learner.init(key, task), task)[0])

    params = trained(KEY)
    observation = np.asarray(task.demonstrations.observation)
    observation = observation.reshape(-1, observation.shape[-1])[:12]
    action = np.asarray(task.demonstrations.action).reshape(-1)[:12]
    return lambda x, y: np.asarray(jax.jit(learner.reward_fn)(params, x, action, y)), observation


def test_all_learners_of_a_reward_can_hide_the_flag():
    assert {"gail", "gailfo", "airl", "rlhf", "rlhf_iterated", "trex", "drex", "best_of_n"} == set(
        MASKED
    )


@pytest.mark.parametrize(
    ("algo", "changes"),
    [
        pytest.param(algo, changes, marks=pytest.mark.slow if number else ())
        for algo in MASKED
        for number, changes in enumerate(FORMS.get(algo, [{}]))
    ],
)
def test_a_masked_entry_changes_no_learned_reward(algo, changes):
    flags = list(WORLDS["chain"]().failure_flags)
    for mask in (True, False):
        reward, x = learned(algo, {**changes, "mask_failure": mask})
        other = x.copy()
        other[:, flags] = np.random.default_rng(0).normal(size=(len(x), len(flags))) * 3
        same = np.array_equal(reward(x, x), reward(other, other))
        assert same == mask


def with_flags(observation, seed):
    """Observations with other numbers in the flags' entries."""
    flags = list(WORLDS["chain"]().failure_flags)
    drawn = np.random.default_rng(seed).normal(size=(*observation.shape[:-1], len(flags))) * 3
    return observation.at[..., flags].set(drawn)


def fitted_discriminator(seed, mask):
    """Params of GAIL's discriminator, fitted where flags hold noise. That of AIRL reads the
    policy's density besides, and the policy sees the flags."""
    spec = Spec(WORLDS["chain"](), 8, 4, 4)
    network = discriminator.Network((8,))
    config = discriminator.Config(mask_failure=mask, disc_steps=3, disc_batch=16)
    logit: Any = lambda params, steps: network.apply({"params": params}, steps.observation)
    judge = discriminator.Discriminator(spec, config, logit, False, 12)
    demos = task_of("chain").demonstrations
    demos = demos.replace(observation=with_flags(demos.observation, seed))
    seen = with_flags(jax.nn.one_hot(jnp.arange(12), spec.observation_size), seed + 1)
    rows = discriminator.Rows(seen, jnp.zeros(12, int), seen, jnp.zeros(12), jnp.zeros(12))
    state = judge.init(network.init(KEY, jnp.zeros(spec.observation_size))["params"], demos)
    return judge.fit(state, demos, rows, None, jnp.int32(0), KEY)[0].params


def fitted_reward_model(seed, mask):
    """Params of RLHF's reward model, fitted where flags hold noise."""
    spec = Spec(WORLDS["chain"](), 8, 4, 4)
    config = reward_model.Config(mask_failure=mask, reward_hidden=(8,), reward_batch=16)
    model = reward_model.RewardModel(spec, config)
    situations = jax.random.randint(KEY, (20, 4), 0, spec.observation_size)
    seen = with_flags(jax.nn.one_hot(situations, spec.observation_size), seed)
    segments = Segments(seen, jnp.zeros((20, 4), int), jnp.zeros((20, 4)))
    first, second = jax.random.randint(KEY, (2, 40), 0, 20)
    asked = Comparisons(first, second, (first > second).astype(jnp.float32), jnp.ones(40))
    state = model.see(model.init(KEY), segments)
    return model.fit(state, segments, asked, 5, KEY)[0].params


@pytest.mark.parametrize("fitted", [fitted_discriminator, fitted_reward_model])
def test_a_masked_entry_in_the_data_changes_no_fit(fitted):
    """Of all but AIRL's discriminator, which reads the policy's density: `fitted_discriminator`."""
    for mask in (True, False):
        one, other = (jax.tree.leaves(fitted(seed, mask)) for seed in (0, 5))
        assert mask == all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_world_without_flags_has_nothing_to_hide():
    for algo in ("gail", "rlhf"):
        with pytest.raises(
            BadInput, match=r"mask_failure=false: line marks no failure.*mask_failure=true"
        ):
            learned(algo, {"mask_failure": False}, world="line")

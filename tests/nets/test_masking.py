"""No learned reward reads an entry that it may not see."""

import importlib

import jax
import numpy as np
import pytest

from irl_bench.algos import ALGORITHMS
from irl_bench.core.settings import BadInput, settings_of
from irl_bench.core.types import Spec
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
QUICK = (("gail", 0), ("rlhf", 0))


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
        pytest.param(algo, changes, marks=() if (algo, number) in QUICK else pytest.mark.slow)
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


def test_a_world_without_flags_has_nothing_to_hide():
    for algo in ("gail", "rlhf"):
        with pytest.raises(BadInput, match=r"mask_failure=false: line marks no failure.*leave it"):
            learned(algo, {"mask_failure": False}, world="line")

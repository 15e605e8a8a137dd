"""What every registered algorithm promises: shapes, purity, independence of seeds, and a place
in the registry."""

import dataclasses
import functools
import importlib
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import irl_bench.algos
from envs.chain import Chain
from irl_bench.algos import ALGORITHMS
from irl_bench.core.learner import Learner
from irl_bench.core.quantities import REFERENCES
from irl_bench.core.types import Spec
from tests.worlds.helpers import Line, demonstrate, train

WORLDS = {"line": Line, "chain": Chain, "grid": functools.partial(envs.make, "grid")}
TINY = {
    "hidden": (4,),
    "batch_size": 4,
    "steps_per_round": 2,
    "rounds": 2,
    "iterations": 2,
    "episode_steps": 2,
}
TINY |= {
    "worlds": 4,
    "unroll": 8,
    "minibatches": 2,
    "epochs": 1,
    "value_hidden": (4,),
    "bc_steps": 2,
    "policy_delay": 0,
}
TINY |= {"disc_hidden": (4,), "disc_batch": 4, "disc_steps": 1}
TINY |= {
    "labels": 20,
    "pairs": 20,
    "pool_worlds": 20,
    "pool_steps": 4,
    "segment": 2,
    "warm": 2,
    "tail": 1,
}
TINY |= {"samples": 4, "begins": 2, "length": 2}
TINY |= {"capacity": 32, "random_rounds": 1, "updates": 2}
TINY |= {"members": 2, "reward_hidden": (4,), "reward_batch": 4, "reward_steps": 4}
KEY = jax.random.PRNGKey(0)

pytestmark = pytest.mark.usefixtures("quick_compilation")

LEARNT_ALONE = [algo for algo in ALGORITHMS if algo not in ("stored", "judged")]
"""These two must be given what another algorithm has learned: tests/storage/test_artifacts.py."""

ALIKE = ("gailfo", "airl", "rlhf_iterated", "best_of_n", "trex", "drex", "cpl")
"""They go through the code of `gail`, `rlhf` and `dpo`; the default tests try those."""
BUILT_ON_PPO = ("gail", "ppo", "rlhf", *ALIKE, "dpo")
"""Slow to compile."""
TRAINED_ALIKE = tuple(algo for algo in BUILT_ON_PPO if algo != "ppo")
"""Their rounds are PPO's."""


def worlds_of(algo):
    """Those that an algorithm is tried on, the cheapest first."""
    return {"maxent_irl": ("grid",), "sac": ("line",), "dart": ("line",)}.get(
        algo, ("line", "chain")
    )


def pair(algo, world):
    """With a mark where it takes long and another algorithm goes through the same code."""
    alike = algo in ALIKE or (world == "chain" and algo in ("gail", "ppo", "rlhf", "dpo"))
    return pytest.param(algo, world, marks=pytest.mark.slow if alike else ())


each = pytest.mark.parametrize(
    ("algo", "world"), [pair(algo, world) for algo in LEARNT_ALONE for world in worlds_of(algo)]
)


@functools.cache
def learner_of(algo, world):
    module = importlib.import_module(ALGORITHMS[algo])
    kind = getattr(module, "Config", None)
    config = (
        kind(**{name: value for name, value in TINY.items() if name in kind.__dataclass_fields__})
        if kind
        else None
    )
    return module.make(Spec(WORLDS[world](), 8, 4, 4), config)


@functools.cache
def task_of(world, seed=0):
    made = WORLDS[world]()
    spec, dials = Spec(made, 8, 4, 4), made.dials_for(next(iter(made.modes)))
    return jax.jit(functools.partial(demonstrate, spec, dials))(jax.random.PRNGKey(seed))


@functools.cache
def trained(algo, world):
    """Compiled: (key, task) -> (final state, metrics [rounds])."""
    return jax.jit(functools.partial(train, learner_of(algo, world)))


def rounds(learner, key, task):
    """(state, metrics of each round) after all rounds, in a Python loop."""
    state, metrics = learner.init(key, task), []
    for _ in range(learner.rounds):
        state, row = learner.update(state, task)
        metrics.append(row)
    return state, metrics


def close(first, second, tolerance=1e-5):
    chex.assert_trees_all_close(first, second, rtol=tolerance, atol=tolerance)


def test_registry_is_the_folder():
    folder = pathlib.Path(irl_bench.algos.__file__).parent
    files = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    assert set(ALGORITHMS) == files and set(REFERENCES) <= files
    assert all(module == f"irl_bench.algos.{name}" for name, module in ALGORITHMS.items())
    for module in ALGORITHMS.values():
        assert importlib.import_module(module).__doc__.splitlines()[0]


@each
def test_shapes_never_change(algo, world):
    learner, task = learner_of(algo, world), task_of(world)
    assert isinstance(learner, Learner) and learner.rounds >= 0
    state = jax.eval_shape(learner.init, KEY, task)
    after, metrics = jax.eval_shape(learner.update, state, task)
    assert jax.tree.structure(state) == jax.tree.structure(after)
    for before, now in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        # A weak type that an update makes a strong one would compile the update twice.
        assert (before.shape, before.dtype, before.weak_type) == (
            now.shape,
            now.dtype,
            now.weak_type,
        )
        assert before.dtype in (
            jnp.float32,
            jnp.int32,
            jnp.uint32,
            bool,
        )  # no typed keys, nothing of double precision
    assert all(row.shape == () and row.dtype == jnp.float32 for row in metrics.values())
    again = jax.eval_shape(learner.update, after, task)[1]
    assert list(again) == list(metrics)


@each
def test_action_is_one_of_the_world(algo, world):
    learner, made, task = learner_of(algo, world), WORLDS[world](), task_of(world)
    if learner.act is None:
        assert algo == "expert"
        return
    params = learner.policy(jax.jit(learner.init)(KEY, task))
    action = jax.jit(learner.act)(params, jnp.ones(made.observation_size), KEY)
    if made.n_actions is None:
        assert (
            action.shape == (made.action_size,)
            and action.dtype == jnp.float32
            and (jnp.abs(action) <= 1).all()
        )
    else:
        assert action.shape == () and action.dtype == jnp.int32 and 0 <= action < made.n_actions


# Two more compilations of each: those that are slow to compile are tried on one world.
@pytest.mark.parametrize(
    ("algo", "world"),
    [
        pytest.param(a, w, marks=pytest.mark.slow if a in TRAINED_ALIKE or w == "chain" else ())
        for a in LEARNT_ALONE
        for w in worlds_of(a)[: 1 if a in BUILT_ON_PPO else 2]
    ],
)
def test_seeds_side_by_side_are_seeds_one_by_one(algo, world):
    learner = learner_of(algo, world)
    keys = jax.random.split(KEY, 3)
    tasks = [task_of(world, seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *x: np.stack(x), *tasks)
    together = jax.device_get(jax.jit(jax.vmap(functools.partial(train, learner)))(keys, stacked))
    for i in range(3):
        close(jax.tree.map(lambda x, i=i: x[i], together), trained(algo, world)(keys[i], tasks[i]))


# Op by op, one round of PPO or of what contains it takes a minute or more, nearly all of it
# dispatch.
@pytest.mark.parametrize(
    "algo",
    [
        pytest.param(algo, marks=() if algo in ("bc", "untrained") else pytest.mark.slow)
        for algo in LEARNT_ALONE
        if algo not in BUILT_ON_PPO
    ],
)
def test_jit_changes_nothing(algo):
    world = worlds_of(algo)[-1]
    learner, task = learner_of(algo, world), task_of(world)
    jitted = rounds(
        dataclasses.replace(learner, init=jax.jit(learner.init), update=jax.jit(learner.update)),
        KEY,
        task,
    )
    with jax.disable_jit():
        close(jitted, rounds(learner, KEY, task))


@pytest.mark.parametrize(
    "algo", [pytest.param(a, marks=pytest.mark.slow if a in ALIKE else ()) for a in LEARNT_ALONE]
)
def test_the_key_is_all_that_is_random(algo):
    world = worlds_of(algo)[0]
    learner, task = learner_of(algo, world), task_of(world)

    def run(key):
        return learner.policy(trained(algo, world)(key, task)[0])

    first, again, other = run(KEY), run(KEY), run(jax.random.PRNGKey(1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    if algo not in (
        "expert",
        "maxent_irl",
    ):  # the expert has no params, and maxent_irl's answer is exact
        assert any((a != b).any() for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other)))

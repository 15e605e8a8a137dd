"""What every registered algorithm promises: shapes, purity, independence of seeds, and a place in the registry."""

import functools
import importlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import irl_bench.algos
from envs.chain import Chain
from irl_bench.algos import ALGORITHMS, REFERENCES
from irl_bench.learner import Learner
from irl_bench.types import Spec
from tests.algos.helpers import Line, demonstrate

WORLDS = {"line": Line, "chain": Chain}
TINY = {"hidden": (4,), "batch_size": 4, "steps_per_round": 2, "rounds": 2, "iterations": 2, "episode_steps": 2}
KEY = jax.random.PRNGKey(0)

each = pytest.mark.parametrize(("algo", "world"), [(algo, world) for algo in ALGORITHMS for world in WORLDS])


@functools.cache
def learner_of(algo, world):
    module = importlib.import_module(ALGORITHMS[algo])
    kind = getattr(module, "Config", None)
    config = kind(**{name: value for name, value in TINY.items() if name in kind.__dataclass_fields__}) if kind else None
    return module.make(Spec(WORLDS[world](), 8, 4, 4), config)


@functools.cache
def task_of(world, seed=0):
    made = WORLDS[world]()
    spec, dials = Spec(made, 8, 4, 4), made.dials_for(next(iter(made.modes)))
    return jax.jit(functools.partial(demonstrate, spec, dials))(jax.random.PRNGKey(seed))


def rounds(learner, key, task):
    """(state, metrics of each round) after all rounds and one more, in a Python loop."""
    state, metrics = learner.init(key, task), []
    for _ in range(learner.rounds):
        state, row = learner.update(state, task)
        metrics.append(row)
    return state, metrics


def close(first, second, tolerance=1e-5):
    leaves = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    for a, b in leaves:
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_registry_is_the_folder():
    folder = pathlib.Path(irl_bench.algos.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "config"}
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
        assert (before.shape, before.dtype) == (now.shape, now.dtype)
        assert before.dtype in (jnp.float32, jnp.int32, jnp.uint32)  # no typed keys, nothing of double precision
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
        assert action.shape == (made.action_size,) and action.dtype == jnp.float32 and (jnp.abs(action) <= 1).all()
    else:
        assert action.shape == () and action.dtype == jnp.int32 and 0 <= action < made.n_actions


@each
def test_seeds_side_by_side_are_seeds_one_by_one(algo, world):
    learner = learner_of(algo, world)
    keys = jax.random.split(KEY, 3)
    tasks = [task_of(world, seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *tasks)
    one = jax.jit(functools.partial(rounds, learner))
    together = jax.jit(jax.vmap(functools.partial(rounds, learner)))(keys, stacked)
    for i in range(3):
        close(jax.tree.map(lambda x, i=i: x[i], together), one(keys[i], tasks[i]))


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_jit_changes_nothing(algo):
    learner, task = learner_of(algo, "chain"), task_of("chain")
    jitted = jax.jit(functools.partial(rounds, learner))(KEY, task)
    with jax.disable_jit():
        close(jitted, rounds(learner, KEY, task))


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_the_key_is_all_that_is_random(algo):
    learner, task = learner_of(algo, "line"), task_of("line")
    run = jax.jit(lambda key: learner.policy(rounds(learner, key, task)[0]))
    first, again, other = run(KEY), run(KEY), run(jax.random.PRNGKey(1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    if algo != "expert":
        assert any((a != b).any() for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other)))

"""Mistakes of a learner from outside, each one line that names it; what several functions of a
program hold is traced once."""

import dataclasses
import functools
import threading
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from irl_bench.core.settings import BadInput
from irl_bench.plan import registry
from irl_bench.running import programs, runner
from irl_bench.running.console import Silent
from tests.worlds import toys


def _mistaken(update=None, init=None):
    def make(spec, config):
        learner = toys.make(spec, config)
        changes = {
            "update": update and (lambda state, task: update(*learner.update(state, task))),
            "init": init and (lambda key, task: init(learner.init(key, task), key)),
        }
        return dataclasses.replace(learner, **{k: v for k, v in changes.items() if v})

    return make


make_longer = _mistaken(
    lambda state, metrics: ({**state, "weights": jnp.append(state["weights"], 0.0)}, metrics)
)
make_other_type = _mistaken(
    lambda state, metrics: ({**state, "weights": state["weights"].astype(jnp.float16)}, metrics)
)
make_other_tree = _mistaken(lambda state, metrics: (tuple(state.values()), metrics))
make_alone = _mistaken(lambda state, metrics: state)
make_wide_metric = _mistaken(lambda state, metrics: (state, {"loss": state["weights"]}))
make_named_params = _mistaken(lambda state, metrics: (state, {"params": jnp.float32(0)}))
make_typed_key = _mistaken(init=lambda state, key: {**state, "mine": jax.random.key(0)})


@pytest.mark.parametrize(
    ("maker", "line"),
    [
        ("make_longer", r"shapes and types that init gave it: dict\(.*float32\[3\].*not .*\[4\]"),
        ("make_other_type", r"shapes and types that init gave it: .*not dict\(.*float16\[3\]"),
        ("make_other_tree", r"shapes and types that init gave it: dict\(.*not tuple\("),
        ("make_alone", r"update must return \(state, metrics\), not a dict"),
        ("make_wide_metric", r"the metric 'loss' must be a scalar .*, not float32\[3\]"),
        ("make_named_params", r"the metric 'params' must be a scalar with a name other than"),
        ("make_typed_key", r"keeps a typed key in its state.*jax.random.key_data"),
    ],
)
def test_a_mistake_of_a_learner_is_one_line(tmp_path, maker, line):
    spec = toys.cell(algo=f"{__name__}:{maker}")
    with pytest.raises(BadInput, match=line):
        runner.compute([spec], tmp_path, display=Silent(), stop=threading.Event())


make_nested_metric = _mistaken(lambda state, metrics: (state, {"v": {"a": jnp.float32(1)}}))


def test_nested_metrics_are_one_line(tmp_path):
    spec = toys.cell(algo=f"{__name__}:make_nested_metric")
    with pytest.raises(BadInput, match="metrics must be a flat dict of scalars, not dict"):
        runner.compute([spec], tmp_path, display=Silent(), stop=threading.Event())


class Counted(toys.TwoState):
    """Counts how often Python runs its step and its reset."""

    name = "counted"
    calls: ClassVar[dict[str, int]] = {}

    def _count(self, name):
        self.calls[name] = self.calls.get(name, 0) + 1

    def reset(self, rng):
        self._count("reset")
        return super().reset(rng)

    def step(self, state, action):
        self._count("step")
        return super().step(state, action)


def make_counted(spec, config):
    learner = toys.make(spec, config)

    def update(state, task):
        Counted.calls["update"] = Counted.calls.get("update", 0) + 1
        return learner.update(state, task)

    return dataclasses.replace(learner, update=update)


def test_what_several_functions_hold_is_traced_once():
    """Demonstrations, evaluation and held-out errors step the world; the names of metrics and the
    rounds need the update."""
    cell = toys.cell(env=f"{__name__}:Counted", algo=f"{__name__}:make_counted")
    registry.world(cell.env, cell.options)  # which tries the world before it is used
    Counted.calls.clear()
    program = programs.Program(cell, {})
    program.prepare()
    names = ("demonstrate", "init", "chunk", "evaluate", "expert_errors", "keep")
    assert all(program.compiled(name) for name in names)
    assert program.compilations == dict.fromkeys(names, 1)
    assert Counted.calls == {"reset": 1, "step": 1, "update": 1}


@pytest.mark.parametrize("burn_in", [0, 3])
def test_a_world_that_is_traced_once_does_the_same(burn_in):
    world = envs.make("chain").with_burn_in(burn_in)
    once, key = world.traced_once(), jax.random.PRNGKey(3)

    def play(world, dials, key):
        def step(state, t):
            action = world.expert(state, jax.random.fold_in(key, t)) + (t == 10)
            state = world.advance(state, action % world.n_actions)
            return state, state

        world = world.bind(dials)
        start = world.begin(key)
        return start, jax.lax.scan(step, start, jnp.arange(50))[1]

    plain, cached = (
        jax.jit(jax.vmap(functools.partial(play, one), (None, 0))) for one in (world, once)
    )
    seen = []
    for mode in world.modes:
        found = [run(world.dials_for(mode), jax.random.split(key, 64)) for run in (plain, cached)]
        jax.tree.map(np.testing.assert_array_equal, *found)
        seen.append(np.asarray(found[0][1].metrics["cost"]).sum())
    assert len(set(seen)) > 1  # dials are data
    begun = [one.with_burn_in(later).begin(key) for one in (world, once) for later in (0, 2)]
    assert [int(state.pipeline_state.step) for state in begun] == [0, 2, 0, 2]

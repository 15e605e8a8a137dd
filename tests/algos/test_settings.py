"""Every setting of an algorithm changes its program: a setting that changes nothing would still
change the key of a cell, and be taken for something that was tried."""

import hashlib
import importlib

import jax
import numpy as np
import pytest
from jax.interpreters import partial_eval

from irl_bench.algos import ALGORITHMS
from irl_bench.core.settings import BadInput, Setting, settings_of
from irl_bench.core.types import Spec, Task
from tests.algos.test_contract import KEY, LEARNT_ALONE, TINY, WORLDS, task_of, worlds_of

CONTEXTS = {
    "smoothing": ({},),
    "penalty_norm": ({"penalty": 1.0},),
    "iterations": ({"rounds": 4, "labels": 40},),
    "members": ({"pessimism": 1.0},),
    "beta_decay": ({"beta": "exponential"},),
    "bc_steps": ({"init": "bc"},),
    "probe_warm": ({"probe": 2},),
    "probe_length": ({"probe": 2},),
}
"""Other settings with which one is tried too, where it has a meaning only beside them."""

ELSEWHERE = {
    "ppo": ("linger",),
    "rlhf": ("init",),
    "rlhf_iterated": ("init",),
    "bc": ("time_indexed", "tasil"),
}
"""Settings that other tests test: those that act only on what an earlier run has learned
(tests/rl/test_ppo.py, tests/storage/test_artifacts.py), a table in place of a network
(tests/nets/test_tables.py), and what needs an expert that reads observations
(tests/algos/test_remedies.py)."""


def program(algo, changes):
    """A digest of everything that the algorithm computes with some settings; nothing is run."""
    module = importlib.import_module(ALGORITHMS[algo])
    known = settings_of(module.Config)
    base = {name: value for name, value in TINY.items() if name in known}
    world = worlds_of(algo)[0]
    spec = Spec(WORLDS[world](), 8, 4, 4)
    learner = module.make(spec, module.Config(**{**base, **changes}))
    task = task_of(world)

    def compute(key: jax.Array, task: Task):
        state = learner.init(key, task)
        state, metrics = learner.update(state, task)
        params, seen = learner.policy(state), task.demonstrations.observation[0, 0]
        kept = learner.reward(state) if learner.reward else None
        return state, metrics, params, kept, learner.act(params, seen, key)

    closed = jax.make_jaxpr(compute)(KEY, task)
    # Without what no result depends on: a setting of such an expression would change nothing.
    live, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars), True)
    digest = hashlib.sha256(str(live).encode())
    for constant in closed.consts:
        digest.update(np.asarray(constant).tobytes())
    digest.update(repr((learner.rounds, learner.consumes)).encode())
    return digest.hexdigest()


def others(setting: Setting):
    """A few other valid values of a setting."""
    value = setting.default
    if setting.kind is bool:
        return [not value]
    if setting.choices:
        return [choice for choice in setting.choices if choice != value]
    if setting.kind is tuple:
        return [(5,), (5, 3)]
    numbers = [TINY.get(setting.name, value) * 2, value * 0.9, value + 1, setting.low, setting.high]
    if setting.kind is int:
        numbers = [int(number) for number in (*numbers, 1, 3) if abs(number) < 10**4]
    bounded = [number for number in numbers if setting.low <= number <= setting.high]
    return list(dict.fromkeys(n for n in bounded if np.isfinite(n) and n != value))


@pytest.mark.slow  # a trace for each setting
@pytest.mark.parametrize(
    "algo", [a for a in LEARNT_ALONE if hasattr(importlib.import_module(ALGORITHMS[a]), "Config")]
)
def test_each_setting_moves_a_number_or_is_refused(algo):
    idle = []
    elsewhere = ELSEWHERE.get(algo, ())
    settings = settings_of(importlib.import_module(ALGORITHMS[algo]).Config)
    for name, setting in settings.items():
        if name in elsewhere:
            continue
        for context in ({}, *CONTEXTS.get(name, ())):
            context = {key: value for key, value in context.items() if key in settings}
            plain = program(algo, context)
            if any(_moves(algo, {**context, name: value}, plain) for value in others(setting)):
                break
        else:
            idle.append(name)
    assert not idle


def _moves(algo, changes, plain):
    try:
        return program(algo, changes) != plain
    except BadInput:
        return False

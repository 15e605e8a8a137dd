"""What a learner from outside must return: each mistake is one line that names it."""

import dataclasses
import threading

import jax
import jax.numpy as jnp
import pytest

from irl_bench.core.settings import BadInput
from irl_bench.running import runner
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

"""A run's policy and reward from Python: they are those that the run evaluated, and what is not
there is one line."""

import json
import pathlib
import re
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import irl_bench
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Demonstrations, Spec, Task
from irl_bench.plan import registry
from irl_bench.storage import artifacts
from irl_bench.storage.cells import learned_path
from irl_bench.storage.plans import read_plan

pytestmark = pytest.mark.usefixtures("quick_compilation")
ROOT = pathlib.Path(__file__).parents[2]
SMALL = {"budget": "smoke", "seeds": 2, "demos": 4, "demo_steps": 32, "episodes": 16}
ASKED = {"algo": ["bc", "gail"], "env": "chain", "mode": ["dagger_chain", "cliff"]}
GAIL = {"rounds": 2, "worlds": 8, "episode_steps": 16}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("irl_bench.report.figures.draw", lambda data: {})
        irl_bench.run(**ASKED, out=str(out), gail=GAIL, **SMALL)
    return out


def test_the_policy_acts_as_the_runs_own(run):
    plan = read_plan(run)
    entry = next(e for e in plan["entries"] if e["algo"] == "bc" and e["mode"] == "cliff")
    held = artifacts.read(learned_path(run, entry["cells"][0]), ("policy",))
    policy = irl_bench.load(run, "bc", "chain", seed=1, mode="cliff")
    assert (policy.algo, policy.mode, policy.seed, policy.reward) == ("bc", "cliff", 1, None)
    assert policy.world.dials.recovery == 0.0
    spec = Spec(policy.world, held.horizon, held.demos, held.demo_steps)
    learner = registry.learner("bc", spec, held.config)
    shown = jax.eval_shape(
        lambda key: learner.init(key, Task(_shapes(spec), policy.world.dials)),
        jax.random.PRNGKey(0),
    )
    tree = jax.tree.structure(jax.eval_shape(learner.policy, shown))
    params = jax.tree.unflatten(tree, [leaf[0] for leaf in held.leaves("policy", range(1, 2))])
    views = np.eye(65, dtype=np.float32)
    expected = [learner.act(params, view, jax.random.PRNGKey(0)) for view in views]
    np.testing.assert_array_equal(jax.vmap(policy.act)(views), expected)
    assert int(policy.act(list(map(float, views[3])))) == expected[3]


def _shapes(spec):
    rows = (spec.demos, spec.demo_steps)
    return Demonstrations(
        jnp.zeros((*rows, 65)), jnp.zeros(rows, jnp.int32), jnp.ones(rows), jnp.zeros(rows)
    )


def test_seeds_are_told_apart(run):
    views = np.random.default_rng(0).normal(size=(500, 65)).astype(np.float32)
    first, second = (jax.vmap(irl_bench.load(run, "bc", seed=seed).act)(views) for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_the_reward_is_the_one_on_the_map(run):
    """GAIL's reward at states and actions, in the shapes that a user has."""
    found = irl_bench.load(run, "gail", "chain")
    assert found.mode == "dagger_chain" and found.seed == 0
    views, actions = np.eye(65, dtype=np.float32), np.arange(65) % 4
    many = found.reward(views, actions, views)
    assert many.shape == (65,) and np.isfinite(many).all() and np.std(many) > 0
    one = jax.jit(found.reward)(views[7], actions[7], views[7])
    assert one.shape == () and float(one) == pytest.approx(float(many[7]), abs=1e-5)


def test_a_loaded_policy_scores_as_its_run_did(run):
    """The hazard in the run's own verdict, from other episodes."""
    verdicts = json.loads((run / "verdicts.json").read_text())
    own = next(v for v in verdicts if (v["algo"], v["mode"]) == ("bc", "dagger_chain"))
    rates = []
    for seed in range(2):
        policy = irl_bench.load(run, "bc", "chain", seed=seed)
        rates.append(
            irl_bench.score(policy.act, "chain", seeds=2, episodes=64, eps_episodes=4, eps_steps=8)[
                "hazard"
            ]
        )
    assert np.mean(rates) == pytest.approx(own["hazard"], rel=0.3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{run}",), "holds bc, gail: algo must be given; nearest: algo='bc'"),
        (("{run}", "BC"), "holds no algo 'BC' .*; nearest: 'bc'"),
        (("{run}", "airl"), "holds no algo 'airl' that was trained"),
        (("{run}", "bc", "lane_keep"), "holds no env 'lane_keep'"),
        (("{run}", "bc", "chain", 7), "seed=7: .* has seeds 0 to 1 of bc; nearest: 1"),
        (("{run}", "bc", "chain", 1.0), "seed=1.0 is of type float"),
        (("{run}/cells",), "holds no plan.json"),
        (("{run}/none",), "holds no plan.json"),
    ],
)
def test_what_is_not_there_is_one_line(arguments, message, run):
    with pytest.raises(BadInput, match=message) as caught:
        irl_bench.load(*(x.format(run=run) if isinstance(x, str) else x for x in arguments))
    assert "\n" not in str(caught.value)


def test_a_mode_that_is_not_there_is_one_line(run):
    with pytest.raises(BadInput, match=r"holds no mode 'clif' .*; nearest: 'cliff'"):
        irl_bench.load(run, "bc", mode="clif")


def test_a_damaged_file_is_one_line(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    for path in (copy / "learned").glob("*.safetensors"):
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
    with pytest.raises(BadInput, match="is damaged"):
        irl_bench.load(copy, "bc")


def test_an_edited_algorithm_is_not_taken_for_the_one_that_ran(tmp_path, monkeypatch):
    text = re.search(
        r"<!-- file: ridge.py -->\n```python\n(.*?)```",
        (ROOT / "CONTRIBUTING.md").read_text(),
        re.DOTALL,
    )[1]
    (tmp_path / "loaded_ridge.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr("irl_bench.report.figures.draw", lambda data: {})
    irl_bench.run("loaded_ridge:make", "chain", mode="cliff", out="run", **SMALL)
    assert irl_bench.load("run", "loaded_ridge:make").algo == "loaded_ridge:make"
    (tmp_path / "loaded_ridge.py").write_text(text + "\n# edited\n")
    with pytest.raises(BadInput, match=r"loaded_ridge\.py has changed since the run in run"):
        irl_bench.load("run", "loaded_ridge:make")
    sys.modules.pop("loaded_ridge", None)


@pytest.mark.parametrize("shape", [(3,), (5, 65), ()])
def test_an_observation_of_another_shape_is_one_line(shape, run):
    with pytest.raises(BadInput, match=r"an observation of chain is float32\[65\], not"):
        irl_bench.load(run, "bc").act(np.zeros(shape))


@pytest.mark.parametrize("folder", [None, "", 3])
def test_no_folder_is_one_line(folder):
    with pytest.raises(BadInput, match="a run's folder is needed"):
        irl_bench.load(folder)

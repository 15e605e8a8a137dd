"""What a run leaves of its learners: stored exactly, refused if damaged, and used again as it
is."""

import dataclasses
import hashlib
import threading
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_bench.core.cell import CellSpec
from irl_bench.core.learner import Consumes
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Spec, Task
from irl_bench.plan import donor, registry
from irl_bench.preferences import inverse
from irl_bench.rl import ppo
from irl_bench.rollouts.evaluation import collect
from irl_bench.running import runner
from irl_bench.running.console import Silent
from irl_bench.storage import artifacts
from irl_bench.storage.cells import cell_path, read_cell, write_cell
from tests.storage.test_cells import KEY, MANIFEST, columns

EVALUATED = ("cost", "graded_cost")

pytestmark = pytest.mark.usefixtures("quick_compilation")

TINY = {
    "hidden": [4],
    "value_hidden": [4],
    "worlds": 4,
    "unroll": 8,
    "minibatches": 2,
    "epochs": 1,
    "rounds": 2,
    "episode_steps": 8,
}
GAIL = {
    **TINY,
    "disc_hidden": [4],
    "disc_batch": 4,
    "disc_steps": 1,
    "bc_steps": 2,
    "policy_delay": 0,
}
FIELDS = {
    "env": "tests.worlds.helpers:Line",
    "mode": "nominal",
    "horizon": 8,
    "demos": 4,
    "demo_steps": 8,
    "episodes": 4,
    "block": 4,
    "eps_episodes": 2,
    "eps_steps": 4,
    "width": 2,
}


def cell(algo="gail", first_seed=0, **fields):
    return CellSpec(**{**FIELDS, "algo": algo, "first_seed": first_seed, **fields})


def parts(seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    return {
        "policy": {"w": draw(2, 3, 4), "b": draw(2)},
        "reward": [draw(2, 5), rng.integers(0, 9, (2, 1))],
    }


def equal(found, parts, row):
    for part, tree in parts.items():
        for mine, leaf in zip(found[part], jax.tree.leaves(tree), strict=True):
            np.testing.assert_array_equal(mine, leaf[row])
            assert mine.dtype == leaf.dtype


def refused(path, *names):
    with pytest.raises(BadInput) as caught:
        artifacts.read(path)
    text = str(caught.value)
    assert "\n" not in text and all(str(name) in text for name in names)


# Files.


@pytest.mark.parametrize("of", ["file", "run", "folder"])
def test_round_trip(tmp_path, of):
    path = artifacts.write(tmp_path, cell(first_seed=3), KEY, parts())
    found = artifacts.read({"file": path, "run": tmp_path, "folder": path.parent}[of])
    assert (found.algo, found.env, found.demos, found.demo_steps, found.horizon) == (
        "gail",
        FIELDS["env"],
        4,
        8,
        8,
    )
    assert list(found.arrays) == [3, 4]
    for row, seed in enumerate((3, 4)):
        equal(found.arrays[seed], parts(), row)
    for mine, leaf in zip(
        found.leaves("policy", range(3, 5)), jax.tree.leaves(parts()["policy"]), strict=True
    ):
        np.testing.assert_array_equal(mine, leaf)


def test_groups_of_a_folder_are_merged(tmp_path):
    for first in (0, 2):
        artifacts.write(tmp_path, cell(first_seed=first), f"{first:020x}", parts(first))
    found = artifacts.read(tmp_path)
    assert sorted(found.arrays) == [0, 1, 2, 3]
    for first in (0, 2):
        for row in (0, 1):
            equal(found.arrays[first + row], parts(first), row)


def test_a_missing_seed_is_named(tmp_path):
    found = artifacts.read(artifacts.write(tmp_path, cell(), KEY, parts()))
    with pytest.raises(BadInput, match="seed 2 "):
        found.leaves("reward", range(1, 3))


def test_every_flipped_bit_and_every_truncation_is_noticed(tmp_path):
    path = artifacts.write(tmp_path, cell(), KEY, parts())
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(whole), 60):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        refused(path, path)
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path, path)


def test_foreign_and_absent_files_are_named(tmp_path):
    from safetensors.numpy import save

    path = tmp_path / "foreign.safetensors"
    for content in (
        b"not at all",
        save({"x": np.zeros(3)}),
        save({"x": np.zeros(3)}, {"irl_bench": "[]"}),
    ):
        path.write_bytes(content)
        refused(path, path)
    refused(tmp_path / "absent.safetensors", tmp_path / "absent.safetensors")
    refused(tmp_path, tmp_path)


def test_two_algorithms_two_modes_or_a_seed_twice_are_refused(tmp_path):
    others = {
        "algo": {"algo": "airl"},
        "mode": {"mode": "other"},
        "dials": {"dials": {"gust": 0.5}},
        "seed": {"first_seed": 1},
    }
    for name, other in others.items():
        out = tmp_path / name
        artifacts.write(out, cell(), "one", parts())
        artifacts.write(out, dataclasses.replace(cell(), **other), "two", parts())
        refused(out, out)


def with_cell(out, learned=None):
    """Stores a cell of one seed's result, whose manifest may name what it has learned."""
    manifest = MANIFEST if learned is None else {**MANIFEST, "learned": learned}
    write_cell(out, cell(), KEY, columns(), manifest)


def test_a_file_that_the_stored_cell_has_not_learned_is_refused(tmp_path):
    """Two workers have computed it, on machines that round differently."""
    path = artifacts.write(tmp_path, cell(), KEY, parts())
    with_cell(tmp_path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert artifacts.read(path).algo == "gail"
    artifacts.write(tmp_path, cell(), KEY, parts(1))
    for of in (path, tmp_path):
        refused(of, path, "is not what the stored cell has learned")


@pytest.mark.parametrize("of", ["an earlier version", "no cell", "a damaged cell"])
def test_where_no_cell_names_a_file_it_is_taken(tmp_path, of):
    if of != "no cell":
        with_cell(tmp_path)
    if of == "a damaged cell":
        cell_path(tmp_path, KEY).write_bytes(b"PAR1")
    assert artifacts.read(artifacts.write(tmp_path, cell(), KEY, parts())).algo == "gail"


# From a run into another one.


def run(cells, out, inputs=None):
    summary = runner.compute(cells, out, inputs, display=Silent(), stop=threading.Event())
    assert not any(summary.failures.values())
    return summary.done


@pytest.fixture(scope="module")
def gail_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("gail")
    run([cell(config=GAIL)], out)
    return out


def rebuilt(found, part, row, learner, task):
    """The pytree of a part of one seed."""
    shapes = jax.eval_shape(
        lambda key: getattr(learner, part)(learner.init(key, task)), jax.random.PRNGKey(0)
    )
    tree = jax.tree.structure(shapes)
    return jax.tree.unflatten(tree, found.arrays[row][part])


def gail_and(found, part):
    """(spec with the donor, its learner, a task with the given arrays of seed 1)."""
    world = registry.world(found.env).world
    spec = Spec(world, found.horizon, found.demos, found.demo_steps)
    handed_on = donor.rebuild(found, (part,), spec)
    demos = collect(world, jax.random.PRNGKey(5), found.demos, found.demo_steps)
    task = Task(demos, world.dials, given_of(handed_on, 1))
    spec = dataclasses.replace(spec, donor=handed_on.donor)
    return spec, registry.learner(found.algo, spec, found.config), task


def given_of(handed_on, seed):
    return jax.tree.map(lambda leaf: leaf[0], handed_on.given(range(seed, seed + 1)))


def test_stored_plays_exactly_that_policy(gail_run, tmp_path):
    found = artifacts.read(gail_run, ("policy",))
    spec, learner, task = gail_and(found, "policy")
    handed_on = donor.rebuild(found, ("policy",), spec)
    stored = registry.learner("stored", spec, {})
    observation = jax.random.normal(jax.random.PRNGKey(1), (16, 3))
    for seed in found.arrays:
        state = stored.init(
            jax.random.PRNGKey(9), dataclasses.replace(task, given=given_of(handed_on, seed))
        )
        theirs, mine = rebuilt(found, "policy", seed, learner, task), stored.policy(state)
        assert jax.tree.structure(theirs) == jax.tree.structure(mine)
        act = jax.vmap(learner.act, (None, 0, None)), jax.vmap(stored.act, (None, 0, None))
        first, second = (
            act[0](theirs, observation, jax.random.PRNGKey(2)),
            act[1](mine, observation, jax.random.PRNGKey(2)),
        )
        np.testing.assert_array_equal(first, second)
    # In the frame its episodes are those of the run that learned it.
    run([cell("stored", given=found.sha256)], tmp_path, {found.sha256: found})
    tables = [
        read_cell(next(out.glob("cells/*.parquet")))[1].to_pandas() for out in (gail_run, tmp_path)
    ]
    kept = (
        table[table.quantity.isin(EVALUATED)].drop(columns=["cell", "round"]) for table in tables
    )
    before, after = (table.reset_index(drop=True) for table in kept)
    assert set(after.quantity) == set(EVALUATED)
    assert before.equals(after)


def test_judged_sums_the_learned_and_the_true_reward_of_the_experts_rollouts(gail_run):
    found = artifacts.read(gail_run)
    spec, learner, task = gail_and(found, "reward")
    judged = registry.learner("judged", spec, {"rollouts": 16, "noise": 1.0})
    state = judged.init(jax.random.PRNGKey(3), task)
    shown = []
    for _ in range(judged.rounds):
        state, metrics = judged.update(state, task)
        shown.append({name: float(value) for name, value in metrics.items()})
    noise = np.array([one["noise"] for one in shown])
    np.testing.assert_allclose(noise, np.linspace(0, 1, 16), atol=1e-6)
    # Without noise the first rollout is the expert's own, step by step.
    world, params = spec.world.bind(task.dials), rebuilt(found, "reward", 1, learner, task)
    reset_key, _ = jax.random.split(jax.random.PRNGKey(3))
    now = world.reset(jax.random.split(reset_key, 16)[0])
    true = theirs = 0.0
    for _ in range(spec.horizon):
        action = world.expert(now, jax.random.PRNGKey(0))
        after = world.step(now, action)
        true, theirs = (
            true + float(after.reward),
            theirs + float(learner.reward_fn(params, now.obs, action, after.obs)),
        )
        now = after
    assert shown[0]["judged_true"] == pytest.approx(true, abs=1e-5)
    assert shown[0]["judged_learned"] == pytest.approx(theirs, abs=1e-4)
    assert len({one["judged_learned"] for one in shown}) > 8  # noise makes rollouts differ


def test_ppo_sees_exactly_the_learned_reward(gail_run, monkeypatch):
    found = artifacts.read(gail_run)
    spec, learner, task = gail_and(found, "reward")
    seen = []
    improve = ppo.PPO.improve

    def spy(self, state, batch, reward, absorbing):
        assert absorbing is None
        seen.append((batch, reward))
        return improve(self, state, batch, reward, absorbing)

    monkeypatch.setattr(ppo.PPO, "improve", spy)
    config = {**TINY, "reward": "learned"}
    agent = registry.learner("ppo", spec, config)
    agent.update(agent.init(jax.random.PRNGKey(0), task), task)
    ((batch, reward),) = seen
    params = rebuilt(found, "reward", 1, learner, task)
    expected = learner.reward_fn(params, batch.observation, batch.action, batch.next_observation)
    np.testing.assert_array_equal(reward, expected)
    assert reward.shape == (8, 4) and jnp.std(reward) > 0
    assert not batch.termination.any()


# RLHF that begins with inverse RL.


def airl_learned(**config):
    """(Learned of seed 0 as an AIRL run would leave it, its learner, policy and reward)."""
    env, config = FIELDS["env"], {**GAIL, **config}
    world = registry.world(env).world
    spec = Spec(world, 8, 4, 8)
    learner = registry.learner("airl", spec, config)
    state = learner.init(jax.random.PRNGKey(3), task_of(world))
    policy, reward = learner.policy(state), learner.reward(state)
    leaves = {
        "policy": [np.asarray(x) for x in jax.tree.leaves(policy)],
        "reward": [np.asarray(x) for x in jax.tree.leaves(reward)],
    }
    full = {name: setting.default for name, setting in registry.algorithm("airl").settings.items()}
    full |= {
        name: tuple(value) if isinstance(value, list) else value for name, value in config.items()
    }
    return (
        artifacts.Artifact("airl", env, full, 4, 8, 8, "0" * 64, "0" * 8, {0: leaves}),
        learner,
        policy,
        reward,
    )


def task_of(world, given=None):
    return Task(collect(world, jax.random.PRNGKey(5), 4, 8), world.dials, given)


RLHF = {
    **TINY,
    "bc_steps": 2,
    "policy_delay": 0,
    "labels": 10,
    "pool_worlds": 4,
    "pool_steps": 8,
    "segment": 2,
    "members": 2,
    "reward_hidden": [4],
    "reward_batch": 4,
    "reward_steps": 1,
    "init": "airl",
}


@pytest.mark.slow
def test_rlhf_begins_with_the_policy_and_the_reward_of_inverse_rl():
    found, airl, policy, reward = airl_learned()
    world = registry.world(found.env).world
    # Other demonstrations than AIRL's: its policy goes on seeing what it saw.
    spec = Spec(world, 8, 2, 8)
    handed_on = donor.rebuild(found, ("policy", "reward"), spec)
    spec = dataclasses.replace(spec, donor=handed_on.donor)
    learner = registry.learner("rlhf", spec, {**RLHF, "reward_learning_rate": 1e-8})
    task = task_of(world, given_of(handed_on, 0))
    state = jax.jit(learner.init)(jax.random.PRNGKey(0), task)
    x = jax.random.normal(jax.random.PRNGKey(1), (16, 3))
    same = [jax.vmap(one.act, (None, 0, None))(params, x, jax.random.PRNGKey(2)) for one, params in
            ((airl, policy), (learner, learner.policy(state)))]  # fmt: skip
    np.testing.assert_allclose(*same, rtol=1e-5, atol=1e-6)
    after, metrics = jax.jit(learner.update)(state, task)
    assert float(metrics["reference_kl"]) == pytest.approx(0, abs=1e-6)
    # Members that have hardly learned anything add hardly anything: what is judged is g, in another
    # unit.
    g = airl.reward_fn(reward, x, jnp.zeros((16, 2)), x)
    judged = learner.reward_fn(learner.reward(after), x, jnp.zeros((16, 2)), x)
    assert np.corrcoef(g, judged)[0, 1] > 0.999
    judged = 2 * 2 * 16 * 8  # after either round two policies
    assert learner.consumes.env_steps == airl.consumes.env_steps + 2 * 4 * 8 + 4 * 8 + judged
    assert learner.consumes.expert_queries == airl.consumes.expert_queries


@pytest.mark.parametrize(
    ("airl", "rlhf", "words"),
    [
        ({"g": "state_action"}, {}, "--airl.g=state"),
        ({}, {"hidden": [8]}, "hidden=4"),
        (None, {}, "--given=RUN"),
    ],
)
def test_what_rlhf_cannot_begin_with_is_named(airl, rlhf, words):
    spec = Spec(registry.world(FIELDS["env"]).world, 8, 4, 8)
    if airl is not None:
        handed_on = donor.rebuild(airl_learned(**airl)[0], ("policy", "reward"), spec)
        spec = dataclasses.replace(spec, donor=handed_on.donor)
    with pytest.raises(BadInput, match=words):
        registry.learner("rlhf", spec, {**RLHF, **rlhf})


@pytest.mark.parametrize(("ours", "theirs"), [(True, True), (False, False), (False, True)])
def test_a_reward_that_may_not_see_the_flag_does_not_begin_with_one_that_has(ours, theirs):
    config = {"g": "state", "hidden": (4,), "mask_failure": theirs}
    airl = types.SimpleNamespace(
        algo="airl", config=config, reward_fn=lambda *_: 0.0, consumes=Consumes()
    )
    spec = Spec(registry.world("chain").world, 8, 4, 8, donor=airl)
    inverse.Start(spec, (4,), ours)
    config["mask_failure"] = False
    with pytest.raises(BadInput, match=r"--airl.mask_failure=true$"):
        inverse.Start(spec, (4,), True)


def test_a_reward_that_rests_on_another_run_is_not_trained_on_again():
    found = dataclasses.replace(airl_learned()[0], algo="rlhf", config={**RLHF, "labels": 10})
    spec = Spec(registry.world(FIELDS["env"]).world, 8, 4, 8)
    with pytest.raises(BadInput, match=r"--rlhf.init=bc"):
        donor.rebuild(found, ("reward",), spec)
    # Its policy is a policy, and a reward that people's answers made is a reward.
    assert donor.rebuild(found, ("policy",), spec).donor.act
    people = dataclasses.replace(found, config={**RLHF, "init": "bc", "teacher": "human"})
    assert donor.rebuild(people, ("reward",), spec).donor.reward_fn


@pytest.mark.parametrize(
    ("algo", "older"),
    [
        ("airl", {"mixup": False}),
        ("rlhf", {"queries": "uniform"}),
        ("drex", {"init": "bc"}),
        ("best_of_n", {"clip": 0.3, "rounds": 5}),
    ],
)
def test_what_an_earlier_version_stored_is_used_without_the_settings_that_are_gone(algo, older):
    spec = Spec(registry.world(FIELDS["env"]).world, 8, 4, 8)
    shared = {"drex": {"pool_worlds": 20, "segment": 8}, "airl": {"hidden": [4]}}.get(algo, {})
    plain = {**shared, "worlds": 2, "unroll": 8, "minibatches": 2, "rounds": 2, "policy_delay": 0}
    known = registry.algorithm(algo).settings
    config = {name: value for name, value in plain.items() if name in known}
    found = dataclasses.replace(airl_learned()[0], algo=algo, config={**config, **older})
    assert donor.rebuild(found, ("policy",), spec).donor.act
    changed = next(name for name in older)
    if algo == "best_of_n":
        changed = "never_there"
    with pytest.raises(BadInput, match=f"had a setting {changed}=.*train it again"):
        donor.rebuild(
            dataclasses.replace(found, config={**config, changed: "other"}), ("policy",), spec
        )

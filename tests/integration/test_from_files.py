"""What a user does with demonstrations: `launch/demos.py` writes them, every algorithm that takes
any trains on the file.

Episodes of 20, 7, 13 and 1 steps, from npz and from a Minari dataset, with rewards and without.
"""

import functools
import os
import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pytest

import envs
import irl_bench
from irl_bench import algos
from irl_bench.core.settings import BadInput
from irl_bench.plan import registry
from irl_bench.storage.demonstrations import read
from irl_bench.storage.plans import read_plan
from tests import conftest
from tests.conftest import QUICK

ROOT = pathlib.Path(__file__).parents[2]
LENGTHS = (20, 7, 13, 1)
WITHOUT = {"expert", "untrained", "stored", "judged", "sac"}
"""Algorithms that train on no demonstrations; `maxent_irl` is for tabular worlds and has a test
of its own."""
TINY = {
    "rounds": 2,
    "policy_delay": 0,
    "worlds": 4,
    "episode_steps": 8,
    "minibatches": 2,
    "labels": 40,
    "segment": 4,
    "tail": 2,
    "warm": 4,
    "bc_steps": 20,
    "steps_per_round": 5,
    "reward_steps": 5,
    "candidates": 1,
    "judged_worlds": 4,
    "replay": 1,
}
"""Settings that make any algorithm small."""
pytestmark = pytest.mark.usefixtures("no_pictures", "quick_compilation")


def command(program, *flags, folder):
    line = [sys.executable, ROOT / "launch" / program, *flags]
    return subprocess.run(
        line, cwd=folder, capture_output=True, text=True, timeout=600, env={**os.environ, **QUICK}
    )


def minari(path, found, world):
    """A Minari dataset with episodes of several lengths, as its own tools write it."""
    import gymnasium
    from minari import create_dataset_from_buffers
    from minari.data_collector import EpisodeBuffer

    buffers = []
    for i, steps in enumerate(LENGTHS):
        observation = np.concatenate(
            [found["observations"][i, :steps], found["observations"][i, :1]]
        )
        buffers.append(
            EpisodeBuffer(
                id=i,
                observations=observation,
                actions=found["actions"][i, :steps],
                rewards=found["rewards"][i, :steps],
                terminations=np.zeros(steps, bool),
                truncations=np.arange(steps) == steps - 1,
            )
        )
    box = gymnasium.spaces.Box
    warnings.simplefilter(
        "ignore", UserWarning
    )  # of authors and links that a local file does not have
    create_dataset_from_buffers(
        path.name,
        buffers,
        observation_space=box(-np.inf, np.inf, (int(world.observation_size),), np.float32),
        action_space=gymnasium.spaces.Discrete(world.n_actions)
        if world.n_actions
        else box(-1, 1, (world.action_size,), np.float32),
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """folder -> files of demonstrations of a world in it, made once each."""
    made = {}

    def of(env):
        if env not in made:
            folder = tmp_path_factory.mktemp(env)
            done = command(
                "demos.py",
                f"--env={env}",
                "--demos=4",
                "--steps=20",
                "--out=whole.npz",
                folder=folder,
            )
            assert done.returncode == 0, done.stderr
            with np.load(folder / "whole.npz") as file:
                whole = dict(file)
            assert set(whole) == {"observations", "actions", "rewards", "lengths", "world"}
            ragged = {**whole, "lengths": np.array(LENGTHS)}
            np.savez(folder / "ragged.npz", **ragged)
            np.savez(
                folder / "unpaid.npz",
                **{name: value for name, value in ragged.items() if name != "rewards"},
            )
            before = os.environ.get("MINARI_DATASETS_PATH")
            os.environ["MINARI_DATASETS_PATH"] = str(folder)
            try:
                with warnings.catch_warnings():
                    minari(folder / "ragged-v0", whole, envs.make(env))
            finally:
                os.environ.pop("MINARI_DATASETS_PATH")
                os.environ.update({} if before is None else {"MINARI_DATASETS_PATH": before})
            made[env] = folder
        return made[env]

    return of


def tiny(algo):
    """The settings of an algorithm that are in TINY."""
    return {k: v for k, v in TINY.items() if k in registry.algorithm(algo).settings}


def train(algos, env, file, out, **settings):
    """Trains algorithms on a file and returns their verdicts by name."""
    mode = next(iter(registry.world(env).world.modes))
    arguments = {"budget": "smoke", "seeds": 2, "episodes": 4, "T_max": 32, "mode": mode}
    settings = {**{algo: tiny(algo) for algo in algos}, **settings}
    found = irl_bench.run(algos, env, demos_from=str(file), out=str(out), **settings, **arguments)
    return {verdict["algo"]: verdict for verdict in found}


FIRST = ("bc", "dagger", "gail", "rlhf")
"""Algorithms that go through all code that reads demonstrations; the default tests try those."""
TAKING = [name for name in algos.ALGORITHMS if name not in WITHOUT | {"maxent_irl", "dart"}]
"""Algorithms that are tried on files of `chain`; `dart` needs continuous actions, and takes its
demonstrations as `dagger` does."""


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    """algorithm -> the verdicts and the plan of one run on one file: of those in FIRST together,
    or of all others."""

    @functools.cache
    def run(first):
        out = tmp_path_factory.mktemp("all")
        together = [name for name in TAKING if (name in FIRST) == first]
        return train(together, "chain", files("chain") / "ragged.npz", out), read_plan(out)

    return lambda algo: run(algo in FIRST)


@pytest.mark.parametrize(
    "algo", [pytest.param(a, marks=() if a in FIRST else pytest.mark.slow) for a in TAKING]
)
def test_every_algorithm_trains_on_a_file(algo, trained):
    verdicts, plan = trained(algo)
    assert verdicts[algo]["seeds"] == 2 and verdicts[algo]["usable_seeds"] == 2
    entry = next(e for e in plan["entries"] if e["algo"] == algo)
    queries = entry["consumes"]["expert_queries"]  # padding is no label
    assert (
        queries <= sum(LENGTHS)
        if algo == "dagger"
        else queries == (0 if algo == "ppo" else sum(LENGTHS))
    )


@pytest.mark.parametrize(
    ("name", "algos"),
    [
        ("ragged-v0", ["bc"]),
        ("unpaid.npz", ["bc"]),
        pytest.param("ragged-v0", ["gail"], marks=pytest.mark.slow),
        pytest.param("unpaid.npz", ["gail"], marks=pytest.mark.slow),
    ],
)
def test_minari_and_files_without_rewards_do_as_well(name, algos, files, tmp_path):
    verdicts = train(algos, "chain", files("chain") / name, tmp_path)
    assert [verdicts[algo]["usable_seeds"] for algo in algos] == [2]


def test_the_same_episodes_train_the_same_policy_whatever_the_file(files, tmp_path):
    folder = files("chain")
    for name in ("ragged.npz", "ragged-v0"):
        train(["bc"], "chain", folder / name, tmp_path / name)
    first, second = (
        irl_bench.load(tmp_path / name, "bc", "chain") for name in ("ragged.npz", "ragged-v0")
    )
    views = np.random.default_rng(0).normal(size=(50, 65)).astype(np.float32)
    assert [int(first.act(x)) for x in views] == [int(second.act(x)) for x in views]


def test_rewards_of_a_file_choose_the_best_demonstrations(files, tmp_path):
    folder, best = files("chain"), {"bc": {"top": 0.5, "rounds": 2}}
    verdicts = train(["bc"], "chain", folder / "ragged.npz", tmp_path, **best)
    assert verdicts["bc"]["usable_seeds"] == 2
    with pytest.raises(BadInput, match="needs demonstrations with rewards, which these lack"):
        train(["bc"], "chain", folder / "unpaid.npz", tmp_path, **best)


@pytest.mark.slow
def test_a_tabular_world_trains_on_a_file_too(files, tmp_path):
    verdicts = train(["maxent_irl"], "grid", files("grid") / "ragged.npz", tmp_path)
    assert verdicts["maxent_irl"]["usable_seeds"] == 2


def test_the_commands_of_the_readme_end_to_end(files):
    """Two programs, one after the other, as a user types them."""
    folder = files("chain")
    done = command(
        "sweep.py",
        "--algo=bc",
        "--env=chain",
        "--demos_from=ragged.npz",
        "--budget=smoke",
        "--mode=cliff",
        "--seeds=2",
        *conftest.TINY,
        "--out=typed",
        folder=folder,
    )
    assert done.returncode == 0, done.stderr
    assert "bc" in done.stdout and (folder / "typed" / "report.html").exists()


def test_one_step_is_too_short_for_a_discriminator(files, tmp_path):
    world, found = envs.make("chain"), read(files("chain") / "ragged.npz", envs.make("chain"))
    assert world.name == "chain" and found.lengths == LENGTHS
    np.savez(
        tmp_path / "short.npz", observations=found.observation[:, :1], actions=found.action[:, :1]
    )
    with pytest.raises(BadInput, match="have one step each"):
        train(["gail"], "chain", tmp_path / "short.npz", tmp_path / "run")
    verdicts = train(["bc"], "chain", tmp_path / "short.npz", tmp_path / "run")
    assert verdicts["bc"]["usable_seeds"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("env", ["lane_keep", "hopper"])
def test_every_algorithm_trains_on_a_file_of_a_car_and_of_a_robot(env, files, tmp_path):
    verdicts = train(TAKING, env, files(env) / "ragged.npz", tmp_path)
    assert {algo: verdicts[algo]["usable_seeds"] for algo in TAKING} == dict.fromkeys(TAKING, 2)

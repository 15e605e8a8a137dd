"""The benchmark: it measures what it claims at tiny sizes, and its page shows the measurements."""

import dataclasses
import json
import time

import jax
import numpy as np
import pytest

from irl_bench.plan import registry
from irl_bench.tools import speed, speed_robots

TINY = {
    "worlds": 2,
    "unroll": 4,
    "epochs": 1,
    "minibatches": 2,
    "hidden": (4,),
    "value_hidden": (4,),
}
DEMOS = {"demos": 2, "demo_steps": 4}


class Stub:
    """Rounds that compute nothing and take a fixed time [ms]."""

    seeds, steps = 3, 24

    def rollout(self):
        return lambda: time.sleep(2e-3)

    def round(self, algo, fits=1):
        return lambda: time.sleep(4e-3 + fits * {"ppo": 0.0, "gail": 1e-3, "airl": 4e-3}[algo])

    def separate(self, algo):
        return lambda: time.sleep(16e-3)


@pytest.fixture(scope="module")
def rounds(quick_compilation):
    return speed.Rounds("grid", 1, TINY, DEMOS)


def test_the_record_becomes_the_page(tmp_path):
    record = speed.measure(["worlds"], "chain", [4], steps=3, repeats=1)
    (row,) = record["parts"]["worlds"]
    assert (
        row["worlds"] == 4
        and row["failures"] == 0
        and row["best_steps_per_s"] >= row["median_steps_per_s"] > 0
    )
    assert record["machine"].keys() == {
        "cores",
        "memory_gib",
        "system",
        "device",
        "xla_flags",
        "matmul_precision",
    }
    (tmp_path / "here.json").write_text(json.dumps(record))
    text = speed.page(tmp_path)
    assert "## here" in text and record["date"] in text and f"{row['first_call_s']:.3g}"[:3] in text


def test_an_accelerator_is_named_with_what_it_was_told(tmp_path):
    record = speed.measure([], "chain", [], 0, 1)
    told = {"device": "NVIDIA H200", "xla_flags": ["--xla_flag"], "matmul_precision": "default"}
    (tmp_path / "here.json").write_text(
        json.dumps(record | {"backend": "gpu", "machine": record["machine"] | told})
    )
    assert "backend gpu (NVIDIA H200, matrices at precision default, --xla_flag)," in speed.page(
        tmp_path
    )


def test_a_record_tells_of_its_command_and_of_the_world_that_it_chose(tmp_path):
    command = "python launch/bench.py --what=seeds"
    record = speed.measure([], "grid", [], 0, 1, command)
    row = {"robot": "ant", "ratio_to_brax": 1.0}
    for part, shown in (("robots", False), ("learners", True)):
        (tmp_path / "here.json").write_text(json.dumps(record | {"parts": {part: [row]}}))
        text = speed.page(tmp_path)
        assert f"`{command}`" in text and ("World `grid`" in text) == shown


def test_seeds_are_measured_in_turn(monkeypatch):
    order = []

    def in_turn(calls, repeats):
        order.extend(calls)
        times = {"1": [1.0, 2.0, 4.0], "5": [2.0, 6.0, 4.0], "20": [3.0, 8.0, 40.0]}
        return dict.fromkeys(calls, 9.0), {name: np.array(times[name]) for name in calls}

    monkeypatch.setattr(speed, "in_turn", in_turn)
    rows = speed.seeds("", [], 2, 3)
    assert order == ["1", "5", "20"]
    assert [row["ratio"] for row in rows] == [1.0, 2.0, 4.0]
    assert [row["median_s"] for row in rows] == [2.0, 4.0, 8.0]


def test_nothing_measured(tmp_path):
    assert "Nothing has been measured yet." in speed.page(tmp_path)


def test_learners_beside_their_rollout(tmp_path):
    rows = speed.learners("", [], 0, 9, Stub())
    rollout, ppo, gail, airl = rows
    assert [row["algorithm"] for row in rows] == ["rollout", "ppo", "gail", "airl"]
    assert all(row["seeds"] == 3 and row["steps_per_round"] == 24 for row in rows)
    assert (
        rollout["median_steps_per_s"] > ppo["median_steps_per_s"] > airl["median_steps_per_s"] > 0
    )
    assert (
        rollout["ratio_to_rollout"]
        == ppo["ratio_to_ppo"]
        == 1.0
        > airl["ratio_to_ppo"]
        > airl["ratio_to_rollout"]
    )
    assert rollout["discriminator_share"] == ppo["discriminator_share"] == 0.0
    assert gail["discriminator_share"] < airl["discriminator_share"] < 1.0
    (row,) = speed.vmapped_learners("", [], 0, 9, [Stub()])
    assert row["vmapped_s"] < row["separate_s"] and 0 < row["ratio"] < 1
    record = speed.measure([], "grid", [], 0, 9) | {
        "parts": {"learners": rows, "vmapped_learners": [row]}
    }
    (tmp_path / "here.json").write_text(json.dumps(record))
    text = speed.page(tmp_path)
    assert (
        "| discriminator share |" in text
        and "| airl | 3 | 24 |" in text
        and "### vmapped_learners" in text
    )


def test_rounds_do_equal_work(rounds):
    for algo in speed.POLICY_TRAINERS:
        config = registry.config_of(registry.algorithm(algo), rounds.settings(algo))
        assert {name: getattr(config, name) for name in TINY} == TINY
        assert config.init == "random" and config.policy_delay == 0
    untouched = speed.Rounds("grid", 1, budget=DEMOS)
    sizes = [
        [untouched.settings(algo)[name] for name in speed.ALIKE] for algo in speed.POLICY_TRAINERS
    ]
    assert sizes[0] == sizes[1] == sizes[2]


def test_twice_the_fitting_is_twice_the_steps_and_nothing_else(rounds):
    for algo in speed.POLICY_TRAINERS[1:]:
        once, twice = (
            registry.config_of(registry.algorithm(algo), rounds.settings(algo, fits))
            for fits in (1, 2)
        )
        assert dataclasses.replace(once, disc_steps=2 * once.disc_steps) == twice


@pytest.mark.slow
def test_rounds_compute_what_they_say():
    """Takes half a minute of compilation."""
    rounds = speed.Rounds("grid", 2, TINY, DEMOS)
    before = rounds.state("airl")
    after, _ = rounds.round("airl")()
    for part in (lambda state: state.discriminator.params, lambda state: state.policy.weights):
        assert not jax.tree.all(jax.tree.map(np.array_equal, part(before), part(after)))
    apart = jax.tree.map(
        lambda *parts: np.concatenate(parts), *(state for state, _ in rounds.separate("airl")())
    )
    close = jax.tree.map(lambda x, y: np.allclose(x, y, rtol=1e-3, atol=1e-4), apart, after)
    assert jax.tree.all(close)


def test_every_part_has_a_title():
    assert speed.TITLES.keys() == speed.PARTS.keys()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Brax System")
def test_ppo_beside_braxs_own(monkeypatch):
    monkeypatch.setattr(speed_robots, "ROUNDS", 1)
    monkeypatch.setattr(
        speed_robots,
        "SETTINGS",
        {**speed_robots.SETTINGS, "unroll": 4, "minibatches": 2, "epochs": 1},
    )
    row = speed_robots.robot_speed("inverted_pendulum", 4, 1)
    assert (row["worlds"], row["steps_per_round"]) == (4, 16)
    assert row["rollout_steps_per_s"] > row["limit_steps_per_s"] > 0 and row["brax_steps_per_s"] > 0
    assert row["ratio_to_brax"] == pytest.approx(row["loop_steps_per_s"] / row["brax_steps_per_s"])
    assert row["ratio_to_limit"] == pytest.approx(
        row["loop_steps_per_s"] / row["limit_steps_per_s"]
    )

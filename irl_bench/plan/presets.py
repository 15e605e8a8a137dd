"""Presets of the sweep: budgets per world, differences from each algorithm's defaults, and the
modes that are compared.

The sources of a value are the algorithm's or world's default, `CONFIGS`, `BUDGET_CONFIGS` and a
flag; the later source wins. Numbers were chosen on seeds below 3000 unless the text says otherwise;
the figures in the documentation come from later seeds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from envs import PLAYGROUND
from irl_bench.algos import ALGORITHMS
from irl_bench.core.quantities import REFERENCES

__all__ = [
    "BUDGETS",
    "BUDGET_CONFIGS",
    "CONFIGS",
    "FROM_RANDOM",
    "OUTSIDE",
    "WORLDS",
    "budget_of",
    "config_differences",
    "modes",
]


@dataclasses.dataclass(frozen=True)
class Budget:
    """The size of an experiment in a world."""

    demos: int
    """Demonstration episodes per seed."""
    demo_steps: int
    """Length of a demonstration [steps]; demos x demo_steps is the number of labels."""
    episodes: int
    """Evaluation episodes per seed."""
    block: int
    """Episodes per jitted call."""
    reference_episodes: int
    """Evaluation episodes of the expert and the untrained policy, per seed."""
    eps_episodes: int
    """Held-out expert episodes per seed, on which errors are counted."""
    eps_steps: int
    """Length of these episodes [steps]."""
    eval_every: int
    """Rounds between two evaluations while training; 0: none."""
    width: int
    """Seeds per group."""
    seeds: int
    """Seeds per algorithm, world and mode."""
    clean: bool = False
    """Whether only episodes without a failure are demonstrated."""
    burn_in: int = 0
    """Steps that the expert acts before every episode begins, in a sweep of imitation alone
    (`imitates`); 0 in any other."""


BUDGETS = ("smoke", "default", "full")
"""smoke runs everything once and is too small for a verdict; default gives a verdict in minutes;
full gives tighter intervals."""

LONG_DRIVE: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "demos": 8, "demo_steps": 256, "episodes": 32, "block": 32, "reference_episodes": 32,
        "eps_episodes": 32, "eps_steps": 64, "eval_every": 0, "width": 5, "seeds": 5,
    },
    "default": {
        "demos": 96, "demo_steps": 512, "episodes": 256, "block": 128, "reference_episodes": 128,
        "eps_episodes": 256, "eps_steps": 128, "eval_every": 0, "width": 5, "seeds": 20,
    },
    "full": {
        "demos": 96, "demo_steps": 512, "episodes": 1024, "block": 128, "reference_episodes": 512,
        "eps_episodes": 512, "eps_steps": 256, "eval_every": 4, "width": 5, "seeds": 40,
    },
}  # fmt: skip
"""The budgets of driving worlds whose episodes are four to six times as long as `lane_keep`'s."""
WORLDS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "chain": {
        "smoke": {
            "demos": 8, "demo_steps": 256, "episodes": 64, "block": 64, "reference_episodes": 64,
            "eps_episodes": 64, "eps_steps": 64, "eval_every": 0, "width": 5, "seeds": 5,
        },
        "default": {
            "demos": 80, "demo_steps": 512, "episodes": 2048, "block": 256,
            "reference_episodes": 256, "eps_episodes": 512, "eps_steps": 128, "eval_every": 0,
            "width": 5, "seeds": 20,
        },
        "full": {
            "demos": 80, "demo_steps": 512, "episodes": 4096, "block": 256,
            "reference_episodes": 512, "eps_episodes": 1024, "eps_steps": 256, "eval_every": 0,
            "width": 5, "seeds": 40,
        },
    },
    "lane_keep": {
        "smoke": {
            "demos": 8, "demo_steps": 256, "episodes": 64, "block": 64, "reference_episodes": 64,
            "eps_episodes": 64, "eps_steps": 64, "eval_every": 0, "width": 5, "seeds": 5,
        },
        "default": {
            "demos": 96, "demo_steps": 512, "episodes": 1024, "block": 128,
            "reference_episodes": 128, "eps_episodes": 512, "eps_steps": 128, "eval_every": 0,
            "width": 5, "seeds": 20,
        },
        "full": {
            "demos": 96, "demo_steps": 512, "episodes": 4096, "block": 128,
            "reference_episodes": 512, "eps_episodes": 1024, "eps_steps": 512, "eval_every": 4,
            "width": 5, "seeds": 40,
        },
    },
    **dict.fromkeys(("race", "highway", "merge"), LONG_DRIVE),
    # A few hundred times lane_keep's time per step on a CPU.
    "car4w": {
        "smoke": {
            "demos": 4, "demo_steps": 64, "episodes": 8, "block": 8, "reference_episodes": 8,
            "eps_episodes": 8, "eps_steps": 32, "eval_every": 0, "width": 5, "seeds": 5,
        },
        "default": {
            "demos": 64, "demo_steps": 512, "episodes": 64, "block": 64, "reference_episodes": 64,
            "eps_episodes": 64, "eps_steps": 128, "eval_every": 0, "width": 5, "seeds": 10,
        },
        "full": {
            "demos": 96, "demo_steps": 512, "episodes": 1024, "block": 128,
            "reference_episodes": 256, "eps_episodes": 256, "eps_steps": 256, "eval_every": 0,
            "width": 5, "seeds": 40,
        },
    },
    # A failure takes a shove, so an episode of training that shows ten of them is long.
    "swing_up": {
        "smoke": {
            "demos": 4, "demo_steps": 256, "episodes": 16, "block": 16, "reference_episodes": 16,
            "eps_episodes": 16, "eps_steps": 64, "eval_every": 0, "width": 5, "seeds": 5,
            "clean": True,
        },
        "default": {
            "demos": 800, "demo_steps": 1024, "episodes": 256, "block": 64,
            "reference_episodes": 256, "eps_episodes": 64, "eps_steps": 256, "eval_every": 0,
            "width": 5, "seeds": 10, "clean": True,
        },
        "full": {
            "demos": 800, "demo_steps": 1024, "episodes": 256, "block": 64,
            "reference_episodes": 256, "eps_episodes": 256, "eps_steps": 512, "eval_every": 0,
            "width": 5, "seeds": 40, "clean": True,
        },
    },
    "plant": {
        "smoke": {
            "demos": 8, "demo_steps": 128, "episodes": 64, "block": 64, "reference_episodes": 64,
            "eps_episodes": 64, "eps_steps": 64, "eval_every": 0, "width": 5, "seeds": 5,
        },
        "default": {
            "demos": 256, "demo_steps": 128, "episodes": 2048, "block": 256,
            "reference_episodes": 256, "eps_episodes": 256, "eps_steps": 128, "eval_every": 0,
            "width": 5, "seeds": 20,
        },
        "full": {
            "demos": 256, "demo_steps": 128, "episodes": 8192, "block": 256,
            "reference_episodes": 512, "eps_episodes": 512, "eps_steps": 128, "eval_every": 0,
            "width": 5, "seeds": 40,
        },
    },
    "grid": {
        "smoke": {
            "demos": 16, "demo_steps": 64, "episodes": 64, "block": 64, "reference_episodes": 64,
            "eps_episodes": 64, "eps_steps": 64, "eval_every": 0, "width": 5, "seeds": 5,
        },
        "default": {
            "demos": 64, "demo_steps": 100, "episodes": 1024, "block": 256,
            "reference_episodes": 256, "eps_episodes": 512, "eps_steps": 128, "eval_every": 0,
            "width": 5, "seeds": 10,
        },
        "full": {
            "demos": 256, "demo_steps": 100, "episodes": 4096, "block": 256,
            "reference_episodes": 512, "eps_episodes": 1024, "eps_steps": 256, "eval_every": 0,
            "width": 5, "seeds": 20,
        },
    },
}  # fmt: skip
ROBOT: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "demos": 4, "demo_steps": 128, "episodes": 16, "block": 16, "reference_episodes": 16,
        "eps_episodes": 16, "eps_steps": 32, "eval_every": 0, "width": 5, "seeds": 5,
    },
    "default": {
        "demos": 50, "demo_steps": 1000, "episodes": 128, "block": 64, "reference_episodes": 64,
        "eps_episodes": 64, "eps_steps": 250, "eval_every": 0, "width": 5, "seeds": 10,
    },
    "full": {
        "demos": 50, "demo_steps": 1000, "episodes": 512, "block": 128, "reference_episodes": 256,
        "eps_episodes": 128, "eps_steps": 1000, "eval_every": 0, "width": 5, "seeds": 20,
    },
}  # fmt: skip
"""The budgets of robots, which take ten to a hundred times the car's time per step."""
ROBOTS = (
    "hopper", "halfcheetah", "ant", "walker2d", "humanoid",
    "reacher", "pusher", "inverted_pendulum", "inverted_double_pendulum",
)  # fmt: skip
DRIVING = ("lane_keep", "race", "highway", "merge", "car4w")
"""Worlds of cars."""
LIKE_ROBOTS = (*ROBOTS, "ant_course", PLAYGROUND)
"""Worlds with the settings of robots: those, what is built on them, and MuJoCo Playground, whose
worlds share one row of the tables."""
BURN_IN = {
    "hopper": 1000, "halfcheetah": 300, "ant": 400, "walker2d": 1000, "humanoid": 300,
    "ant_course": 300,
}  # fmt: skip
"""Robot that starts at rest and then runs -> steps of the expert before an episode: until then its
hazard depends on t. Hopper hardly falls before step 640 and most from about step 960 on
(docs/lab/2026-11-30-hopper-hazard.md). The other robots have no burn-in: their experts hold a pose,
and episodes would begin alike."""
WORLDS = {
    **WORLDS,
    "coarse_lane": WORLDS["grid"],
    **dict.fromkeys(LIKE_ROBOTS, ROBOT),
    # Seven times as long as a robot's usual horizon.
    "ant_course": {
        **ROBOT,
        "default": {**ROBOT["default"], "episodes": 32, "block": 32, "reference_episodes": 32},
        "full": {**ROBOT["full"], "episodes": 128},
    },
}  # fmt: skip

UNTRAINED = {"episodes": 32, "block": 32, "eps_episodes": 64}
"""Upper bounds for the untrained policy: its level is near 1, and nothing is fitted to it."""

OUTSIDE: Mapping[str, Mapping[str, int]] = WORLDS["lane_keep"]
"""The budgets of a world that is not in the table."""

TABULAR = {"hidden": (64,), "learning_rate": 3e-2, "weight_decay": 0.0, "batch_size": 512}
"""BC and DAgger on one-hot observations. Rare observations occur in only a few rows, so a held-out
loss would measure only which of them are missing."""

TABULAR_IRL = {
    "discount": 0.9, "init": "random", "episode_steps": 100, "rounds": 100, "learning_rate": 1e-3,
    "policy_delay": 0, "disc_learning_rate": 1e-3, "penalty": 0.1, "replay": 0,
}  # fmt: skip
"""For the tabular worlds, whose demonstrator has this discount. There is no replay memory: training
starts from a random policy, so most of its content would be outdated, and the exact answer exists
only for the present policy."""

RUNNER = {
    "init": "random", "statistics": "running", "episode_steps": 1000,
    "worlds": 256, "unroll": 128, "minibatches": 32, "epochs": 5, "discount": 0.997,
    "entropy": 3e-3, "log_std": -0.5, "log_std_min": -1.6, "log_std_max": 0.5, "rounds": 800,
    "linger": 50,
}  # fmt: skip
"""PPO on a robot's own reward, from a random policy. With a learned reward a fall does not end the
episode; 50 steps of it are enough."""

SOFT = {
    "episode_steps": 1000,
    "discount": 0.997,
    "reward_scale": 5.0,
    "rounds": 8000,
    "capacity": 300_000,
}
"""SAC on a robot's own reward. Every checkpoint holds the buffer: 80 MB per seed for ant."""

FALLING = {
    "episode_steps": 1000, "absorbing": True, "discount": 0.99, "worlds": 128, "minibatches": 16,
    "rounds": 60, "learning_rate": 8e-4, "log_std": -1.3, "log_std_min": -4.0, "log_std_max": -1.0,
}  # fmt: skip
"""GAIL on a robot. Falls are rare, so a round must hold many steps, and the policy must explore
enough to learn from them."""

LYING = {**FALLING, "absorbing": False, "learning_rate": 2e-4, "log_std": -1.8}
"""AIRL on a robot, without an absorbing state: a fallen robot lies there until its episode is cut.
With an absorbing state hopper's policy lost the ability to hop. The step size was halved after
collapses on seeds 4000 to 4009 (docs/lab/2026-11-26-hopper-gail-airl.md)."""

CUT = {**LYING, "linger": 50}
"""LYING with episodes that are cut soon after a fall, for ant. With an absorbing state ant learned
to survive and forgot to walk (docs/lab/2026-11-26-three-robots.md)."""

NUDGED = {
    "episode_steps": 1000, "pool_steps": 1000, "discount": 0.99, "worlds": 128, "minibatches": 16,
    "rounds": 60, "log_std": -1.3, "log_std_min": -4.0, "log_std_max": -1.0, "policy_delay": 10,
    "linger": 50,
}  # fmt: skip
"""PPO on a reward learned from comparisons, from a robot's clone. The policy stays fixed until the
first episodes are over. Episodes are cut 50 steps after a fall: without the cut, four steps in ten
followed a fall, and PPO lowered the reward that it maximised."""

DRAWN = {"episode_steps": 1000, "pool_steps": 1000, "log_std": -1.3}
"""Best-of-n on a robot. It rolls out the clone and trains no policy."""

BEYOND = {**NUDGED, "reference_kl": 0.0, "learning_rate": 8e-4, "rounds": 120}
"""T-REX and D-REX on a robot that can run faster than its demonstrations. The search used D-REX on
halfcheetah: with a smaller step, a penalty or fewer rounds its return was still rising when
training ended (docs/lab/2026-11-25-beyond-the-demonstrations.md)."""

PREFERENCES = ("rlhf", "rlhf_iterated", "best_of_n", "trex", "drex", "dpo", "cpl")
"""Algorithms that learn from comparisons."""

CONFIGS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("chain", "bc"): {**TABULAR, "rounds": 6, "steps_per_round": 200, "held_out": 0.0},
    ("chain", "dagger"): {**TABULAR, "initial": 0.25, "steps_per_round": 200},
    **{(env, "bc"): {"hidden": (32, 32)} for env in ("lane_keep", "car4w")},
    # Three quarters of the labels online: with half of them one seed in twenty saw too few
    # departures to learn to stay back.
    **{
        (env, algo): {"hidden": (32, 32), "initial": 0.25}
        for env in ("lane_keep", "car4w")
        for algo in ("dagger", "dart")
    },
    # With 64 units and a third of the steps BC left the track eight times as often (seeds 2000 to
    # 2004).
    ("race", "bc"): {"hidden": (128, 128), "rounds": 80},
    **{
        ("race", algo): {"hidden": (128, 128), "steps_per_round": 1333}
        for algo in ("dagger", "dart")
    },
    ("swing_up", "bc"): {"batch_size": 512, "steps_per_round": 1200},
    # Nine tenths of the labels online, in rollouts nearly as long as the horizon: a fall that is
    # not undone lasts. Falls are rare, so each of many rounds adds a few.
    **{
        ("swing_up", algo): {
            "initial": 0.1,
            "episode_steps": 4096,
            "iterations": 23,
            "steps_per_round": 1200,
        }
        for algo in ("dagger", "dart")
    },
    **{("chain", algo): {"bc_steps": 600} for algo in ("clone", "ppo", *PREFERENCES)},
    **{("chain", algo): {"discount": 0.9, "bc_steps": 600} for algo in ("gail", "gailfo")},
    ("chain", "airl"): {"discount": 0.9, "bc_steps": 600, "g": "state_action"},
    **{("grid", algo): TABULAR_IRL for algo in ("gail", "gailfo")},
    ("grid", "airl"): {**TABULAR_IRL},
    **{("coarse_lane", algo): TABULAR_IRL for algo in ("gail", "gailfo")},
    ("coarse_lane", "airl"): {**TABULAR_IRL},
    **{(robot, "bc"): {"rounds": 40, "steps_per_round": 250} for robot in LIKE_ROBOTS},
    # Rollouts of whole episodes: a robot starts at rest, and most of its states come later.
    **{
        (robot, algo): {"episode_steps": 1000, "steps_per_round": 1600}
        for robot in LIKE_ROBOTS
        for algo in ("dagger", "dart")
    },
    **{(robot, algo): FALLING for robot in LIKE_ROBOTS for algo in ("gail", "gailfo")},
    **{(robot, "airl"): LYING for robot in LIKE_ROBOTS},
    **{(robot, "ppo"): RUNNER for robot in LIKE_ROBOTS},
    **{(robot, "sac"): SOFT for robot in LIKE_ROBOTS},
    **{
        (robot, algo): NUDGED
        for robot in LIKE_ROBOTS
        for algo in ("rlhf", "rlhf_iterated", "trex", "drex")
    },
    **{(robot, "best_of_n"): DRAWN for robot in LIKE_ROBOTS},
    # Steps of FALLING's size undo, from many demonstrations, what the clone could do
    # (docs/lab/2026-11-26-hopper-gail-airl.md).
    # These were chosen with the inputs of gailfo.
    **{
        ("hopper", algo): {**FALLING, "learning_rate": 3e-4, "log_std": -2.2}
        for algo in ("gail", "gailfo")
    },
    **{("ant", algo): {**CUT, "learning_rate": 8e-4} for algo in ("gail", "gailfo")},
    ("ant", "airl"): CUT,
    ("ant", "ppo"): {
        **RUNNER,
        "unroll": 64,
        "epochs": 4,
        "discount": 0.97,
        "entropy": 5e-3,
        "log_std_min": -3.0,
        "rounds": 400,
    },
    **{(robot, algo): BEYOND for robot in ("halfcheetah", "ant") for algo in ("trex", "drex")},
    ("halfcheetah", "ppo"): {**RUNNER, "unroll": 64, "discount": 0.97, "log_std_min": -3.0},
    ("walker2d", "ppo"): {
        **RUNNER,
        "discount": 0.995,
        "learning_rate": 6e-4,
        "log_std_min": -2.0,
        "log_std_max": 1.0,
        "rounds": 300,
    },
    ("reacher", "ppo"): {
        **RUNNER,
        "discount": 0.99,
        "learning_rate": 1e-3,
        "log_std_min": -2.0,
        "rounds": 300,
    },
    ("inverted_pendulum", "ppo"): {**RUNNER, "discount": 0.99, "log_std_min": -3.0, "rounds": 200},
    ("inverted_double_pendulum", "ppo"): {**RUNNER, "discount": 0.99, "rounds": 100},
}
"""(world, algorithm) -> settings that differ from the algorithm's defaults."""

EXPLORING = {
    "init": "random", "statistics": "running", "policy_delay": 0, "log_std_min": -3.0,
    "log_std_max": 0.0, "rounds": 200,
}  # fmt: skip
AIRL_EXPLORING = {
    **EXPLORING, "learning_rate": 4.3e-4, "disc_learning_rate": 1.3e-3, "discount": 0.95,
    "log_std": -1.27, "entropy": 1.5e-4,
}  # fmt: skip
GAIL_EXPLORING = {
    **EXPLORING, "learning_rate": 1.1e-4, "disc_learning_rate": 8.9e-4, "discount": 0.98,
    "log_std": -0.6, "entropy": 3.7e-3,
}  # fmt: skip
"""Inverse RL on the car from a random policy: each algorithm's best of 12 points in the view that
shows the offset (seeds 90 to 92, results/search/car-random-airl.json and car-random-gail.json)."""

STANDING_UP = {
    **RUNNER, "unroll": 64, "epochs": 4, "discount": 0.97, "entropy": 5e-3, "log_std_min": -3.0,
    "learning_rate": 3e-4, "rounds": 400, "policy_delay": 0,
}  # fmt: skip
"""Inverse RL on a robot from a random policy: PPO's settings on ant's own reward. They were chosen
beforehand, not searched for."""

FROM_RANDOM: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("lane_keep", "airl"): AIRL_EXPLORING,
    **{("lane_keep", algo): GAIL_EXPLORING for algo in ("gail", "gailfo")},
    **{(robot, algo): STANDING_UP for robot in LIKE_ROBOTS for algo in ("gail", "gailfo", "airl")},
}
"""(world, algorithm) -> settings that differ with `init=random`."""

SHORT = {"rounds": 4, "bc_steps": 300, "policy_delay": 1}
SHORT_POOL = {**SHORT, "pool_worlds": 20, "pool_steps": 100, "reward_steps": 50}

SHORT_BEST = {
    "bc_steps": 300, "pool_worlds": 20, "pool_steps": 100, "reward_steps": 50, "labels": 50,
    "samples": 8, "begins": 8, "warm": 50, "length": 50,
}  # fmt: skip

BUDGET_CONFIGS: Mapping[tuple[str, str, str], Mapping[str, Any]] = {
    **{("smoke", env, "best_of_n"): SHORT_BEST for env in (*DRIVING, "chain", *LIKE_ROBOTS)},
    ("smoke", "chain", "bc"): {"rounds": 4},
    ("smoke", "chain", "dagger"): {"iterations": 2},
    ("smoke", "swing_up", "bc"): {"rounds": 4, "steps_per_round": 50},
    **{
        ("smoke", "swing_up", algo): {"iterations": 2, "steps_per_round": 50}
        for algo in ("dagger", "dart")
    },
    **{("smoke", env, "bc"): {"rounds": 6} for env in DRIVING},
    **{("smoke", env, "clone"): {"bc_steps": 300} for env in (*DRIVING, "chain", *LIKE_ROBOTS)},
    **{
        ("smoke", env, algo): {"iterations": 2, "steps_per_round": 200}
        for env in DRIVING
        for algo in ("dagger", "dart")
    },
    **{
        (("smoke", env, algo)): SHORT
        for env in (*DRIVING, "chain", *LIKE_ROBOTS)
        for algo in ("gail", "gailfo", "airl", "ppo")
    },
    **{
        ("smoke", env, "sac"): {"rounds": 12, "random_rounds": 4, "updates": 16}
        for env in (*DRIVING, *LIKE_ROBOTS)
    },
    **{
        ("smoke", env, algo): {**SHORT_POOL, **changes}
        for env in (*DRIVING, "chain", *LIKE_ROBOTS)
        for algo, changes in {
            "rlhf": {"labels": 50},
            "rlhf_iterated": {"labels": 50, "iterations": 2},
            "trex": {"pairs": 200},
            "drex": {"pairs": 200},
        }.items()
    },
    **{
        ("smoke", env, algo): {
            "labels": 50,
            "rounds": 2,
            "bc_steps": 300,
            "warm": 50,
            "tail": 25,
            "segment": 25,
        }
        for env in (*DRIVING, "chain", *LIKE_ROBOTS)
        for algo in ("dpo", "cpl")
    },
    **{
        ("smoke", name, algo): {**SHORT, "worlds": 16, "minibatches": 8}
        for name in LIKE_ROBOTS
        for algo in ("gail", "gailfo", "airl")
    },
    **{("smoke", robot, "bc"): {"rounds": 4, "steps_per_round": 50} for robot in LIKE_ROBOTS},
    **{
        ("smoke", robot, "dagger"): {"iterations": 2, "steps_per_round": 50}
        for robot in LIKE_ROBOTS
    },
    # Equally long for all that train by PPO.
    **{
        ("full", "lane_keep", algo): {"rounds": 400}
        for algo in ("gail", "gailfo", "airl", "ppo", "rlhf", "rlhf_iterated", "trex", "drex")
    },
}
"""(budget, world, algorithm) -> further settings that differ."""


IMITATION = ("bc", "clone", "dagger", "dart")
"""Algorithms that imitate actions; no reward plays a part."""

DEFAULT_WORLDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("gail", "gailfo", "airl", "ppo", "sac", "stored", *PREFERENCES), ("lane_keep",)
    ),
    "maxent_irl": ("grid", "coarse_lane"),
}
"""Algorithm -> its default worlds, if they are not the sweep's."""


def default_worlds(algos: Iterable[str], otherwise: Sequence[str]) -> tuple[str, ...]:
    """Returns the worlds of a sweep that names none: the default worlds that all its algorithms
    share.

    Args:
      algos: names of the algorithms.
      otherwise: the sweep's own default worlds, also if the algorithms share none.
    """
    sets = [DEFAULT_WORLDS.get(algo, tuple(otherwise)) for algo in algos]
    shared = tuple(
        world
        for world in (sets[0] if sets else otherwise)
        if all(world in worlds for worlds in sets)
    )
    return shared or tuple(otherwise)


def imitates(algos: Iterable[str]) -> bool:
    """Returns whether a sweep is one of imitation alone, which is read over horizons: it has one of
    IMITATION, and otherwise algorithms and policies from outside.

    The burn-in of a budget is for such sweeps. Returns are compared from the robot's own start, and
    a policy that is trained on a reward must not begin where the expert has taken the robot.
    """
    names = set(algos) - set(REFERENCES)
    return bool(names & set(IMITATION)) and not names & ALGORITHMS.keys() - set(IMITATION)


def budget_of(env: str, budget: str) -> Budget:
    """Returns a world's budget of one of the names in BUDGETS."""
    row = _row(env)
    burn_in = 0 if budget == "smoke" else BURN_IN.get(row, 0)
    return Budget(**WORLDS.get(row, OUTSIDE)[budget], burn_in=burn_in)


def config_differences(env: str, algo: str, budget: str, init: str | None = None) -> dict[str, Any]:
    """Returns the settings of an algorithm that differ from its defaults in a world at a budget.

    Args:
      env, algo, budget: names.
      init: how the user wants the policy to begin; "random" adds FROM_RANDOM.
    """
    env = _row(env)
    begun = FROM_RANDOM.get((env, algo), {}) if init == "random" else {}
    return {**CONFIGS.get((env, algo), {}), **begun, **BUDGET_CONFIGS.get((budget, env, algo), {})}


def _row(env: str) -> str:
    """The world's name in the tables."""
    return PLAYGROUND if env.startswith(PLAYGROUND) else env


CONTROL_IF_ASKED = ("swing_up",)
"""Worlds on which the control, BC in the mode `recoverable`, runs if asked for: it would take a
third of the default sweep's time."""


def modes(env: str, algo: str, available: Iterable[str]) -> tuple[str, ...]:
    """Returns the modes in which an algorithm runs by default: the world's first one. `bc` also
    runs in `recoverable`, but in worlds of CONTROL_IF_ASKED, and in all modes of `chain`.

    Args:
      env: the world's name.
      algo: the algorithm's name.
      available: the world's modes.
    """
    names = tuple(available)
    if (env, algo) == ("chain", "bc"):
        return names
    controlled = algo == "bc" and env not in CONTROL_IF_ASKED
    return names[:1] + tuple(name for name in names[1:] if controlled and name == "recoverable")

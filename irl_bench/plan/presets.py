"""What the sweep runs where: budgets per world, differences from each algorithm's defaults, and
which modes are compared.

A value is looked up in this order, the later one wins: the algorithm's or world's default,
`CONFIGS`, `BUDGET_CONFIGS`, a flag. Numbers here were chosen on seeds below 3000 unless they say
so; the figures in the documentation come from later ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from envs import PLAYGROUND

__all__ = [
    "BUDGETS",
    "BUDGET_CONFIGS",
    "CONFIGS",
    "OUTSIDE",
    "WORLDS",
    "budget_of",
    "config_differences",
    "modes",
]


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much is run of a world."""

    demos: int
    """Demonstration episodes per seed."""
    demo_steps: int
    """Their length [steps]; demos x demo_steps are the labels."""
    episodes: int
    """Evaluation episodes per seed."""
    block: int
    """Episodes per jitted call."""
    reference_episodes: int
    """Evaluation episodes of the expert and the untrained policy, per seed."""
    eps_episodes: int
    """Held-out expert episodes per seed, on which errors are counted."""
    eps_steps: int
    """Their length [steps]."""
    eval_every: int
    """Rounds between two evaluations while training; 0: none."""
    width: int
    """Seeds per group."""
    seeds: int
    """Seeds per algorithm, world and mode."""


BUDGETS = ("smoke", "default", "full")
"""smoke: does everything once, too small for a verdict; default: a verdict in minutes; full:
tighter intervals."""

WORLDS: Mapping[str, Mapping[str, Mapping[str, int]]] = {
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
ROBOT: Mapping[str, Mapping[str, int]] = {
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
"""Robots cost ten to a hundred times the car's time per step."""
ROBOTS = (
    "hopper", "halfcheetah", "ant", "walker2d", "humanoid",
    "reacher", "pusher", "inverted_pendulum", "inverted_double_pendulum",
)  # fmt: skip
LIKE_ROBOTS = (*ROBOTS, PLAYGROUND)
"""Those, and all worlds of MuJoCo Playground's, which share a row."""
WORLDS = {**WORLDS, "coarse_lane": WORLDS["grid"], **dict.fromkeys(LIKE_ROBOTS, ROBOT)}

UNTRAINED = {"episodes": 32, "block": 32, "eps_episodes": 64}
"""At most this much of the untrained policy: its level is near 1 and nothing is fitted to it."""

SECONDS: Mapping[tuple[str, str], tuple[float, int]] = {
    ("chain", "expert"): (0.2, 256),
    ("chain", "untrained"): (0.6, 256),
    ("chain", "bc"): (3.9, 2048),
    ("chain", "dagger"): (4.0, 2048),
    ("lane_keep", "expert"): (2.4, 128),
    ("lane_keep", "untrained"): (2.4, 32),
    ("lane_keep", "bc"): (22.0, 1024),
    ("lane_keep", "dagger"): (25.0, 1024),
    ("lane_keep", "gail"): (67.0, 1024),
    ("lane_keep", "airl"): (77.0, 1024),
}
"""Wall time of a cell [s] and its episodes, of sweeps at the default budget on 2 CPU cores; for
--dry_run alone."""

OUTSIDE: Mapping[str, Mapping[str, int]] = WORLDS["lane_keep"]
"""The budgets of a world that is not in the table."""

TABULAR = {"hidden": (64,), "learning_rate": 3e-2, "weight_decay": 0.0, "batch_size": 512}
"""For one-hot observations: each rare one must be fitted from a few rows. Held-out loss would
only tell what is missing."""

TABULAR_IRL = {
    "discount": 0.9, "init": "random", "episode_steps": 100, "rounds": 100, "learning_rate": 1e-3,
    "policy_delay": 0, "disc_learning_rate": 1e-3, "penalty": 0.1, "replay": 0,
}  # fmt: skip
"""For the tabular worlds, whose demonstrator has this discount. Without a memory: from a random
policy on, most of it would be what nobody does any more, and there is an exact answer only for
the present policy."""

RUNNER = {
    "init": "random", "statistics": "running", "episode_steps": 1000,
    "worlds": 256, "unroll": 128, "minibatches": 32, "epochs": 5, "discount": 0.997,
    "entropy": 3e-3, "log_std": -0.5, "log_std_min": -1.6, "log_std_max": 0.5, "rounds": 800,
    "linger": 50,
}  # fmt: skip
"""PPO on a robot's own reward, from nothing. On a learned reward a fall ends no episode; of it,
50 steps are enough."""

SOFT = {
    "episode_steps": 1000,
    "discount": 0.997,
    "reward_scale": 5.0,
    "rounds": 8000,
    "capacity": 300_000,
}
"""SAC on a robot's own reward. The buffer is part of every checkpoint: 80 MB of ant's steps, per
seed."""

FALLING = {
    "episode_steps": 1000, "absorbing": True, "discount": 0.99, "worlds": 128, "minibatches": 16,
    "rounds": 60, "learning_rate": 8e-4, "log_std": -1.3, "log_std_min": -4.0, "log_std_max": -1.0,
}  # fmt: skip
"""GAIL on a robot: falls are rare, so a round must hold many steps, and its policy try enough to
learn from them."""

LYING = {**FALLING, "absorbing": False, "learning_rate": 2e-4, "log_std": -1.8}
"""AIRL on a robot, which lies where it fell until its episode is cut: with an absorbing state it
forgot how to hop. The step size was halved after collapses on seeds 4000 to 4009
(docs/lab/2026-11-26-hopper-gail-airl.md)."""

CUT = {**LYING, "linger": 50}
"""The same, but an episode is cut soon after the fall. Ant's: with an absorbing state it learned
to live and forgot to walk (docs/lab/2026-11-26-three-robots.md)."""

NUDGED = {
    "episode_steps": 1000, "pool_steps": 1000, "discount": 0.99, "worlds": 128, "minibatches": 16,
    "rounds": 60, "log_std": -1.3, "log_std_min": -4.0, "log_std_max": -1.0, "policy_delay": 10,
    "linger": 50,
}  # fmt: skip
"""A robot's clone on a reward learned from comparisons; it is held until the first episodes are
over. Of a fall 50 steps are enough to learn from: where robots lay to the end, four steps in ten
were theirs, and PPO lowered what it maximised."""

BEYOND = {**NUDGED, "reference_kl": 0.0, "learning_rate": 8e-4, "rounds": 120}
"""T-REX and D-REX on a robot that can run faster than it was shown. Searched for with D-REX on
halfcheetah: with less of a step, a penalty or fewer rounds it was still on its way when training
ended (docs/lab/2026-11-25-beyond-the-demonstrations.md)."""

PREFERENCES = ("rlhf", "rlhf_iterated", "best_of_n", "trex", "drex", "dpo", "cpl")
"""Algorithms that learn from comparisons."""

CONFIGS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("chain", "bc"): {**TABULAR, "rounds": 6, "steps_per_round": 200, "held_out": 0.0},
    ("chain", "dagger"): {**TABULAR, "initial": 0.25, "steps_per_round": 200},
    ("lane_keep", "bc"): {"hidden": (32, 32)},
    # Three quarters of the labels online: with half of them one seed in twenty saw too few
    # departures to learn to stay back.
    ("lane_keep", "dagger"): {"hidden": (32, 32), "initial": 0.25},
    ("chain", "gail"): {"discount": 0.9, "bc_steps": 600, "inputs": "state_action"},
    ("chain", "airl"): {"discount": 0.9, "bc_steps": 600, "g": "state_action"},
    ("grid", "gail"): {**TABULAR_IRL, "inputs": "state_action"},
    ("grid", "airl"): {**TABULAR_IRL},
    ("coarse_lane", "gail"): {**TABULAR_IRL, "inputs": "state_action"},
    ("coarse_lane", "airl"): {**TABULAR_IRL},
    **{(robot, "bc"): {"rounds": 40, "steps_per_round": 250} for robot in LIKE_ROBOTS},
    # Rollouts of whole episodes: a robot starts at rest, and most of its states come later.
    **{
        (robot, "dagger"): {"episode_steps": 1000, "steps_per_round": 1600} for robot in LIKE_ROBOTS
    },
    **{(robot, "gail"): FALLING for robot in LIKE_ROBOTS},
    **{(robot, "airl"): LYING for robot in LIKE_ROBOTS},
    **{(robot, "ppo"): RUNNER for robot in LIKE_ROBOTS},
    **{(robot, "sac"): SOFT for robot in LIKE_ROBOTS},
    **{(robot, algo): NUDGED for robot in LIKE_ROBOTS for algo in PREFERENCES[:5]},
    # Steps of FALLING's size undo, from many demonstrations, what the clone could do
    # (docs/lab/2026-11-26-hopper-gail-airl.md).
    ("hopper", "gail"): {**FALLING, "learning_rate": 3e-4, "log_std": -2.2},
    ("ant", "gail"): {**CUT, "learning_rate": 8e-4},
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

SHORT = {"rounds": 4, "bc_steps": 300, "policy_delay": 1}
SHORT_POOL = {**SHORT, "pool_worlds": 20, "pool_steps": 100, "reward_steps": 50}

BUDGET_CONFIGS: Mapping[tuple[str, str, str], Mapping[str, Any]] = {
    ("smoke", "chain", "bc"): {"rounds": 4},
    ("smoke", "chain", "dagger"): {"iterations": 2},
    ("smoke", "lane_keep", "bc"): {"rounds": 6},
    ("smoke", "lane_keep", "dagger"): {"iterations": 2, "steps_per_round": 200},
    **{
        (("smoke", env, algo)): SHORT
        for env in ("lane_keep", "chain", *LIKE_ROBOTS)
        for algo in ("gail", "airl", "ppo")
    },
    **{
        ("smoke", env, "sac"): {"rounds": 12, "random_rounds": 4, "updates": 16}
        for env in ("lane_keep", *LIKE_ROBOTS)
    },
    **{
        ("smoke", env, algo): {**SHORT_POOL, **own}
        for env in ("lane_keep", "chain", *LIKE_ROBOTS)
        for algo, own in {
            "rlhf": {"labels": 50},
            "rlhf_iterated": {"labels": 50, "iterations": 2},
            "best_of_n": {"labels": 50, "samples": 8, "begins": 8, "warm": 50, "length": 50},
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
        for env in ("lane_keep", "chain", *LIKE_ROBOTS)
        for algo in ("dpo", "cpl")
    },
    **{
        ("smoke", name, algo): {**SHORT, "worlds": 16, "minibatches": 8}
        for name in LIKE_ROBOTS
        for algo in ("gail", "airl")
    },
    **{("smoke", robot, "bc"): {"rounds": 4, "steps_per_round": 50} for robot in LIKE_ROBOTS},
    **{
        ("smoke", robot, "dagger"): {"iterations": 2, "steps_per_round": 50}
        for robot in LIKE_ROBOTS
    },
    **{("full", "lane_keep", algo): {"rounds": 400} for algo in ("gail", "airl", "ppo")},
}
"""(budget, world, algorithm) -> further differences."""


DEFAULT_WORLDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("gail", "airl", "ppo", "sac", "stored", *PREFERENCES), ("lane_keep",)),
    "maxent_irl": ("grid", "coarse_lane"),
}
"""Algorithms that are not run on every default world unless asked to."""


def default_worlds(algos: Iterable[str], otherwise: tuple[str, ...]) -> tuple[str, ...]:
    """The worlds of a sweep that names none: those that all its algorithms have by default, else
    `otherwise`."""
    sets = [DEFAULT_WORLDS.get(algo, otherwise) for algo in algos]
    shared = tuple(
        world for world in (sets[0] if sets else otherwise) if all(world in own for own in sets)
    )
    return shared or otherwise


def budget_of(env: str, budget: str) -> Budget:
    """The budget of a world, by its name."""
    return Budget(**WORLDS.get(_row(env), OUTSIDE)[budget])


def config_differences(env: str, algo: str, budget: str) -> dict[str, Any]:
    """Settings of an algorithm that differ from its defaults in a world at a budget."""
    env = _row(env)
    return {**CONFIGS.get((env, algo), {}), **BUDGET_CONFIGS.get((budget, env, algo), {})}


def _row(env: str) -> str:
    return PLAYGROUND if env.startswith(PLAYGROUND) else env


def modes(env: str, algo: str, available: Iterable[str]) -> tuple[str, ...]:
    """The modes that an algorithm is run in: the world's first; for `bc` also `recoverable`, in
    `chain` all of them."""
    names = tuple(available)
    if (env, algo) == ("chain", "bc"):
        return names
    return names[:1] + tuple(name for name in names[1:] if algo == "bc" and name == "recoverable")

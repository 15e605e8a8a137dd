"""The flags of the sweep: its own, and as `--OWNER.SETTING` those of algorithms and worlds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from absl import flags

from irl_bench.core.settings import Setting
from irl_bench.launchers.options import OF
from irl_bench.plan import pilot
from irl_bench.plan.pilot import AUTO
from irl_bench.plan.presets import BUDGETS
from irl_bench.plan.request import DEMONSTRATED, Request
from irl_bench.studies import STUDIES

DEFAULTS = Request()
"""The request without any flag."""
BIG = 10**9
"""Largest value of a number."""

TEXTS = {
    "algo": (
        "algorithms, separated by commas: names from --list or package.module:make",
        ",".join(DEFAULTS.algo),
    ),
    "env": (
        "worlds, separated by commas: names from --list or package.module:factory",
        f"{','.join(DEFAULTS.env)}; lane_keep for gail, airl, ppo, sac, stored and algorithms that "
        "learn from comparisons; grid,coarse_lane for maxent_irl",
    ),
    "policy": (
        "externally trained policies, package.module:act; without --algo only they and the "
        "references run",
        None,
    ),
    "experiment": ("a study of several sweeps: " + " or ".join(STUDIES), None),
    "mode": (
        "only these modes of the worlds, separated by commas",
        "a world's first mode, the world as it is; bc also in the mode recoverable, if a world has "
        "it, and in all modes of chain",
    ),
    "horizons": ("'auto' or increasing horizons T [steps], separated by commas", "auto"),
    "demos_from": (
        "demonstrations from a file instead of the world's expert: an npz or HDF5 file, or the "
        "folder of a Minari, LeRobot or imitation dataset",
        None,
    ),
    "given": (
        "file or folder of an earlier run, or its URL, whose learned policy or reward is taken "
        "(stored; ppo; judged)",
        None,
    ),
    "reward": ("learned reward for ppo; short for --given=RUN --ppo.reward=learned", None),
    "out": (
        "folder of the run, or its URL in an object store (s3://bucket/path; gs, az); the same "
        "folder again adds what is missing",
        DEFAULTS.out,
    ),
    "shard": (
        "i/n: compute only share i of n of the cells, for machines that are started apart; "
        "irl-bench report OUT follows when all are stored",
        None,
    ),
    "cells": (
        "compute only the cells with these keys, or beginnings of keys, separated by commas",
        None,
    ),
    "parts": (
        "compute only these parts of a study, by their names or beginnings of names as in "
        "lane_keep/visible, separated by commas, and the parts that they take from",
        None,
    ),
    "cluster": (
        "MACHINESxDEVICES, with --dry_run: also print tasks, time and memory on so many machines "
        "with so many devices each",
        None,
    ),
    "launcher": (
        "local: several processes of this machine, which share the cells; slurm: jobs of a SLURM "
        "cluster; ray: tasks of a Ray cluster (see --workers)",
        "this process alone",
    ),
    "launcher_options": (
        "KEY=VALUE,... for --launcher: "
        + "; ".join(f"{name}: {', '.join(known)}" for name, known in OF.items())
        + ", additional.SBATCH_OPTION",
        None,
    ),
    "ray_address": (
        "the Ray cluster of --launcher=ray: auto, HOST:PORT or ray://HOST:PORT; short for "
        "--launcher_options=address=...",
        "one on this machine",
    ),
    "coordinator": (
        "HOST:PORT of the first process, for --distributed where no cluster tells it",
        "that of the cluster",
    ),
    "describe": ("print the settings of an algorithm or world, and exit", None),
}
TRAIN = {"algo": "airl", "seeds": "5"}
"""Flags whose defaults in `train` differ from those in `sweep`."""
TEXTS_OF_TRAIN = {
    "algo": ("the algorithm: a name from --list or package.module:make", TRAIN["algo"]),
    "env": (
        TEXTS["env"][0],
        f"lane_keep; {','.join(DEFAULTS.env)} for bc and dagger; grid,coarse_lane for maxent_irl",
    ),
}
"""Flags that `train` explains otherwise."""
LAUNCHERS = ("local", *OF)
"""Values of --launcher."""
NOT_OF_TRAIN = ("policy", "experiment", "parts")
"""Flags of `sweep` that `train` does not take."""
EXAMPLES = {
    "algo": ",".join(DEFAULTS.algo),
    "env": ",".join(DEFAULTS.env),
    "policy": "package.module:act",
    "experiment": next(iter(STUDIES)),
    "mode": "recoverable",
    "horizons": "auto",
    "demos_from": "demos.npz",
    "given": DEFAULTS.out,
    "reward": DEFAULTS.out,
    "out": DEFAULTS.out,
    "shard": "1/2",
    "cells": "0123abcd",
    "parts": "lane_keep",
    "cluster": "8x4",
    "launcher": "local",
    "launcher_options": "timeout_min=60",
    "ray_address": "auto",
    "coordinator": "127.0.0.1:12355",
    "describe": DEFAULTS.algo[0],
}
"""A value of each flag in TEXTS, for error lines."""
NUMBERS = {
    setting.name: setting
    for setting in (
        Setting("seeds", int, 20, "seeds per algorithm, world and mode", low=1, high=100_000),
        Setting(
            "first_seed",
            int,
            0,
            "the first seed; shifts every random stream",
            low=0,
            high=2**31 - 200_000,
        ),
        Setting(
            "seeds_at_once",
            int,
            5,
            "seeds that a device computes side by side; on a GPU use as many as fit",
            low=1,
            high=100_000,
        ),
        Setting(
            "demos",
            int,
            80,
            "demonstration episodes per seed; auto: a pilot looks for a number that gives the "
            f"world a window, up to {pilot.MOST} times the budget's",
            unit="episodes",
            low=1,
            high=BIG,
        ),
        Setting("demo_steps", int, 500, "length of a demonstration", unit="steps", low=1, high=BIG),
        Setting(
            "episodes", int, 1024, "evaluation episodes per seed", unit="episodes", low=1, high=BIG
        ),
        Setting(
            "reference_episodes",
            int,
            256,
            "evaluation episodes per seed of the expert, a multiple of the block and at most "
            "--episodes; where the expert fails as well, more of them narrow a regret's interval",
            unit="episodes",
            low=1,
            high=BIG,
        ),
        Setting(
            "T_max",
            int,
            1000,
            "longest horizon",
            unit="steps",
            low=2,
            high=10**6,
        ),
        Setting(
            "demonstrations",
            str,
            "all",
            "which of the expert's episodes are demonstrated: all, or only those without a failure",
            choices=DEMONSTRATED,
        ),
        Setting(
            "demo_noise",
            float,
            0.0,
            "standard deviation of noise on the actions that the expert executes in every second "
            "demonstration; labels are without it",
            low=0.0,
            high=2.0,
        ),
        Setting(
            "burn_in",
            int,
            0,
            "steps that the expert acts before every episode begins; by default that of the "
            "budget in a sweep of imitation alone, else 0",
            unit="steps",
            low=0,
            high=10**6,
        ),
        Setting(
            "workers",
            int,
            2,
            "processes of --launcher=local, tasks of slurm and ray",
            low=1,
            high=10_000,
        ),
        Setting("processes", int, 2, "processes of --distributed", low=1, high=10_000),
        Setting("process_id", int, 0, "this process's place among them, from 0", low=0, high=9_999),
        Setting("budget", str, DEFAULTS.budget, "size of the experiment", choices=BUDGETS),
    )
}
SWITCHES = {
    "list": "list algorithms, worlds, studies and budgets, and exit",
    "dry_run": "print the plan, the cells already done and the expected time, and exit; writes "
    "nothing",
    "observation_only": "withhold the demonstrations' actions from the algorithms",
    "worlds_over_devices": "spread the training worlds of one learner over all devices, for "
    "learners that are too large for one; algorithms that train with PPO only",
    "distributed": "with --worlds_over_devices: the devices of several processes, each started "
    "with this command, compute one learner; see --coordinator",
    "tensorboard": "also write TensorBoard files to OUT/tensorboard",
    "compile_cache": "keep compiled functions in OUT/compiled, where other machines of the same "
    "kind find them",
    "help": "print this help and exit",
}


SYNONYMS = {
    "seed": ("seeds (how many)", "first_seed (which)"),
    "world": ("env",),
    "horizon": ("horizons (which)", "T_max (the longest)"),
    "steps": ("demo_steps", "T_max"),
    "output": ("out",),
}
"""A flag of other programs -> the flags that it may mean, where spelling alone would not find
them."""


class Owner(Protocol):
    """An algorithm or a world, which has settings."""

    @property
    def ref(self) -> str:
        """Its name in cells and plans."""
        ...

    @property
    def name(self) -> str:
        """The prefix of its flags."""
        ...

    @property
    def settings(self) -> Mapping[str, Setting]:
        """Its settings by name."""
        ...


class _Parser(flags.ArgumentParser):
    """absl's view of a Setting."""

    def __init__(self, setting: Setting):
        self.setting = setting
        self.syntactic_help = setting.range

    def parse(self, argument: Any) -> Any:
        """The value of the setting."""
        return self.setting.parse(argument)


class _Counts(_Parser):
    """Numbers separated by commas, as a tuple."""

    def parse(self, argument: Any) -> Any:
        """The numbers, or "auto". Raises ValueError if a number appears twice."""
        if argument == AUTO:
            return AUTO
        parts = str(argument).split(",")
        try:
            counts: list[int] = [self.setting.parse(part) for part in parts]
        except ValueError as error:
            near = ",".join(dict.fromkeys(filter(None, map(self._valid, parts))))
            raise ValueError(
                f"{str(error).partition('; nearest: ')[0]}; nearest: {near or self.setting.default}"
            ) from None
        if len(set(counts)) < len(counts):
            raise ValueError(
                f"{argument} holds a number twice; nearest: "
                f"{','.join(map(str, dict.fromkeys(counts)))}"
            )
        return tuple(counts)

    def _valid(self, part: str) -> str:
        """A part, or the valid number that is nearest to it; "" if it is no number."""
        try:
            return str(self.setting.parse(part))
        except ValueError as error:
            try:
                number = float(part)
            except ValueError:
                return ""
            return str(error).partition("; nearest: ")[2] if math.isfinite(number) else ""


def flags_of(owners: Iterable[Owner]) -> flags.FlagValues:
    """Returns all flags: the sweep's own and, as `--OWNER.SETTING`, those of every owner. A flag
    that is not given is None."""
    values = flags.FlagValues()
    values.set_gnu_getopt(True)  # a stray argument must not hide the flags after it

    def add(flag: flags.Flag) -> None:
        flags.DEFINE_flag(flag, values, module_name="irl_bench.cli")

    for name, (help, _) in TEXTS.items():
        parser = flags.ArgumentParser()
        add(flags.Flag(parser, None, name, None, help, allow_overwrite=False))
    for name, help in SWITCHES.items():
        add(
            flags.BooleanFlag(
                name, None, help, short_name="h" if name == "help" else None, allow_overwrite=False
            )
        )
    settings = {**NUMBERS}
    for owner in owners:
        settings |= {f"{owner.name}.{name}": setting for name, setting in owner.settings.items()}
    for name, setting in settings.items():
        if setting.kind is bool:
            add(flags.BooleanFlag(name, None, setting.help, allow_overwrite=False))
        else:
            parser = _Counts(setting) if name == "demos" else _Parser(setting)
            add(flags.Flag(parser, None, name, None, setting.help, allow_overwrite=False))
    return values


def options(command: str = "sweep") -> list[tuple[str, str]]:
    """Returns (flag, description) of every flag of `sweep` or `train`."""
    texts, defaults = (
        {**TEXTS},
        {
            "budget": DEFAULTS.budget,
            "first_seed": "0",
            "T_max": "the world's",
            "processes": "those of the cluster",
            "process_id": "that of the cluster",
            "workers": "local: one per GPU, or two; slurm, ray: one per group of cells that share "
            "compiled functions, two of a study",
        },
    )
    if command == "train":
        texts = {
            name: TEXTS_OF_TRAIN.get(name, text)
            for name, text in TEXTS.items()
            if name not in NOT_OF_TRAIN
        }
        defaults |= TRAIN
    rows = [
        (f"--{name}=...", f"{help}; default: {default or 'none'}")
        for name, (help, default) in texts.items()
    ]
    for name, setting in NUMBERS.items():
        default = defaults.get(name, "by world and budget, see --describe")
        rows.append((f"--{name}=...", f"{setting.help} ({setting.range}); default: {default}"))
    rows += [(f"--{name}", help) for name, help in SWITCHES.items()]
    return rows

"""Texts of the sweep: its flags, and the settings of an algorithm or a world."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import envs
from envs.names import did_you_mean
from irl_bench import algos
from irl_bench.cli.flags import Owner, options
from irl_bench.cli.spelling import called
from irl_bench.core.settings import BadInput, Setting, show
from irl_bench.core.text import aligned
from irl_bench.plan.presets import BUDGETS, FROM_RANDOM, budget_of, config_differences
from irl_bench.plan.references import POLICY, REFERENCE, in_folder

if TYPE_CHECKING:
    from irl_bench.plan.registry import Algorithm, LoadedWorld


TITLES = {
    "sweep": (
        "Does regret grow like T² or like T? Runs algorithms on worlds and prints a verdict for "
        "each.",
        "",
        "  python launch/sweep.py --algo=bc,dagger --env=chain,lane_keep --seeds=20 --budget=smoke "
        "--out=runs/first",
    ),
    "train": (
        "Trains one algorithm and evaluates it. The policy and, if the algorithm learns one, the "
        "reward of each seed stay in OUT/learned.",
        "",
        "  python launch/train.py --algo=airl --env=lane_keep --seeds=5 --out=runs/airl",
        "  python launch/train.py --algo=ppo --reward=runs/airl --lane_keep.friction=0.6 "
        "--out=runs/again",
    ),
}
"""Command -> how its help begins."""


def usage(owners: Sequence[Owner], command: str = "sweep") -> str:
    """Returns the text of `--help` of `sweep` or `train`: its flags, and the settings of
    `owners`."""
    lines = [
        *TITLES[command],
        "",
        *aligned(options(command)),
        "",
        "Settings of algorithms and dials of worlds are flags too: --OWNER.NAME=VALUE, as "
        "--bc.learning_rate=1e-3.",
    ]
    for owner in owners:
        lines += _wrapped(f"--{owner.name}.", owner.settings)
    if not owners:
        lines += ["Combine --help with --algo and --env to list their settings."]
    lines += [
        "--describe=OWNER prints them with unit, default, valid values and meaning.",
        "",
        "Exit status: 0 done, 2 bad input, 74 a result cannot be written, 75 interrupted (run the "
        "same command to resume).",
    ]
    return called("\n".join(lines))


def describe(name: str) -> str:
    """Returns the settings of an algorithm or a world, with unit, default, range and meaning.

    Raises BadInput if there is no such algorithm or world.
    """
    from irl_bench.plan import registry

    if name in envs.WORLDS:
        return _describe_world(registry.world(name))
    if name in algos.ALGORITHMS or name.startswith(POLICY):
        return _describe_algorithm(registry.algorithm(name))
    if not REFERENCE.fullmatch(name):
        here = in_folder(name)
        everything = [*algos.ALGORITHMS, *envs.WORLDS]
        hint = f"did you mean {here!r}?" if here else did_you_mean(name, everything)
        raise BadInput(f"--describe={name}: no such algorithm or world; {hint}")
    try:
        return _describe_world(registry.world(name))
    except BadInput:
        needed = _needed(name)
        if not needed:  # it is called as a world is, or could not be loaded at all
            raise
    if OF_POLICIES & needed and not {"spec", "config"} & needed:
        raise BadInput(
            f"--describe={name}: it is a policy, which has no settings; nearest: --policy={name}"
        )
    return _describe_algorithm(registry.algorithm(name))


OF_POLICIES = frozenset({"observation", "obs", "carry", "params", "key", "rng"})
"""Arguments by which a policy is told from an algorithm."""


def _needed(ref: str) -> set[str]:
    """The arguments without a default of the function `package.module:attribute`; none if it could
    not be loaded."""
    from irl_bench.plan.host import HostPolicy

    module, _, attribute = ref.partition(":")
    function = getattr(sys.modules.get(module), attribute, None)
    if isinstance(function, HostPolicy):
        return {"observation"}
    try:
        parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return set()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return {
        parameter.name
        for parameter in parameters
        if parameter.kind in positional and parameter.default is parameter.empty
    }


def _describe_world(loaded: LoadedWorld) -> str:
    world = loaded.world
    kind = (
        f"{world.n_actions} discrete actions"
        if world.n_actions
        else f"float32[{world.action_size}] in [-1, 1]"
    )
    comes_back = (
        "never for sure" if world.recovery_steps is None else f"{world.recovery_steps} steps"
    )
    lines = [
        f"{loaded.ref} (world): {loaded.help}",
        "",
        f"  observations float32[{world.observation_size}], actions {kind}",
        f"  T_max = {world.horizon} steps; recovery u = {comes_back}; latency L = {world.latency} "
        "steps",
        "",
        *(
            [f"options, --{loaded.name}.NAME=VALUE:", *_settings_table(loaded.options), ""]
            if loaded.options
            else []
        ),
        f"dials, --{loaded.name}.NAME=VALUE (no recompilation):",
        *_settings_table(loaded.dials),
        "",
        "modes (the first is the world as it is):",
    ]
    for mode, changes in world.modes.items():
        lines.append(
            f"  {mode}: "
            + (
                ", ".join(f"{dial}={show(float(value))}" for dial, value in changes.items())
                or "no change"
            )
        )
    lines += ["", "budgets:"]
    lines += aligned([("", *BUDGETS), *_budget_rows(loaded.ref)])
    return "\n".join(lines)


def _budget_rows(ref: str) -> list[tuple[str, ...]]:
    budgets = [dataclasses.asdict(budget_of(ref, budget)) for budget in BUDGETS]
    return [(name, *(show(budget[name]) for budget in budgets)) for name in budgets[0]]


def _describe_algorithm(algorithm: Algorithm) -> str:
    lines = [f"{algorithm.ref} (algorithm): {algorithm.help}", ""]
    if not algorithm.settings:
        return "\n".join([*lines, "It has no settings."])
    lines += [f"settings, --{algorithm.name}.NAME=VALUE:", *_settings_table(algorithm.settings)]
    for env in envs.names():
        for budget in BUDGETS:
            changes = config_differences(env, algorithm.ref, budget)
            if changes:
                text = ", ".join(f"{name}={show(value)}" for name, value in changes.items())
                lines += ["", f"on {env}, budget {budget}: {text}"]
        if begun := FROM_RANDOM.get((env, algorithm.ref)):
            text = ", ".join(f"{name}={show(value)}" for name, value in begun.items())
            lines += ["", f"on {env}, with init=random: {text}"]
    return "\n".join(lines)


def _settings_table(settings: Mapping[str, Setting]) -> list[str]:
    rows = [("name", "default", "unit", "valid", "meaning")]
    rows += [
        (s.name, show(s.default), "" if s.unit == "1" else s.unit, s.range, s.help)
        for s in settings.values()
    ]
    return aligned(rows) if settings else ["  none"]


def _wrapped(prefix: str, names: Iterable[str]) -> list[str]:
    lines, line = [], " "
    for name in names:
        if len(line) + len(prefix) + len(name) > 110:
            lines.append(line)
            line = " "
        line += f" {prefix}{name}"
    return [*lines, line] if line.strip() else lines

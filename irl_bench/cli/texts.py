"""What the command line prints beside a sweep: its flags, what there is, every setting, and the
plan of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import envs
from irl_bench import algos
from irl_bench.core import folders
from irl_bench.core.cell import CellSpec, fingerprint
from irl_bench.core.settings import BadInput, Setting, nearest, show
from irl_bench.plan import build as plans
from irl_bench.plan import presets as table
from irl_bench.plan import registry as plugins
from irl_bench.report.terminal import aligned
from irl_bench.run.runner import computed_elsewhere
from irl_bench.storage.cells import is_done, read_plan
from irl_bench.studies import STUDIES, study
from irl_bench.sweep import check_folder


def usage(request: plans.Request, options: Sequence[tuple[str, str]]) -> str:
    """The flags (`options`: flag and meaning) and the settings of what is asked for."""
    owners = [*map(plugins.algorithm, request.algo), *map(plugins.world, request.env)]
    lines = [
        "Does regret grow like T² or like T? Runs algorithms on worlds and prints a verdict for "
        "each.",
        "",
        "  python launch/sweep.py --algo=bc,dagger --env=chain,lane_keep --seeds=20 --budget=smoke "
        "--out=runs/first",
        "",
        *aligned(options),
        "",
        "Settings and dials, --OWNER.NAME=VALUE (--describe=OWNER for units, defaults and "
        "meaning):",
        "",
    ]
    for owner in owners:
        lines += _wrapped(f"--{owner.name}.", owner.settings)
    lines += [
        "",
        "Exit status: 0 done, 2 bad input, 74 a result cannot be written, 75 interrupted (the same "
        "command goes on).",
    ]
    return "\n".join(lines)


def listing() -> str:
    lines = ["algorithms (--algo):"]
    lines += aligned([(name, plugins.algorithm(name).help) for name in algos.ALGORITHMS])
    lines += ["", "worlds (--env):"]
    found = [(name, *plugins.summary(name)) for name in envs.names()]
    lines += aligned([(name, f"{help} Modes: {', '.join(modes)}.") for name, help, modes in found])
    lines += ["", "studies (--experiment):"]
    lines += aligned([(name, study.find(name).help) for name in STUDIES])
    lines += ["", f"budgets (--budget): {', '.join(table.BUDGETS)}"]
    lines += [
        "",
        "--describe=NAME prints a world's or an algorithm's settings; your own go in as "
        "package.module:attribute.",
    ]
    return "\n".join(lines)


def describe(name: str) -> str:
    """Every setting of an algorithm or dial of a world, with unit, default, range and meaning."""
    for ref, kind in ((name, "world"), (name, "algorithm")):
        registry = envs.WORLDS if kind == "world" else algos.ALGORITHMS
        if ref in registry:
            return (
                _describe_world(plugins.world(ref))
                if kind == "world"
                else _describe_algorithm(plugins.algorithm(ref))
            )
    if name.startswith(plugins.POLICY):
        return _describe_algorithm(plugins.algorithm(name))
    if not plugins.REFERENCE.fullmatch(name):
        everything = [*algos.ALGORITHMS, *envs.WORLDS]
        raise BadInput(
            f"--describe={name}: no such algorithm or world; did you mean "
            f"{nearest(name, everything)!r}?"
        )
    try:
        return _describe_world(plugins.world(name))
    except BadInput as no_world:
        try:
            return _describe_algorithm(plugins.algorithm(name))
        except BadInput:
            raise no_world from None


def _describe_world(found: plugins.LoadedWorld) -> str:
    world = found.world
    kind = (
        f"{world.n_actions} discrete actions"
        if world.n_actions
        else f"float32[{world.action_size}] in [-1, 1]"
    )
    comes_back = (
        "never for sure" if world.recovery_steps is None else f"{world.recovery_steps} steps"
    )
    lines = [
        f"{found.ref} (world): {found.help}",
        "",
        f"  observation float32[{world.observation_size}], action {kind}",
        f"  T_max = {world.horizon} steps; recovery u = {comes_back}; latency L = {world.latency} "
        "steps",
        "",
        *(
            [f"options, --{found.name}.NAME=VALUE:", *_settings_table(found.options), ""]
            if found.options
            else []
        ),
        f"dials, --{found.name}.NAME=VALUE (no recompilation):",
        *_settings_table(found.dials),
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
    lines += aligned([("", *table.BUDGETS), *_budget_rows(found.ref)])
    return "\n".join(lines)


def _budget_rows(ref: str) -> list[tuple[str, ...]]:
    rows = [table.budget_of(ref, budget) for budget in table.BUDGETS]
    return [
        (name, *(show(row.get(name, "")) for row in rows))
        for name in dict.fromkeys(key for row in rows for key in row)
    ]


def _describe_algorithm(found: plugins.Algorithm) -> str:
    lines = [f"{found.ref} (algorithm): {found.help}", ""]
    if not found.settings:
        return "\n".join([*lines, "It has no settings."])
    lines += [f"settings, --{found.name}.NAME=VALUE:", *_settings_table(found.settings)]
    for env in envs.names():
        for budget in table.BUDGETS:
            changes = table.config_differences(env, found.ref, budget)
            if changes:
                text = ", ".join(f"{name}={show(value)}" for name, value in changes.items())
                lines += ["", f"on {env}, budget {budget}: {text}"]
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


def dry_study(found: study.Study, request: plans.Request, demos: tuple[int, ...]) -> str:
    """The plans of a study's parts; writes nothing."""
    out, lines = folders.expand(request.out), []
    for part in found.parts(request, demos, out):
        lines.append(f"{part.name}:")
        if part.after and not (out / part.after / "learned").is_dir():
            lines += [f"  planned once {part.after} has been run", ""]
        else:
            lines += [dry_run(part.request), ""]
    return "\n".join(lines)


def dry_run(request: plans.Request) -> str:
    """The plan in words; writes nothing."""
    plan = plans.build(request)
    out = folders.expand(request.out)
    check_folder(out)
    document = plans.document(plan, "", fingerprint())
    _, dropped = plans.merge(read_plan(out), document)
    rows = [
        (
            "world",
            "mode",
            "algorithm",
            "cells",
            "done",
            "seeds",
            "demos",
            "episodes",
            "rounds",
            "expert labels",
            "env steps",
            "comparisons",
        )
    ]
    missing = []
    for entry, record in zip(plan.entries, document["entries"], strict=True):
        todo = [
            cell
            for cell, key in zip(entry.cells, record["cells"], strict=True)
            if not is_done(out, key)
        ]
        missing += todo
        first = entry.cells[0]
        env, algo, mode = entry.id
        rows.append(
            (
                env,
                mode,
                algo,
                str(len(entry.cells)),
                str(len(entry.cells) - len(todo)),
                f"{first.first_seed}..{first.first_seed + entry.seeds - 1}",
                f"{first.demos} x {first.demo_steps}",
                str(first.episodes),
                str(entry.rounds),
                f"{entry.consumes['expert_queries']:,}",
                f"{entry.consumes['env_steps']:,}",
                f"{entry.consumes['preference_labels']:,}",
            )
        )
    seconds, unknown = estimate(missing, out / "log.jsonl")
    minutes = f"{seconds / 60:.1f} minutes (as in this folder, else as on 2 CPU cores)"
    known = minutes if len(missing) > unknown or not missing else ""
    guess = (
        f"unknown for {unknown} cells (nothing like them has run in this folder)" if unknown else ""
    )
    lines = [
        f"plan: {len(plan.cells)} cells, {len(plan.cells) - len(missing)} done, budget "
        f"{plan.budget}, results in {out}",
        "",
    ]
    lines += aligned(rows)
    lines += ["", "expected time: " + " + ".join(filter(None, (known, guess)))]
    lines += [f"note: {note}" for note in plan.notes] + dropped
    elsewhere = computed_elsewhere(out, missing, fingerprint())
    lines += [f"note: {elsewhere}"] if elsewhere else []
    return "\n".join(lines)


def estimate(missing: Sequence[CellSpec], log: Path) -> tuple[float, int]:
    """Expected wall time [s] of the missing cells, and for how many of them nothing is known.

    A cell is expected to take the mean time of those in `log` (the runner's log.jsonl) of the same
    algorithm, world, width, horizon and number of episodes, compilation included; else what the
    table says of two CPU cores, in proportion to episodes.
    """
    alike = ("algo", "env", "width", "horizon", "episodes")
    times: dict[tuple, list[float]] = {}
    if log.is_file():
        for line in log.read_text(errors="replace").splitlines():
            try:
                record = json.loads(line)
                seconds = float(
                    record["wall"]
                )  # the cell's own share of the time it was computed in
                times.setdefault(tuple(record[name] for name in alike), []).append(seconds)
            except (ValueError, KeyError, TypeError, ZeroDivisionError):
                continue  # a line cut short by a crash says nothing about time
    seen = [times.get(tuple(getattr(cell, name) for name in alike)) for cell in missing]
    total, unknown = 0.0, 0
    for cell, found in zip(missing, seen, strict=True):
        stored = table.SECONDS.get((cell.env, cell.algo))
        if found:
            total += sum(found) / len(found)
        elif stored:
            total += stored[0] * cell.episodes / stored[1]
        else:
            unknown += 1
    return total, unknown

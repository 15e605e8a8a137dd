"""Parses the arguments of the sweep."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

import envs
from envs.names import ALIKE, did_you_mean, nearest
from irl_bench import algos
from irl_bench.cli import absl_errors, distributed
from irl_bench.cli.absl_errors import dashed
from irl_bench.cli.flags import (
    BIG,
    DEFAULTS,
    EXAMPLES,
    LAUNCHERS,
    NUMBERS,
    SWITCHES,
    SYNONYMS,
    TEXTS,
    TRAIN,
    Owner,
    flags_of,
)
from irl_bench.core.quantities import REFERENCES
from irl_bench.core.settings import BadInput, Setting
from irl_bench.launchers.options import OF, parse_options
from irl_bench.plan.pilot import AUTO
from irl_bench.plan.presets import default_worlds
from irl_bench.plan.references import NAME, POLICY, REFERENCE, in_folder, problem_with
from irl_bench.plan.request import Request
from irl_bench.plan.shards import parse_cluster, parse_keys, parse_shard
from irl_bench.studies import OPTIONS, STUDIES

if TYPE_CHECKING:  # it draws, and what draws is slow to import
    from irl_bench.studies.study import Study


@dataclasses.dataclass(frozen=True)
class Command:
    """What a command line asks for: `list`, `describe`, `help` or `dry_run`; if none of them is
    set, to run `request`."""

    request: Request
    """The request of a sweep, also of a study's."""
    list: bool = False
    """Whether to print what there is."""
    describe: str | None = None
    """The algorithm or world whose settings are printed."""
    dry_run: bool = False
    """Whether to print the plan alone."""
    help: bool = False
    """Whether to print the flags."""
    line: str = ""
    """The command as the report notes it down."""
    study: Study | None = None
    """The study to run on `request`; None: a sweep."""
    demos: tuple[int, ...] = ()
    """Numbers of demonstrations of the study."""
    parts: tuple[str, ...] = ()
    """Names or beginnings of names of the study's parts to compute; (): all."""
    owners: Sequence[Owner] = ()
    """Algorithms and worlds whose settings `help` prints."""
    name: str = "sweep"
    """The command whose flags `help` prints: sweep or train."""
    launcher: str | None = None
    """One of LAUNCHERS, which runs `launched`; None: this process runs the request."""
    launcher_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The options of the launcher's engine, by name."""
    workers: int | None = None
    """Number of the launcher's processes or tasks; None: as many as suit the machine or the
    plan."""
    launched: Sequence[str] = ()
    """The arguments of each process that the launcher starts."""
    compile_cache: bool = False
    """Whether compiled functions are kept in the run's folder."""
    cluster: tuple[int, int] | None = None
    """(machines, devices of each) that `dry_run` tells more about."""


def parse(argv: Sequence[str], program: str = "launch/sweep.py", command: str = "sweep") -> Command:
    """Returns the command that `argv` spells.

    Args:
      argv: the program's name and its arguments.
      program: the program's name in the report.
      command: sweep or train, which has other defaults and takes one algorithm.

    Raises:
      BadInput: a flag, name or value is unknown, repeated, out of range or misplaced.
    """
    for argument in argv[1:]:
        if argument.lstrip("-").partition("=")[0] in (
            "undefok",
            "flagfile",
        ) and argument.startswith("-"):
            raise BadInput(
                f"{argument.partition('=')[0]} is not supported: it would hide spelling mistakes; "
                "leave it out"
            )
    first = flags_of(())
    try:
        first(list(argv), known_only=True)
        if command == "train":
            argv = _of_train(argv, first)
            first = flags_of(())
            first(list(argv), known_only=True)
    except (flags.Error, ValueError) as error:
        raise _plain(error, first) from None
    chosen, chosen_study = _chosen(first), None
    if first["experiment"].value is not None:
        from irl_bench.studies import study

        if not first["experiment"].value.strip():
            raise BadInput(
                f"--experiment= is empty; there are {', '.join(STUDIES)}; nearest: --list, which "
                "says what each is about"
            )
        chosen_study = study.find(first["experiment"].value)
        chosen |= _of_study(chosen_study, first, chosen)
    named = any(first[flag].value is not None for flag in ("algo", "env", "policy"))
    texts_alone = first["list"].value or first["describe"].value is not None
    if texts_alone or (first["help"].value and not named):
        owners = []
    else:
        owners = _owners(chosen["algo"], chosen["env"])
        if chosen_study:
            _check_worlds(chosen_study, chosen["env"], owners)
    values = flags_of(owners)
    try:
        stray = values(list(argv))[1:]
    except flags.UnrecognizedFlagError as error:
        raise BadInput(_unknown(str(error.flagname), values, owners)) from None
    except (flags.Error, ValueError) as error:
        raise _plain(error, values) from None
    if stray:
        raise BadInput(f"stray argument {stray[0]!r}: every option is a flag; {_meant(stray[0])}")
    for flag in ("demos_from", "given", "reward"):
        source: str | None = values[flag].value
        if source is not None and not source.strip():
            raise BadInput(
                f"--{flag}= is empty: a file or folder is needed; nearest: "
                f"--{flag}={EXAMPLES[flag]}"
            )
    settings: dict[str, dict[str, Any]] = {}
    for owner in owners:
        for name in owner.settings:
            if values[f"{owner.name}.{name}"].value is not None:
                settings.setdefault(owner.name, {})[name] = values[f"{owner.name}.{name}"].value
    numbers: dict[str, Any] = {
        name: values[name].value for name in NUMBERS if values[name].value is not None
    }
    reward, source = values["reward"].value, values["given"].value
    if reward is not None:
        if source is not None or "ppo" not in chosen["algo"]:
            raise BadInput(
                "--reward applies to ppo only and replaces --given; nearest: --algo=ppo --reward="
                + reward
            )
        if settings.setdefault("ppo", {}).setdefault("reward", "learned") != "learned":
            raise BadInput(
                f"--reward and --ppo.reward={settings['ppo']['reward']} contradict; nearest: leave "
                "out --ppo.reward"
            )
        source = reward
    if chosen_study:
        sizes = chosen_study.sizes[numbers.get("budget", DEFAULTS.budget)]
        # Episodes of a study begin at the world's own start, unless the study says otherwise.
        numbers = {"burn_in": 0, **sizes, **numbers}
        if source is not None:
            raise BadInput(
                f"--experiment={chosen_study.name} takes nothing from an earlier run; nearest: "
                "leave out --given"
            )
    automatic = numbers.get("demos") == AUTO
    if automatic and (chosen_study or values["demos_from"].value is not None):
        what = f"--experiment={chosen_study.name}" if chosen_study else "--demos_from"
        raise BadInput(f"--demos=auto cannot be combined with {what}; nearest: leave out --demos")
    demos: tuple[int, ...] = () if automatic else numbers.pop("demos", None) or ()
    if len(demos) > 1 and (chosen_study is None or chosen_study.fixed):
        hint = "--experiment=demo_efficiency" if chosen_study is None else f"--demos={demos[-1]}"
        what = chosen_study.name if chosen_study else "a sweep"
        raise BadInput(f"--demos: {what} takes one number of demonstrations; nearest: {hint}")
    out = values["out"].value
    if out is not None and (not out.strip() or not out.isprintable()):
        raise BadInput(
            f"--out={out!r} must be a folder's name of printable characters; nearest: "
            f"{DEFAULTS.out!r}"
        )
    part = _part_of_plan(values, chosen_study)
    launcher, workers = _launcher(values), numbers.pop("workers", None)
    distributed.checked(values)  # `join` has read them, before JAX started
    for name in distributed.NAMED:
        numbers.pop(name, None)
    launcher_options = _launcher_options(values)
    request = Request(
        **{**chosen, "settings": settings, **{k: v for k, v in numbers.items() if k != "demos"}},
        demos=AUTO if automatic else demos[0] if len(demos) == 1 else None,
        tensorboard=bool(values["tensorboard"].value),
        observation_only=bool(values["observation_only"].value),
        worlds_over_devices=bool(values["worlds_over_devices"].value),
        given=source,
        demos_from=values["demos_from"].value,
        out=out or (f"runs/{chosen_study.name}" if chosen_study else DEFAULTS.out),
        **part,
    )
    return Command(
        request,
        list=bool(values["list"].value),
        dry_run=bool(values["dry_run"].value),
        help=bool(values["help"].value),
        describe=values["describe"].value,
        line=_printable(" ".join([program, *map(shlex.quote, without(argv[1:], OF_WORK))])),
        study=chosen_study,
        demos=demos,
        parts=_parts(values, chosen_study),
        owners=[owner for owner in owners if owner.settings],
        name=command,
        launcher=launcher,
        launcher_options=launcher_options,
        workers=workers,
        launched=without(argv[1:], OF_LAUNCHER),
        compile_cache=bool(values["compile_cache"].value),
        cluster=_cluster(values),
    )


OF_LAUNCHER = ("launcher", "launcher_options", "ray_address", "workers")
"""Flags of the process that launches others."""
OF_WORK = (*OF_LAUNCHER, "shard", "cells", "parts", *distributed.NAMED)
"""Flags that say who computes which cells, and not what a run is. The report does not note them
down."""


def _cluster(values: flags.FlagValues) -> tuple[int, int] | None:
    """The value of --cluster. Raises BadInput for a wrong one, and without --dry_run."""
    text: str | None = values["cluster"].value
    if text is None:
        return None
    cluster = parse_cluster(text)
    if not values["dry_run"].value:
        raise BadInput(
            f"--cluster={text} only tells what a plan would take; nearest: --dry_run "
            f"--cluster={text}, or --launcher=slurm to compute"
        )
    return cluster


def _printable(line: str) -> str:
    """A command as a plan can hold it: file names may have spaces that are no letters, or bytes
    that are no text."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in line
    )


def without(arguments: Sequence[str], names: Sequence[str]) -> list[str]:
    """Returns the arguments without these flags, each of which has a value."""
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, _ = argument.lstrip("-").partition("=")
        if not argument.startswith("-") or name not in names:
            kept.append(argument)
        elif not equals:
            next(rest, None)
    return kept


def _launcher(values: flags.FlagValues) -> str | None:
    """The value of --launcher. Raises BadInput for an unknown one, and for --workers without it."""
    name: str | None = values["launcher"].value
    if name is None and values["workers"].value is not None:
        workers = values["workers"].value
        raise BadInput(
            f"--workers={workers} is for --launcher; nearest: --launcher=local --workers={workers}"
        )
    if name is not None and name not in LAUNCHERS:
        raise BadInput(
            f"--launcher={name}: there are {', '.join(LAUNCHERS)}; nearest: "
            f"--launcher={nearest(name, LAUNCHERS)}"
        )
    if name in OF and values["shard"].value is not None:
        raise BadInput(
            f"--shard cannot be combined with --launcher={name}, which divides the plan itself; "
            "nearest: leave out --shard"
        )
    return name


def _launcher_options(values: flags.FlagValues) -> dict[str, Any]:
    """--launcher_options and --ray_address as {option: value}. Raises BadInput for an invalid one,
    and without a launcher that has options."""
    launcher: str = values["launcher"].value or ""
    text: str | None = values["launcher_options"].value
    address: str | None = values["ray_address"].value
    if address is not None and launcher != "ray":
        raise BadInput(
            f"--ray_address={address} is for --launcher=ray; nearest: --launcher=ray "
            f"--ray_address={address}"
        )
    if text is not None and launcher not in OF:
        raise BadInput(
            f"--launcher_options={text} is for --launcher={' and '.join(OF)}; nearest: "
            f"--launcher={next(iter(OF))}"
        )
    options = {} if text is None else parse_options(launcher, text)
    if address is None:
        return options
    if "address" in options:
        raise BadInput(
            "--ray_address and --launcher_options=address are the same; nearest: leave out "
            "--ray_address"
        )
    try:
        return options | {"address": OF["ray"]["address"].parse(address)}
    except BadInput as error:
        raise BadInput(f"--ray_address={address}: {error}") from None


def _part_of_plan(values: flags.FlagValues, study: Study | None) -> dict[str, Any]:
    """--shard or --cells as a field of the request. Raises BadInput for both, and for a study,
    some of whose sweeps need the results of others."""
    shard, cells = values["shard"].value, values["cells"].value
    if shard is not None and cells is not None:
        raise BadInput("--shard and --cells cannot be combined; nearest: leave out --shard")
    if study and not (shard is None and cells is None):
        flag = f"--shard={shard}" if cells is None else f"--cells={cells}"
        raise BadInput(
            f"{flag} is for a sweep, not for --experiment={study.name}; nearest: the same command "
            "on every machine, since workers on one folder share its cells"
        )
    if shard is not None:
        return {"shard": parse_shard(shard)}
    return {} if cells is None else {"cells": parse_keys(cells)}


def _parts(values: flags.FlagValues, study: Study | None) -> tuple[str, ...]:
    """--parts as names. Raises BadInput for a sweep, or without a name."""
    text: str | None = values["parts"].value
    if text is None:
        return ()
    if study is None:
        raise BadInput(
            f"--parts={text} is for a study, and this is a sweep; nearest: --experiment=transfer, "
            "or --cells"
        )
    names = tuple(name.strip().strip("/") for name in text.split(","))
    if not all(names):
        raise BadInput(f"--parts={text} names a part that is empty; nearest: leave it out")
    return names


def _plain(error: Exception, values: flags.FlagValues) -> BadInput:
    """The error for what absl does not accept. An error that is one already stays as it is."""
    if isinstance(error, BadInput):
        return error
    offered = {name: values[name] for name in values}
    return BadInput(absl_errors.plain(error, offered, EXAMPLES))


def _meant(argument: str) -> str:
    """The end of the error line about an argument that is no flag."""
    for flag, registered in (("algo", algos.ALGORITHMS), ("env", envs.WORLDS)):
        if argument in registered:
            return f"nearest: --{flag}={argument}"
    return absl_errors.for_stray(argument, (*TEXTS, *NUMBERS, *SWITCHES))


def _of_train(argv: Sequence[str], values: flags.FlagValues) -> list[str]:
    """The arguments of `train` with its defaults.

    Args:
      argv: the program's name and its arguments.
      values: the flags that they set.

    Raises:
      BadInput: the flags ask for more than the training of one algorithm.
    """
    for flag, why in (
        ("experiment", "a study is no single training"),
        ("policy", "a given policy is not trained"),
    ):
        if values[flag].value is not None:
            asked = f"--{flag}={values[flag].value}"
            raise BadInput(f"{asked}: {why}; nearest: irl-bench sweep {asked}")
    algo = values["algo"].value or ""
    if "," in algo:
        raise BadInput(
            f"--algo={algo}: one at a time here; nearest: --algo={algo.partition(',')[0]}"
        )
    asked = {flag for flag in values if values[flag].value is not None}
    if asked & {"list", "describe"} or ("help" in asked and not asked & {"algo", "env"}):
        return list(argv)
    added = [f"--{flag}={value}" for flag, value in TRAIN.items() if flag not in asked]
    return [*argv[:1], *added, *argv[1:]]


def _of_study(study: Study, values: flags.FlagValues, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The algorithms and worlds of a study: those that the flags name, else its own. Raises
    BadInput for algorithms that the study does not allow."""
    for name in ("policy", "mode", "reward"):
        if values[name].value is not None:
            raise BadInput(
                f"--{name} cannot be combined with --experiment; nearest: leave out one of the two"
            )
    smoke = values["budget"].value == "smoke"
    defaults = {"algo": study.algo, "env": (smoke and study.brief) or study.env}
    asked = {name: chosen[name] for name in defaults if values[name].value is not None}
    if study.fixed and set(asked.get("algo", defaults["algo"])) != set(defaults["algo"]):
        raise BadInput(
            f"--experiment={study.name} is about {','.join(defaults['algo'])}; nearest: leave out "
            "--algo"
        )
    return defaults | asked


def _check_worlds(study: Study, asked: Sequence[str], owners: Sequence[Owner]) -> None:
    """Raises BadInput for a world without an option that the study changes."""
    needed = OPTIONS.get(study.name, ())
    worlds = {owner.ref: owner for owner in owners if owner.ref in asked}
    lacks = {ref: [o for o in needed if o not in worlds[ref].settings] for ref in worlds}
    for ref in (ref for ref in asked if lacks[ref]):
        others = [other for other in asked if not lacks[other]] or study.env
        raise BadInput(
            f"--env={ref}: {ref} has no option {lacks[ref][0]!r}, which --experiment={study.name} "
            f"changes; nearest: --env={','.join(others)}"
        )


def _chosen(values: flags.FlagValues) -> dict[str, Any]:
    """algo, env, mode and horizons of the first pass, as fields of a Request."""
    policies = tuple(POLICY + ref for ref in _names("policy", values["policy"].value) or ())
    for ref in policies:
        if not REFERENCE.fullmatch(ref.removeprefix(POLICY)):
            text = ref.removeprefix(POLICY)
            near = in_folder(text, "policy")
            raise BadInput(
                f"--policy: {text!r} is not of the form package.module:act"
                + (f"; nearest: --policy={near}" if near else "")
            )
    asked = _names("algo", values["algo"].value)
    chosen = {
        "algo": (*(asked or (() if policies else DEFAULTS.algo)), *policies),
        "env": _names("env", values["env"].value) or default_worlds(asked or (), DEFAULTS.env),
        "mode": _names("mode", values["mode"].value),
        "horizons": _horizons(values["horizons"].value),
    }
    for name, registry, kind in (
        ("algo", algos.ALGORITHMS, "algorithm"),
        ("env", envs.WORLDS, "world"),
    ):
        for ref in chosen[name]:
            problem = None if ref in policies else problem_with(ref, registry, kind)
            if problem:
                raise BadInput(f"--{name}: {problem}")
    return chosen


def _names(flag: str, text: str | None) -> tuple[str, ...] | None:
    """The names in a flag, separated by commas; None without the flag."""
    if text is None:
        return None
    parts = tuple(part.strip() for part in text.split(","))
    for part in parts:
        if not part or not NAME.fullmatch(part.replace(":", "")):
            kind = {"algo": "algorithm", "env": "world", "policy": "policy"}.get(flag)
            near = in_folder(part, kind) if kind else ""
            raise BadInput(
                f"--{flag}={text}: {part!r} is not a name (letters, digits, '.', '_', '-')"
                + (f"; nearest: --{flag}={near}" if near else "")
            )
        if parts.count(part) > 1:
            raise BadInput(
                f"--{flag}={text}: {part} is given twice; nearest: {','.join(dict.fromkeys(parts))}"
            )
    return parts


def _horizons(text: str | None) -> tuple[int, ...] | str:
    """The horizons [steps] in a flag, or "auto"."""
    if text is None or text.strip() == "auto":
        return "auto"
    horizon = Setting("horizons", int, 128, "", low=1, high=BIG)
    try:
        values = tuple(horizon.parse(part) for part in text.split(","))
    except ValueError as error:
        raise BadInput(f"--horizons={text}: each {error}; or 'auto'") from None
    ordered = sorted(set(values))
    if list(values) != ordered:
        raise BadInput(
            f"--horizons={text} must be increasing; nearest: {','.join(map(str, ordered))}"
        )
    return values


def _owners(algorithms: Sequence[str], worlds: Sequence[str]) -> list[Owner]:
    """The algorithms, references included, and worlds. Raises BadInput if names collide."""
    from irl_bench.plan import registry

    refs = dict.fromkeys((*algorithms, *REFERENCES))
    owners = [*map(registry.algorithm, refs), *map(registry.world, worlds)]
    _distinct(owners)
    return owners


def _distinct(owners: Sequence[Owner]) -> None:
    """Raises BadInput if two owners share a name, or one has the name of a flag."""
    names = [owner.name for owner in owners]
    for owner in owners:
        taken = {*TEXTS, *NUMBERS, *SWITCHES}
        if names.count(owner.name) > 1 or owner.name in taken:
            raise BadInput(
                f"{owner.ref}: the name {owner.name!r} is taken; rename its module or world"
            )


def _unknown(flag: str, values: flags.FlagValues, owners: Sequence[Owner]) -> str:
    """The error text for an unknown flag."""
    owner, dot, field = flag.partition(".")
    for known in owners:
        if dot and known.name == owner:
            what = "dial or option" if hasattr(known, "world") else "setting"
            hint = did_you_mean(field, known.settings, lambda name: f"--{owner}.{name}")
            return f"--{flag}: {owner} has no {what} {field!r}; {hint}"
    if dot and owner in algos.ALGORITHMS:
        return (
            f"--{flag} is given but {owner} is not in the sweep; add it to --algo or leave the "
            "flag out"
        )
    if dot and owner in envs.WORLDS:
        return (
            f"--{flag} is given but {owner} is not in the sweep; add it to --env or leave the "
            "flag out"
        )
    owning = [f"{known.name}.{flag}" for known in owners if flag in known.settings]
    near = nearest(flag, values, ALIKE)
    meant = SYNONYMS.get(flag.lower()) or owning or ([near] if near else [])
    if meant:
        return f"unknown flag --{flag}; did you mean {' or '.join(map(dashed, meant))}?"
    return f"unknown flag --{flag}; {did_you_mean(flag, (*TEXTS, *NUMBERS, *SWITCHES), dashed)}"

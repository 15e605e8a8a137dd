"""The command line of the sweep: flags in, cells run, verdicts and a report out.

Exit status: 0 done; 2 bad input, with one line on stderr that names it and the nearest valid name or value; 75 interrupted,
with a checkpoint: the same command goes on from there. Anything else is a bug and shows its traceback.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags, logging

import envs
from irl_bench import algos, plugins
from irl_bench import plan as plans
from irl_bench.algos.config import BadInput, Setting, nearest, show
from irl_bench.cells import fingerprint
from irl_bench.experiments import settings as table
from irl_bench.experiments import study

__all__ = ["Command", "main", "parse", "start", "sweep"]

BAD_INPUT = 2
INTERRUPTED = 75
DEFAULTS = plans.Request()
BIG = 10**9

TEXTS = {
    "algo": ("algorithms, separated by commas: names from --list or package.module:make", ",".join(DEFAULTS.algo)),
    "env": (
        "worlds, separated by commas: names from --list or package.module:factory",
        f"{','.join(DEFAULTS.env)}; lane_keep for algorithms that drive by themselves; grid,coarse_lane for maxent_irl",
    ),
    "policy": ("policies trained elsewhere, package.module:act; without --algo nothing else is run", None),
    "experiment": ("a study of several sweeps: " + " or ".join(study.NAMES), None),
    "mode": ("only these modes of the worlds, separated by commas", "as in the table of the experiment"),
    "horizons": ("'auto' or increasing horizons T [steps], separated by commas", "auto"),
    "given": ("file or folder of an earlier run whose learned policy or reward is taken (stored; ppo)", None),
    "reward": ("the same for ppo, and --ppo.reward=learned", None),
    "out": ("folder of the run; the same folder again adds what is missing", DEFAULTS.out),
    "describe": ("print an algorithm's or world's settings and end", None),
}
NUMBERS = {
    setting.name: setting
    for setting in (
        Setting("seeds", int, 20, "seeds per algorithm, world and mode", low=1, high=100_000),
        Setting("first_seed", int, 0, "the first seed; shifts every random stream", low=0, high=2**31 - 200_000),
        Setting("demos", int, 80, "demonstration episodes per seed", unit="episodes", low=1, high=BIG),
        Setting("demo_steps", int, 500, "length of a demonstration", unit="steps", low=1, high=BIG),
        Setting("episodes", int, 1024, "evaluation episodes per seed", unit="episodes", low=1, high=BIG),
        Setting("budget", str, DEFAULTS.budget, "size of the experiment", choices=table.BUDGETS),
    )
}
SWITCHES = {
    "list": "print the algorithms, worlds and budgets there are and end",
    "dry_run": "print the plan, what of it is done and the expected time, and end; writes nothing",
    "observation_only": "withhold the demonstrations' actions from the algorithms",
    "tensorboard": "also write TensorBoard files to OUT/tensorboard",
    "help": "print this text and end",
}


@dataclasses.dataclass(frozen=True)
class Command:
    """What a command line asks for: one of `list`, `describe`, `help`, `dry_run`, or else to run `request`."""

    request: plans.Request
    list: bool = False
    describe: str | None = None
    dry_run: bool = False
    help: bool = False
    line: str = ""
    experiment: str | None = None
    """Name of a study to run on `request`."""
    demos: tuple[int, ...] = ()
    """Of the study: its numbers of demonstrations."""


class _Parser(flags.ArgumentParser):
    """absl's view of a Setting."""

    def __init__(self, setting: Setting):
        self.setting = setting
        self.syntactic_help = setting.range

    def parse(self, argument: Any) -> Any:
        return self.setting.parse(argument)


class _Counts(_Parser):
    """One number or several, separated by commas: int or tuple."""

    def parse(self, argument: Any) -> Any:
        counts: list[int] = [self.setting.parse(part) for part in str(argument).split(",")]
        if len(set(counts)) < len(counts):
            raise ValueError(f"{argument} holds a number twice; nearest: {','.join(map(str, dict.fromkeys(counts)))}")
        return tuple(counts) if len(counts) > 1 else counts[0]


def _flags(owners: Iterable[plugins.Algorithm | plugins.LoadedWorld]) -> flags.FlagValues:
    """All flags: the sweep's own and, as `--OWNER.SETTING`, those of every owner. All default to None: not given."""
    values = flags.FlagValues()
    values.set_gnu_getopt(True)  # a stray argument must not hide the flags after it

    def add(flag: flags.Flag) -> None:
        flags.DEFINE_flag(flag, values, module_name="irl_bench.cli")

    for name, (help, _) in TEXTS.items():
        parser = flags.ArgumentParser()
        add(flags.Flag(parser, None, name, None, help, allow_overwrite=False))
    for name, help in SWITCHES.items():
        add(flags.BooleanFlag(name, None, help, short_name="h" if name == "help" else None, allow_overwrite=False))
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


def parse(argv: Sequence[str]) -> Command:
    """The command that `argv` (program name first) spells.

    Raises:
      BadInput: any flag, name or value that is unknown, repeated, out of range or misplaced.
    """
    for argument in argv[1:]:
        if argument.lstrip("-").partition("=")[0] in ("undefok", "flagfile") and argument.startswith("-"):
            raise BadInput(f"{argument.partition('=')[0]} is not supported: it would hide spelling mistakes; leave it out")
    try:
        first = _flags(())
        first(list(argv), known_only=True)
    except (flags.Error, ValueError) as error:
        raise BadInput(str(error)) from None
    chosen, found = _chosen(first), None
    if first["experiment"].value is not None:
        found = study.find(first["experiment"].value)
        chosen |= _of_study(found, first, chosen)
    if first["list"].value or first["describe"].value is not None:
        owners = []
    else:
        refs = dict.fromkeys((*chosen["algo"], *algos.REFERENCES))
        owners = [*map(plugins.algorithm, refs), *map(plugins.world, chosen["env"])]
        _distinct(owners)
    values = _flags(owners)
    try:
        stray = values(list(argv))[1:]
    except flags.UnrecognizedFlagError as error:
        raise BadInput(_unknown(error.flagname, values, owners)) from None
    except (flags.Error, ValueError) as error:
        raise BadInput(str(error)) from None
    if stray:
        raise BadInput(
            f"stray argument {stray[0]!r}: every option is a flag; nearest: --{nearest(stray[0].lstrip('-'), values)}"
        )
    settings: dict[str, dict[str, Any]] = {}
    for owner in owners:
        for name in owner.settings:
            if values[f"{owner.name}.{name}"].value is not None:
                settings.setdefault(owner.name, {})[name] = values[f"{owner.name}.{name}"].value
    given = {name: values[name].value for name in NUMBERS if values[name].value is not None}
    reward, source = values["reward"].value, values["given"].value
    if reward is not None:
        if source is not None or "ppo" not in chosen["algo"]:
            raise BadInput("--reward is for ppo and stands instead of --given; nearest: --algo=ppo --reward=" + reward)
        if settings.setdefault("ppo", {}).setdefault("reward", "learned") != "learned":
            raise BadInput(f"--reward and --ppo.reward={settings['ppo']['reward']} contradict; nearest: leave out --ppo.reward")
        source = reward
    demos: tuple[int, ...] = ()
    if found:
        filled = _filled(found, given)
        counts = filled.pop("demos")
        demos = counts if isinstance(counts, tuple) else (counts,)
        if len(demos) > 1 and len(found.defaults["default"]["demos"]) == 1:
            raise BadInput(f"--demos: {found.name} takes one number of demonstrations; nearest: --demos={demos[-1]}")
        if source is not None:
            raise BadInput(f"--experiment={found.name} takes nothing of an earlier run; nearest: leave out --given")
        own = {name: filled.pop(name) for name in ("algo", "env") if name in filled}
        chosen |= {name: value for name, value in own.items() if values[name].value is None}
        given = {**filled, **given, "demos": None}
    elif isinstance(several := given.get("demos"), tuple):
        raise BadInput(f"--demos: several numbers need --experiment=demo_efficiency; nearest: --demos={several[-1]}")
    out = values["out"].value
    if out is not None and (not out.strip() or not out.isprintable()):
        raise BadInput(f"--out={out!r} must be a folder's name of printable characters; nearest: {DEFAULTS.out!r}")
    request = plans.Request(
        **{**chosen, "settings": settings, **given},
        **{name: bool(values[name].value) for name in ("tensorboard", "observation_only")},
        given=source,
        out=out or (f"runs/{found.name}" if found else DEFAULTS.out),
    )
    if found:
        plans.build(dataclasses.replace(request, demos=max(demos), algo=found.probe(request.algo)))  # bad input is found now
    modes = {name: bool(values[name].value) for name in ("list", "dry_run", "help")}
    return Command(
        request,
        describe=values["describe"].value,
        line=shlex.join(["launch/sweep.py", *argv[1:]]),
        experiment=found and found.name,
        demos=demos,
        **modes,
    )


def _of_study(found: study.Study, values: flags.FlagValues, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The algorithms and worlds of a study: its own where none is named."""
    defaults = found.defaults["default"]
    for name in ("policy", "mode", "reward"):
        if values[name].value is not None:
            raise BadInput(f"--{name} is not for studies; nearest: leave it out, or --experiment")
    if found.algos:
        if values["algo"].value is not None and set(chosen["algo"]) != set(found.algos):
            raise BadInput(f"--experiment={found.name} runs {','.join(found.algos)}; nearest: leave out --algo")
        if chosen["env"] != defaults["env"] and values["env"].value is not None:
            raise BadInput(f"--experiment={found.name} is about {','.join(defaults['env'])}; nearest: leave out --env")
    algo = found.algos or (chosen["algo"] if values["algo"].value is not None else defaults["algo"])
    return {"algo": algo, "env": chosen["env"] if values["env"].value is not None else defaults["env"]}


def _filled(found: study.Study, given: Mapping[str, Any]) -> dict[str, Any]:
    """The study's defaults at the budget, under what is given."""
    budget = given.get("budget", DEFAULTS.budget)
    return {**found.defaults[budget], **given}


def _chosen(values: flags.FlagValues) -> dict[str, Any]:
    """algo, env, mode and horizons of the first pass, as fields of a Request."""
    policies = tuple(plugins.POLICY + ref for ref in _names("policy", values["policy"].value) or ())
    for ref in policies:
        if not plugins.REFERENCE.fullmatch(ref.removeprefix(plugins.POLICY)):
            raise BadInput(f"--policy: {ref.removeprefix(plugins.POLICY)!r} is not of the form package.module:act")
    asked = _names("algo", values["algo"].value)
    chosen = {
        "algo": (*(asked or (() if policies else DEFAULTS.algo)), *policies),
        "env": _names("env", values["env"].value) or table.default_worlds(asked or (), DEFAULTS.env),
        "mode": _names("mode", values["mode"].value),
        "horizons": _horizons(values["horizons"].value),
    }
    for name, registry, kind in (("algo", algos.ALGORITHMS, "algorithm"), ("env", envs.WORLDS, "world")):
        for ref in chosen[name]:
            problem = None if ref in policies else plugins.known(ref, registry, kind)
            if problem:
                raise BadInput(f"--{name}: {problem}")
    return chosen


def _names(flag: str, text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    parts = tuple(part.strip() for part in text.split(","))
    for part in parts:
        if not part or not plugins.NAME.fullmatch(part.replace(":", "")):
            raise BadInput(f"--{flag}={text}: {part!r} is not a name (letters, digits, '.', '_', '-')")
        if parts.count(part) > 1:
            raise BadInput(f"--{flag}={text}: {part} is given twice; nearest: {','.join(dict.fromkeys(parts))}")
    return parts


def _horizons(text: str | None) -> tuple[int, ...] | str:
    if text is None or text.strip() == "auto":
        return "auto"
    one = Setting("horizons", int, 128, "", low=1, high=BIG)
    try:
        values = tuple(one.parse(part) for part in text.split(","))
    except ValueError as error:
        raise BadInput(f"--horizons={text}: each {error}; or 'auto'") from None
    ordered = sorted(set(values))
    if list(values) != ordered:
        raise BadInput(f"--horizons={text} must be increasing; nearest: {','.join(map(str, ordered))}")
    return values


def _distinct(owners: Sequence[plugins.Algorithm | plugins.LoadedWorld]) -> None:
    names = [owner.name for owner in owners]
    for owner in owners:
        taken = {*TEXTS, *NUMBERS, *SWITCHES}
        if names.count(owner.name) > 1 or owner.name in taken:
            raise BadInput(f"{owner.ref}: the name {owner.name!r} is taken; rename its module or world")


def _unknown(flag: str, values: flags.FlagValues, owners: Sequence[plugins.Algorithm | plugins.LoadedWorld]) -> str:
    """What to say of an unknown flag."""
    owner, dot, field = flag.partition(".")
    for found in owners:
        if dot and found.name == owner:
            what = "dial" if isinstance(found, plugins.LoadedWorld) else "setting"
            guess = nearest(field, found.settings)
            return f"--{flag}: {owner} has no {what} {field!r}; " + (
                f"did you mean --{owner}.{guess}?" if guess else "it has none"
            )
    if dot and owner in algos.ALGORITHMS:
        return f"--{flag} is given but {owner} is not in the sweep; add it to --algo or leave the flag out"
    if dot and owner in envs.WORLDS:
        return f"--{flag} is given but {owner} is not in the sweep; add it to --env or leave the flag out"
    return f"unknown flag --{flag}; did you mean --{nearest(flag, values)}?"


def start() -> NoReturn:
    """The program `launch/sweep.py`."""
    from irl_bench import runner

    runner.configure()
    for number in (signal.SIGTERM, signal.SIGINT):  # while cells are run, the runner handles both
        signal.signal(number, _interrupted)
    app.run(main, flags_parser=parse_or_exit)
    raise AssertionError("app.run ends the program")


def _interrupted(number: int, frame: Any) -> NoReturn:
    del frame
    print(f"{signal.Signals(number).name}: stopped; finished cells are stored: run me again", file=sys.stderr)
    sys.exit(INTERRUPTED)


def parse_or_exit(argv: list[str]) -> Command:
    logging.set_verbosity(logging.WARNING)
    flags.FLAGS(argv[:1])  # absl's own flags (--pdb and the like) are not offered, but it asks that they be parsed
    try:
        return parse(argv)
    except BadInput as error:
        _complain(error)
        sys.exit(BAD_INPUT)


def main(command: Command) -> int:
    """Carries out a command and returns the exit status."""
    from irl_bench.store import StoreError

    try:
        if command.help:
            print(_help(command.request))
        elif command.list:
            print(_list())
        elif command.describe is not None:
            print(_describe(command.describe))
        elif command.dry_run:
            print(_dry_study(command) if command.experiment else _dry_run(command.request))
        elif command.experiment:
            found = study.find(command.experiment)
            study.run(found, command.request, command.demos, (compute, sweep), command.line, print)
        else:
            sweep(command.request, command.line)
    except (BadInput, StoreError) as error:
        _complain(error)
        return BAD_INPUT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `| head` is no error
    return 0


def _complain(error: Exception) -> None:
    """One line on stderr, whatever the error quotes."""
    text = " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in str(error)).split())
    if len(text) > 600:
        text = f"{text[:250]} ... {text[-300:]}"
    print(f"error: {text}", file=sys.stderr)


def sweep(request: plans.Request, line: str = "", say: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """Runs what is missing of a request, then writes `verdicts.json` and the report.

    Args:
      request: what to run.
      line: the command to note down in the report.
      say: takes each line that is meant for the user.

    Returns:
      The verdicts of everything in the folder's plan.

    Raises:
      BadInput, StoreError: as `main` reports them.
      runner.Interrupted: SIGTERM or SIGINT came; it is a SystemExit with status 75.
    """
    from irl_bench import report

    out, compilations = compute(request, line, say)
    made = report.rebuild(out)
    report.show(made.verdicts, made.sentences, compilations)
    say(f"report: {out / 'report.html'}")
    return made.verdicts


def compute(request: plans.Request, line: str, say: Callable[[str], None]) -> tuple[Path, dict[str, dict[str, int]]]:
    """`sweep` without its report: the run's folder and what was compiled."""
    from irl_bench import runner, store

    plan = plans.build(request)
    out = _folder(request.out)
    for note in plan.notes:
        say(f"note: {note}")
    document, dropped = plans.merge(store.read_plan(out), plans.document(plan, line, fingerprint()))
    for text in dropped:
        say(text)
    store.write_plan(out, document)
    return out, runner.run(plan.cells, out, tensorboard=request.tensorboard).compilations


def _folder(name: str) -> Path:
    """The run's folder, made if need be. Raises BadInput if it cannot be one or nothing can be written there."""
    out = Path(name).expanduser()
    _check_folder(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise BadInput(f"--out={name} cannot be written to ({error.strerror}); nearest: {DEFAULTS.out}") from None
    return out


def _check_folder(out: Path) -> None:
    """Raises BadInput if `out`, or a folder it would lie in, is a file."""
    try:
        for path in (out, *out.parents):
            if path.exists():
                if not path.is_dir():
                    raise BadInput(f"--out={out}: {path} is a file, not a folder; nearest: {path}.run")
                return
    except OSError as error:
        raise BadInput(f"--out={out} cannot be used ({error.strerror}); nearest: {DEFAULTS.out}") from None


def _help(request: plans.Request) -> str:
    owners = [*map(plugins.algorithm, request.algo), *map(plugins.world, request.env)]
    rows = [(f"--{name}=...", f"{help}; default: {default or 'none'}") for name, (help, default) in TEXTS.items()]
    for name, setting in NUMBERS.items():
        default = show(setting.default) if name in ("budget", "first_seed") else "by world and budget, see --describe"
        rows.append((f"--{name}=...", f"{setting.help} ({setting.range}); default: {default}"))
    rows += [(f"--{name}", help) for name, help in SWITCHES.items()]
    lines = [
        "Does regret grow like T² or like T? Runs algorithms on worlds and prints a verdict for each.",
        "",
        "  python launch/sweep.py --algo=bc,dagger --env=chain,lane_keep --seeds=20 --budget=smoke --out=runs/first",
        "",
        *_table(rows),
        "",
        "Settings and dials, --OWNER.NAME=VALUE (--describe=OWNER for units, defaults and meaning):",
        "",
    ]
    for owner in owners:
        lines += _wrapped(f"--{owner.name}.", owner.settings)
    lines += ["", "Exit status: 0 done, 2 bad input, 75 interrupted (run the same command again to go on)."]
    return "\n".join(lines)


def _list() -> str:
    lines = ["algorithms (--algo):"]
    lines += _table([(name, plugins.algorithm(name).help) for name in algos.ALGORITHMS])
    lines += ["", "worlds (--env):"]
    found = [plugins.world(name) for name in envs.names()]
    lines += _table([(world.ref, f"{world.help} Modes: {', '.join(world.world.modes)}.") for world in found])
    lines += ["", "studies (--experiment):"]
    lines += _table([(name, study.find(name).help) for name in study.NAMES])
    lines += ["", f"budgets (--budget): {', '.join(table.BUDGETS)}"]
    lines += ["", "--describe=NAME prints a world's or an algorithm's settings; your own go in as package.module:attribute."]
    return "\n".join(lines)


def _describe(name: str) -> str:
    """Every setting of an algorithm or dial of a world, with unit, default, range and meaning."""
    for ref, kind in ((name, "world"), (name, "algorithm")):
        registry = envs.WORLDS if kind == "world" else algos.ALGORITHMS
        if ref in registry:
            return _describe_world(plugins.world(ref)) if kind == "world" else _describe_algorithm(plugins.algorithm(ref))
    if name.startswith(plugins.POLICY):
        return _describe_algorithm(plugins.algorithm(name))
    if not plugins.REFERENCE.fullmatch(name):
        everything = [*algos.ALGORITHMS, *envs.WORLDS]
        raise BadInput(f"--describe={name}: no such algorithm or world; did you mean {nearest(name, everything)!r}?")
    try:
        return _describe_world(plugins.world(name))
    except BadInput as no_world:
        try:
            return _describe_algorithm(plugins.algorithm(name))
        except BadInput:
            raise no_world from None


def _describe_world(found: plugins.LoadedWorld) -> str:
    world = found.world
    kind = f"{world.n_actions} discrete actions" if world.n_actions else f"float32[{world.action_size}] in [-1, 1]"
    comes_back = "never for sure" if world.recovery_steps is None else f"{world.recovery_steps} steps"
    lines = [
        f"{found.ref} (world): {found.help}",
        "",
        f"  observation float32[{world.observation_size}], action {kind}",
        f"  T_max = {world.horizon} steps; recovery u = {comes_back}; latency L = {world.latency} steps",
        "",
        f"dials, --{found.name}.NAME=VALUE (no recompilation):",
        *_settings_table(found.settings),
        "",
        "modes (the first is the world as it is):",
    ]
    for mode, changes in world.modes.items():
        lines.append(
            f"  {mode}: " + (", ".join(f"{dial}={show(float(value))}" for dial, value in changes.items()) or "no change")
        )
    lines += ["", "budgets:"]
    lines += _table([("", *table.BUDGETS), *_budget_rows(found.ref)])
    return "\n".join(lines)


def _budget_rows(ref: str) -> list[tuple[str, ...]]:
    rows = [table.budget_of(ref, budget) for budget in table.BUDGETS]
    return [(name, *(show(row.get(name, "")) for row in rows)) for name in dict.fromkeys(key for row in rows for key in row)]


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
    rows += [(s.name, show(s.default), "" if s.unit == "1" else s.unit, s.range, s.help) for s in settings.values()]
    return _table(rows) if settings else ["  none"]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _wrapped(prefix: str, names: Iterable[str]) -> list[str]:
    lines, line = [], " "
    for name in names:
        if len(line) + len(prefix) + len(name) > 110:
            lines.append(line)
            line = " "
        line += f" {prefix}{name}"
    return [*lines, line] if line.strip() else lines


def _dry_study(command: Command) -> str:
    """The plans of a study's parts; writes nothing."""
    found, out = study.find(command.experiment or ""), Path(command.request.out).expanduser()
    lines = []
    for part in found.parts(command.request, command.demos, out):
        lines.append(f"{part.name}:")
        if part.after and not (out / part.after / "learned").is_dir():
            lines += [f"  planned once {part.after} has been run", ""]
        else:
            lines += [_dry_run(part.request), ""]
    return "\n".join(lines)


def _dry_run(request: plans.Request) -> str:
    """The plan in words; writes nothing."""
    from irl_bench import store

    plan = plans.build(request)
    out = Path(request.out).expanduser()
    _check_folder(out)
    document = plans.document(plan, "", fingerprint())
    _, dropped = plans.merge(store.read_plan(out), document)
    rows = [
        ("world", "mode", "algorithm", "cells", "done", "seeds", "demos", "episodes", "rounds", "expert labels", "env steps")
    ]
    missing = []
    for entry, record in zip(plan.entries, document["entries"], strict=True):
        todo = [cell for cell, key in zip(entry.cells, record["cells"], strict=True) if not store.is_done(out, key)]
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
            )
        )
    seconds, unknown = plans.estimate(missing, out / "log.jsonl")
    minutes = f"{seconds / 60:.1f} minutes (as in this folder, else as on 2 CPU cores)"
    known = minutes if len(missing) > unknown or not missing else ""
    guess = f"unknown for {unknown} cells (nothing like them has run in this folder)" if unknown else ""
    lines = [
        f"plan: {len(plan.cells)} cells, {len(plan.cells) - len(missing)} done, budget {plan.budget}, results in {out}",
        "",
    ]
    lines += _table(rows)
    lines += ["", "expected time: " + " + ".join(filter(None, (known, guess)))]
    lines += [f"note: {note}" for note in plan.notes] + dropped
    return "\n".join(lines)

"""The command line of the sweep: flags in, cells run, verdicts and a report out.

Exit status: 0 done; 2 bad input, with one line on stderr that names it and the nearest valid name
or value; 74 a result that cannot be written; 75 interrupted, with a checkpoint: the same command
goes on from there. Anything else is a bug and shows its traceback.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from absl import app, flags, logging

import envs
from irl_bench import algos
from irl_bench.core import folders
from irl_bench.core.settings import BadInput, Setting, nearest, show
from irl_bench.plan import build as plans
from irl_bench.plan import presets as table
from irl_bench.plan import registry as plugins
from irl_bench.studies import STUDIES

if TYPE_CHECKING:  # it draws, and what draws is slow to import
    from irl_bench.studies.study import Study

__all__ = ["Command", "main", "parse", "start"]

BAD_INPUT = 2
UNWRITTEN = 74
INTERRUPTED = 75
DEFAULTS = plans.Request()
BIG = 10**9

TEXTS = {
    "algo": (
        "algorithms, separated by commas: names from --list or package.module:make",
        ",".join(DEFAULTS.algo),
    ),
    "env": (
        "worlds, separated by commas: names from --list or package.module:factory",
        f"{','.join(DEFAULTS.env)}; lane_keep for algorithms that drive by themselves; "
        "grid,coarse_lane for maxent_irl",
    ),
    "policy": (
        "policies trained elsewhere, package.module:act; without --algo nothing else is run",
        None,
    ),
    "experiment": ("a study of several sweeps: " + " or ".join(STUDIES), None),
    "mode": (
        "only these modes of the worlds, separated by commas",
        "as in the table of the experiment",
    ),
    "horizons": ("'auto' or increasing horizons T [steps], separated by commas", "auto"),
    "demos_from": (
        "demonstrations to use instead of the world's expert's: FILE.npz or a Minari dataset's "
        "folder",
        None,
    ),
    "given": (
        "file or folder of an earlier run whose learned policy or reward is taken (stored; ppo; "
        "judged)",
        None,
    ),
    "reward": ("the same for ppo, and --ppo.reward=learned", None),
    "out": ("folder of the run; the same folder again adds what is missing", DEFAULTS.out),
    "describe": ("print an algorithm's or world's settings and end", None),
}
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
            "demos", int, 80, "demonstration episodes per seed", unit="episodes", low=1, high=BIG
        ),
        Setting("demo_steps", int, 500, "length of a demonstration", unit="steps", low=1, high=BIG),
        Setting(
            "episodes", int, 1024, "evaluation episodes per seed", unit="episodes", low=1, high=BIG
        ),
        Setting(
            "T_max",
            int,
            1000,
            "longest horizon; by default the world's",
            unit="steps",
            low=2,
            high=10**6,
        ),
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


SYNONYMS = {
    "seed": ("seeds (how many)", "first_seed (which)"),
    "world": ("env",),
    "horizon": ("horizons (which)", "T_max (the longest)"),
    "steps": ("demo_steps", "T_max"),
    "output": ("out",),
}
"""What is meant by flags that others use, where spelling alone would not tell or would tell
half."""


@dataclasses.dataclass(frozen=True)
class Command:
    """What a command line asks for: one of `list`, `describe`, `help`, `dry_run`, or else to run
    `request`."""

    request: plans.Request
    list: bool = False
    describe: str | None = None
    dry_run: bool = False
    help: bool = False
    line: str = ""
    study: Study | None = None
    """A study to run on `request` with `demos`, its numbers of demonstrations."""
    demos: tuple[int, ...] = ()


class _Parser(flags.ArgumentParser):
    """absl's view of a Setting."""

    def __init__(self, setting: Setting):
        self.setting = setting
        self.syntactic_help = setting.range

    def parse(self, argument: Any) -> Any:
        return self.setting.parse(argument)


class _Counts(_Parser):
    """Numbers separated by commas, as a tuple."""

    def parse(self, argument: Any) -> Any:
        counts: list[int] = [self.setting.parse(part) for part in str(argument).split(",")]
        if len(set(counts)) < len(counts):
            raise ValueError(
                f"{argument} holds a number twice; nearest: "
                f"{','.join(map(str, dict.fromkeys(counts)))}"
            )
        return tuple(counts)


def _flags(owners: Iterable[plugins.Algorithm | plugins.LoadedWorld]) -> flags.FlagValues:
    """All flags: the sweep's own and, as `--OWNER.SETTING`, those of every owner. All default to
    None: not given."""
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


def parse(argv: Sequence[str]) -> Command:
    """The command that `argv` (program name first) spells.

    Raises:
      BadInput: any flag, name or value that is unknown, repeated, out of range or misplaced.
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
    try:
        first = _flags(())
        first(list(argv), known_only=True)
    except (flags.Error, ValueError) as error:
        raise BadInput(str(error)) from None
    chosen, found = _chosen(first), None
    if first["experiment"].value is not None:
        from irl_bench.studies import study

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
            f"stray argument {stray[0]!r}: every option is a flag; nearest: "
            f"--{nearest(stray[0].lstrip('-'), values)}"
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
            raise BadInput(
                "--reward is for ppo and stands instead of --given; nearest: --algo=ppo --reward="
                + reward
            )
        if settings.setdefault("ppo", {}).setdefault("reward", "learned") != "learned":
            raise BadInput(
                f"--reward and --ppo.reward={settings['ppo']['reward']} contradict; nearest: leave "
                "out --ppo.reward"
            )
        source = reward
    if found:
        given = {**found.sizes[given.get("budget", DEFAULTS.budget)], **given}
        if source is not None:
            raise BadInput(
                f"--experiment={found.name} takes nothing of an earlier run; nearest: leave out "
                "--given"
            )
    demos: tuple[int, ...] = given.pop("demos", None) or ()
    if len(demos) > 1 and (found is None or found.fixed):
        hint = "--experiment=demo_efficiency" if found is None else f"--demos={demos[-1]}"
        raise BadInput(
            f"--demos: {found.name if found else 'a sweep'} takes one number of demonstrations; "
            f"nearest: {hint}"
        )
    out = values["out"].value
    if out is not None and (not out.strip() or not out.isprintable()):
        raise BadInput(
            f"--out={out!r} must be a folder's name of printable characters; nearest: "
            f"{DEFAULTS.out!r}"
        )
    request = plans.Request(
        **{**chosen, "settings": settings, **given},
        demos=demos[0] if len(demos) == 1 else None,
        **{name: bool(values[name].value) for name in ("tensorboard", "observation_only")},
        given=source,
        demos_from=values["demos_from"].value,
        out=out or (f"runs/{found.name}" if found else DEFAULTS.out),
    )
    modes = {name: bool(values[name].value) for name in ("list", "dry_run", "help")}
    return Command(
        request,
        describe=values["describe"].value,
        line=shlex.join(["launch/sweep.py", *argv[1:]]),
        study=found,
        demos=demos,
        **modes,
    )


def _of_study(found: Study, values: flags.FlagValues, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The algorithms and worlds of a study: its own where none is named, or where it allows no
    other algorithms."""
    for name in ("policy", "mode", "reward"):
        if values[name].value is not None:
            raise BadInput(f"--{name} is not for studies; nearest: leave it out, or --experiment")
    own = {"algo": found.algo, "env": found.env}
    asked = {name: chosen[name] for name in own if values[name].value is not None}
    if found.fixed and set(asked.get("algo", own["algo"])) != set(own["algo"]):
        raise BadInput(
            f"--experiment={found.name} is about {','.join(own['algo'])}; nearest: leave out --algo"
        )
    return own | asked


def _chosen(values: flags.FlagValues) -> dict[str, Any]:
    """algo, env, mode and horizons of the first pass, as fields of a Request."""
    policies = tuple(plugins.POLICY + ref for ref in _names("policy", values["policy"].value) or ())
    for ref in policies:
        if not plugins.REFERENCE.fullmatch(ref.removeprefix(plugins.POLICY)):
            raise BadInput(
                f"--policy: {ref.removeprefix(plugins.POLICY)!r} is not of the form "
                "package.module:act"
            )
    asked = _names("algo", values["algo"].value)
    chosen = {
        "algo": (*(asked or (() if policies else DEFAULTS.algo)), *policies),
        "env": _names("env", values["env"].value)
        or table.default_worlds(asked or (), DEFAULTS.env),
        "mode": _names("mode", values["mode"].value),
        "horizons": _horizons(values["horizons"].value),
    }
    for name, registry, kind in (
        ("algo", algos.ALGORITHMS, "algorithm"),
        ("env", envs.WORLDS, "world"),
    ):
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
            raise BadInput(
                f"--{flag}={text}: {part!r} is not a name (letters, digits, '.', '_', '-')"
            )
        if parts.count(part) > 1:
            raise BadInput(
                f"--{flag}={text}: {part} is given twice; nearest: {','.join(dict.fromkeys(parts))}"
            )
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
        raise BadInput(
            f"--horizons={text} must be increasing; nearest: {','.join(map(str, ordered))}"
        )
    return values


def _distinct(owners: Sequence[plugins.Algorithm | plugins.LoadedWorld]) -> None:
    names = [owner.name for owner in owners]
    for owner in owners:
        taken = {*TEXTS, *NUMBERS, *SWITCHES}
        if names.count(owner.name) > 1 or owner.name in taken:
            raise BadInput(
                f"{owner.ref}: the name {owner.name!r} is taken; rename its module or world"
            )


def _unknown(
    flag: str, values: flags.FlagValues, owners: Sequence[plugins.Algorithm | plugins.LoadedWorld]
) -> str:
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
        return (
            f"--{flag} is given but {owner} is not in the sweep; add it to --algo or leave the "
            "flag out"
        )
    if dot and owner in envs.WORLDS:
        return (
            f"--{flag} is given but {owner} is not in the sweep; add it to --env or leave the "
            "flag out"
        )
    meant = SYNONYMS.get(flag.lower()) or (nearest(flag, values),)
    return f"unknown flag --{flag}; did you mean {' or '.join(f'--{name}' for name in meant)}?"


def start() -> NoReturn:
    """The program `launch/sweep.py`."""
    from irl_bench.run import runner

    folders.cache()
    try:
        # Texts alone need no device, and looking for one takes seconds where there are
        # accelerators.
        if not {"--help", "-h", "--list"} & set(sys.argv):
            runner.configure()
    except BadInput as error:
        _complain(error)
        sys.exit(BAD_INPUT)
    from irl_bench.run.process import stopping_signals

    for number in stopping_signals():  # while cells are run, the runner handles them
        signal.signal(number, _interrupted)
    app.run(main, flags_parser=parse_or_exit)
    raise AssertionError("app.run ends the program")


def _interrupted(number: int, frame: Any) -> NoReturn:
    del frame
    print(
        f"{signal.Signals(number).name}: stopped; finished cells are stored: run me again",
        file=sys.stderr,
    )
    sys.exit(INTERRUPTED)


def parse_or_exit(argv: list[str]) -> Command:
    logging.set_verbosity(logging.WARNING)
    flags.FLAGS(
        argv[:1]
    )  # absl's own flags (--pdb and the like) are not offered, but it asks that they be parsed
    try:
        return parse(argv)
    except BadInput as error:
        _complain(error)
        sys.exit(BAD_INPUT)


def main(command: Command) -> int:
    """Carries out a command and returns the exit status."""
    from irl_bench import sweep
    from irl_bench.cli import texts
    from irl_bench.storage.cells import StoreError, WriteError

    try:
        if command.help:
            print(texts.usage(command.request, _options()))
        elif command.list:
            print(texts.listing())
        elif command.describe is not None:
            print(texts.describe(command.describe))
        elif command.study and command.dry_run:
            print(texts.dry_study(command.study, command.request, command.demos))
        elif command.study:
            from irl_bench.studies import study

            study.run(command.study, command.request, command.demos, command.line)
        elif command.dry_run:
            print(texts.dry_run(command.request))
        else:
            sweep.sweep(command.request, command.line)
    except (BadInput, StoreError) as error:
        _complain(error)
        return UNWRITTEN if isinstance(error, WriteError) else BAD_INPUT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `| head` is no error
    return 0


def _complain(error: Exception) -> None:
    """One line on stderr, whatever the error quotes."""
    text = " ".join(
        "".join(c if c.isprintable() or c.isspace() else "?" for c in str(error)).split()
    )
    if len(text) > 600:
        text = f"{text[:250]} ... {text[-300:]}"
    print(f"error: {text}", file=sys.stderr)


def _options() -> list[tuple[str, str]]:
    """Every flag and what it does."""
    rows = [
        (f"--{name}=...", f"{help}; default: {default or 'none'}")
        for name, (help, default) in TEXTS.items()
    ]
    for name, setting in NUMBERS.items():
        default = (
            show(setting.default)
            if name in ("budget", "first_seed")
            else "by world and budget, see --describe"
        )
        rows.append((f"--{name}=...", f"{setting.help} ({setting.range}); default: {default}"))
    rows += [(f"--{name}", help) for name, help in SWITCHES.items()]
    return rows

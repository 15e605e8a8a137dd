"""Measures this machine's speed, stores it as JSON and, in the repository, rewrites BENCHMARKS.md
from the JSON files in benchmarks/. Or disturbs sweeps on purpose, counts what they survive, and
rewrites RELIABILITY.md. Or simulates fleets of workers on an object store, counts what they ask of
it, and rewrites the tables of the guide to many machines on one bucket. Or measures
what cells take, from which --dry_run and the launchers tell the time of a plan. Or measures what
the experts of the driving worlds do, and how fast these worlds run beside others'.

python launch/bench.py --what=worlds,horizons,seeds,learners,vmapped_learners,robots
python launch/bench.py --suite=chaos
python launch/bench.py --suite=chaos --what=damage,full_disk
python launch/bench.py --suite=scale --workers=10,100 --store=memory
python launch/bench.py --suite=cells --what=hopper,rlhf
python launch/bench.py --suite=driving --what=experts
"""

from __future__ import annotations

import json
import math
import shlex
import sys
from pathlib import Path
from typing import NoReturn

from absl import flags

import irl_bench
from irl_bench.cli import program

ROOT = Path(irl_bench.__file__).parents[1]
PAGE = ROOT / "BENCHMARKS.md"
"""Of the repository; an installed package has none."""
RELIABILITY = ROOT / "RELIABILITY.md"
"""The page of the suite of faults, of the repository too."""
SCALE = ROOT / "docs" / "guides" / "scale.md"
"""The guide with the tables of the simulated fleets, of the repository too."""
RATES = Path(irl_bench.__file__).parent / "plan" / "rates.json"
"""What cells take, of the package: `irl_bench.plan.rates`."""
MOST_WORKERS, MOST_CELLS = 5000, 1_000_000
"""Limits of a simulated fleet: each worker is a thread."""
SPEEDS = ("worlds", "horizons", "seeds", "learners", "vmapped_learners", "robots")
"""What the suite of speeds measures by default."""


def define() -> None:
    """The command's flags."""
    flags.DEFINE_enum(
        "suite", "speed", ["speed", "chaos", "scale", "cells", "driving"],
        "speed: how fast worlds and learners run; chaos: what a run's folder survives, more than "
        "two hours on two cores; scale: what many workers ask of an object store, in simulated "
        "time; cells: what a cell of each world and algorithm takes on one core, about an hour; "
        "driving: the figures of the driving worlds' experts, and speeds, beside highway-env's "
        "where that is installed",
    )  # fmt: skip
    flags.DEFINE_list(
        "what", None,
        "parts to measure, by default all. Of speed: worlds with their expert; horizons and seeds, "
        "what more of them cost; "
        "learners, a round of ppo, "
        "gail and airl beside the bare rollout; vmapped_learners, seeds in one program; robots, "
        "ppo beside Brax's trainer. Of chaos: the faults that RELIABILITY.md lists. Of "
        "cells: names of worlds and algorithms. Of driving: experts, speeds. "
        "Empty: only rewrite the page",
    )  # fmt: skip
    flags.DEFINE_integer(
        "episodes", 4096, "of driving: episodes of each expert, a multiple of 512", lower_bound=512
    )
    flags.DEFINE_float("share", 1.0, "of chaos: part of the full sizes", 0.001, 1.0)
    flags.DEFINE_float(
        "minutes", None, "of chaos: most time that the random kills go on [min]", lower_bound=0.1
    )
    flags.DEFINE_list("workers", ["10", "100", "300"], "of scale: numbers of workers, a fleet each")
    flags.DEFINE_integer("cells_each", 1, "of scale: cells for each worker", lower_bound=1)
    flags.DEFINE_float(
        "cell_seconds", 60.0, "of scale: how long a cell takes on average [s]", 1.0, 1e6
    )
    flags.DEFINE_enum(
        "store", "s3", ["s3", "memory"],
        "of scale: moto's S3 server on loopback, or a dictionary, which counts the same and is "
        "faster: 1000 workers take 10 minutes, at the server more than an hour",
    )  # fmt: skip
    flags.DEFINE_string(
        "env", "lane_keep", "world whose speed is measured, and which learners train on"
    )
    flags.DEFINE_list(
        "worlds",
        [],
        "numbers of worlds; by default 256, 1024, 4096, of robots 256 on a CPU, 16384 elsewhere",
    )
    flags.DEFINE_integer(
        "steps", 256, "steps of an episode of the expert; learners have their own", lower_bound=1
    )
    flags.DEFINE_integer("repeats", 7, "timed calls after the first", lower_bound=1)
    flags.DEFINE_string(
        "out",
        None,
        "JSON file; default: benchmarks/cpu-CORES-cores.json, or DEVICE.json; of chaos: "
        "reliability/chaos.json; of scale: reliability/fleet.json; of driving: "
        "results/driving.json; of cells: the table that --dry_run reads. Elsewhere, no page is "
        "written",
    )


def check(values: flags.FlagValues) -> None:
    """Raises BadInput for a part, a number of worlds or a world that cannot be measured."""
    import envs
    from irl_bench.core.settings import BadInput
    from irl_bench.tools import speed, speed_robots

    what = values.what or ()
    unknown = [part for part in what if part not in speed.PARTS]
    if unknown:
        raise BadInput(f"unknown {unknown[0]!r}; --what takes {', '.join(speed.PARTS)}")
    bad = [count for count in values.worlds if not (count.isdecimal() and int(count))]
    if bad:
        raise BadInput(f"--worlds: {bad[0]!r} is not a number of worlds")
    size = speed_robots.SETTINGS["minibatches"]
    odd = [int(count) for count in values.worlds if int(count) % size]
    if odd and "robots" in (SPEEDS if values.what is None else what):
        near = max(1, round(odd[0] / size)) * size
        raise BadInput(f"--worlds: robots need a multiple of {size}, not {odd[0]}; nearest: {near}")
    if values.env not in envs.names():
        raise BadInput(f"--env: unknown world {values.env!r} ({', '.join(envs.names())})")


def main(values: flags.FlagValues) -> int | None:
    """Measures what the flags ask for."""
    if values.suite == "chaos":
        return chaos(values)
    if values.suite == "scale":
        return scale(values)
    if values.suite == "cells":
        return cells(values)
    if values.suite == "driving":
        return driving(values)
    check(values)
    import jax

    from irl_bench.core import folders
    from irl_bench.running import process
    from irl_bench.tools import speed

    folder = ROOT / "benchmarks" if PAGE.exists() else Path("benchmarks")
    what = SPEEDS if values.what is None else values.what
    given = folders.expand(values.out) if values.out else None
    if what:
        if given:
            program.check_file("out", given, "speed.json")
        else:
            program.check_folder("out", folder, "speed.json")
        process.configure(devices=process.cores())
        jax.config.update("jax_enable_compilation_cache", False)  # a first call is a cold one
        counts = [int(count) for count in values.worlds]
        record = speed.measure(what, values.env, counts, values.steps, values.repeats, _command())
        cores, device = record["machine"]["cores"], record["machine"]["device"]
        on_cpu = record["backend"] == "cpu"
        name = f"cpu-{cores}-cores.json" if on_cpu else f"{device.lower().replace(' ', '-')}.json"
        out = given or folder / name
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record, indent=1) + "\n")
        print(out.read_text())
        if out.resolve().parent != folder.resolve():
            return None
    if PAGE.exists():
        PAGE.write_text(speed.page(folder))
        print("rewritten: BENCHMARKS.md")
    return None


def _command() -> str:
    """The command that was given, without the place of its results."""
    from irl_bench.cli.command import without

    return shlex.join(["python", "launch/bench.py", *without(sys.argv[1:], ("out",))])


def chaos(values: flags.FlagValues) -> int:
    """Makes the faults that the flags ask for. Returns the exit status: 1 if something was lost,
    doubled, wrong or unmet."""
    from envs.names import did_you_mean
    from irl_bench.core import folders
    from irl_bench.core.settings import BadInput
    from irl_bench.tools.chaos import suite

    what = list(suite.FAULTS) if values.what is None else values.what
    for name in what:
        if name not in suite.FAULTS:
            raise BadInput(f"--what: no fault {name!r}; {did_you_mean(name, suite.FAULTS)}")
    usual = (ROOT if RELIABILITY.exists() else Path()) / "reliability" / "chaos.json"
    out = folders.expand(values.out) if values.out else usual
    program.check_record("out", out, "chaos.json", ["faults"])
    minutes = values.minutes or math.inf
    sound = suite.run(what, out, values.share, minutes) if what else True
    if RELIABILITY.exists() and out.resolve() == usual.resolve():
        RELIABILITY.write_text(suite.page(out))
        print("rewritten: RELIABILITY.md")
    return 0 if sound else 1


def scale(values: flags.FlagValues) -> None:
    """Simulates the fleets that the flags ask for."""
    from irl_bench.core import folders
    from irl_bench.core.settings import BadInput
    from irl_bench.tools.fleet import record

    most = min(MOST_WORKERS, max(1, MOST_CELLS // values.cells_each))
    for count in values.workers:
        if not (count.isdecimal() and 1 <= int(count) <= most):
            near = min(max(int(count), 1), most) if count.lstrip("-").isdecimal() else 10
            raise BadInput(
                f"--workers: {count!r} is not a number of workers from 1 to {most}; nearest: {near}"
            )
    usual = (ROOT if SCALE.exists() else Path()) / "reliability" / "fleet.json"
    out = folders.expand(values.out) if values.out else usual
    program.check_record("out", out, "fleet.json", ["fleets"])
    counts = [int(count) for count in values.workers]
    record.run(counts, values.cells_each, values.cell_seconds, values.store, out)
    if SCALE.exists() and out.resolve() == usual.resolve() and out.exists():
        SCALE.write_text(record.page(SCALE.read_text(), json.loads(out.read_text())))
        print("rewritten: docs/guides/scale.md")


def cells(values: flags.FlagValues) -> None:
    """Measures the worlds and algorithms that the flags ask for."""
    import jax

    from envs.names import did_you_mean
    from irl_bench.core import folders
    from irl_bench.core.settings import BadInput
    from irl_bench.running import process
    from irl_bench.tools import rates

    worlds, algorithms = rates.every()
    if values.what is not None:
        for name in values.what:
            if name not in (*worlds, *algorithms):
                near = did_you_mean(name, [*worlds, *algorithms])
                raise BadInput(f"--what: no world or algorithm {name!r}; {near}")
        worlds, algorithms = (
            [name for name in names if name in values.what] for names in (worlds, algorithms)
        )
    out = folders.expand(values.out) if values.out else RATES
    program.check_record("out", out, "rates.json", ["worlds", "algorithms"])
    process.configure(devices=1)
    jax.config.update("jax_enable_compilation_cache", False)  # compiling is measured
    rates.measure(worlds, algorithms, out)


def driving(values: flags.FlagValues) -> None:
    """Measures the driving worlds."""
    from irl_bench.core import folders
    from irl_bench.core.settings import BadInput
    from irl_bench.running import process
    from irl_bench.tools import driving as suite

    what = ("experts", "speeds") if values.what is None else values.what
    for name in what:
        if name not in ("experts", "speeds"):
            raise BadInput(f"--what: no part {name!r} of driving; nearest: experts,speeds")
    if values.episodes % suite.AT_ONCE:
        near = max(1, round(values.episodes / suite.AT_ONCE)) * suite.AT_ONCE
        raise BadInput(
            f"--episodes={values.episodes} must be a multiple of {suite.AT_ONCE}; nearest: {near}"
        )
    usual = (ROOT if PAGE.exists() else Path()) / "results" / "driving.json"
    out = folders.expand(values.out) if values.out else usual
    program.check_record("out", out, "driving.json")
    process.configure(devices=1)
    record = suite.measure(what, values.episodes, values.repeats)
    suite.write(record, out)
    print(suite.tables(record))


def start() -> NoReturn:
    """Runs the command and ends the process."""
    program.start(sys.modules[__name__], define, main)

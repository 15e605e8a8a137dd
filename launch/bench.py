"""Measures this machine's speed, stores it as JSON and rewrites BENCHMARKS.md from the JSON files
in benchmarks/.

python launch/bench.py --what=worlds,horizons,seeds,learners,vmapped_learners,robots
"""

import json
import sys
from pathlib import Path

import _program
import _venv

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks"


def define(flags):
    flags.DEFINE_list(
        "what", ["worlds", "horizons", "seeds", "learners", "vmapped_learners", "robots"],
        "parts to measure: worlds with their expert; horizons and seeds, what more of them cost; "
        "learners, a round of ppo, "
        "gail and airl beside the bare rollout; vmapped_learners, seeds in one program; robots, "
        "ppo beside Brax's trainer; "
        "empty: only rewrite BENCHMARKS.md",
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
        "JSON file; default: benchmarks/cpu-CORES-cores.json, or DEVICE.json. Elsewhere, no page "
        "is written",
    )


def parse(argv: list[str]) -> list[str]:
    from absl import flags

    import envs
    from irl_bench.tools import speed, speed_robots

    try:
        stray = flags.FLAGS(argv)[1:]
        unknown = [part for part in flags.FLAGS.what if part not in speed.PARTS]
        bad = [count for count in flags.FLAGS.worlds if not (count.isdecimal() and int(count))]
        if stray or unknown:
            raise ValueError(
                f"unknown {(stray or unknown)[0]!r}; --what takes {', '.join(speed.PARTS)}"
            )
        if bad:
            raise ValueError(f"--worlds: {bad[0]!r} is not a number of worlds")
        size = speed_robots.SETTINGS["minibatches"]
        odd = [
            int(count)
            for count in flags.FLAGS.worlds
            if "robots" in flags.FLAGS.what and int(count) % size
        ]
        if odd:
            nearest = max(1, round(odd[0] / size)) * size
            raise ValueError(
                f"--worlds: robots need a multiple of {size}, not {odd[0]}; nearest: {nearest}"
            )
        if flags.FLAGS.env not in envs.names():
            raise ValueError(
                f"--env: unknown world {flags.FLAGS.env!r} ({', '.join(envs.names())})"
            )
    except (flags.Error, ValueError) as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    return argv


def main(argv: list[str]) -> None:
    del argv
    import os

    import jax
    from absl import flags, logging

    from irl_bench.core import folders
    from irl_bench.run import process
    from irl_bench.tools import speed

    values = flags.FLAGS
    logging.set_verbosity(logging.WARNING)
    if values.what:
        process.configure(devices=len(os.sched_getaffinity(0)))
        jax.config.update("jax_enable_compilation_cache", False)  # a first call is a cold one
        counts = [int(count) for count in values.worlds]
        record = speed.measure(values.what, values.env, counts, values.steps, values.repeats)
        cores, device = (
            record["machine"]["cores"],
            record["machine"]["device"].lower().replace(" ", "-"),
        )
        name = (
            f"{record['backend']}-{cores}-cores.json"
            if record["backend"] == "cpu"
            else f"{device}.json"
        )
        out = folders.expand(values.out) if values.out else FOLDER / name
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record, indent=1) + "\n")
        print(out.read_text())
        if out.resolve().parent != FOLDER:
            return
    (ROOT / "BENCHMARKS.md").write_text(speed.page(FOLDER))
    print("rewritten: BENCHMARKS.md")


if __name__ == "__main__":
    _venv.ensure()
    from absl import app, flags

    define(flags)
    _program.show_help()
    app.run(main, flags_parser=parse)

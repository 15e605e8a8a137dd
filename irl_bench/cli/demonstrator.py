"""Trains a world's demonstrator with PPO or SAC on the true reward; the same command resumes.
--ship keeps the demonstrator, --table measures all that ship.

# trains in runs/experts/hopper-spring, or goes on there
python launch/expert.py --env=hopper
# puts its best policies into envs/demonstrators with cards
python launch/expert.py --env=hopper --ship --qualities=expert,75,50
# every shipped demonstrator on fresh episodes
python launch/expert.py --table
# steps from wrong actions to a fall
python launch/expert.py --env=hopper --latency
# from how many of 500 falls its expert gets up
python launch/expert.py --env=ant --rising
"""

from __future__ import annotations

import shlex
import sys
from typing import Any, NoReturn

from absl import flags

from irl_bench.cli import program


def define() -> None:
    """The command's flags."""
    flags.DEFINE_string("env", "hopper", "a robot, lane_keep or playground:NAME")
    flags.DEFINE_integer("seed", 0, "of the training", lower_bound=0)
    flags.DEFINE_string("algo", "ppo", "ppo or sac")
    flags.DEFINE_list(
        "set", [], "NAME=VALUE, settings of the algorithm that differ from the robot's"
    )
    flags.DEFINE_list(
        "world",
        [],
        "NAME=VALUE, dials and options of the world, as backend=positional or fallen_start=0.3",
    )
    flags.DEFINE_bool("terminate", True, "end training episodes at a fall")
    flags.DEFINE_float(
        "penalty", 0.0, "subtracted from PPO's reward in failed steps", lower_bound=0.0
    )
    flags.DEFINE_integer(
        "every",
        200_000,
        "approximate number of environment steps between two evaluations",
        lower_bound=1,
    )
    flags.DEFINE_list("qualities", ["expert"], "what is shipped: expert, 75, 50, 25")
    flags.DEFINE_bool(
        "ship",
        False,
        "put the best policy of OUT so far into envs/demonstrators, with its card, and end",
    )
    flags.DEFINE_bool("table", False, "measure the shipped demonstrators and end")
    flags.DEFINE_bool(
        "latency",
        False,
        "measure how many steps random actions take to become a failure of the expert, and end",
    )
    flags.DEFINE_bool(
        "rising", False, "measure from how many of 500 fallen starts the expert gets up, and end"
    )
    flags.DEFINE_string(
        "out",
        None,
        "folder of the training; by default runs/experts/ENV-BACKEND, of sac ENV-BACKEND-sac",
    )


def main(values: flags.FlagValues) -> None:
    """Does what the flags ask for."""
    import envs
    from envs.demonstrators import QUALITIES
    from envs.names import did_you_mean
    from envs.robots import locomotion
    from irl_bench.core import folders
    from irl_bench.core.settings import BadInput, nearest, parsed
    from irl_bench.core.text import aligned
    from irl_bench.plan import presets, registry
    from irl_bench.report.tables import interval, number
    from irl_bench.running import process
    from irl_bench.tools import demonstrators, latency, rising

    process.configure()
    if values.table:
        rows = demonstrators.measured(say=lambda text: print(text, file=sys.stderr, flush=True))
        short = lambda bounds: interval(bounds[0], bounds[1], bounds[2], lambda x: number(x, 4))
        header = (
            "demonstrator",
            "return, 1000 steps",
            "worst of 128",
            "random",
            "score",
            "failed",
            "env steps",
            "its card",
        )
        body = [
            (
                r["demonstrator"],
                short(r["return"]),
                f"{r['worst']:.0f}",
                f"{r['random']:.0f}",
                f"{r['score']:.2f}",
                f"{r['cost']:.3f}",
                f"{r['env steps']:,}",
                short(r["card"]),
            )
            for r in rows
        ]
        print("\n".join(aligned([header, *body])))
        return
    for quality in values.qualities:
        if quality not in QUALITIES:
            raise BadInput(f"--qualities={quality}: known are "
                           f"{', '.join(QUALITIES)}; nearest: "
                           f"{nearest(quality, QUALITIES)}")  # fmt: skip
    known = (*presets.ROBOTS, "lane_keep")
    if values.env not in known and not values.env.startswith(envs.PLAYGROUND):
        why = (
            envs.BROKEN.get(values.env)
            or f"no robot {values.env!r}; {did_you_mean(values.env, known)}"
        )
        raise BadInput(f"--env: {why}")
    if values.algo not in demonstrators.ALGORITHMS:
        raise BadInput(f"--algo={values.algo}: known are {', '.join(demonstrators.ALGORITHMS)}; "
                       "nearest: "
                       f"{nearest(values.algo, demonstrators.ALGORITHMS)}")  # fmt: skip
    if values.penalty and values.algo != "ppo":
        raise BadInput(f"--penalty={values.penalty}: PPO alone has it; nearest: --algo=ppo")
    world = parsed("world", values.world, registry.world(values.env).settings)
    training = demonstrators.Training(
        values.env,
        values.seed,
        world,
        parsed("set", values.set, registry.algorithm(values.algo).settings),
        values.terminate,
        values.algo,
        values.penalty,
    )
    if values.latency:
        registry.need_expert(registry.world(values.env, world))
        header = (
            "random actions",
            "episodes",
            f"failed within {latency.WATCHED} steps",
            "after, 10 %",
            "50 %",
            "90 % [steps]",
        )
        before = max(latency.BEFORE, presets.budget_of(values.env, "default").burn_in)
        print(f"the expert acts for {before} steps before the random actions")
        bursts = latency.measure(training.world, values.seed, before=before)
        body = [
            (
                str(r["burst"]),
                str(r["episodes"]),
                f"{r['failed']:.3f}",
                *(f"{q:.0f}" for q in r["steps"] or ()),
            )
            for r in bursts
        ]
        print("\n".join(aligned([header, *((*row, *[""] * (6 - len(row))) for row in body)])))
        measured = latency.latency(bursts)
        print(
            "latency L = {}: the median after {} random actions".format(*measured)
            if measured
            else f"no burst makes {latency.ENOUGH:.0%} more of the episodes fail"
        )
        return
    if values.rising:
        registry.need_expert(registry.world(values.env, world))
        if not isinstance(training.world, (locomotion.Planar, locomotion.Free)):
            raise BadInput(f"--rising: {values.env} has no fallen starts; nearest: --env=hopper")
        counts = rising.measure(envs.with_dials(training.world, fallen_start=1.0), values.seed)
        if not counts["fallen"]:
            raise BadInput(
                f"--rising: {values.env} does not fail by falling; nearest: --env=hopper"
            )
        share, (low, high) = counts["up"] / counts["fallen"], counts["interval"]
        print(
            f"{counts['up']} of {counts['fallen']} fallen got up: "
            f"{share:.3f} [{low:.3f}, {high:.3f}]"
        )
        if counts["steps"]:
            print(
                "after {:.0f}, {:.0f} and {:.0f} steps (10, 50 and 90 % of them)".format(
                    *counts["steps"]
                )
            )
        return
    usual = f"runs/experts/{training.world.name}-{training.world.backend}" + (
        "" if values.algo == "ppo" else f"-{values.algo}"
    )
    out = folders.expand(values.out or usual)
    if not values.ship:
        demonstrators.train(training, out, every=values.every)
    else:
        if values.env == "lane_keep" and "expert" in values.qualities:
            raise BadInput(
                "--ship: the expert of lane_keep is a control law, not a network; nearest: "
                "--qualities=75,50,25"
            )
        for card in demonstrators.ship(
            training, out, tuple(values.qualities), command(values, training.world)
        ):
            print(
                card["world"],
                card["backend"],
                card["quality"],
                "return",
                card["return"],
                "random",
                card["random_return"],
            )


def command(values: flags.FlagValues, world: Any) -> str:
    """Returns the command that repeats a training on any machine. It names the backend of the
    world, since `auto` differs between a CPU and an accelerator."""
    numbers = [
        f"--{name}={values[name].value}"
        for name in ("algo", "seed", "penalty", "every")
        if not values[name].using_default_value
    ]
    physics = [f"backend={world.backend}"] if "backend" in world.options else []
    items = [item for item in values.world if not item.startswith("backend=")] + physics
    lists = [
        f"--{name}={','.join(value)}"
        for name, value in (("world", items), ("set", values.set))
        if value
    ]
    ends = [] if values.terminate else ["--noterminate"]
    return shlex.join(
        ["python", "launch/expert.py", f"--env={values.env}", *numbers, *lists, *ends]
    )


def start() -> NoReturn:
    """Runs the command and ends the process."""
    program.start(sys.modules[__name__], define, main)

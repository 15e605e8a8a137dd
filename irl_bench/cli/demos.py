"""Writes a world's demonstrations as npz or Minari, and checks files in any layout of the page
'Demonstration files' of the documentation.

python launch/demos.py --env=lane_keep --demos=20 --out=demos/lane_keep.npz
# a Minari dataset, its folder
python launch/demos.py --env=hopper --demos=50 --noise=0.1 --out=demos/hopper-expert-v0
python launch/demos.py --env=hopper --check=demos/hopper-expert-v0
python launch/sweep.py --algo=bc,gail --env=hopper --demos_from=demos/hopper-expert-v0
"""

from __future__ import annotations

import sys
from typing import NoReturn

from absl import flags

from irl_bench.cli import program


def define() -> None:
    """The command's flags."""
    flags.DEFINE_string(
        "env", "lane_keep", "world: a name from sweep --list or package.module:factory"
    )
    flags.DEFINE_list("world", [], "NAME=VALUE, dials and options of the world")
    flags.DEFINE_integer("demos", 50, "episodes", lower_bound=1)
    flags.DEFINE_integer(
        "steps", None, "length of an episode; by default the world's horizon", lower_bound=1
    )
    flags.DEFINE_integer("seed", 0, "of the starts and of the noise", lower_bound=0)
    flags.DEFINE_float(
        "noise",
        0.0,
        "standard deviation of Gaussian noise on the actions that are executed",
        lower_bound=0.0,
    )
    flags.DEFINE_bool("clean", False, "write only episodes without a failure")
    flags.DEFINE_bool("observation_only", False, "leave the actions out (npz)")
    flags.DEFINE_string("out", None, "FILE.npz, or the folder of a Minari dataset, NAME-v0")
    flags.DEFINE_string(
        "check",
        None,
        "read this file or folder (npz, HDF5, Minari, LeRobot or imitation), say what it holds, "
        "and exit",
    )


def main(values: flags.FlagValues) -> None:
    """Does what the flags ask for."""
    import dataclasses

    from irl_bench.core import folders
    from irl_bench.core.settings import BadInput, parsed
    from irl_bench.plan import registry
    from irl_bench.rollouts.evaluation import TRIES, record
    from irl_bench.running import process
    from irl_bench.storage.demonstrations import check_new, read, summary, write_minari, write_npz

    process.configure()
    loaded = registry.world(
        values.env, parsed("world", values.world, registry.world(values.env).settings)
    )
    world = loaded.world
    if values.check is not None:
        if not values.check.strip():
            raise BadInput("--check= is empty; nearest: --check=demos.npz")
        facts = summary(read(values.check, world, values.env, "--world="))
        ignored = facts.pop("ignored")
        print(", ".join(f"{name} {value}" for name, value in facts.items()))
        if ignored:
            print(f"ignored: {', '.join(ignored)}")
        return
    if not values.out:
        raise BadInput(f"--out is needed; nearest: --out=demos/{world.name}.npz")
    registry.need_expert(loaded)
    out = folders.expand(values.out)
    npz = out.suffix.lower() == ".npz"
    if not npz and values.observation_only:
        raise BadInput(f"--observation_only is for npz; nearest: --out={out}.npz")
    if npz:
        program.check_file("out", out, "demos.npz")
    else:
        check_new(out)
    steps = values.steps or world.horizon
    recording = record(world, values.seed, values.demos, steps, values.noise, values.clean)
    demonstrations = recording.demonstrations
    dirty = int(recording.failed.sum())
    if values.clean and dirty:
        raise BadInput(
            f"{dirty} of {values.demos} episodes of {steps} steps hold a failure in each of "
            f"{TRIES} tries; nearest: --noclean, or a smaller --steps"
        )
    if npz:
        if values.observation_only:
            demonstrations = dataclasses.replace(demonstrations, action=None)
        write_npz(out, demonstrations, world)
    else:
        write_minari(out, demonstrations, recording.last, world)
    rewards = demonstrations.reward
    assert rewards is not None  # `record` stores them
    print(
        f"{values.demos} demonstrations of {world.name}, mean return "
        f"{rewards.sum(1).mean():.1f}: {out}"
    )


def start() -> NoReturn:
    """Runs the command and ends the process."""
    program.start(sys.modules[__name__], define, main)

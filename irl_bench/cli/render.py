"""Films an episode: the same scene driven by a learned policy and by others.

# two policies of one run beside the world's expert, from just before the first one's failure
irl-bench render --policy=runs/sweep:bc --vs=dagger,expert --env=lane_keep --out=film
# a scene and a moment of your choice; the expert as an outline
irl-bench render --policy=runs/sweep:bc --vs=expert --scene=3 --start=100 --layout=ghosts
# and the world's metrics of both over 256 scenes: collisions, progress, comfort
irl-bench render --policy=runs/highway:bc --vs=expert --metrics=256
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

from absl import flags

from irl_bench.cli import program
from irl_bench.core.settings import BadInput, nearest

if TYPE_CHECKING:
    from envs.core import World
    from irl_bench.films.footage import Driver

WITHOUT_RUN = ("expert", "random")
"""Drivers that need no run."""


def define() -> None:
    """The command's flags."""
    flags.DEFINE_string("policy", None, "whom the film is about: RUN:ALGORITHM, or expert, random")
    flags.DEFINE_list(
        "vs", [], "who drives the same scene: ALGORITHM of that run, RUN:ALGORITHM, expert, random"
    )
    flags.DEFINE_string("env", None, "the world; not needed where the run has one")
    flags.DEFINE_string("mode", None, "the world's mode; default: the run's nominal one")
    flags.DEFINE_integer("seed", None, "of the training; default: the run's first", lower_bound=0)
    flags.DEFINE_integer(
        "scene",
        None,
        "number of the scene; default: the first of 64 in which the policy fails",
        lower_bound=0,
        upper_bound=2**32 - 1,
    )
    flags.DEFINE_integer(
        "start",
        None,
        "first step that is shown; default: 20 before the policy's first failure",
        lower_bound=0,
    )
    flags.DEFINE_integer("steps", 150, "steps that are shown", lower_bound=1)
    flags.DEFINE_integer("every", 1, "show every N-th step", lower_bound=1)
    flags.DEFINE_string(
        "layout", "side", "side: a picture each; ghosts: the others as outlines, on a road or track"
    )
    flags.DEFINE_list("formats", ["gif", "html"], "gif, html (a page that plays it), mp4")
    flags.DEFINE_integer(
        "metrics",
        0,
        "scenes that each driver also drives for 50 s; their metrics are printed, and stored as "
        "OUT.json",
        lower_bound=0,
        upper_bound=2**32,
    )
    flags.DEFINE_string("out", "film", "the files' name without its ending")


def main(values: flags.FlagValues) -> None:
    """Films what the flags ask for."""
    from envs import drawing
    from irl_bench.core import folders
    from irl_bench.films import footage, frames, metrics, writing
    from irl_bench.running import process
    from irl_bench.storage.files import write_atomic

    if not values.policy:
        raise BadInput("--policy is missing; nearest: --policy=runs/sweep:bc")
    if values.layout not in frames.LAYOUTS:
        raise BadInput(
            f"--layout={values.layout}: must be {' or '.join(frames.LAYOUTS)}; nearest: "
            f"--layout={nearest(values.layout, frames.LAYOUTS)}"
        )
    out, formats = folders.expand(values.out), values.formats
    if out.suffix[1:] in writing.FORMATS:  # --out=film.gif
        if not values["formats"].present:
            formats = [out.suffix[1:]]
        out = out.with_suffix("")
    writing.check(formats)
    for name in [*formats, *["json"] * bool(values.metrics)]:
        program.check_file("out", out.with_name(f"{out.name}.{name}"), "film")
    process.configure()
    world, drivers = _cast(values)
    first, last = values.start or 0, (values.start or 0) + values.steps
    if last > world.horizon:
        fits = values.steps <= world.horizon
        near = f"start={world.horizon - values.steps}" if fits else f"steps={world.horizon}"
        raise BadInput(
            f"--start={first} --steps={values.steps} is longer than an episode of {world.name}, "
            f"{world.horizon} steps; nearest: --{near}"
        )
    if values.steps > frames.MOST * values.every:
        raise BadInput(
            f"--steps={values.steps}: a film has at most {frames.MOST} frames; nearest: "
            f"--every={-(-values.steps // frames.MOST)}"
        )
    scene, start, said = _moment(values, world, drivers[0])
    print(said, flush=True)
    end = start + values.steps
    footages = [footage.film(world, driver, scene, end) for driver in drivers]
    steps = range(start, end, values.every)
    seconds = drawing.seconds(world)
    pictures = frames.draw(world, footages, steps, values.layout, seconds)
    failures = [(one.name, [bool(one.cost[t]) for t in steps]) for one in footages]
    title = f"{world.name}, scene {scene}, from step {start}: {', '.join(d.name for d in drivers)}"
    for path in writing.write(
        out, formats, pictures, seconds * values.every, title, failures, seconds * start
    ):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    if values.metrics:
        steps = metrics.steps_of(world)
        found = metrics.measure(world, drivers, range(values.metrics), steps)
        path = out.with_name(f"{out.name}.json")
        write_atomic(path, metrics.content(found))
        print(f"{metrics.table(world, found)}\n{path}")


def _cast(values: flags.FlagValues) -> tuple[World, list[Driver]]:
    """Returns the world with its dials bound, and who drives: the policy, then the others.

    Raises:
      BadInput: a policy cannot be loaded, or is of another world; one line.
    """
    from irl_bench.films import footage
    from irl_bench.loading import load
    from irl_bench.plan import registry

    run, _, algo = values.policy.rpartition(":")
    if not run and values.policy not in WITHOUT_RUN:
        raise BadInput(
            f"--policy={values.policy}: a run and an algorithm are needed; nearest: "
            f"--policy=runs/sweep:{algo}"
        )
    if run:
        main_ = load(run, algo, values.env, values.seed, mode=values.mode)
        world, mode = main_.world, main_.mode
    else:
        if values.env is None:
            raise BadInput(f"--policy={algo} needs a world; nearest: --env=lane_keep")
        world = registry.world(values.env).world
        mode = values.mode or next(iter(world.modes))
        if mode not in world.modes:
            raise BadInput(
                f"--mode={mode}: {values.env} has {', '.join(world.modes)}; nearest: "
                f"--mode={nearest(mode, world.modes)}"
            )
    bound = world.bind(world.dials_for(mode))
    drivers = []
    for name in (values.policy, *values.vs):
        where, _, algo = name.rpartition(":")
        if name == "expert":
            if not world.has_expert:
                raise BadInput(f"--vs=expert: {world.name} has no expert; nearest: --vs=random")
            drivers.append(footage.expert(bound))
        elif name == "random":
            drivers.append(footage.uniform(bound))
        else:
            if not (where or run):
                raise BadInput(
                    f"--vs={name}: of which run? nearest: --vs=runs/sweep:{name}, or --vs=expert"
                )
            loaded = load(where or run, algo, values.env, values.seed, mode=mode)
            if (loaded.world.name, loaded.world.chosen) != (world.name, world.chosen):
                theirs, ours = (
                    f"{one.name} {dict(one.chosen) or ''}".strip() for one in (loaded.world, world)
                )
                raise BadInput(
                    f"--vs={name}: learned on {theirs}, and the film is of {ours}; nearest: a run "
                    "on the film's world"
                )
            label = f"{algo} ({where})" if where and where != run else algo
            drivers.append(footage.policy(label, loaded))
    names = [driver.name for driver in drivers]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadInput(f"{twice} would drive twice; nearest: leave it out of --vs")
    return bound, drivers


def _moment(values: flags.FlagValues, world: World, driver: Driver) -> tuple[int, int, str]:
    """Returns the scene, the first step that is shown, and a line that says how they were found."""
    from irl_bench.films import footage

    if values.scene is not None and values.start is not None:
        return values.scene, values.start, f"scene {values.scene}, from step {values.start}"
    scenes = range(footage.SCENES) if values.scene is None else [values.scene]
    found = footage.moment(world, driver, scenes, values.steps)
    scene, start = found.scene, found.start if values.start is None else values.start
    if not found.failing:
        many = f"none of {len(scenes)} scenes" if values.scene is None else "no step of this scene"
        return scene, start, f"{driver.name} fails in {many}; scene {scene}, from step {start}"
    share = f", the first of {len(found.failing)} of {len(scenes)} in which it fails"
    return (
        scene,
        start,
        f"{driver.name} fails first in step {found.failure} of scene {scene}"
        f"{share * (values.scene is None)}; shown from step {start}",
    )


def start() -> NoReturn:
    """Runs the command and ends the process."""
    program.start(sys.modules[__name__], define, main)

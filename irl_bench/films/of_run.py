"""The films of a run: for each world BC beside DAgger, from just before BC's first failure, and
where both fail.

The seed is the one whose regret is the median, so a film shows neither the best nor the worst
training.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np

from envs import drawing
from envs.core import World
from irl_bench.core.quantities import REFERENCES
from irl_bench.films import failures, footage, frames, metrics, writing
from irl_bench.horizon import Curves
from irl_bench.loading import load
from irl_bench.report import drives
from irl_bench.report.data import LARGEST_FILM, ReportData, film_path
from irl_bench.storage.files import write_atomic

STEPS = 90
"""Steps that a film shows."""
MAIN, OTHERS = "bc", ("dagger", "expert")
"""Whom a film is about, and who drives beside it: the first of these that the run has."""


def median_seed(curve: Curves) -> int:
    """Returns the usable seed whose regret at the longest horizon is the median; of an even number,
    the lower of the two."""
    regret = curve.regret(curve.T[-1:])[:, 0]
    seeds = np.asarray(curve.seeds)[curve.usable]
    return int(seeds[np.argsort(regret, kind="stable")[(len(regret) - 1) // 2]])


def write(out: Path, data: ReportData, say: Callable[[str], None] = print) -> list[Path]:
    """Films every world of a run in which BC was trained and that has a picture.

    Args:
      out: the run's folder.
      data: of its report.
      say: receives a line for each film.

    Returns:
      The files, one for each world, none larger than `LARGEST_FILM`.

    Raises:
      BadInput, StoreError: a learned policy cannot be read, or a file not be written; one line.
    """
    paths = []
    for curve in data.curves:
        if curve.algo != MAIN or curve.mode != data.plan["worlds"][curve.env]["nominal"]:
            continue
        if not curve.usable.any():
            continue
        seed = median_seed(curve)
        loaded = load(out, MAIN, curve.env, seed, mode=curve.mode)
        world = loaded.world.bind(loaded.world.dials_for(loaded.mode))
        if not _drawn(world):
            continue
        has = {c.algo for c in data.curves if c.env == curve.env and c.mode == curve.mode}
        beside = next(name for name in OTHERS if name in has or name in REFERENCES)
        drivers = [footage.policy(MAIN, loaded)]
        if beside == "expert":
            drivers.append(footage.expert(world))
        else:
            other = load(out, beside, curve.env, seed, mode=curve.mode)
            drivers.append(footage.policy(beside, other))
        found = footage.moment(world, drivers[0], range(footage.SCENES), STEPS)
        start = found.start
        taken = [footage.film(world, driver, found.scene, start + STEPS) for driver in drivers]
        path = film_path(out, data.plan, curve.env)
        path.parent.mkdir(exist_ok=True)
        every = 1
        while True:
            steps = range(start, start + STEPS, every)
            seconds = drawing.seconds(world)
            pictures = frames.draw(world, taken, steps, "side", seconds)
            writing.write(path.with_suffix(""), ["gif"], pictures, seconds * every, "", [])
            if path.stat().st_size <= LARGEST_FILM or every >= 8:
                break
            every *= 2
        if path.stat().st_size > LARGEST_FILM:
            for ending in (path.suffix, ".json", drives.ENDING):  # of this film, or a former one
                path.with_suffix(ending).unlink(missing_ok=True)
            say(f"no film of {curve.env}: it is larger than {LARGEST_FILM:,} bytes")
            continue
        paths.append(path)
        where = failures.places(world, drivers)
        if where is not None:
            write_atomic(path.with_suffix(".json"), json.dumps(where).encode())
        if metrics.told(world):
            if world.has_expert and beside != "expert":
                drivers.append(footage.expert(world))
            driven = metrics.measure(
                world, drivers, range(metrics.EPISODES), metrics.steps_of(world)
            )
            write_atomic(path.with_suffix(drives.ENDING), metrics.content(driven))
        say(
            f"film: {path}: {' beside '.join(d.name for d in drivers)}, seed {seed}, whose regret "
            f"is the median; BC fails in {len(found.failing)} of {footage.SCENES} scenes"
        )
    return paths


def _drawn(world: World) -> bool:
    """Whether a film of a world shows more than a chart."""
    within = cast(World, world.unwrapped)
    return type(within).picture is not World.picture

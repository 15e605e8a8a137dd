"""Random search, or a grid, over an algorithm's numbers; all candidates are trained side by side in
one program.

python launch/search.py --algo=gail --space=learning_rate:1e-4:1e-3:log,penalty:0.1:10:log
python launch/search.py --algo=airl --grid=learning_rate:1e-4/2e-4,discount:0.9/0.95 --set=rounds=60
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from absl import flags

from envs.names import did_you_mean
from irl_bench.cli import program

if TYPE_CHECKING:
    import numpy as np

    from irl_bench.core.settings import Setting


def define() -> None:
    """The command's flags."""
    flags.DEFINE_string(
        "algo", "gail", "algorithm: a name from sweep --list or package.module:make"
    )
    flags.DEFINE_string(
        "env",
        None,
        "world: a name from sweep --list or package.module:factory; by default lane_keep, of "
        "maxent_irl grid",
    )
    flags.DEFINE_list("space", [], "NAME:LOW:HIGH:log or NAME:LOW:HIGH:linear, drawn at random")
    flags.DEFINE_list("grid", [], "NAME:VALUE/VALUE/..., every combination; instead of --space")
    flags.DEFINE_list("set", [], "NAME=VALUE, settings that all candidates have in common")
    flags.DEFINE_list("env_set", [], "NAME=VALUE, options and dials of the world")
    flags.DEFINE_integer("candidates", 8, "points drawn from --space", lower_bound=1)
    flags.DEFINE_integer("seeds", 3, "seeds of every candidate", lower_bound=1)
    flags.DEFINE_integer("first_seed", 0, "the first of them", lower_bound=0)
    flags.DEFINE_integer("demos", 64, "demonstrations per seed", lower_bound=1)
    flags.DEFINE_integer(
        "demo_steps",
        None,
        "steps of each; by default those of the world's default budget",
        lower_bound=2,
    )
    flags.DEFINE_integer("episodes", 64, "evaluation episodes per seed", lower_bound=1)
    flags.DEFINE_string(
        "out", "runs/search.json", "JSON file with all candidates and their results"
    )


def points(
    values: flags.FlagValues, settings: Mapping[str, Setting], example: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the candidates {name: float32[C]}, and the settings that they share.

    Args:
      values: the command's flags.
      settings: of the algorithm.
      example: a valid item of --space.

    Raises BadInput, in one line, for an unknown setting or an invalid value.
    """
    import numpy as np

    from irl_bench.core.settings import BadInput, parsed, show
    from irl_bench.tools import search

    def number(item: str, name: str, text: str) -> Any:
        """The value of a setting in an item of a flag."""
        if name not in settings:
            numbers = [known for known, setting in settings.items() if setting.kind is float]
            hint = did_you_mean(name, numbers)
            raise BadInput(f"{item}: {values.algo} has no setting {name!r}; {hint}")
        setting = settings[name]
        if setting.kind is not float:
            near = f"--set={name}={text or show(setting.default)}"
            raise BadInput(f"{item}: {name} is no number that can be searched; nearest: {near}")
        try:
            return setting.parse(text)
        except ValueError as error:
            raise BadInput(f"{item}: {name} {error}") from None

    common = parsed("set", values.set, settings)
    if bool(values.space) == bool(values.grid):
        raise BadInput(f"one of --space and --grid is needed; nearest: --space={example}")
    axes: dict[str, list[float]] = {}
    for item in values.grid:
        name, _, texts = item.partition(":")
        axes[name] = [number(f"--grid={item}", name, text) for text in texts.split("/")]
    if axes:
        columns = np.array(list(itertools.product(*axes.values())), np.float32).T
        return dict(zip(axes, columns, strict=True)), common
    space = {}
    for item in values.space:
        parts = item.split(":")
        if len(parts) != 4 or parts[3] not in ("log", "linear"):
            raise BadInput(
                f"--space={item}: it must be NAME:LOW:HIGH:log or :linear; nearest: "
                f"--space={example}"
            )
        low, high = (number(f"--space={item}", parts[0], text) for text in parts[1:3])
        if not low < high or (parts[3] == "log" and low <= 0):
            raise BadInput(
                f"--space={item}: the ends must increase, and be positive on a log scale; nearest: "
                f"--space={example}"
            )
        space[parts[0]] = (low, high, parts[3])
    return search.candidates(space, values.candidates, values.first_seed), common


def main(values: flags.FlagValues) -> None:
    """Does what the flags ask for."""
    from irl_bench.core import folders
    from irl_bench.core.settings import BadInput, parsed
    from irl_bench.plan import registry
    from irl_bench.plan.presets import budget_of, config_differences, default_worlds
    from irl_bench.running import process
    from irl_bench.storage.files import write_atomic
    from irl_bench.tools import search

    process.configure()
    out = folders.expand(values.out)
    program.check_file("out", out, "search.json")
    algorithm = registry.algorithm(values.algo)
    example = search.example(algorithm)
    if not example:
        raise BadInput(
            f"--algo={values.algo}: it has no numbers to search; nearest: one of "
            f"{', '.join(search.searchable())}"
        )
    env = values.env or default_worlds((values.algo,), ("lane_keep",))[0]
    numbers, common = points(values, algorithm.settings, example)
    dials = parsed("env_set", values.env_set, registry.world(env).settings)
    record = search.search(
        values.algo,
        env,
        numbers,
        settings={**config_differences(env, values.algo, "default"), **common},
        seeds=range(values.first_seed, values.first_seed + values.seeds),
        world_settings=dials,
        demos=values.demos,
        demo_steps=values.demo_steps or budget_of(env, "default").demo_steps,
        episodes=values.episodes,
    )
    for row in record["candidates"]:
        numbers = " ".join(f"{name}={value:.4g}" for name, value in row["settings"].items())
        returns = (f"{a:.4g}->{b:.4g}" for a, b in zip(row["before"]["return"], row["return"]))
        print(numbers, "level", *(f"{level:.4f}" for level in row["level"]), "return", *returns)
    sys.stdout.flush()  # the table is there even if the file cannot be written
    write_atomic(out, (json.dumps(record, indent=1) + "\n").encode())
    print(f"stored: {out}")


def start() -> NoReturn:
    """Runs the command and ends the process."""
    program.start(sys.modules[__name__], define, main)

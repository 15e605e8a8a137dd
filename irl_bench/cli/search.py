"""Random search, or a grid, over an algorithm's numbers; all candidates are trained side by side in
one program.

python launch/search.py --algo=gail --space=learning_rate:1e-4:1e-3:log,penalty:0.1:10:log
--candidates=8 python launch/search.py --algo=airl --grid=learning_rate:1e-4/2e-4,discount:0.9/0.95
--set=rounds=60 --out=runs/airl.json
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from absl import flags

from irl_bench.cli import program

if TYPE_CHECKING:
    import numpy as np

    from irl_bench.core.settings import Setting


def define() -> None:
    """The command's flags."""
    flags.DEFINE_string("algo", "gail", "a registered algorithm")
    flags.DEFINE_string("env", "lane_keep", "a registered world")
    flags.DEFINE_list("space", [], "NAME:LOW:HIGH:log or NAME:LOW:HIGH:linear, drawn at random")
    flags.DEFINE_list("grid", [], "NAME:VALUE/VALUE/..., every combination; instead of --space")
    flags.DEFINE_list("set", [], "NAME=VALUE, settings that all candidates have in common")
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
        "out", "runs/search.json", "JSON file of all candidates and what they ended as"
    )


def points(
    values: flags.FlagValues, settings: Mapping[str, Setting]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the candidates {name: float32[C]}, and the settings that they share.

    Raises BadInput, in one line, for an unknown setting or an invalid value.
    """
    import numpy as np

    from irl_bench.core.settings import BadInput, nearest, parsed
    from irl_bench.tools import search

    def known(name: str) -> Setting:
        if name not in settings:
            raise BadInput(
                f"{values.algo} has no setting {name!r}; did you mean {nearest(name, settings)!r}?"
            )
        return settings[name]

    def number(name: str, text: str) -> Any:
        if known(name).kind is not float:
            raise BadInput(
                f"{name} is no number that can be searched; nearest: --set={name}={text}"
            )
        return known(name).parse(text)

    common = parsed("set", values.set, settings)
    if bool(values.space) == bool(values.grid):
        raise BadInput(
            "one of --space and --grid is needed; nearest: --space=learning_rate:1e-4:1e-3:log"
        )
    if values.grid:
        lists = {
            name: texts.split("/")
            for name, _, texts in (item.partition(":") for item in values.grid)
        }
        axes = {name: [number(name, text) for text in texts] for name, texts in lists.items()}
        columns = np.array(list(itertools.product(*axes.values())), np.float32).T
        return dict(zip(axes, columns, strict=True)), common
    space = {}
    for item in values.space:
        parts = item.split(":")
        if len(parts) != 4 or parts[3] not in ("log", "linear"):
            raise BadInput(f"--space={item}: it must be NAME:LOW:HIGH:log or NAME:LOW:HIGH:linear")
        low, high = number(parts[0], parts[1]), number(parts[0], parts[2])
        if not low < high or (parts[3] == "log" and low <= 0):
            raise BadInput(
                f"--space={item}: the ends must increase, and be positive on a log scale"
            )
        space[parts[0]] = (low, high, parts[3])
    return search.candidates(space, values.candidates, values.first_seed), common


def main(values: flags.FlagValues) -> None:
    """Does what the flags ask for."""
    from irl_bench.core import folders
    from irl_bench.plan import registry
    from irl_bench.plan.presets import budget_of, config_differences
    from irl_bench.running import process
    from irl_bench.tools import search

    process.configure()
    settings = registry.algorithm(values.algo).settings
    numbers, common = points(values, settings)
    record = search.search(
        values.algo,
        values.env,
        numbers,
        settings={**config_differences(values.env, values.algo, "default"), **common},
        seeds=range(values.first_seed, values.first_seed + values.seeds),
        demos=values.demos,
        demo_steps=values.demo_steps or budget_of(values.env, "default").demo_steps,
        episodes=values.episodes,
    )
    out = folders.expand(values.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n")
    for row in record["candidates"]:
        numbers = " ".join(f"{name}={value:.4g}" for name, value in row["settings"].items())
        returns = (f"{a:.4g}->{b:.4g}" for a, b in zip(row["before"]["return"], row["return"]))
        print(numbers, "level", *(f"{level:.4f}" for level in row["level"]), "return", *returns)
    print(f"stored: {out}")


def start() -> NoReturn:
    """Runs the command and ends the process."""
    program.start(sys.modules[__name__], define, main)

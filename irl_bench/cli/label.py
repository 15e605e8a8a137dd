"""Serves a page on which people compare clips of a world; `rlhf` trains from the answers.

# goes on where it was left
python launch/label.py --env=lane_keep --pairs=100 --out=labels/lane_keep
python launch/sweep.py --algo=rlhf --env=lane_keep --rlhf.teacher=human --given=labels/lane_keep
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from absl import flags

from irl_bench.cli import program

FACTS = ("env", "pairs", "segment", "demos", "demo_steps", "steps", "seed")
"""Flags that say what the clips are."""


def define() -> None:
    """The command's flags."""
    flags.DEFINE_string("env", "lane_keep", "a world that has a picture")
    flags.DEFINE_list("world", [], "NAME=VALUE, dials and options of the world")
    flags.DEFINE_integer("pairs", 100, "pairs to be compared", lower_bound=10)
    flags.DEFINE_integer("segment", 25, "steps of a clip", lower_bound=2)
    flags.DEFINE_integer(
        "demos",
        64,
        "number of demonstrations that the clone is trained on; its rollouts are shown",
        lower_bound=1,
    )
    flags.DEFINE_integer("demo_steps", 512, "length of a demonstration [steps]", lower_bound=2)
    flags.DEFINE_integer("steps", 500, "length of the clone's rollouts", lower_bound=2)
    flags.DEFINE_integer("seed", 0, "of demonstrations, clone, rollouts and pairs", lower_bound=0)
    flags.DEFINE_integer(
        "port", 0, "of the page; 0: any that is free", lower_bound=0, upper_bound=65535
    )
    flags.DEFINE_string("out", None, "folder of clips and answers; default: labels/ENV")


def main(values: flags.FlagValues) -> None:
    """Does what the flags ask for."""
    from irl_bench.core import folders
    from irl_bench.core.settings import BadInput, parsed
    from irl_bench.labelling import clips, page
    from irl_bench.plan import registry
    from irl_bench.running import process
    from irl_bench.storage.comparisons import CLIPS

    out = folders.expand(values.out or f"labels/{values.env}")
    if (out / CLIPS).exists():
        asked = {name: getattr(values, name) for name in FACTS if values[name].present}
        clips.check_flags(out, asked, values.world)
    else:
        usual = f"labels/{values.env}" if values.out else Path(tempfile.gettempdir()) / "labels"
        program.check_folder("out", out, str(usual))
        dials = parsed("world", values.world, registry.world(values.env).settings)
        process.configure()
        print("making the clips ...", flush=True)
        clips.make_clips(
            out,
            values.env,
            dials,
            values.pairs,
            values.segment,
            values.demos,
            values.demo_steps,
            values.steps,
            values.seed,
        )
    labelling = page.Labelling(out)
    try:
        serving, address = page.serve(labelling, values.port)
    except OSError as error:
        raise BadInput(f"--port={values.port}: {error.strerror}; nearest: --port=0") from None
    print(
        f"{len(labelling.answers)} of {len(labelling.pairs)} answered, in {out}\nopen {address} "
        "(Ctrl-C ends)",
        flush=True,
    )
    try:
        serving.serve_forever()
    except KeyboardInterrupt:
        count = f"{len(labelling.answers)} of {len(labelling.pairs)}"
        print(f"\n{count} answered; run the same command to resume")
    finally:
        serving.server_close()


def start() -> NoReturn:
    """Runs the command and ends the process."""
    program.start(sys.modules[__name__], define, main)

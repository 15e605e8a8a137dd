"""The command `train`: trains one algorithm. The policy and the learned reward stay in OUT/learned.

It is `sweep` with other defaults (`irl_bench.cli.flags.TRAIN`).
"""

from __future__ import annotations

from typing import NoReturn

from irl_bench.cli import sweep


def start() -> NoReturn:
    """Runs the command and ends the process."""
    sweep.start("train")

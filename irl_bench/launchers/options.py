"""The options of engines, which --launcher_options sets."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from irl_bench.core.settings import BadInput, Setting, parsed

ADDITIONAL = re.compile(r"additional\.([a-z][a-z-]*)")
"""Any other option of sbatch."""


@dataclasses.dataclass(frozen=True)
class Text(Setting):
    """An option whose value only the engine can judge."""

    @property
    def range(self) -> str:
        """The valid values in words."""
        return "text"

    def parse(self, text: str) -> str:
        """Returns the text. Raises BadInput if there is none, or if it cannot be printed."""
        if not text.strip() or not text.isprintable():
            raise BadInput(f"must be printable text, not {text!r}; nearest: leave out {self.name}")
        return text.strip()


def _text(name: str, help: str) -> Text:
    return Text(name, str, None, help)


def _number(name: str, default: int | None, help: str, low: int, high: int, unit: str) -> Setting:
    return Setting(name, int, default if default is not None else low, help, unit, low, high)


SLURM = {
    option.name: option
    for option in (
        Setting(
            "executor",
            str,
            "slurm",
            "submitit's executor: slurm, or this machine's processes (local) or one after another "
            "(debug), to try a command without a cluster",
            choices=("slurm", "local", "debug"),
        ),
        _text("partition", "the partition"),
        _text("account", "the account that pays"),
        _text("qos", "the quality of service"),
        _text("constraint", "features that a node must have"),
        _text("exclude", "nodes that are not used"),
        _text("gres", "generic resources, as gpu:a100:1"),
        _text("comment", "a comment for the accounting"),
        _text("name", "the jobs' name; default: irl_bench"),
        _number("timeout_min", 60, "a job's time limit", 1, 10**6, "min"),
        _number("signal_delay_s", 90, "how long before it a job is told", 15, 10**5, "s"),
        _number("max_num_timeout", 100, "how often a job is requeued at its limit", 0, 10**6, "1"),
        _number("cpus_per_task", None, "cores of a task; default: one per device", 1, 10**4, "1"),
        _number("gpus_per_node", None, "GPUs of a task", 0, 10**3, "1"),
        _number("mem_gb", None, "memory of a task", 1, 10**5, "GB"),
        _number("array_parallelism", 256, "most tasks that run at once", 1, 10**5, "1"),
    )
}
"""Options of slurm, by the names that submitit's AutoExecutor gives them, without `slurm_`."""

RAY = {
    option.name: option
    for option in (
        _text(
            "address", "a cluster: auto, HOST:PORT or ray://HOST:PORT; default: one started here"
        ),
        Setting("num_cpus", float, 1.0, "cores of a task; default: one per device", "1", 0.0, 1e4),
        Setting("num_gpus", float, 0.0, "GPUs of a task", "1", 0.0, 1e3),
        _number("retries", 3, "runs after the death of a worker or a node", 0, 1000, "1"),
    )
}
"""Options of ray."""

OF: Mapping[str, Mapping[str, Setting]] = {"slurm": SLURM, "ray": RAY}
"""Launcher -> its options."""


def parse_options(launcher: str, text: str) -> dict[str, Any]:
    """Returns {option: value} of the text KEY=VALUE,..., in which a value may hold commas.

    Args:
      launcher: a key of OF.
      text: the value of --launcher_options.

    Raises:
      BadInput: an option is unknown or given twice, or its value is not valid; one line.
    """
    items = [item.strip() for item in re.split(r",(?=\s*[A-Za-z_.-]+\s*=)", text)]
    names = [item.partition("=")[0] for item in items]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"--launcher_options: {name} is given twice; nearest: give it once")
    others = [name for name in names if launcher == "slurm" and ADDITIONAL.fullmatch(name)]
    more = {name: _text(name, "") for name in others}
    options = parsed("launcher_options", items, {**OF[launcher], **more})
    limit = options.get("timeout_min", SLURM["timeout_min"].default)
    notice = options.get("signal_delay_s", SLURM["signal_delay_s"].default)
    # SLURM may be a minute early, and a job that is told at its start would be requeued for ever.
    least = -(-(notice + 120) // 60)
    if launcher == "slurm" and limit < least:
        raise BadInput(
            f"--launcher_options=timeout_min={limit}: jobs are told {notice} s before their limit, "
            f"up to a minute early, and need time before that; nearest: timeout_min={least}"
        )
    return options

"""absl's errors about flags as one plain line with the nearest flag or value."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from absl import flags

from envs.names import ALIKE, did_you_mean, nearest
from irl_bench.core.settings import show

MISSING = re.compile(r"Missing value for flag -+(\S+)")
VALUE = re.compile(r"flag --([^=\s]+)=(.*?): (already defined as .*|.*)", re.DOTALL)

dashed = "--{}".format
"""Spells a flag's name."""


def plain(
    error: Exception, offered: Mapping[str, flags.Flag], examples: Mapping[str, str] | None = None
) -> str:
    """Returns an error of absl's parser as a line.

    Args:
      error: the error.
      offered: the command's flags by name, without absl's own.
      examples: values by flag, where a flag has no default.
    """
    if isinstance(error, flags.UnrecognizedFlagError):
        # absl passes the whole argument as the value.
        value = str(error.flagvalue).partition("=")[2]
        return _unknown(str(error.flagname), value, offered)
    text = str(error)
    if found := MISSING.match(text):
        name = found[1]
        near = (examples or {}).get(name) or _default(name, offered)
        return f"Missing value for flag --{name}; nearest: --{name}={near}"
    if found := VALUE.fullmatch(text):
        name, value, reason = found.groups()
        owner, dot, _ = name.rpartition(".")
        switch = f"{owner}.{value.strip()}"
        if dot and isinstance(offered.get(switch), flags.BooleanFlag):
            reason = f"{reason.partition('; nearest: ')[0]}; nearest: --{switch}=true"
        return f"--{name}={value}: {_reason(name, value, reason, offered)}"
    if text.endswith("does not take an argument"):
        return f"{text}; nearest: {text.partition('=')[0]}"
    return text


def not_finite(offered: Mapping[str, flags.Flag]) -> str | None:
    """Returns the line about a number that is NaN or infinite, which absl accepts; None without
    one."""
    for name, flag in offered.items():
        value: Any = flag.value
        if isinstance(value, float) and not math.isfinite(value):
            return f"--{name}={value}: {_reason(name, str(value), '', offered)}"
    return None


def for_stray(argument: str, offered: Iterable[str]) -> str:
    """Returns the end of the error line about an argument that is no flag."""
    names = list(offered)
    near = nearest(argument.lstrip("-"), names, ALIKE)
    if near:
        return f"nearest: --{near}"
    return "nearest: --NAME=VALUE" if names else "nearest: leave it out"


def _unknown(name: str, value: str, offered: Mapping[str, flags.Flag]) -> str:
    """The line about an unknown flag."""
    if not offered:
        return f"unknown flag --{name}: this command has no flags; nearest: leave it out"
    owner, _, field = name.rpartition(".")
    takes = next((flag for flag in ("world", "set") if flag in offered), None)
    if owner and takes:
        return f"unknown flag --{name}; nearest: --{takes}={field}={value or 'VALUE'}"
    return f"unknown flag --{name}; {did_you_mean(name, offered, dashed)}"


def _reason(name: str, value: str, reason: str, offered: Mapping[str, flags.Flag]) -> str:
    """What is wrong with a flag's value, and the nearest valid one."""
    parser: Any = getattr(offered.get(name), "parser", None)
    if "Non-boolean" in reason:
        near = "false" if value.lower().startswith(("n", "of")) else "true"
        return f"must be true or false, not {value!r}; nearest: --{name}={near}"
    if reason.startswith("already defined"):
        return f"{reason}; nearest: --{name}={value} alone"
    if not isinstance(parser, flags.IntegerParser | flags.FloatParser):
        return reason
    whole = isinstance(parser, flags.IntegerParser)
    low, high = parser.lower_bound, parser.upper_bound
    range = "an integer" if whole else "a number"
    if low is not None and high is not None:
        range += f" in [{low:g}, {high:g}]"
    elif low is not None:
        range += f" of at least {low:g}"
    try:
        number = float(value)
        number = max(number, low) if low is not None else number
        number = min(number, high) if high is not None else number
        near = str(round(number)) if whole else show(number)
        near = near if math.isfinite(number) else _default(name, offered)
    except (ValueError, OverflowError):  # no number, NaN or infinite
        near = _default(name, offered)
    return f"must be {range}, not {value!r}; nearest: --{name}={near}"


def _default(name: str, offered: Mapping[str, flags.Flag]) -> str:
    """A flag's default as the command line spells it; its name in capitals without one."""
    flag: Any = offered.get(name)
    setting = getattr(getattr(flag, "parser", None), "setting", None)
    default = setting.default if setting else getattr(flag, "default", None)
    return name.rpartition(".")[2].upper() if default in (None, []) else show(default)

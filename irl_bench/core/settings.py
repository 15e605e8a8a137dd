"""Settings: each one declares default, meaning, unit and valid range in one place, and every value
is checked against the range.

    @dataclasses.dataclass(frozen=True)
    class Config:
        learning_rate: float = setting(1e-3, "Adam's step size", low=1e-7, high=1.0)
        loss: str = setting("mse", "what is minimised", choices=("mse", "nll"))

The same class describes a world's dials and the sweep's own flags, so all three are parsed, checked
and printed alike.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from envs.names import did_you_mean, is_file, nearest

__all__ = [
    "BadInput",
    "NeedsActions",
    "Setting",
    "nearest",
    "parsed",
    "setting",
    "settings_of",
    "whole",
]

INF = float("inf")


class BadInput(ValueError):
    """Input from the user that cannot be used. Its text is one line that names the input and the
    nearest valid name or value."""


class NeedsActions(BadInput):
    """Demonstrations without actions, for something that needs them."""

    def __init__(self, what: str):
        """`what` needs them, in words."""
        super().__init__(
            f"{what} needs demonstrations with actions; nearest: --algo=gailfo --gailfo.init=random"
        )


def setting(
    default: Any,
    help: str,
    *,
    unit: str = "1",
    low: float = -INF,
    high: float = INF,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Makes a field of an algorithm's `Config`.

    Args:
      default: a bool, int, float, str or tuple of ints; its type is the setting's type.
      help: one line on what it means.
      unit: of the value; "1" for a pure number.
      low, high: the closed range of valid values (of each element of a tuple). Infinite and NaN
        values are never valid.
      choices: the valid values of a str.

    Raises:
      BadInput: the default is of another type or breaks its own range, or a str has no choices.
    """
    metadata = {"help": help, "unit": unit, "low": low, "high": high, "choices": choices}
    Setting.make(f"{help!r}", default, metadata).check(default)
    return dataclasses.field(default=default, metadata=metadata)


def settings_of(config: type | None) -> dict[str, Setting]:
    """Returns the settings of a `Config` class by name, in the order of its fields; {} for None.

    Raises BadInput for a field that cannot be a setting.
    """
    if config is None:
        return {}
    settings: dict[str, Setting] = {}
    for field in dataclasses.fields(config):
        default = field.default
        if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        settings[field.name] = Setting.make(field.name, default, field.metadata)
    return settings


def whole(name: str, value: Any, low: int) -> int:
    """Returns `value`, a number of NumPy or Python, as an int of at least `low`.

    Raises BadInput, with the value's type, for anything else.
    """
    number = _scalar(value)
    if isinstance(number, bool) or not isinstance(number, numbers.Integral):
        try:
            near = max(low, round(float(number)))
        except (TypeError, ValueError, OverflowError):
            near = low
        raise BadInput(
            f"{name}={_quote(value)} is of type {type(value).__name__}, not an integer; nearest: "
            f"{near}"
        )
    if number < low:
        raise BadInput(f"{name}={number} must be at least {low}; nearest: {low}")
    return int(number)


def _scalar(value: Any) -> Any:
    """A scalar of NumPy or JAX as a Python number; anything else unchanged."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def parsed(flag: str, items: Iterable[str], settings: Mapping[str, Setting]) -> dict[str, Any]:
    """Returns {name: value} of the NAME=VALUE items of a flag.

    Raises BadInput, in one line, for an unknown setting or an invalid value.
    """
    values: dict[str, Any] = {}
    for name, equal, text in (item.partition("=") for item in items):
        if not equal or name not in settings:
            meant = did_you_mean(name, settings, lambda known: f"{known}=...")
            raise BadInput(f"--{flag}={name}: no such setting; {meant}")
        try:
            values[name] = settings[name].parse(text)
        except ValueError as error:
            raise BadInput(f"--{flag}={name}={text}: {error}") from None
    return values


@dataclasses.dataclass(frozen=True)
class Setting:
    """One named value: its type, default, unit and valid range."""

    name: str
    kind: type
    default: Any
    help: str
    unit: str = "1"
    low: float = -INF
    high: float = INF
    choices: tuple[str, ...] | None = None
    ending: str = ""
    """A file whose name ends so is a valid value too; "": none is."""
    whole: bool = False
    """Whether only whole numbers are valid, of a dial that counts something."""

    @classmethod
    def make(cls, name: str, default: Any, metadata: Mapping[str, Any]) -> Setting:
        """Makes a setting from a dataclass field's default and metadata.

        Raises BadInput for a default of a type that no flag can hold, and for a str without
        choices.
        """
        kind = cast("type[Any]", type(default))
        whole_tuple = kind is tuple and all(type(part) is int for part in default)
        if kind not in (bool, int, float, str) and not whole_tuple:
            given = "no default" if default is dataclasses.MISSING else f"{default!r:.60}"
            raise BadInput(
                f"setting {name}: its default must be a bool, int, float, str or tuple of ints, "
                f"not {given}; nearest: setting(0.0, {name!r})"
            )
        if kind is str and not metadata.get("choices"):
            raise BadInput(
                f"setting {name}: a str needs choices; nearest: setting({default!r}, ..., "
                f"choices=({default!r},))"
            )
        known = {f.name for f in dataclasses.fields(cls)} - {"name", "kind", "default"}
        facts: dict[str, Any] = {"help": "", **{k: v for k, v in metadata.items() if k in known}}
        return cls(name, kind, default, **facts)

    @property
    def _article(self) -> str:
        return {int: "an ", float: "a "}.get(self.kind, "")

    @property
    def range(self) -> str:
        """The valid values in words."""
        if self.kind is bool:
            return "true or false"
        if self.choices:
            file = [f"FILE{self.ending}"] if self.ending else []
            return " | ".join([*self.choices, *file])
        number = "whole number" if self.whole else "number"
        noun = {int: "integer", float: number, tuple: "integers separated by commas or x"}[
            self.kind
        ]
        if self.low == -INF and self.high == INF:
            return f"finite {noun}" if self.kind is float else noun
        if self.high == INF:
            return f"{noun} >= {self.low:.12g}"
        if self.low == -INF:
            return f"{noun} <= {self.high:.12g}"
        return f"{noun} in [{self.low:.12g}, {self.high:.12g}]"

    def parse(self, text: str) -> Any:
        """Returns the value that `text` spells; `1e6` counts as an integer.

        Raises BadInput with the nearest valid value.
        """
        text = text.strip()
        if self.choices:
            return self.check(text)
        if self.kind is bool:
            truth = {
                "true": True,
                "t": True,
                "1": True,
                "yes": True,
                "false": False,
                "f": False,
                "0": False,
                "no": False,
            }
            if text.lower() not in truth:
                raise BadInput(
                    f"must be true or false, not {_quote(text)}; nearest: {show(self.default)}"
                )
            return truth[text.lower()]
        if self.kind is tuple:
            # 64x32: a flag that is a list itself cannot hold 64,32.
            return self.check(
                tuple(self._number(part, int) for part in text.replace("x", ",").split(","))
            )
        return self.check(self._number(text, self.kind))

    def _number(self, text: str, kind: type) -> Any:
        if kind is int:
            try:
                return int(text)  # exact beyond 2**53
            except ValueError:
                pass
        try:
            value = float(text)
        except ValueError:
            raise BadInput(
                f"must be {self._article}{self.range}, not {_quote(text)}; nearest: "
                f"{show(self.default)}"
            ) from None
        if kind is int and math.isfinite(value):
            if value != int(value):
                raise BadInput(
                    f"must be {self._article}{self.range}, not {_quote(text)}; nearest: "
                    f"{self._clip(round(value))}"
                )
            return int(value)
        return value  # `check` refuses NaN and infinities

    def check(self, value: Any) -> Any:
        """Returns `value` as this setting's type. Raises BadInput with the nearest valid value if
        it is invalid."""
        if self.choices:
            if self.ending and isinstance(value, Path):
                value = str(value)
            is_path = isinstance(value, str) and is_file(value, self.ending)
            if value not in self.choices and not is_path:
                guess = nearest(str(value), self.choices)
                raise BadInput(
                    f"must be one of {self.range}, not {_quote(value)}; nearest: {guess}"
                )
            return value
        if self.kind is bool:
            value = _scalar(value)
            if not isinstance(value, bool):
                raise BadInput(
                    f"must be true or false, not {_quote(value)}; nearest: {show(self.default)}"
                )
            return value
        if self.kind is tuple:
            if not isinstance(value, tuple | list | np.ndarray):
                raise BadInput(
                    f"must be {self.range}, not {_quote(value)}; nearest: {show(self.default)}"
                )
            elements = cast("Iterable[Any]", value)
            return tuple(self._check_number(element, int) for element in elements)
        return self._check_number(value, self.kind)

    def _check_number(self, value: Any, kind: type) -> Any:
        value = _scalar(value)
        fraction = kind is int and isinstance(value, float) and math.isfinite(value) and value % 1
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or fraction:
            raise BadInput(
                f"must be {self._article}{self.range}, not {_quote(value)}; nearest: "
                f"{show(self.default)}"
            )
        if value != value:
            raise BadInput(
                f"must be {self._article}{self.range}, not nan; nearest: {show(self.default)}"
            )
        number = cast("Any", value)  # an integer may be too large for a float
        if not self.low <= number <= self.high or abs(number) == INF:
            raise BadInput(
                f"must be {self._article}{self.range}, not {_quote(value)}; nearest: "
                f"{self._clip(value)}"
            )
        return kind(number)

    def _clip(self, value: Any) -> str:
        clipped = min(max(value, self.low), self.high)
        return (
            show(self.default)
            if abs(clipped) == INF
            else show(int(clipped) if self.kind is not float else clipped)
        )


def show(value: Any) -> str:
    """Returns a value as the command line spells it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ",".join(map(str, cast("Iterable[Any]", value)))
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _quote(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

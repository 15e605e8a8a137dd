"""Checks of files of learned policies and rewards that may be a stranger's, before
`irl_bench.storage.artifacts` reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open

from irl_bench.core.cell import CellSpec
from irl_bench.core.settings import BadInput
from irl_bench.storage import untrusted
from irl_bench.storage.untrusted import Check, mapped, name, number, text, whole

MOST_SEEDS = 10**5
"""Most seeds of one file."""
_ARRAY = re.compile(r"[a-z]+\.[0-9]{3,6}")
_SPEC: Mapping[str, Check] = {
    **dict.fromkeys(("algo", "env", "mode"), name),
    **dict.fromkeys(
        ("horizon", "demos", "demo_steps", "episodes", "block", "eps_episodes", "eps_steps"),
        whole(1, 2**31),
    ),
    "first_seed": whole(0, 2**31),
    "width": whole(1, MOST_SEEDS),
}
_SPEC_TOO: Mapping[str, Check] = {
    "config": mapped(untrusted.anything),
    "dials": mapped(number),
    **dict.fromkeys(("options", "plugin"), mapped(text)),
    **dict.fromkeys(("eval_every", "burn_in", "shown_steps", "world_devices"), whole(0, 2**31)),
    "demo_noise": number,
    **dict.fromkeys(("recorded", "given"), text),
    **dict.fromkeys(("observation_only", "clean"), lambda value: isinstance(value, bool)),
}


def spec_of(fields: Any) -> CellSpec:
    """Returns a cell as a file describes it.

    Raises:
      ValueError: a field is missing, unknown or has another form; one line.
    """
    wrong = untrusted.fields(fields, _SPEC, _SPEC_TOO)
    if wrong:
        raise ValueError(f"not a cell: {wrong}")
    try:
        return CellSpec.from_dict(fields)
    except TypeError as error:
        raise ValueError(f"not a cell: {' '.join(str(error).split())}") from None


def check(path: Path) -> None:
    """Checks that a file can be read within bounds: its description, and the shapes of its arrays.

    Raises:
      BadInput: it cannot; one line that names it.
    """
    try:
        wrong = _problem(path)
    except FileNotFoundError:
        return  # whoever reads it says so
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, MemoryError):
        wrong = ""
    if wrong is not None:
        raise BadInput(
            f"{path} is damaged or not a file of this program{wrong}; nearest: copy it again"
        )


def _problem(path: Path) -> str | None:
    untrusted.check_regular(path)
    with cast("Any", safe_open)(path, "np") as file:
        header: Any = untrusted.parsed(file.metadata()["irl_bench"])
        names: Iterable[str] = file.keys()
        shapes = {key: list(file.get_slice(key).get_shape()) for key in names}
    wrong = untrusted.fields(header, {"key": untrusted.key, "sha256": text})
    if wrong:
        return f" ({wrong})"
    spec = spec_of(header["spec"])
    for key, shape in shapes.items():
        if not _ARRAY.fullmatch(key) or shape[:1] != [spec.width]:
            return f" (its array {untrusted.shown(key)} has the shape {untrusted.shown(shape)})"
    return None

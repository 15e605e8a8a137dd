"""`<out>/plan.json`: the cells that a run's analysis consists of."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from irl_bench.core.cell import canonical
from irl_bench.storage import untrusted
from irl_bench.storage.files import StoreError, locked, store_of, write_atomic, write_here
from irl_bench.storage.untrusted import Check, listed, mapped, name, number, optional, whole

VERSION = 1
"""Version of the file format."""


class PlanEntry(TypedDict):
    """One curve of the report: an algorithm in a world and mode."""

    env: str
    """The world's name in cells."""
    algo: str
    """The algorithm's name in cells."""
    mode: str
    """One of the world's modes."""
    cells: list[str]
    """Keys of the cells, one per group of seeds."""
    seeds: list[int]
    """[first seed, number of seeds]."""
    settings: dict[str, Any]
    """The fields that all cells of the entry share, as `CellSpec.to_dict` returns them."""
    rounds: int
    """Rounds of training."""
    consumes: dict[str, Any]
    """The fields of `irl_bench.core.learner.Consumes`."""


class WorldRecord(TypedDict):
    """What the analysis needs of a world, and the conditions under which figures are comparable."""

    u: int | None
    """Steps within which the expert undoes a failure; None if it may never do so."""
    latency: int
    """Steps from a wrong action to the failure that it causes."""
    horizon: int
    """T_max [steps]."""
    nominal: str
    """The world's first mode."""
    dials: dict[str, Any]
    """{dial: value}."""
    options: dict[str, str]
    """{option: choice}."""
    demos: int
    """Demonstration episodes per seed."""
    demo_steps: int
    """Length of a demonstration [steps]."""
    clean: NotRequired[bool]
    """Whether only episodes without a failure are demonstrated."""
    burn_in: NotRequired[int]
    """Steps that the expert acts before every episode begins."""
    demo_noise: NotRequired[float]
    """Standard deviation of the noise on executed actions in every second demonstration."""
    pilot: NotRequired[list[list[float]]]
    """[number of demonstrations, h T_max of BC] of every try of the pilot that chose `demos`."""
    recorded: str
    """SHA-256 of the demonstrations of a file; empty if the world's expert makes them."""
    first_seed: int
    """First seed of every entry."""
    seeds: int
    """Number of seeds of every entry."""
    source: dict[str, str]
    """{file name: SHA-256} of an outside world."""
    probe: dict[str, Any] | None
    """Where a learned reward is evaluated; None if the world has no probe."""
    fingerprint: NotRequired[str]
    """Hash of the sources, versions and devices."""


class PlanDocument(TypedDict):
    """The content of plan.json."""

    version: int
    """VERSION."""
    entries: list[PlanEntry]
    """The entries, in the order in which they run."""
    analysis: dict[str, Any]
    """{"horizons": "auto" or a list of horizons [steps]}."""
    worlds: dict[str, WorldRecord]
    """{world: its record}."""
    command: str
    """The command or call that asked for the run."""
    budget: str
    """The budget's name."""


def write_plan(out: Path | str, plan: PlanDocument | Mapping[str, Any]) -> Path:
    """Stores a plan as `<out>/plan.json` and returns its path.

    Raises StoreError if it cannot be written.
    """
    path = Path(out) / "plan.json"
    write_atomic(path, _encode(plan))
    return path


def update_plan(
    out: Path, change: Callable[[PlanDocument | None], PlanDocument]
) -> PlanDocument | None:
    """Changes the plan of a run's folder, which nobody else on this machine may do meanwhile.

    In an object store, the first plan is written only if there is none yet; otherwise `change` is
    asked again. Of two machines that change a plan in the same moment, the later one wins.

    Args:
      out: the run's folder.
      change: takes the present plan, None without one, and returns the new one. A plan that stays
        the same is not written.

    Returns:
      The plan before.

    Raises:
      StoreError: the plan cannot be read or written.
    """
    path, store = out / "plan.json", store_of(out)
    with locked(out):
        while True:
            before = read_plan(out)
            after = change(before)
            if before is not None and canonical(dict(after)) == canonical(dict(before)):
                return before
            content = _encode(after)
            if store is None or before is not None:
                write_atomic(path, content)
                return before
            if store.create(path, content):
                write_here(path, content)
                return before


def _encode(plan: PlanDocument | Mapping[str, Any]) -> bytes:
    """The bytes of a plan's file."""
    body = {name: value for name, value in plan.items() if name != "sha256"}
    digest = hashlib.sha256(canonical(body).encode()).hexdigest()
    return (json.dumps({**body, "sha256": digest}, indent=1) + "\n").encode()


def read_plan(out: str | os.PathLike[str]) -> PlanDocument | None:
    """Returns the plan of a run's folder, None if it has none. That of an object store is read
    there.

    Raises StoreError if the plan cannot be read, is damaged or foreign.
    """
    path = Path(out) / "plan.json"
    store = store_of(path)
    there = store.read(path) if store and not store.still else None
    if there is not None:
        write_here(path, there)
    try:
        content = untrusted.content(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    plan, wrong = _verified(content)
    if plan is None:
        raise StoreError(
            f"{path} is damaged or not a plan of this project{wrong}; move it away and run the "
            "sweep again"
        )
    return plan


def _verified(content: bytes) -> tuple[PlanDocument | None, str]:
    """The plan in a file's bytes; None and why, in brackets, if it does not verify, has another
    version or another form."""
    try:
        plan = untrusted.parsed(content)
        digest = plan.pop("sha256")
        sound = hashlib.sha256(canonical(plan).encode()).hexdigest() == digest
    except (ValueError, KeyError, AttributeError, TypeError):
        return None, ""
    if not sound or plan.get("version") != VERSION:
        return None, ""
    wrong = _problem(plan)
    return (None, f" ({wrong})") if wrong else (cast("PlanDocument", plan), "")


MOST_SEEDS = 10**6
"""Most seeds of an entry."""
MOST_PROBED = 4096
"""Most states at which a world probes a learned reward."""
_FORM: Mapping[str, Check] = {
    "entries": listed(lambda entry: isinstance(entry, dict)),
    "worlds": mapped(lambda record: isinstance(record, dict)),
    "analysis": lambda value: (
        untrusted.fields(
            value, {}, {"horizons": lambda h: h == "auto" or listed(whole(1, 2**31), 1)(h)}
        )
        is None
    ),
    "command": untrusted.text,
    "budget": untrusted.text,
}
_SETTINGS: Mapping[str, Check] = {
    "width": whole(1, MOST_SEEDS),
    "horizon": whole(1, 2**31),
    "episodes": whole(1),
}
_ENTRY: Mapping[str, Check] = {
    "env": name,
    "algo": name,
    "mode": name,
    "cells": listed(untrusted.key),
    "seeds": lambda value: listed(whole(0, 2**31), 2)(value) and len(value) == 2,
    "settings": lambda value: untrusted.fields(value, _SETTINGS) is None,
    "rounds": whole(),
}
_ENTRY_TOO: Mapping[str, Check] = {"consumes": mapped(untrusted.anything)}
_SETTINGS_TOO: Mapping[str, Check] = {
    "config": mapped(untrusted.anything),
    "dials": mapped(number),
    "options": mapped(untrusted.text),
    "plugin": mapped(untrusted.text),
}
_PROBE: Mapping[str, Check] = {
    "x": listed(number, 1),
    "y": listed(number, 1),
    "cost": listed(number, 1),
    "x_name": untrusted.text,
    "y_name": untrusted.text,
}
_WORLD: Mapping[str, Check] = {
    "u": optional(whole(0, 2**31)),
    "latency": whole(0, 2**31),
    "horizon": whole(1, 2**31),
    "nominal": name,
}
_WORLD_TOO: Mapping[str, Check] = {
    "dials": mapped(number),
    "options": mapped(untrusted.text),
    "source": mapped(untrusted.text),
    "recorded": untrusted.text,
    "fingerprint": untrusted.text,
    "first_seed": whole(),
    "seeds": whole(1, MOST_SEEDS),
    "probe": optional(
        lambda value: (
            untrusted.fields(value, {}, _PROBE) is None
            and len({len(value[part]) for part in ("x", "y", "cost") if part in value}) <= 1
            and len(value.get("x", ())) <= MOST_PROBED
        )
    ),
}


def _problem(plan: Mapping[str, Any]) -> str | None:
    """What is not as in a plan of this project, whose hash says nothing of its author. None if all
    is."""
    wrong = untrusted.fields(plan, _FORM)
    if wrong:
        return wrong
    for entry in plan["entries"]:
        wrong = untrusted.fields(entry, _ENTRY, _ENTRY_TOO) or untrusted.fields(
            entry["settings"], {}, _SETTINGS_TOO
        )
        if wrong:
            return f"an entry: {wrong}"
        if entry["seeds"][1] > len(entry["cells"]) * entry["settings"]["width"]:
            return f"an entry has {entry['seeds'][1]} seeds in {len(entry['cells'])} cells"
        if entry["env"] not in plan["worlds"]:
            return f"an entry has the world {entry['env']}, of which there is no record"
    for env, record in plan["worlds"].items():
        wrong = None if name(env) else f"its name is {untrusted.shown(env)}"
        wrong = wrong or untrusted.fields(record, _WORLD, _WORLD_TOO)
        if wrong:
            return f"a world: {wrong}"
    return None

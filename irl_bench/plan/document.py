"""A plan as the document `<out>/plan.json`, merged with an earlier one in the same folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from irl_bench.core.cell import canonical, cell_key
from irl_bench.plan.build import Plan
from irl_bench.storage.plans import VERSION, PlanDocument, PlanEntry, WorldRecord


def document(plan: Plan, command: str, fingerprint: Mapping[str, Any]) -> PlanDocument:
    """Returns the content of plan.json for one plan.

    Args:
      plan: the plan.
      command: the command or call that asked for it.
      fingerprint: as `irl_bench.core.cell.fingerprint` returns it.
    """
    digest = hashlib.sha256(canonical(dict(fingerprint)).encode()).hexdigest()[:20]
    entries: list[PlanEntry] = []
    for entry in plan.entries:
        first = entry.cells[0]
        shared = {
            k: v
            for k, v in first.to_dict().items()
            if k not in ("first_seed", "env", "algo", "mode")
        }
        entries.append(
            {
                "env": first.env,
                "algo": first.algo,
                "mode": first.mode,
                "cells": [cell_key(cell, fingerprint) for cell in entry.cells],
                "seeds": [first.first_seed, entry.seeds],
                "settings": shared,
                "rounds": entry.rounds,
                "consumes": dict(entry.consumes),
            }
        )
    return {
        "version": VERSION,
        "entries": entries,
        "analysis": {
            "horizons": plan.horizons if isinstance(plan.horizons, str) else list(plan.horizons)
        },
        "worlds": {env: _with_digest(record, digest) for env, record in plan.worlds.items()},
        "command": command,
        "budget": plan.budget,
    }


def _with_digest(record: WorldRecord, digest: str) -> WorldRecord:
    """A world's record with the hash of the fingerprint."""
    return {**record, "fingerprint": digest}


def merge(earlier: PlanDocument | None, new: PlanDocument) -> tuple[PlanDocument, list[str]]:
    """Merges a plan into an earlier plan of the same folder.

    An earlier (env, algo, mode) that is not in `new` stays if `new` does not have its world, or has
    it with the same dials, demonstrations, horizon, seeds, sources and versions: figures under
    different conditions never stand in one table. Cells are never deleted.

    Returns:
      `new` with the earlier entries that stay, and one line for each entry that does not.
    """
    if not earlier:
        return {**new}, []
    replacing = {(entry["env"], entry["algo"], entry["mode"]): entry for entry in new["entries"]}
    kept: list[PlanEntry] = []
    dropped: list[str] = []
    for entry in earlier["entries"]:
        env, other = entry["env"], replacing.get((entry["env"], entry["algo"], entry["mode"]))
        if other is not None:
            alike = [(each["settings"], each["seeds"][0]) for each in (entry, other)]
            # Otherwise it is the same entry with more seeds or another version.
            if alike[0] != alike[1]:
                dropped.append(
                    f"left out of the report: {_called(entry)}, an earlier run with other "
                    "settings; its cells are kept"
                )
            continue
        before: Mapping[str, Any] = earlier["worlds"].get(env, {})
        now: Mapping[str, Any] | None = new["worlds"].get(env)
        changed = (
            []
            if now is None
            else sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
        )
        if changed:
            what = ", ".join(changed)
            dropped.append(
                f"left out of the report: {_called(entry)}, an earlier run with other {what}; its "
                "cells are kept"
            )
        else:
            kept.append(entry)
    used = {entry["env"] for entry in kept}
    worlds = {
        **{env: record for env, record in earlier["worlds"].items() if env in used},
        **new["worlds"],
    }
    return {**new, "entries": [*kept, *new["entries"]], "worlds": worlds}, dropped


def displaced(plan: PlanDocument, sweep: PlanDocument) -> list[str]:
    """Returns one line for each entry of a sweep that a later sweep in the same folder replaced.

    Args:
      plan: the folder's present plan.
      sweep: the document of the sweep.
    """
    current = {(entry["env"], entry["algo"], entry["mode"]): entry for entry in plan["entries"]}
    lines = []
    for entry in sweep["entries"]:
        other = current.get((entry["env"], entry["algo"], entry["mode"]))
        if (
            other is None
            or other["settings"] != entry["settings"]
            or other["seeds"][0] != entry["seeds"][0]
        ):
            lines.append(
                f"not in the report: {_called(entry)}, as a sweep with other settings or seeds has "
                "been started in this folder "
                "since; its cells are kept"
            )
    return lines


def _called(entry: PlanEntry) -> str:
    """An entry's name in messages."""
    return f"{entry['algo']} on {entry['env']} ({entry['mode']})"

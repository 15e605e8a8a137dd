"""A plan as the document `<out>/plan.json`, merged with an earlier one in the same folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from irl_bench.core.cell import canonical, cell_key
from irl_bench.plan.build import Plan
from irl_bench.storage.plans import VERSION


def document(plan: Plan, command: str, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """The content of plan.json for a plan that stands alone.

    Args:
      command: the command or call that asked for it.
      fingerprint: as `irl_bench.core.cell.fingerprint` returns it.
    """
    digest = hashlib.sha256(canonical(dict(fingerprint)).encode()).hexdigest()[:20]
    entries = []
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
        "worlds": {env: {**record, "fingerprint": digest} for env, record in plan.worlds.items()},
        "command": command,
        "budget": plan.budget,
    }


def merge(
    earlier: Mapping[str, Any] | None, new: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """`new` together with what can stay of an earlier plan in the same folder, and one line for
    each entry that cannot.

    Another (env, algo, mode) stays if its world is not in `new`, or is there with the same dials,
    demonstrations, horizon, seeds, sources and versions: figures under different conditions never
    stand in one table. Cells are never deleted.
    """
    if not earlier:
        return dict(new), []
    replacing = {(entry["env"], entry["algo"], entry["mode"]): entry for entry in new["entries"]}
    kept, dropped = [], []
    for entry in earlier["entries"]:
        env, other = entry["env"], replacing.get((entry["env"], entry["algo"], entry["mode"]))
        if other is not None:
            alike = [(each["settings"], each["seeds"][0]) for each in (entry, other)]
            # Else it is the same again, with more seeds or another version.
            if alike[0] != alike[1]:
                dropped.append(
                    f"left out of the report: {_called(entry)}, an earlier run with other "
                    "settings; its cells are kept"
                )
            continue
        before, now = earlier["worlds"].get(env, {}), new["worlds"].get(env)
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


def displaced(plan: Mapping[str, Any], sweep: Mapping[str, Any]) -> list[str]:
    """One line for each entry of a sweep's document that a sweep started since has put out of the
    folder's plan."""
    there = {(entry["env"], entry["algo"], entry["mode"]): entry for entry in plan["entries"]}
    lines = []
    for entry in sweep["entries"]:
        other = there.get((entry["env"], entry["algo"], entry["mode"]))
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


def _called(entry: Mapping[str, Any]) -> str:
    return f"{entry['algo']} on {entry['env']} ({entry['mode']})"

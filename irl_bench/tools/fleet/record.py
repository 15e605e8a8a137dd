"""The record of simulated fleets, and the tables of docs/guides/scale.md."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from irl_bench.storage.files import write_atomic
from irl_bench.storage.remote import AT_ONCE
from irl_bench.tools.circumstances import circumstances
from irl_bench.tools.fleet.simulation import STARTS, simulate
from irl_bench.tools.fleet.stores import LATENCY, LIMITS, PAGE, PRICES, SIDES

COMMAND = "python launch/bench.py --suite=scale"
TARGET = 100_000
"""Number of cells for which the guide plans."""


def run(
    workers: Sequence[int],
    each: int,
    seconds: float,
    store: str,
    out: Path,
    say: Callable[[str], None] = print,
) -> None:
    """Simulates fleets, and adds what they asked for to the record `out`, one by one.

    Args:
      workers: sizes of the fleets.
      each: cells for each worker.
      seconds: how long a cell takes on average [s].
      store: as for `simulate`.
      out: the record, a JSON file.
      say: is called with one line for each fleet.

    Raises:
      BadInput, RuntimeError: as `simulate`.
      StoreError: the record cannot be written.
    """
    for count in workers:
        figures = simulate(count, each * count, seconds, store=store)[1]
        requests = sum(figures["requests"].values())
        say(
            f"{count} workers, {each * count} cells ({store}): {requests:,} requests, "
            f"{figures['mean_per_second']:g} a second, {figures['usd']:.3f} USD; "
            f"{figures['wall_seconds']:.0f} s"
        )
        flags = f"--store={store} --workers={count} --cells_each={each} --cell_seconds={seconds:g}"
        _add(out, f"{store}-{count}-workers-{each * count}-cells", figures, f"{COMMAND} {flags}")


def _add(out: Path, name: str, figures: Mapping[str, Any], command: str) -> None:
    """Puts the figures of a fleet into the record."""
    record: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    made = circumstances()
    packages = {name: _version(name) for name in ("fsspec", "s3fs", "moto")}
    record["prices_usd"], record["limits_per_second"] = PRICES, LIMITS
    record["latency_seconds"], record["starts_seconds"] = LATENCY, STARTS
    record.setdefault("fleets", {})[name] = {
        **figures,
        "command": command,
        **made,
        "versions": {**made["versions"], **packages},
    }
    record["fleets"] = dict(
        sorted(record["fleets"].items(), key=lambda item: (item[1]["cells"], item[0]))
    )
    write_atomic(out, (json.dumps(record, indent=1) + "\n").encode())


def _version(package: str) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return "absent"


def extrapolated(small: Mapping[str, Any], large: Mapping[str, Any], cells: int) -> dict[str, Any]:
    """Returns figures of as many workers with more cells. They grow with the cells along a straight
    line: each cell asks for the same, and a listing of all cells is as long as they are. What is
    lost at the start and the end takes as long as in the larger fleet.

    Args:
      small, large: figures of two fleets with equal numbers of workers.
      cells: how many.
    """
    part = (cells - small["cells"]) / (large["cells"] - small["cells"])

    def line(of: Callable[[Mapping[str, Any]], float]) -> float:
        return of(small) + part * (of(large) - of(small))

    requests = {kind: round(line(lambda one, k=kind: one["requests"][k])) for kind in PRICES}
    ideal = line(lambda one: one["ideal_seconds"])
    end = ideal + large["end_seconds"] - large["ideal_seconds"]
    return {
        "workers": large["workers"],
        "cells": cells,
        "requests": requests,
        "mean_per_second": round(sum(requests.values()) / end, 1),
        "usd": sum(PRICES[kind] * count for kind, count in requests.items()),
        "end_seconds": end,
        "ideal_seconds": ideal,
        **{name: line(lambda one, n=name: one[n]) for name in ("bytes_put", "bytes_got")},
    }


def plan_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what TARGET cells on the most workers ask for, from the two largest of their
    fleets."""
    fleets = record["fleets"].values()
    most = max(one["workers"] for one in fleets)
    small, large = sorted(
        (one for one in fleets if one["workers"] == most), key=lambda one: one["cells"]
    )[-2:]
    return extrapolated(small, large, TARGET)


def largest(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the figures of the fleet with the most cells."""
    return max(record["fleets"].values(), key=lambda one: one["cells"])


def _sizes(record: Mapping[str, Any]) -> list[str]:
    lines = [
        "| store | workers | cells | PUT | LIST | GET | DELETE | cost [USD] |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, one in record["fleets"].items():
        each = " | ".join(f"{one['requests'][kind] / one['cells']:.1f}" for kind in PRICES)
        store = "S3 server" if name.startswith("s3") else "memory"
        lines.append(
            f"| {store} | {one['workers']:,} | {one['cells']:,} | {each} | {one['usd']:.3f} |"
        )
    return lines


def _times(record: Mapping[str, Any]) -> list[str]:
    lines = [
        "| store | workers | cells | requests/s | most writes/s | most reads/s | died "
        "| taken over after [s] | computed twice | reports | ends [s] | ideal [s] |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, one in record["fleets"].items():
        peak, taken = one["peak_per_second"], one["taken_over_after"]
        over = f"{taken[0]:.0f} to {taken[1]:.0f}" if taken else "–"
        store = "S3 server" if name.startswith("s3") else "memory"
        lines.append(
            f"| {store} | {one['workers']:,} | {one['cells']:,} | {one['mean_per_second']:,.0f} "
            f"| {peak['writes']:,} | {peak['reads']:,} | {one['died']} | {over} "
            f"| {one['computed_twice']} | {one['reports']} | {one['end_seconds']:,.0f} "
            f"| {one['ideal_seconds']:,.0f} |"
        )
    return lines


def _folders(record: Mapping[str, Any]) -> list[str]:
    one = largest(record)
    lines = ["| request | how many a cell |", "|---|---:|"]
    order = sorted(one["requests_by_folder"].items(), key=lambda item: -item[1])
    return lines + [
        f"| {name} | {count / one['cells']:.2f} |"
        for name, count in order
        if count >= one["cells"] / 100
    ]


def _plan_table(record: Mapping[str, Any]) -> list[str]:
    plan, one = plan_of(record), largest(record)
    requests, cells = plan["requests"], plan["cells"]
    writes = sum(requests[kind] for kind in SIDES["writes"])
    reads = sum(requests[kind] for kind in SIDES["reads"])
    busy = plan["ideal_seconds"]
    shortest = max(
        one["cell_seconds"] * writes / busy / LIMITS["writes"],
        one["cell_seconds"] * reads / busy / LIMITS["reads"],
    )
    rows = {
        "requests": ", ".join(f"{count:,} {kind}" for kind, count in requests.items()),
        "requests per second, mean": f"{plan['mean_per_second']:,.0f}",
        "writes per second while all workers compute": f"{writes / busy:,.0f} of "
        f"{LIMITS['writes']:,}",
        "reads per second while all workers compute": f"{reads / busy:,.0f} of {LIMITS['reads']:,}",
        "a listing of all cells": f"{cells // PAGE:,} requests",
        "reading all cells for the report, 64 at once": f"{cells / AT_ONCE * LATENCY:,.0f} s",
        "read by all workers, mostly the plan": f"{plan['bytes_got'] / 1e9:.0f} GB, and the cells "
        "for the report",
        "cost of the requests": f"{plan['usd']:.2f} USD",
        "cells that are this short reach a limit": f"{shortest:.1f} s",
        "time": f"{plan['end_seconds'] / 3600:.2f} h; {busy / 3600:.2f} h without any waiting",
    }
    return ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows.items())]


def _measured(record: Mapping[str, Any]) -> list[str]:
    lines = ["| command | date | machine | time | versions |", "|---|---|---|---:|---|"]
    for one in record["fleets"].values():
        machine = one["machine"]
        versions = ", ".join(
            f"{name} {one['versions'][name]}" for name in ("python", "moto", "s3fs")
        )
        lines.append(
            f"| `{one['command']}` | {one['date']} | {machine['cores']} {machine['device']} cores, "
            f"{machine['memory_gib']} GiB, {machine['system']} | {one['wall_seconds']:,.0f} s "
            f"| {versions} |"
        )
    return lines


TABLES: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "sizes": _sizes,
    "times": _times,
    "folders": _folders,
    "plan": _plan_table,
    "measured": _measured,
}
"""Tables of the guide, by the names in its marks."""


def page(text: str, record: Mapping[str, Any]) -> str:
    """Returns the text of the guide with its tables as the record has it.

    Args:
      text: of the guide; a table stands between `<!-- fleet: NAME -->` and `<!-- end -->`.
      record: as `run` writes it.
    """
    for name, table in TABLES.items():
        head, mark, rest = text.partition(f"<!-- fleet: {name} -->\n")
        if mark:
            _, end, tail = rest.partition("<!-- end -->")
            text = "\n".join([head + mark, *table(record), "", end + tail])
    return text

"""The faults in their sizes, the record of what they counted, and RELIABILITY.md made from it."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from irl_bench.storage.files import write_atomic
from irl_bench.tools.chaos import damage, disks, hostile, kills, sharing, sweeps
from irl_bench.tools.chaos.counts import Count
from irl_bench.tools.chaos.victims import Stage
from irl_bench.tools.circumstances import circumstances


@dataclasses.dataclass(frozen=True)
class Fault:
    """A row of RELIABILITY.md."""

    run: Callable[..., Count]
    """(stage, size) -> what was counted."""
    size: int
    """How often the full suite makes it."""
    text: str
    """What is done, in words."""
    bar: str
    """What must come of it."""
    every: bool = False
    """Whether it disturbs the sweep of all algorithms; else a small one."""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Further arguments of `run`."""


SAME = "no cell lost or doubled, all bytes as undisturbed"
FAULTS: Mapping[str, Fault] = {
    "random_kills": Fault(
        kills.random_kills,
        200,
        "SIGKILL at random moments of a sweep of every registered algorithm at smoke size, with "
        "restarts until it is done; every second kill waits for a new checkpoint",
        f"{SAME}; at least half of the kills after a checkpoint; cells resumed",
        every=True,
        options={"at_once": 2},
    ),
    "small_kills": Fault(
        kills.random_kills,
        100,
        "the same over a sweep of `bc`, which dies oftener in the middle of a write",
        f"{SAME}; at least half of the kills after a checkpoint; cells resumed",
    ),
    "phase_kills": Fault(
        kills.phase_kills,
        40,
        "SIGKILL while a cell compiles, trains, is evaluated and measured, in turn",
        f"{SAME}; cells resumed",
    ),
    "write_kills": Fault(
        kills.write_kills,
        100,
        "SIGKILL exactly before a file of the run is opened, flushed, renamed or removed, spread "
        "evenly over a run",
        f"{SAME}; cells resumed",
    ),
    "terminations": Fault(
        kills.terminations,
        24,
        "SIGTERM in each phase in turn, twice within a second",
        f"gone within 10 s with status 75, a checkpoint if it was training; {SAME}",
    ),
    "damage": Fault(
        damage.damage,
        1000,
        "one flipped bit, or a file cut short: checkpoints, cells, learned files, plans, leases "
        "and logs in turn",
        "refused in one line that names the file, the checkpoint before it used, or what was "
        "written read; leases and logs hold no results and raise nothing",
    ),
    "full_disk": Fault(
        disks.full_disk,
        100,
        "the disk is full from the n-th write of a run on, spread evenly over all writes; files of "
        "more than 600, 3,000 and 20,000 bytes do not fit; disks in memory that are too small",
        f"one line; what was stored stays readable; once there is room the run ends, {SAME}",
    ),
    "read_only": Fault(
        disks.read_only,
        6,
        "a folder that may not be written, empty or with a killed run in it",
        f"one line, nothing changed; once it may be written the run ends, {SAME}",
    ),
    "power_cuts": Fault(
        disks.power_cuts,
        80,
        "the power fails at a rename of a journalled run: contents that were not flushed are "
        "empty; of the names that were not flushed only the newest is there, or all",
        f"the same command ends the run, {SAME}",
    ),
    "two_workers": Fault(
        sharing.two_workers, 6, "two processes on one folder", f"exactly one result a cell; {SAME}"
    ),
    "ten_workers": Fault(
        sharing.ten_workers, 3, "ten processes on one folder", f"exactly one result a cell; {SAME}"
    ),
    "clock_set_back": Fault(
        sharing.clock_set_back,
        6,
        "a wall clock that jumps back by a day and forth again, alone and beside another process",
        SAME,
    ),
    "seen_late": Fault(
        sharing.seen_late,
        6,
        "two processes, one of which sees a cell only 3 s after it was written, as through the "
        "cache of a network file system",
        "exactly one result a cell, which may be computed twice; all bytes as undisturbed",
    ),
    "moved": Fault(
        sharing.moved,
        9,
        "the run's folder is moved away while a process computes",
        f"the same command completes it in its new place, {SAME}",
    ),
    "hostile": Fault(
        hostile.hostile,
        500,
        "a run's folder from a stranger: paths and HTML as names, links out, pipes and devices, "
        "junk in every field with hashes that fit, deep and huge values, bombs, lying headers, "
        "names of code",
        "status, verify, report, merge, a sweep in it, `--given`, `--demos_from`, people's "
        "comparisons, `load` and studies each end in one line or a correct result, within 10 s of "
        "a core and 2 GiB; nothing is written outside, nothing is run",
    ),
}
"""Name -> fault, in the order of RELIABILITY.md."""


def stages(place: Path, faults: Iterable[str]) -> Mapping[bool, Stage]:
    """Makes the sweeps that some faults disturb.

    Args:
      place: a folder to work in.
      faults: names of FAULTS.

    Returns:
      {whether it is the sweep of all algorithms: the sweep}.
    """
    made: dict[bool, Stage] = {}
    for every in {FAULTS[name].every for name in faults}:
        folder, cache = place / ("every" if every else "small"), place / "cache"
        donor = None
        if every:
            donor = folder / "donor"
            plan = sweeps.write(folder / "donor.json", (sweeps.DONOR,))
            victim = Stage(folder, plan, cache).start(donor)
            if victim.end():
                raise RuntimeError(f"the donor's sweep fails:\n{victim.text()[-2000:]}")
        requests = sweeps.EVERY if every else (sweeps.SMALL,)
        plan = sweeps.write(folder / "sweep.json", requests, donor, references=every)
        made[every] = Stage(folder, plan, cache)
    return made


COMMAND = "python launch/bench.py --suite=chaos"


def run(
    names: Iterable[str],
    out: Path,
    share: float = 1.0,
    minutes: float = math.inf,
    place: Path | None = None,
    say: Callable[[str], None] = print,
) -> bool:
    """Makes faults in full size, and adds what they count to the record `out`, one by one.

    Args:
      names: of FAULTS.
      out: the record, a JSON file.
      share: of the full sizes.
      minutes: most time that the random kills go on [min].
      place: a folder to work in, which stays; None: a temporary one.
      say: is called with one line for each fault.

    Returns:
      Whether nothing was lost, doubled or wrong.
    """
    chosen, sound = list(names), True
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        made = stages(place or Path(temporary), chosen)
        for name in chosen:
            fault = FAULTS[name]
            size = max(1, round(share * fault.size))
            options = dict(fault.options)
            if fault.run is kills.random_kills:
                options["most_seconds"] = 60 * minutes
            count = fault.run(made[fault.every], size, **options)
            count.fault = name
            sound = sound and count.sound
            say(f"{name}: {counted(dataclasses.asdict(count))}, {count.seconds:.0f} s")
            for note in count.notes:
                say(f"  {note}")
            part = "" if share == 1 else f" --share={share:g}"
            _add(out, name, count, f"{COMMAND} --what={name}{part}")
    return sound


def _add(out: Path, name: str, count: Count, command: str) -> None:
    """Puts a count into the record."""
    record: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    record.setdefault("faults", {})[name] = {
        **dataclasses.asdict(count),
        "notes": count.notes[:20],
        "seconds": round(count.seconds, 1),
        "command": command,
        **circumstances(),
    }
    order = [each for each in FAULTS if each in record["faults"]]
    record["faults"] = {each: record["faults"][each] for each in order}
    write_atomic(out, (json.dumps(record, indent=1) + "\n").encode())


SHOWN = ("after_checkpoint", "resumed", "refused", "harmless", "lost", "doubled", "wrong")
"""Fields of a count that are shown, in this order."""


def counted(record: Mapping[str, Any]) -> str:
    """Returns a count as text: what was tried, what is not zero, and always what is bad."""
    parts = [
        f"{record[name]:,} {name.replace('_', ' ')}"
        for name in SHOWN
        if record[name] or name in ("lost", "doubled", "wrong")
    ]
    return ", ".join(parts)


def page(record: Path) -> str:
    """Returns the text of RELIABILITY.md for a record. Equal records give equal text."""
    lines = [
        "# Reliability",
        "",
        "What a run's folder survives. Generated by `python launch/bench.py --suite=chaos` from "
        "`reliability/chaos.json`; do not edit.",
        "",
        "`lost`, `doubled` and `wrong` are results that are not there at the end, were stored "
        "twice, or differ from those of a run that nothing",
        "disturbed; an error that is not one line counts as wrong. `resumed` is what went on from "
        "a checkpoint, `refused` what was answered by one line,",
        "`harmless` what changed nothing that is read. `--what=NAME` makes one fault alone, and "
        "`tests/chaos/` makes all of them in small sizes.",
    ]
    faults = json.loads(record.read_text())["faults"] if record.exists() else {}
    if not faults:
        return "\n".join([*lines, "", "Nothing has been measured yet."]) + "\n"
    lines += ["", "| fault | how often | counted | bar |", "| --- | ---: | --- | --- |"]
    for name, count in faults.items():
        fault = FAULTS[name]
        lines.append(
            f"| `{name}`: {fault.text} | {count['tried']:,} | {counted(count)} | {fault.bar} |"
        )
    absent = [f"`{name}`" for name in FAULTS if name not in faults]
    if absent:
        lines += ["", f"Not measured yet: {', '.join(absent)}."]
    lines += ["", "## How it was measured", ""]
    lines += ["`--share` is the part of the full size that was run.", ""]
    lines += [
        "| fault | command | date | machine | time | versions |",
        "| --- | --- | --- | --- | ---: | --- |",
    ]
    for name, count in faults.items():
        machine = count["machine"]
        versions = ", ".join(
            f"{package} {count['versions'][package]}" for package in ("python", "jax", "irl_bench")
        )
        lines.append(
            f"| `{name}` | `{count['command']}` | {count['date']} | {machine['cores']} "
            f"{machine['device']} cores, {machine['memory_gib']} GiB, {machine['system']} | "
            f"{count['seconds']:,.0f} s | {versions} |"
        )
    return "\n".join(lines) + "\n"

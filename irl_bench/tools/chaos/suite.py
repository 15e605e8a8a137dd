"""The faults in their sizes, the record of what they counted, and RELIABILITY.md made from it."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from irl_bench.plan.request import Request
from irl_bench.storage.files import write_atomic
from irl_bench.tools.chaos import damage, disks, hooks, hostile, kills, sharing, sweeps, tricks
from irl_bench.tools.chaos.counts import Count
from irl_bench.tools.chaos.victims import Stage
from irl_bench.tools.circumstances import circumstances

NEEDS: Mapping[str, tuple[Callable[[Count], bool], str]] = {
    "checkpoints": (
        lambda count: 2 * count.after_checkpoint >= count.tried,
        "fewer than half of the kills came after a checkpoint",
    ),
    "resumed": (lambda count: count.resumed > 0, "no cell went on from a checkpoint"),
    "shared": (
        lambda count: min(count.workers, default=0) >= 2,
        "in some run fewer than two processes stored cells",
    ),
    "repeated": (lambda count: count.repeated > 0, "no cell was computed again"),
}
"""What a bar may ask for besides: {name: (whether a count shows it, what is said if not)}."""


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
    sweep: str = "small"
    """The sweep that it disturbs, a key of SWEEPS."""
    kinds: tuple[str, ...] = ()
    """Its kinds, each of which must be made."""
    needs: tuple[str, ...] = ()
    """What the bar asks for besides, keys of NEEDS."""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Further arguments of `run`."""

    def hold(self, count: Count) -> None:
        """Counts as `unmet` what the bar asks for and was not counted, and each kind that was not
        made."""
        for kind in self.kinds:
            if not count.kinds.get(kind):
                count.bad("unmet", f"{kind}: it was not made")
        for met, text in (NEEDS[name] for name in self.needs):
            if not met(count):
                count.bad("unmet", text)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep that is disturbed."""

    requests: tuple[Request, ...]
    """What it consists of."""
    every: bool = False
    """Whether it has the references, and the algorithms that take what an earlier run has
    learned."""


SWEEPS: Mapping[str, Sweep] = {
    "small": Sweep((sweeps.SMALL,)),
    "many": Sweep((sweeps.MANY,)),
    "every": Sweep(sweeps.EVERY, every=True),
}
"""Name -> sweep."""
SAME = "no cell lost or doubled, all bytes as undisturbed"
FAULTS: Mapping[str, Fault] = {
    "random_kills": Fault(
        kills.random_kills,
        200,
        "SIGKILL at random moments of a sweep of every registered algorithm at smoke size, with "
        "restarts until it is done; every second kill waits for a new checkpoint",
        f"{SAME}; at least half of the kills after a checkpoint; cells resumed",
        sweep="every",
        needs=("checkpoints", "resumed"),
        options={"at_once": 2},
    ),
    "small_kills": Fault(
        kills.random_kills,
        100,
        "the same over a sweep of `bc`, which dies oftener in the middle of a write",
        f"{SAME}; at least half of the kills after a checkpoint; cells resumed",
        needs=("checkpoints", "resumed"),
    ),
    "phase_kills": Fault(
        kills.phase_kills,
        40,
        "SIGKILL while a cell is compiled, trained, evaluated, and measured and stored, in turn, "
        "at a random moment of the time that the calls take",
        f"{SAME}; cells resumed",
        kinds=kills.PHASES,
        needs=("resumed",),
    ),
    "write_kills": Fault(
        kills.write_kills,
        100,
        "SIGKILL exactly before a file of the run is opened, flushed, renamed or removed, or a "
        "folder made or removed, each spread evenly over a run",
        f"{SAME}; cells resumed",
        kinds=(*hooks.WRITES, *hooks.REMOVALS),
        needs=("resumed",),
    ),
    "terminations": Fault(
        kills.terminations,
        24,
        "SIGTERM in each of the same phases in turn, at a random moment, and again within a "
        "second; no other checkpoint is written",
        "gone within 10 s with status 75, and a checkpoint unless it was compiling or had just "
        f"stored a cell; {SAME}; cells resumed",
        kinds=kills.PHASES,
        needs=("resumed",),
    ),
    "damage": Fault(
        damage.damage,
        1000,
        "one flipped bit, or a file cut short: checkpoints, cells, learned files, plans, leases "
        "and logs in turn",
        "refused in one line that names the file, the checkpoint before it used, or what was "
        "written read; leases and logs hold no results, and damage of them is ignored",
        kinds=damage.KINDS,
        needs=("resumed",),
    ),
    "full_disk": Fault(
        disks.full_disk,
        106,
        "the disk is full from the n-th write of a run on, spread evenly over all writes; files of "
        "more than 600, 4,000 and 10,000 bytes do not fit; disks in memory that are too small, if "
        "the user may mount them",
        f"one line; what was stored stays readable; once there is room the run ends, {SAME}",
        kinds=disks.FULL,
    ),
    "read_only": Fault(
        disks.read_only,
        6,
        "a folder that may not be written, empty or with a killed run in it",
        f"one line, nothing changed; once it may be written the run ends, {SAME}",
        kinds=disks.NEVER,
    ),
    "power_cuts": Fault(
        disks.power_cuts,
        80,
        "the power fails when the plan, a lease, a checkpoint's arrays, its seal, a cell, what it "
        "has learned or the log was just written, in turn: contents that were not flushed are "
        "gone; of the names that were not flushed only the newest is there, or all, with whole "
        "checkpoints and half a line in the log",
        f"the same command ends the run, {SAME}; cells resumed",
        kinds=tuple(f"{what}, {left}" for what in disks.RENAMED.values() for left in disks.CUTS),
        needs=("resumed",),
    ),
    "two_workers": Fault(
        sharing.two_workers,
        6,
        "two processes on one folder",
        f"both store cells, exactly one result a cell; {SAME}",
        needs=("shared",),
    ),
    "ten_workers": Fault(
        sharing.ten_workers,
        3,
        "ten processes on one folder, of 40 cells",
        f"at least two store cells, exactly one result a cell; {SAME}",
        sweep="many",
        needs=("shared",),
    ),
    "clock_set_back": Fault(
        sharing.clock_set_back,
        6,
        "a wall clock that jumps back by a day and forth again, alone and beside another process",
        f"two processes both store cells; {SAME}",
        kinds=tuple(sharing.CLOCKS),
        needs=("shared",),
    ),
    "seen_late": Fault(
        sharing.seen_late,
        6,
        "two processes, one of which sees a cell only 3 s after it was written, as through the "
        "cache of a network file system",
        "both store cells; exactly one result a cell, and some are computed twice; all bytes as "
        "undisturbed",
        needs=("shared", "repeated"),
    ),
    "moved": Fault(
        sharing.moved,
        9,
        "the run's folder is moved away while a process trains and evaluates a cell, and when it "
        "has stored one",
        f"the same command completes it in its new place, {SAME}",
        kinds=tuple(sharing.MOMENTS),
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
        kinds=tuple(trick.__name__ for trick in tricks.TRICKS),
    ),
}
"""Name -> fault, in the order of RELIABILITY.md."""


ELSEWHERE = {
    "the same command twice": (
        "the same bytes, with functions compiled anew",
        "tests/integration/test_through_the_runner.py",
        "test_twice_gives_the_same_bytes_after_a_fresh_compilation",
    ),
    "NaN in an algorithm": (
        "that seed is `failed` with the round and the quantity, the others go on",
        "tests/running/test_runner.py",
        "test_failed_seeds_are_marked_and_the_others_go_on",
    ),
    "flags at random, 2,000 times with `--dry_run`": (
        "one line and exit status 2, or a valid plan; nothing is written",
        "tests/cli/test_fuzz.py",
        "test_flags_at_random_at_length",
    ),
    "flags at random of a run of the toys, 40 times": (
        "one line and exit status 2, or a run; nothing is written outside its folder",
        "tests/cli/test_fuzz.py",
        "test_flags_at_random_of_runs",
    ),
}
"""Fault that tests of their own make -> what must come of it, file, name of the test."""


def stages(place: Path, faults: Iterable[str]) -> Mapping[str, Stage]:
    """Makes the sweeps that some faults disturb.

    Args:
      place: a folder to work in.
      faults: names of FAULTS.

    Returns:
      {name of the sweep: the sweep}.
    """
    made: dict[str, Stage] = {}
    for name in {FAULTS[fault].sweep for fault in faults}:
        sweep, folder, cache = SWEEPS[name], place / name, place / "cache"
        donor = None
        if sweep.every:
            donor = folder / "donor"
            plan = sweeps.write(folder / "donor.json", (sweeps.DONOR,))
            victim = Stage(folder, plan, cache).start(donor)
            if victim.end():
                raise RuntimeError(f"the donor's sweep fails:\n{victim.text()[-2000:]}")
        plan = sweeps.write(folder / "sweep.json", sweep.requests, donor, references=sweep.every)
        made[name] = Stage(folder, plan, cache)
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
      Whether nothing was lost, doubled, wrong or unmet.
    """
    chosen, sound = list(names), True
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        made = stages(place or Path(temporary), chosen)
        for name in chosen:
            fault = FAULTS[name]
            size = max(1, len(fault.kinds), round(share * fault.size))
            options = dict(fault.options)
            if fault.run is kills.random_kills:
                options["most_seconds"] = 60 * minutes
            count = fault.run(made[fault.sweep], size, **options)
            count.fault = name
            fault.hold(count)
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


SHOWN = ("after_checkpoint", "resumed", "refused", "harmless", "ignored", "repeated")
"""Fields of a count that are shown unless they are zero, in this order."""
BAD = ("lost", "doubled", "wrong")
"""Fields of a count that are always shown."""
MOST_KINDS = 8
"""So many kinds are told by name."""


def counted(record: Mapping[str, Any]) -> str:
    """Returns a count as text: what is not zero, and always what is bad, a dash if it is not
    counted."""
    names = [name for name in SHOWN if record[name]]
    parts = [f"{record[name]:,} {name.replace('_', ' ')}" for name in names]
    if record["workers"]:
        parts.append(f"cells stored by {_range(record['workers'])} processes a run")
    parts += [f"{'–' if record[name] is None else f'{record[name]:,}'} {name}" for name in BAD]
    return ", ".join([*parts, f"{record['unmet']} unmet"] if record["unmet"] else parts)


def _range(numbers: Collection[int]) -> str:
    return " to ".join(str(number) for number in sorted({min(numbers), max(numbers)}))


def tried(record: Mapping[str, Any]) -> str:
    """Returns as text how often a fault was made, in which kinds."""
    kinds = record["kinds"]
    parts = [f"{times:,} {kind}" for kind, times in kinds.items()]
    text = f"{len(kinds)} kinds" if len(kinds) > MOST_KINDS else ", ".join(parts)
    return f"{record['tried']:,}" + (f": {text}" if kinds else "")


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
        "disturbed; an error that is not one line counts as wrong, and – is not counted. `resumed` "
        "is what went on from a checkpoint, `refused` what",
        "was answered by one line, `harmless` what changed nothing that is read (of `hostile`, "
        "what ended in a result), `ignored` what raised",
        "nothing although what is read may differ, `repeated` what was computed once more where it "
        "may be. A fault that did not strike is not",
        "counted, and each kind was made at least once. `--what=NAME` makes one fault alone, and "
        "`tests/chaos/` makes all of them in small sizes.",
    ]
    faults = json.loads(record.read_text())["faults"] if record.exists() else {}
    if faults:
        lines += ["", "| fault | how often | counted | bar |", "| --- | --- | --- | --- |"]
    for name, count in faults.items():
        fault = FAULTS[name]
        lines.append(
            f"| `{name}`: {fault.text} | {tried(count)} | {counted(count)} | {fault.bar} |"
        )
    absent = [f"`{name}`" for name in FAULTS if name not in faults]
    if absent:
        text = (
            f"Not measured yet: {', '.join(absent)}."
            if faults
            else "Nothing has been measured yet."
        )
        lines += ["", text]
    lines += ["", "## Tested elsewhere", "", "| fault | bar | test |", "| --- | --- | --- |"]
    lines += [
        f"| {name} | {bar} | `{file}`: `{test}` |" for name, (bar, file, test) in ELSEWHERE.items()
    ]
    return "\n".join([*lines, *_circumstances(faults)]) + "\n"


def _circumstances(faults: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The lines of the page that tell how faults were measured."""
    if not faults:
        return []
    lines = [
        "",
        "## How it was measured",
        "",
        "`--share` is the part of the full size that was run, at least once for each kind.",
        "",
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
    return lines

"""Processes that compute a sweep and are disturbed meanwhile.

They are forked from a server that has imported what a sweep needs, so that a process starts in a
fraction of a second and is killed as any other. Nothing here starts JAX's backend in the calling
process.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import itertools
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from irl_bench.core.exits import BAD_INPUT, INTERRUPTED, UNWRITTEN
from irl_bench.core.settings import BadInput
from irl_bench.tools.chaos import hooks
from irl_bench.tools.chaos.counts import Count
from irl_bench.upkeep.runs import log_lines

PATIENCE = 3600.0
"""How long a sweep may take that nothing disturbs [s]."""
STAGE = "stage "
"""The beginning of what a process says when a stage begins."""
CHECKPOINTS = 0.1
"""Time between two checkpoints, as a rule [s]."""
UNTIMED = 3600.0
"""Time between two checkpoints if none is to be written but when the process is asked to stop
[s]."""
BY_ANOTHER = "stored by another worker"
"""What a display is told of a cell that another process has stored."""
OVERRIDES = 0b110
"""The superuser's rights to pass over the permissions of files, as bits: CAP_DAC_OVERRIDE and
CAP_DAC_READ_SEARCH."""
CONTEXT = multiprocessing.get_context("forkserver")
"""Starts processes. Each is forked from one that has imported what they need."""
CONTEXT.set_forkserver_preload(["irl_bench.tools.chaos.imports"])


@dataclasses.dataclass(frozen=True)
class Alarm:
    """A signal some time after a call of a stage has begun."""

    stage: str
    """As a display is told of it."""
    call: int
    """The call of the stage, counted from 0."""
    delay: float
    """Time after which the system sends the signal [s]."""
    number: int
    """The signal's number."""


@dataclasses.dataclass(frozen=True)
class Disturbance:
    """What disturbs a process from within, besides signals that others send to it."""

    full_at: int = 0
    """The write of the run's folder from which on the disk is full; 0: none."""
    die_at: int = 0
    """The change of the run's folder, of the kind `die_before`, before which the process is killed;
    0: none."""
    die_before: str = ""
    """One of `hooks.WRITES` or `hooks.REMOVALS`."""
    alarm: Alarm | None = None
    """A signal that meets the process in the middle of a call."""
    largest: int = 0
    """Size of the largest file that can be written [bytes], as on a disk that is nearly full; 0: no
    limit."""
    clock: float = 0.0
    """How far the wall clock jumps [s]."""
    late: float = 0.0
    """How long a cell that was written is not seen [s]."""
    powerless: bool = False
    """Whether the permissions of files apply to the process even if it is the superuser's."""
    journal: str = ""
    """Folder that records what has reached the disk; empty: none."""
    tally: str = ""
    """File of the changes of the run's folder; empty: none."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A process that computes a sweep."""

    sweep: str
    """File of the sweep, as `sweeps.write` makes it."""
    out: str
    """The run's folder."""
    said: str
    """File of what the process prints."""
    cache: str
    """Folder of compiled functions, which all processes share."""
    pause: float = 0.0
    """Time that each stage takes longer [s]: a target that is easy to hit."""
    checkpoint_seconds: float = CHECKPOINTS
    """Minimum time between two checkpoints [s]."""
    gate: str = ""
    """File that the process waits for before it computes; empty: none."""
    disturbance: Disturbance = Disturbance()
    """What disturbs the process from within."""


class Stages:
    """A display that says each stage at once, as a line of its own that ends in the time.

    Args:
      pause: as `Job.pause`.
      alarm: as `Disturbance.alarm`.
    """

    def __init__(self, pause: float, alarm: Alarm | None = None):
        self.pause, self.alarm = pause, alarm
        self._calls: Counter[str] = Counter()

    def _say(self, text: str) -> None:
        os.write(1, f"{text} @{time.monotonic():.6f}\n".encode())

    def begin(self, total: int, done: int) -> None:
        """See `Display.begin`."""
        self._say(f"{total} cells, {done} already there")

    def advance(self, label: str, stage: str, fraction: float) -> None:
        """See `Display.advance`."""
        name = stage.partition(" (")[0]
        self._say(f"{STAGE}{name}")
        alarm, call = self.alarm, self._calls[name]
        self._calls[name] += 1
        if alarm and (alarm.stage, alarm.call) == (name, call):
            hooks.alarm(alarm.delay, alarm.number)
        time.sleep(self.pause)

    def note(self, text: str) -> None:
        """See `Display.note`."""
        self._say(f"note {text}")

    def cell_done(self, label: str, text: str) -> None:
        """See `Display.cell_done`."""
        self._say(f"done {label}: {text}")

    def end(self) -> None:
        """Does nothing."""


def work(job: Job) -> None:
    """Computes a sweep: the main function of a process."""
    descriptor = os.open(job.said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, closefd=False) for number in (1, 2))

    import jax

    from irl_bench.running import runner
    from irl_bench.running.console import Silent
    from irl_bench.storage.files import StoreError, WriteError
    from irl_bench.tools.chaos import sweeps

    jax.config.update("jax_compilation_cache_dir", job.cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # Functions compile in half the time. What survives does not rest on XLA's optimiser.
    jax.config.update("jax_disable_most_optimizations", True)
    signal.signal(signal.SIGTERM, _stopped)
    out, disturbance = Path(job.out), job.disturbance
    cells, inputs, plan = sweeps.read(Path(job.sweep))
    try:
        runner.configure(1)
        _disturb(out, disturbance)
        sweeps.record(out, plan)
        _await(job.gate)
        runner.run(
            cells,
            out,
            inputs,
            # What it says is a file too, which may become too large.
            display=Silent() if disturbance.largest else Stages(job.pause, disturbance.alarm),
            checkpoint_seconds=job.checkpoint_seconds,
            chunk_rounds=sweeps.CHUNK,
        )
    except (StoreError, BadInput) as error:
        os.write(2, f"error: {' '.join(str(error).split())}\n".encode())
        sys.exit(UNWRITTEN if isinstance(error, WriteError) else BAD_INPUT)


def _stopped(number: int, frame: Any) -> None:
    """Ends the process at a signal that arrives while no cells run, as a sweep ends."""
    os.write(2, b"stopped; run the same command to resume\n")
    os._exit(INTERRUPTED)


def _await(gate: str) -> None:
    """Waits until the file is there. Processes that all wait for it begin to compute together."""
    os.write(1, b"ready\n")
    while gate and not Path(gate).exists():
        time.sleep(0.005)


def _disturb(out: Path, disturbance: Disturbance) -> None:
    """Disturbs this process."""
    if disturbance.journal:
        hooks.journal(out, Path(disturbance.journal))
    if disturbance.full_at:
        hooks.full(out, disturbance.full_at)
    if disturbance.die_at:
        hooks.die(out, disturbance.die_at, disturbance.die_before)
    if disturbance.tally:
        hooks.tally(out, Path(disturbance.tally))
    if disturbance.late:
        hooks.late(out, disturbance.late)
    if disturbance.clock:
        hooks.clock(disturbance.clock)
    if disturbance.largest:
        hooks.limit(disturbance.largest)
    if disturbance.powerless:
        _give_up_rights()


def _give_up_rights() -> None:
    """Gives up the superuser's rights OVERRIDES, in this thread and those that it starts."""
    system = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if system.capget(header, sets) == 0:
        sets[0] &= ~OVERRIDES  # the effective ones
        system.capset(header, sets)


class Victim:
    """A process that computes a sweep, seen from outside."""

    def __init__(self, job: Job):
        self.job = job
        self.said = Path(job.said)
        self.process: BaseProcess = CONTEXT.Process(target=work, args=(job,))
        self.process.start()
        self._read = 0

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.is_alive()

    @property
    def status(self) -> int | None:
        """Its exit status, minus the signal that ended it, or None while it runs."""
        return self.process.exitcode

    def text(self) -> str:
        """All that it has said."""
        return self.said.read_text(errors="replace") if self.said.exists() else ""

    @property
    def struck(self) -> str:
        """What a fault from within was when it struck, as `hooks.strike` says; "" if it never
        did."""
        said = (line for line in self.text().splitlines() if line.startswith(hooks.STRUCK))
        return next(said, "").removeprefix(hooks.STRUCK)

    @property
    def stored(self) -> int:
        """How many cells it has stored itself."""
        lines = self.text().splitlines()
        return sum(line.startswith("done ") and BY_ANOTHER not in line for line in lines)

    def await_line(self, word: str, patience: float = PATIENCE) -> bool:
        """Returns whether it says a new line that contains `word` before it ends."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            alive = self.alive
            lines = self.text()[self._read :]
            for line in lines.splitlines(keepends=True):
                if not line.endswith("\n"):
                    break
                self._read += len(line)
                if word in line:
                    return True
            if not alive:
                return False
            time.sleep(0.005)
        return False

    def send(self, number: int) -> None:
        """Sends a signal, if it still runs."""
        if self.alive and self.process.pid:
            with contextlib.suppress(ProcessLookupError):  # it ended in between
                os.kill(self.process.pid, number)

    def kill(self) -> bool:
        """Ends it by SIGKILL. Returns whether it still ran."""
        ran = self.alive
        self.process.kill()
        self.process.join()
        return ran and self.status == -signal.SIGKILL

    def end(self, patience: float = PATIENCE) -> int:
        """Waits until it ends and returns its exit status; -9 if it had to be killed."""
        self.process.join(patience)
        if self.alive:
            self.kill()
        status = self.status
        assert status is not None
        return status


class Stage:
    """Where victims of one sweep run: its description, the cache that they share, and the files of
    an undisturbed run.

    Args:
      place: a folder to work in.
      sweep: file of the sweep.
      cache: folder of compiled functions.
    """

    def __init__(self, place: Path, sweep: Path, cache: Path):
        self.place, self.sweep, self.cache = place, sweep, cache
        self._number = 0
        (place / "said").mkdir(parents=True, exist_ok=True)
        cache.mkdir(parents=True, exist_ok=True)
        self._shared: dict[str, Any] = {}

    def elsewhere(self, place: Path) -> Stage:
        """Returns the same sweep in another folder, which shares what is known of the undisturbed
        run."""
        other = Stage(place, self.sweep, self.cache)
        other._shared = self._shared
        return other

    def start(
        self,
        out: Path,
        pause: float = 0.0,
        checkpoint_seconds: float = CHECKPOINTS,
        gate: Path | None = None,
        **disturbance: Any,
    ) -> Victim:
        """Starts a process that computes the sweep in a folder.

        Args:
          out: the run's folder.
          pause, checkpoint_seconds, gate: as the fields of `Job`.
          **disturbance: as the fields of `Disturbance`.
        """
        self._number += 1
        said = self.place / "said" / f"{self._number:05d}"
        said.unlink(missing_ok=True)  # of an earlier stage in this folder
        return Victim(
            Job(
                str(self.sweep),
                str(out),
                str(said),
                str(self.cache),
                pause,
                checkpoint_seconds,
                str(gate or ""),
                Disturbance(**disturbance),
            )
        )

    @property
    def undisturbed(self) -> dict[str, bytes]:
        """The files of a run that nothing disturbs, which is made first."""
        if "undisturbed" not in self._shared:
            out = self.place / "undisturbed"
            victim = self.start(out)
            if victim.end():
                raise RuntimeError(f"an undisturbed sweep fails:\n{victim.text()[-2000:]}")
            self._shared |= {"undisturbed": contents(out), "sound": out}
        return self._shared["undisturbed"]

    @property
    def sound(self) -> Path:
        """The folder of the run that nothing disturbed."""
        assert self.undisturbed
        return self._shared["sound"]

    @property
    def changes(self) -> tuple[str, ...]:
        """The changes of its folder that a run makes which nothing disturbs, of `hooks.WRITES` and
        `hooks.REMOVALS`; as `hooks.die` and `hooks.full` count them."""
        if "changes" not in self._shared:
            assert self.undisturbed  # else functions are not compiled yet
            to = self.place / "tally"
            self._look("tallied", tally=str(to))
            self._shared["changes"] = tuple(to.read_text().splitlines())
        return self._shared["changes"]

    @property
    def calls(self) -> Mapping[str, Sequence[float]]:
        """{stage: how long each of its calls takes [s]} of a run that nothing disturbs and that
        writes no checkpoint. The last call of a cell takes until it is stored."""
        if "calls" not in self._shared:
            assert self.undisturbed
            text = self._look("timed", checkpoint_seconds=UNTIMED)
            said = [line.rpartition(" @") for line in text.splitlines() if " @" in line]
            calls: dict[str, list[float]] = {}
            for (line, _, begun), (_, _, ended) in itertools.pairwise(said):
                if line.startswith(STAGE):
                    calls.setdefault(line.removeprefix(STAGE), []).append(
                        float(ended) - float(begun)
                    )
            self._shared["calls"] = calls
        return self._shared["calls"]

    def _look(self, name: str, **options: Any) -> str:
        """Runs the sweep in a folder that is removed, and returns what it says."""
        out = self.place / name
        victim = self.start(out, **options)
        if victim.end():
            raise RuntimeError(f"a sweep that is watched fails:\n{victim.text()[-2000:]}")
        shutil.rmtree(out)
        return victim.text()

    def finish(self, out: Path, count: Count) -> int:
        """Runs a disturbed sweep to its end and counts what is lost, doubled or wrong. Returns how
        many cells went on from a checkpoint."""
        victim = self.start(out)
        if victim.end():
            count.bad("wrong", f"the sweep does not end: {last_line(victim.text())}")
            return 0
        self.compare(out, count)
        return resumed(victim.text())

    def compare(self, out: Path, count: Count, again: Collection[str] = ()) -> None:
        """Counts what is lost, doubled or wrong in a folder in which the sweep has ended.

        Args:
          out: the folder.
          count: what was counted so far.
          again: keys of cells that may have been stored twice.
        """
        wanted, got = self.undisturbed, contents(out)
        for name in sorted(wanted.keys() | got.keys()):
            if name not in got:
                count.bad("lost", f"{name} is not there")
            elif name not in wanted:
                count.bad("wrong", f"{name} is no file of an undisturbed run")
            elif got[name] != wanted[name]:
                count.bad("wrong", f"{name} has other bytes")
        count_stored(out, count, again)
        left = [path.name for path in out.glob("leases/*.json")]
        if left or (out / "checkpoints").exists():
            count.bad("wrong", f"something is left behind: {left or 'checkpoints'}")


def count_stored(out: Path, count: Count, again: Collection[str] = ()) -> None:
    """Counts the cells that were stored more than once in a folder, as its log says: as `doubled`,
    or as `repeated` if `doubled` is not counted. `again` is as for `Stage.compare`."""
    stored = Counter(line["key"] for line in log_lines(out / "log.jsonl"))
    for key, times in sorted(stored.items()):
        if times > 1 and count.doubled is None:
            count.repeated += times - 1
        elif times > 1 and key not in again:
            count.bad("doubled", f"{key} was stored {times} times")


def contents(out: Path) -> dict[str, bytes]:
    """Returns {name: content} of all results in a run's folder."""
    paths = [*out.glob("cells/*.parquet"), *out.glob("learned/*.safetensors"), out / "plan.json"]
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(paths)
        if path.exists()
    }


def resumed(said: str) -> int:
    """Returns how many cells went on from a checkpoint, as a process says."""
    return said.count("resumes at round")


def sealed(out: Path) -> set[str]:
    """Returns the names of the complete checkpoints in a run's folder."""
    return {
        path.relative_to(out).as_posix()
        for path in out.glob("checkpoints/*/*.json")
        if not path.name.startswith(".")
    }


def stage_of(said: str) -> str:
    """Returns the stage that a process is in, as it says; "" between two cells."""
    begun = [line for line in said.splitlines() if line.startswith((STAGE, "done "))]
    last = begun[-1].rpartition(" @")[0] if begun else ""
    return last.removeprefix(STAGE) if last.startswith(STAGE) else ""


def last_line(said: str) -> str:
    """Returns the last line that a process has said."""
    return (said.strip().splitlines() or ["nothing"])[-1]


def one_line(victim: Victim, names: Iterable[Path]) -> bool:
    """Returns whether a process ended as for a user's error: a status of its own, and one line that
    names one of the paths."""
    errors = [line for line in victim.text().splitlines() if line.startswith("error: ")]
    return (
        victim.status in (BAD_INPUT, UNWRITTEN)
        and len(errors) == 1
        and "Traceback" not in victim.text()
        and any(str(name) in errors[0] for name in names)
    )

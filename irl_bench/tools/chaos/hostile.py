"""Run folders from a stranger, who knows how hashes are made: nothing in them is run, nothing is
written outside of them, and every command ends soon, in one line or a correct result."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from irl_bench.core.settings import BadInput
from irl_bench.storage import checkpoints
from irl_bench.storage.files import StoreError
from irl_bench.tools.chaos import tricks
from irl_bench.tools.chaos.counts import Count
from irl_bench.tools.chaos.victims import CONTEXT, Stage

SECONDS = 10.0
"""How long a command may take [s], on an idle core."""
MEMORY = 2**31
"""How much memory a command may take [bytes]."""
SLOW: Mapping[str, tuple[str, ...]] = {
    "report": ("plan_", "special_", "link_", "cell_", "code"),
    "given": ("learned_", "special_", "link_", "code"),
    "load": ("plan_", "learned_", "special_", "link_", "code"),
}
"""Command that takes its time with a sound folder -> the beginnings of the tricks that it may
meet."""


# What people do with such a folder.


def commands(folder: Path, sound: Path, aside: Path) -> Mapping[str, Callable[[], Any]]:
    """Returns {name: what a command does} for a stranger's folder.

    Args:
      folder: the stranger's.
      sound: the folder of a sound run.
      aside: a folder that may be written.
    """
    import envs
    from irl_bench import loading, report
    from irl_bench.labelling import clips
    from irl_bench.plan.build import build
    from irl_bench.plan.request import Request
    from irl_bench.storage import comparisons, demonstrations
    from irl_bench.studies import study
    from irl_bench.tools.chaos import sweeps
    from irl_bench.upkeep import merge, status, verify

    said: list[str] = []

    def verified() -> list[str]:
        found = verify.check(folder)
        # Only what needs code from outside: all else takes its time.
        outside = [cell[2] for cell in found.sound if ":" in f"{cell[1].algo}{cell[1].env}"]
        verify.repeat(found, 0, outside, say=said.append)
        return [*found.problems, *said]

    small = {"env": ("chain",), "budget": "smoke", "seeds": 1, "seeds_at_once": 1}
    do: dict[str, Callable[[], Any]] = {
        "status": lambda: status.status(folder, True)[0].splitlines(),
        "verify": verified,
        "load": lambda: loading.load(folder),
        "given": lambda: build(Request(algo=("stored",), given=str(folder), **cast("Any", small))),
        "demos": lambda: demonstrations.read(folder / "demos.npz", envs.make("chain")),
        "comparisons": lambda: comparisons.read(folder, 1),
        "label": lambda: clips.check_flags(folder, {}, ()),
        "merge": lambda: merge.merge([folder, sound], aside, said.append),
        "report": lambda: _reported(folder, report.rebuild),
        "sweep": lambda: sweeps.record(folder, cast("Any", tricks.plan_of(sound))),
        "checkpoint": lambda: _resumed(folder),
    }
    if (folder / study.INDEX).exists():
        do["study"] = lambda: study.rebuild(folder, said.append)
    needed = {"demos": "demos.npz", "comparisons": comparisons.CLIPS, "label": comparisons.CLIPS}
    needed["checkpoint"] = "checkpoints"
    for name, file in needed.items():
        if not (folder / file).exists():
            del do[name]
    return do


def _resumed(folder: Path) -> list[str]:
    """Does with every cell's checkpoints what a sweep does, and returns what it says."""
    said: list[str] = []
    for place in sorted((folder / "checkpoints").iterdir()):
        checkpoints.restore(place, said.append)
        checkpoints.save(place, 10, {"a": np.ones(3)}, {"key": place.name})
        if checkpoints.restore(place, said.append) is None:
            raise AssertionError("a checkpoint that was saved is not found")
        checkpoints.remove(place)
    return said


def _reported(folder: Path, rebuild: Callable[[Path], Any]) -> list[str]:
    """Writes a report and returns the text that people see outside of it."""
    data = rebuild(folder)
    page = (folder / "report.html").read_text()
    if tricks.MARK in page or "onerror=alert(1)>" in page:
        raise AssertionError("the page holds a stranger's HTML")
    return [*data.sentences, *data.unfinished]


def judge(
    folders: list[str], names: Mapping[str, str], sound: str, to: str, seconds: float
) -> None:
    """Does everything with some folders, and appends what came of it to a file: the main function
    of a process, whose memory is limited.

    Args:
      folders: of strangers.
      names: {folder: the name of the trick}.
      sound: the folder of a sound run.
      to: the file.
      seconds: most that a command may compute [s].
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    import jax

    jax.devices()
    resource.setrlimit(resource.RLIMIT_AS, (24 * 2**30, resource.RLIM_INFINITY))

    def ring(number: int, frame: Any) -> None:
        raise TimeoutError("it takes too long")

    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, ring)
    with Path(to).open("a") as file:
        for name in folders:
            os.chdir(name)  # as whoever looks around in it
            aside = Path(f"{name}-aside")
            for command, do in commands(Path(name), Path(sound), aside).items():
                if not names[name].startswith(SLOW.get(command, ("",))):
                    continue
                file.write(json.dumps({"folder": name, "command": command}) + "\n")
                file.flush()
                file.write(json.dumps(_judged(do, seconds)) + "\n")
                file.flush()
            shutil.rmtree(aside, ignore_errors=True)


def _judged(do: Callable[[], Any], most: float) -> dict[str, Any]:
    """Runs a command and returns what came of it: "refused", "accepted" or "wrong", and why. More
    than `most` seconds of computing are wrong."""
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.setitimer(signal.ITIMER_PROF, 2 * most)
    signal.setitimer(signal.ITIMER_REAL, 30 * most)  # for what waits and computes nothing
    kind, text = "accepted", ""
    try:
        lines = do()
        for line in lines if isinstance(lines, list) else ():
            if not isinstance(line, str) or "\n" in line or not _printable(line):
                kind, text = "wrong", f"a line that is none: {line!r:.200}"
    except (BadInput, StoreError) as error:
        kind, text = "refused", str(error)
        if "\n" in text:
            kind = "wrong"
    except SystemExit as error:
        kind, text = "wrong", f"it ends the process with {error.code}"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        kind = "wrong"
        text = (
            f"{type(error).__name__}: {error!s:.200} ({Path(where.filename).name}:{where.lineno})"
        )
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    seconds = time.process_time() - start
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    if kind != "wrong" and seconds > most:
        kind, text = "wrong", f"it takes {seconds:.1f} s: {text}"
    if kind != "wrong" and grown > MEMORY:
        kind, text = "wrong", f"it takes {grown:,} bytes: {text}"
    return {"kind": kind, "text": text, "seconds": round(seconds, 2)}


def _printable(line: str) -> bool:
    return all(letter.isprintable() or letter == "\t" for letter in line)


def hostile(stage: Stage, size: int, seed: int = 0, seconds: float = SECONDS) -> Count:
    """Folders of strangers, and all that people do with one: status, verify, report, merge, a sweep
    in it, its policies, demonstrations, comparisons and studies.

    Args:
      stage: a small sweep, whose folder strangers change.
      size: number of folders; every kind of trick in turn.
      seed: of what they do.
      seconds: most that a command may compute [s].
    """
    count, start = Count("hostile", lost=None, doubled=None), time.monotonic()
    assert stage.undisturbed
    sound = stage.sound
    root = stage.place / "hostile"
    outside = root / "outside"
    (outside / "empty").mkdir(parents=True)
    (outside / "secret").write_text("secret")
    folders: list[str] = []
    names: dict[str, str] = {}
    for number in range(size):
        trick = tricks.TRICKS[number % len(tricks.TRICKS)]
        folder = root / f"{number:04d}"
        shutil.copytree(sound, folder)
        trick(folder, random.Random(f"{seed} {number}"), outside)
        count.made(trick.__name__)
        folders.append(str(folder))
        names[str(folder)] = trick.__name__
    before = _look(outside)
    to = root / "judged"
    while folders:
        process = CONTEXT.Process(target=judge, args=(folders, names, str(sound), str(to), seconds))
        process.start()
        process.join()
        lines = [json.loads(line) for line in to.read_text().splitlines()] if to.exists() else []
        if process.exitcode == 0:
            break
        # The last command ended the process; the folders after it are still to come.
        last = lines[-1]
        with to.open("a") as file:
            text = f"it ends the process with {process.exitcode}"
            file.write(json.dumps({"kind": "wrong", "text": text, "seconds": 0.0}) + "\n")
        folders = folders[folders.index(last["folder"]) + 1 :] if "folder" in last else []
    _count(to, names, count)
    if _look(outside) != before:
        count.bad("wrong", f"something outside has changed: {sorted(_look(outside))}")
    for path in root.parent.parent.rglob("executed"):
        count.bad("wrong", f"code was run: {path}")
    shutil.rmtree(root)
    count.seconds = time.monotonic() - start
    return count


def _look(folder: Path) -> dict[str, tuple[int, bytes]]:
    """What is in a folder, and since when."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [folder, *folder.rglob("*")]
    }


def _count(to: Path, names: Mapping[str, str], count: Count) -> None:
    """Adds what a process has written down about commands."""
    lines = [json.loads(line) for line in to.read_text().splitlines()]
    for asked, came in zip(lines[::2], lines[1::2], strict=False):
        trick = names[asked["folder"]]
        if came["kind"] == "wrong":
            number = Path(asked["folder"]).name
            count.bad("wrong", f"{trick} {number}, {asked['command']}: {came['text']}")
        elif came["kind"] == "refused":
            count.refused += 1
        else:
            count.harmless += 1

"""Studies: several sweeps that answer one question together, run by `launch/sweep.py
--experiment=NAME`.

A study is a list of parts. Each part is a sweep in a folder of its own. The study reads its results
from these folders alone and writes them beside the parts:

    <out>/<part>/          as any run
    <out>/study.json       the study and the parts that the folder holds
    <out>/<study>.json     every number of the study
    <out>/<study>.html     tables and figures on one page
    <out>/figures/         the figures for print
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import re
import shlex
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from matplotlib.figure import Figure

from irl_bench import sweep
from irl_bench.algos import ALGORITHMS
from irl_bench.core import folders
from irl_bench.core.settings import BadInput, nearest
from irl_bench.core.text import aligned
from irl_bench.plan import build, registry
from irl_bench.plan.references import problem_with
from irl_bench.plan.request import Request
from irl_bench.report import ReportData, figures, load, page, tables
from irl_bench.report.data import NothingFinished, plain
from irl_bench.running.leases import last_key
from irl_bench.running.once import Once
from irl_bench.storage import remote, untrusted
from irl_bench.storage.files import StoreError, locked, store_of, write_atomic
from irl_bench.studies import STUDIES

INDEX = "study.json"
"""The file that marks a folder as a study's and lists its parts."""

ARMS = ("mask_failure", "control", "shuffled")
"""Settings that make another learner of one: a reward that sees the failure flag, or a control."""

Row = dict[str, Any]
"""A row of a table, or a point of a figure; JSON values."""


class Result(TypedDict):
    """What a study reads from its parts; JSON values."""

    title: str
    """Heading of the page."""
    text: list[str]
    """Paragraphs that explain the tables."""
    tables: dict[str, list[Row]]
    """Heading -> rows, which all have the same keys."""
    points: list[Any]
    """The numbers that the figures draw, a dictionary each."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One sweep of a study."""

    name: str
    """Its folder within the study's; levels are separated by /."""
    request: Request
    """What the sweep runs."""
    report: bool = True
    """Whether the part gets its own report at once; `launch/report.py` writes one at any time."""
    after: str | None = None
    """The part that learns the policy or reward of `request.given`."""
    beside: str | None = None
    """The part against which this one is read."""


@dataclasses.dataclass(frozen=True)
class Study:
    """A study; each study's module defines one as `STUDY`.

    Attributes:
      name: as in --experiment=NAME.
      help: one line.
      algo, env: algorithms and worlds where --algo and --env are not set.
      fixed: whether the study accepts no other algorithms and only one number of demonstrations.
      sizes: {budget: defaults of the request's fields}; "demos" is a tuple of numbers.
      parts: (request, numbers of demonstrations, folder) -> the sweeps, in the order to run.
      read: {part's name: the data of its report} -> the study's result.
      draw: the result, as read back from JSON -> the figure.
      measure: {part's name: the data of its report} -> points, of a study that can be read in
        parts; `read` joins them. None if the study has no result before all parts are there.
      join: (points from any parts and results of the study, the names of all parts) -> the study's
        result; there is one where there is `measure`.
      brief: as `env`, at the budget `smoke`; (): `env`.
    """

    name: str
    help: str
    algo: tuple[str, ...]
    env: tuple[str, ...]
    fixed: bool
    sizes: Mapping[str, Mapping[str, Any]]
    parts: Callable[[Request, tuple[int, ...], Path], list[Part]]
    read: Callable[[Mapping[str, ReportData]], Result]
    draw: Callable[[Mapping[str, Any]], Figure]
    measure: Callable[[Mapping[str, ReportData]], Sequence[Any]] | None = None
    join: Callable[[Sequence[Any], Iterable[str]], Result] | None = None
    brief: tuple[str, ...] = ()


def find(name: str) -> Study:
    """Returns a study by name.

    Raises:
      BadInput: there is no such study; one line with the nearest name.
    """
    if name not in STUDIES:
        near = nearest(name, STUDIES)
        raise BadInput(
            f"--experiment: unknown study {name!r} ({' | '.join(STUDIES)}); did you mean {near!r}?"
        )
    return importlib.import_module(STUDIES[name]).STUDY


def narrowed(request: Request, **changes: Any) -> Request:
    """Returns `request` with some fields changed.

    Settings of algorithms and worlds that the new request does not run are dropped.
    """
    changed = dataclasses.replace(request, **changes)
    names = {registry.algorithm(ref).name for ref in changed.algo} | {
        registry.world(ref).name for ref in changed.env
    }
    return dataclasses.replace(
        changed, settings={k: v for k, v in changed.settings.items() if k in names}
    )


def refuse(
    request: Request,
    study: str,
    settings: Mapping[str, Iterable[str]],
    why: str = "compares its values",
) -> None:
    """Refuses settings that a study sets itself.

    Args:
      request: what its parts have in common.
      study: the study's name.
      settings: {algorithm or world: names of settings}.
      why: what the study does with them.

    Raises:
      BadInput: the request sets one; one line.
    """
    for group, names in settings.items():
        for name in sorted(names):
            if name in request.settings.get(group, {}):
                raise BadInput(
                    f"--{group}.{name}: --experiment={study} {why}; nearest: leave it out"
                )


def chosen(parts: Sequence[Part], only: Sequence[str]) -> list[Part]:
    """Returns some parts of a study, in their order, with those that they take from or are read
    against.

    Args:
      parts: all of them.
      only: names, or beginnings of names that end before a `/`; (): all.

    Raises:
      BadInput: a name fits no part; one line.
    """
    names: set[str] = set()
    for name in only:
        fitting = {p.name for p in parts if f"{p.name}/".startswith(f"{name}/")}
        if not fitting:
            known = {"/".join(p.name.split("/")[: name.count("/") + 1]) for p in parts}
            raise BadInput(
                f"--parts: the study has no part {name!r}; nearest: --parts={nearest(name, known)}"
            )
        names |= fitting
    for part in reversed(parts):  # what a part takes from stands before it
        if part.name in names:
            names |= {other for other in (part.beside, part.after) if other}
    return [part for part in parts if not only or part.name in names]


def run(
    study: Study,
    request: Request,
    demos: tuple[int, ...],
    line: str,
    say: Callable[[str], None] = print,
    only: Sequence[str] = (),
) -> dict[str, Any]:
    """Runs what is missing of every part, then writes the study's files.

    Args:
      study: the study.
      request: what its parts have in common; `request.out` is the study's folder.
      demos: numbers of demonstrations.
      line: the command line, which is stored.
      say: receives lines on the progress, and the tables.
      only: the parts to run, as in `chosen`.

    Returns:
      The study's result with what its index says; JSON values. {} while parts are missing of a
      study that cannot be read without them.

    Raises:
      BadInput, StoreError, runner.Interrupted: as `sweep.sweep`. BadInput comes before anything is
        written.
    """
    out = folders.expand(request.out)
    sweep.check_folder(out)
    every = study.parts(request, demos, out)
    parts = chosen(every, only)
    for part in parts:
        if not part.after:
            build.build(part.request)
    index: dict[str, Any] = {
        "study": study.name,
        "command": line,
        "parts": {part.name: part.report for part in every},
        "entries": {},
    }
    with locked(out):
        before = index_of(out)
        earlier = before["study"] if before else study.name
        if earlier != study.name:
            raise BadInput(
                f"--out={request.out} holds the study {earlier}; nearest: "
                f"--out={request.out}-{study.name}"
            )
        entries = before.get("entries", {}) if before and only else {}
        if before and entries:
            theirs, ours = _apart(before["command"], line)
            if theirs != ours:
                raise BadInput(
                    f"--out={request.out} holds parts under other conditions: their command has "
                    f"{theirs}, this one {ours}; nearest: another --out"
                )
        index["entries"] = {**entries}
        write_atomic(out / INDEX, _text(index))
    once = Once(out, last_key([study.name, *(part.name for part in parts)]))
    for number, part in enumerate(parts, 1):
        say(f"part {number} of {len(parts)}: {part.name}")
        ran = sweep.compute(part.request, line, say)
        index["entries"][part.name] = [
            [entry["env"], entry["algo"], entry["mode"]] for entry in ran.planned["entries"]
        ]
        if part.report:
            sweep.finish(ran, say)
    with locked(out):  # other parts may have been run meanwhile
        now = index_of(out)
        if only and now:
            index["entries"] = {**now.get("entries", {}), **index["entries"]}
        write_atomic(out / INDEX, _text(index))
    written: list[dict[str, Any]] = []

    def wait() -> None:
        say(f"another worker writes the study; to print it: irl-bench report {remote.shown(out)}")

    once.write(lambda: written.append(latest(out, say)), wait)
    if written:
        return written[0]
    store = store_of(out)
    assert store is not None
    return untrusted.parsed(store.read(out / f"{study.name}.json") or b"{}")


def latest(out: Path, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Writes a study's files from the parts that are there, and says which are to come.

    Returns:
      As `run`.
    """
    index = index_of(out)
    assert index is not None, "the folder is a study's"
    missing = [name for name in index["parts"] if name not in index.get("entries", {})]
    if missing:
        say(f"parts to come: {', '.join(missing)}")
        if find(index["study"]).measure is None:
            say(f"{index['study']} is read once all of its parts are there")
            return {}
    try:
        return rebuild(out, say, partial=bool(missing))
    except NothingFinished as error:
        if not missing:
            raise
        say(str(error))
        return {}


_PART = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")


def index_of(folder: Path) -> dict[str, Any] | None:
    """Returns the index of a study's folder; None if the folder is not a study's.

    Raises:
      BadInput: the index is damaged, or a part has a name that leads out of the folder.
    """
    path = folder / INDEX
    if not path.exists():
        return None
    triples = untrusted.listed(untrusted.listed(untrusted.text, 3))
    index: Any = None
    try:
        index = untrusted.parsed(untrusted.content(path))
        wrong = untrusted.fields(
            index,
            {
                "study": untrusted.name,
                "parts": untrusted.mapped(lambda value: isinstance(value, bool)),
            },
            {"command": untrusted.text, "entries": untrusted.mapped(triples)},
        )
    except (OSError, ValueError):
        wrong = "damaged"
    if wrong:
        raise BadInput(f"{path} is damaged; nearest: run the study's command again")
    for part in index["parts"]:
        if not _PART.fullmatch(part) or {".", ".."} & set(part.split("/")):
            raise BadInput(f"{path} names a part {part!r}, which is no folder of a study")
        place = folder / part
        for inside in (place, *place.parents[: part.count("/")]):
            if untrusted.leads_out(folder, inside):
                raise BadInput(f"{path}: its part {inside} is a link that leads out of the folder")
    return index


def _text(index: Mapping[str, Any]) -> bytes:
    """Returns the content of `INDEX`."""
    return (json.dumps(index, indent=1) + "\n").encode()


def _load(out: Path, part: str, entries: Sequence[Sequence[str]] | None) -> ReportData:
    """Reads a part's data. Unfinished entries of other runs are left out.

    Raises:
      StoreError: one of the study's own `entries` (env, algo, mode) is missing; one line.
    """
    if entries is None:
        return load(out / part)
    data = load(out / part, partial=True)
    finished = {(entry["env"], entry["algo"], entry["mode"]) for entry in data.plan["entries"]}
    for entry in entries:
        if tuple(entry) not in finished:
            env, algo, mode = entry
            raise StoreError(
                f"{out / part}: results of {algo} on {env} ({mode}) are missing; run the same "
                "sweep command to compute them"
            )
    return data


def rebuild(
    out: Path,
    say: Callable[[str], None] = print,
    partial: bool = False,
    stored: Path | None = None,
) -> dict[str, Any]:
    """Writes a study's files from its parts' stored cells alone.

    Args:
      out: the study's folder.
      say: receives the tables.
      partial: whether parts may be missing; the result says which ones.
      stored: an earlier result of the same study (`<name>.json`), whose points are completed with
        those of the folder. Implies `partial`.

    Returns:
      The study's result with what its index says; JSON values.

    Raises:
      ValueError: a part is missing or cannot be used; one line that names it.
      BadInput: the study cannot be read in parts, or `stored` is not its result; one line.
    """
    index = index_of(out)
    if index is None:
        raise StoreError(f"{out / INDEX} is missing; nearest: run the study's command again")
    study, parts, entries = find(index["study"]), {**index["parts"]}, index.get("entries", {})
    shown = {name: value for name, value in index.items() if name != "entries"}
    if partial or stored:
        data = _finished(out, study, parts)
        read = _joined(study, index, data, stored)
    else:
        try:
            data = {name: _load(out, name, entries.get(name)) for name in parts}
        except (StoreError, BadInput) as error:
            if study.measure is None:
                raise
            raise type(error)(f"{error}; with --partial the report says what is there") from error
        read = study.read(data)
    old = dict.fromkeys(line for part in data.values() for line in part.other_rules)
    read["text"] = [*old, *_other_learners(index["command"]), *read["text"]]
    reported = [name for name, report in parts.items() if report and name in data]
    with _unlike(stored, study):
        result = plain({**shown, **read})
        drawn = figures.files(study.name, lambda: study.draw(result))
        pictures = {name: content for name, content in drawn.items() if name.endswith(".png")}
        html = page.study(result, pictures, reported)
    with locked(out):
        for name, content in drawn.items():
            write_atomic(out / "figures" / name, content)
        write_atomic(
            out / f"{study.name}.json",
            (json.dumps(result, indent=1, ensure_ascii=False) + "\n").encode(),
        )
        write_atomic(out / f"{study.name}.html", html.encode())
    for heading, rows in result["tables"].items():
        table = tables.of(rows)
        say("\n".join(["", heading, *aligned([table.header, *table.rows], table.text)]))
    say("\n".join(["", *result["text"], f"study: {remote.shown(out / study.name)}.html"]))
    return result


def _finished(out: Path, study: Study, parts: Iterable[str]) -> dict[str, ReportData]:
    """What is there of each part of a study that can be read in parts."""
    if study.measure is None:
        readable = [name for name in STUDIES if find(name).measure]
        raise BadInput(
            f"{study.name} has no result before all of its parts are there (--partial and --stored "
            f"are for {', '.join(readable)}); nearest: run its command again, which goes on"
        )
    data: dict[str, ReportData] = {}
    for part in parts:
        if not (out / part / "plan.json").exists():
            continue
        with contextlib.suppress(NothingFinished):
            data[part] = load(out / part, partial=True)
    return data


def _joined(
    study: Study, index: Mapping[str, Any], data: Mapping[str, ReportData], stored: Path | None
) -> Result:
    """The result of a study's parts `data` and of an earlier result, whose points count where both
    have one."""
    assert study.measure is not None and study.join is not None
    points = [*(_earlier(stored, index) if stored else []), *study.measure(data)]
    if not points:
        raise NothingFinished(
            f"{index['study']} has no part yet that can be read; run its command to compute them"
        )
    with _unlike(stored, study):
        return study.join(points, index["parts"])


@contextlib.contextmanager
def _unlike(stored: Path | None, study: Study) -> Generator[None]:
    """Turns what damaged points of `stored` lead to into a BadInput of one line."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if stored is None or isinstance(error, BadInput | StoreError):
            raise
        missing = isinstance(error, KeyError)
        why = f"{error} is missing or unknown" if missing else "a value is not of its kind"
        raise BadInput(
            f"--stored={stored} holds points that {study.name} does not store ({why}); nearest: "
            "the file that the study wrote"
        ) from None


def _earlier(stored: Path, index: Mapping[str, Any]) -> list[Any]:
    """The points of a stored result of the study that `index` describes."""
    try:
        result = json.loads(stored.read_text())
        study, theirs = result["study"], result["command"]
        stored_has, folder_has = _apart(theirs, index["command"])
        points = [{**point} for point in result["points"]]
    except OSError as error:
        raise BadInput(f"--stored={stored}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(
            f"--stored={stored} is not a study's result; nearest: the file STUDY.json in its folder"
        ) from None
    if study != index["study"]:
        raise BadInput(
            f"--stored={stored} is a result of {study}, and the folder's is not; nearest: one of "
            f"{index['study']}"
        )
    if stored_has != folder_has:
        raise BadInput(
            f"--stored={stored} has other conditions than the folder: the file's command has "
            f"{stored_has}, the folder's {folder_has}; nearest: a result and a folder of one "
            "command"
        )
    for number, point in enumerate(points):
        algo = point.get("algo", "expert")
        problem = problem_with(str(algo), ALGORITHMS, "algorithm")
        if problem:
            raise BadInput(
                f"--stored={stored}: point {number} of `points`: {problem}; nearest: the file that "
                "the study wrote"
            )
    return points


def first_of_each(points: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Returns the first point of each part of a study, as copies.

    Args:
      points: of any parts, each with its "part".

    Raises:
      BadInput: a point does not say of which part it is; one line.
    """
    found: dict[str, Row] = {}
    for point in points:
        if "part" not in point:
            raise BadInput(
                "--stored: the result is of an earlier version, which did not store the parts of "
                "its points; nearest: the study's command, which measures it again"
            )
        found.setdefault(point["part"], {**point})
    return list(found.values())


def not_run(points: Iterable[Mapping[str, Any]], parts: Iterable[str]) -> list[str]:
    """Returns a sentence on the parts of which there is no point; [] if there is none."""
    absent = sorted({*parts} - {point["part"] for point in points})
    return [f"Not run: {', '.join(absent)}."] if absent else []


NO_CONDITIONS = ("out", "seeds_at_once", "tensorboard", "compile_cache")
"""Flags that do not say what is measured."""


def _apart(one: str, other: str) -> tuple[str, str]:
    """The conditions that only one of two command lines has, of each of them."""
    first, second = _conditions(one), _conditions(other)
    alone = (" ".join(sorted(first - second)), " ".join(sorted(second - first)))
    return alone[0] or "none of its own", alone[1] or "none of its own"


def _conditions(command: str) -> set[str]:
    """The flags of a command line that say what is measured."""
    found: set[str] = set()
    words = shlex.split(command)
    for word, after in zip(words, [*words[1:], "-"], strict=True):
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or name in NO_CONDITIONS:
            continue
        if not equals and not after.startswith("-"):
            value = after
        found.add(f"--{name}={value}" if value else f"--{name}")
    return found


def _other_learners(command: str) -> list[str]:
    """Returns a line for each of a study's flags that `refuse` keeps from studies of today."""
    return [
        f"made under other rules: with {flag} rows are of another learner than their names say; do "
        "not compare them with those of today"
        for flag in sorted(_conditions(command))
        if flag.partition("=")[0].rpartition(".")[2] in ARMS
    ]


def shared(source: str, target: str, request: Request, env: str) -> dict[str, Any]:
    """Returns the values of algorithm `source` in a world for the settings that algorithm `target`
    has too."""
    names = registry.algorithm(target).settings
    return {
        name: value
        for name, value in build.resolved(registry.algorithm(source), request, env).items()
        if name in names
    }


OVER_HORIZONS: Mapping[str, Any] = {"burn_in": None}
"""What a study whose results are read over horizons adds to its sizes: its episodes begin after the
burn-in of the world's budget, while those of other studies begin at the world's own start."""

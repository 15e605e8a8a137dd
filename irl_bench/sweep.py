"""A sweep, from its request to its report."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from irl_bench import report
from irl_bench.core import folders
from irl_bench.core.cell import CellSpec, cell_key, fingerprint
from irl_bench.core.settings import BadInput
from irl_bench.horizon.window import RANGE, SETTLED, least_T_max
from irl_bench.plan import pilot, presets, rates, registry, shards
from irl_bench.plan.build import Plan, build
from irl_bench.plan.document import displaced, document, merge
from irl_bench.plan.pilot import AUTO
from irl_bench.plan.request import Request
from irl_bench.report import curves
from irl_bench.running import processes, runner
from irl_bench.running.leases import last_key
from irl_bench.running.once import Once
from irl_bench.storage import remote, untrusted, world_files
from irl_bench.storage.cells import fetch, stored
from irl_bench.storage.files import locked, store_of
from irl_bench.storage.plans import PlanDocument, WorldRecord, read_plan, update_plan


def sweep(
    request: Request, line: str = "", say: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """Runs the missing cells of a request, then writes `verdicts.json` and the report.

    Args:
      request: what to run.
      line: the command that the report shows.
      say: is called with each line for the user.

    Returns:
      The verdicts of everything in the folder's plan; none if the request is a part of a plan whose
      other cells are missing, or in a process that follows another one.

    Raises:
      BadInput: the request cannot be run; one line for the user.
      StoreError: a file of the folder is damaged or cannot be written; one line for the user.
      runner.Interrupted: SIGTERM or SIGINT arrived; it is a SystemExit with status 75.
    """
    if not processes.leads():
        runner.follow(build(request).inputs)
        return []
    ran = compute(request, line, say)
    if not (ran.once and ran.once.begun) and incomplete(ran.out, ran.planned, say):
        return []
    return finish(ran, say)


class Ran(NamedTuple):
    """What `compute` did."""

    out: Path
    """The run's folder."""
    planned: PlanDocument
    """The document of the sweep's plan."""
    compilations: dict[str, dict[str, int]]
    """How often each program was compiled."""
    once: Once | None = None
    """The report, which one of the workers writes; None: this one does."""


def incomplete(out: Path, planned: PlanDocument, say: Callable[[str], None]) -> bool:
    """Returns whether cells of a plan are not stored, and says how many."""
    keys = set(keys_of(planned))
    absent = len(keys - stored(out)) and len(keys - stored(out, anew=True))
    if absent:
        again = f"irl-bench report {remote.shown(out)}"
        say(f"{absent} cells of the plan are not stored yet; when they are: {again}")
    return absent > 0


def keys_of(planned: PlanDocument) -> list[str]:
    """Returns the keys of a plan's cells."""
    return [key for entry in planned["entries"] for key in entry["cells"]]


def finish(ran: Ran, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Writes the report of a folder whose cells have been computed.

    Args:
      ran: what `compute` did.
      say: is called with each line for the user.

    Returns:
      The verdicts of everything in the folder's plan, as in `verdicts.json` if another worker has
      written it.

    Raises:
      StoreError: a file of the folder is damaged or cannot be written.
    """
    out = ran.out
    written: list[report.ReportData] = []

    def write() -> None:
        with locked(out):
            data = report.load(out, partial=True)
            report.write(data, out)
            lines = displaced(read_plan(out) or ran.planned, ran.planned)
        for text in (*data.unfinished, *data.other_rules, *lines):
            say(text)
        written.append(data)

    def wait() -> None:
        say(f"another worker writes the report; to print it: irl-bench report {remote.shown(out)}")

    if ran.once is None:
        write()
    else:
        ran.once.write(write, wait)
    if not written:
        store = store_of(out)
        assert store is not None
        return untrusted.parsed(store.read(out / "verdicts.json") or b"[]")
    report.show(written[0].verdicts, written[0].sentences, ran.compilations)
    say(f"report: {remote.shown(out / 'report.html')}")
    return written[0].verdicts


def compute(request: Request, line: str, say: Callable[[str], None]) -> Ran:
    """Runs the missing cells of a request, without the report.

    Args:
      request: what to run.
      line: the command that the report shows.
      say: is called with each line for the user.

    Raises:
      BadInput: as `sweep`.
      StoreError: as `sweep`.
    """
    runner.check_options()
    if request.demos == AUTO:
        request = _piloted(request, line, say)
    plan = build(request)
    with processes.leading():
        return _carry_out(request, plan, line, say)


def _carry_out(request: Request, plan: Plan, line: str, say: Callable[[str], None]) -> Ran:
    """Runs the missing cells of a plan; as `compute`."""
    cells = asked_for(request, plan)
    out = _folder(request.out)
    for note in plan.notes:
        say(f"note: {note}")
    planned = document(plan, line, fingerprint())
    for text in merge(update_plan(out, lambda before: merge(before, planned)[0]), planned)[1]:
        say(text)
    world_files.keep(out, plan.worlds)
    last = last_key(keys_of(planned))
    once = Once(out, last)
    summary = runner.run(cells, out, plan.inputs, tensorboard=request.tensorboard, last=last)
    if store_of(out):
        remote.push(out)
        # Another machine may have written its plan over this one in the moment of the start.
        update_plan(out, lambda now: merge(planned, now)[0] if now else planned)
    return Ran(out, planned, summary.compilations, once)


def asked_for(request: Request, plan: Plan) -> Sequence[CellSpec]:
    """Returns the cells of a plan that a request asks to compute.

    Raises:
      BadInput: it names a cell that the plan has not.
    """
    prints = fingerprint()
    by_key = {cell_key(cell, prints): cell for cell in plan.cells}
    if request.cells is not None:
        return shards.named(by_key, request.cells)
    if request.shard is not None:
        return shards.share(by_key, expected(plan, prints), *request.shard)
    return plan.cells


def expected(plan: Plan, fingerprint: Mapping[str, Any]) -> dict[str, float | None]:
    """Returns {key: what the cell is expected to take on one CPU core [s]} of a plan, None where
    nothing is known."""
    return {
        cell_key(cell, fingerprint): rates.seconds_of(
            cell.env, cell.algo, cell.to_dict(), entry.rounds, entry.consumes["env_steps"]
        )
        for entry in plan.entries
        for cell in entry.cells
    }


def _piloted(request: Request, line: str, say: Callable[[str], None]) -> Request:
    """A request for "auto" demonstrations with those that a pilot finds in every world.

    The pilot's cells are stored in `<out>/pilot`, so that it runs once.
    """
    if request.demos_from is not None:
        raise BadInput("demos='auto' cannot be combined with demos_from; nearest: leave out demos")
    # What is wrong is said before the pilot runs.
    worlds = build(dataclasses.replace(request, demos=None)).worlds
    check_T_max(worlds)
    folder = _folder(str(folders.expand(request.out) / "pilot"))
    pilots: dict[str, pilot.Pilot] = {}
    for env in request.env:
        loaded = registry.world(env)
        budget = presets.budget_of(env, request.budget)
        quiet = dataclasses.replace(
            request,
            algo=("bc",),
            env=(env,),
            mode=tuple(loaded.world.modes)[:1],
            seeds=pilot.SEEDS,
            first_seed=pilot.FIRST_SEED,
            episodes=min(request.episodes or budget.episodes, pilot.EPISODES),
            horizons="auto",
            burn_in=worlds[env].get("burn_in", 0),
            given=None,
            tensorboard=False,
            worlds_over_devices=False,
            settings={k: v for k, v in request.settings.items() if k in ("bc", loaded.name)},
        )

        def measure(demos: int, quiet: Request = quiet, env: str = env) -> float:
            plan = build(dataclasses.replace(quiet, demos=demos), piloting=True)
            # Neither h nor the number of demonstrations depends on the references.
            place = next(i for i, entry in enumerate(plan.entries) if entry.id[1] == "bc")
            runner.run(plan.entries[place].cells, folder, plan.inputs)
            entry = document(plan, line, fingerprint())["entries"][place]
            fetch(folder, entry["cells"])
            curve = curves.read(folder, entry)
            hazard = curve.rates()[0]
            if hazard is None:
                raise BadInput(
                    f"--demos=auto: no seed of BC on {env} is usable after {demos} demonstrations; "
                    "nearest: a number in place of auto"
                )
            return hazard * plan.worlds[env]["horizon"]

        found = pilot.find(measure, env, budget.demos, pilot.MOST * budget.demos)
        say(f"{env}: {found}")
        pilots[env] = found
    return dataclasses.replace(request, demos=None, pilots=pilots)


def check_T_max(worlds: Mapping[str, WorldRecord]) -> None:
    """Checks, for --demos=auto, that T_max is long enough for a window, however rarely BC fails.

    Args:
      worlds: {name: its record in the plan}.

    Raises:
      BadInput: T_max is too short in a world; one line with the least T_max that is long enough in
        all of them.
    """
    least = {env: least_T_max(world["u"], world["latency"]) for env, world in worlds.items()}
    short = [env for env, world in worlds.items() if world["horizon"] < least[env]]
    if not short:
        return
    env, world = short[0], worlds[short[0]]
    steps, name = max((world["u"] or 0, "u"), (world["latency"], "L"))
    raise BadInput(
        f"--demos=auto: NO-WINDOW on {env}, whatever the number of demonstrations: "
        f"T_max={world['horizon']} is below {RANGE:g} x {SETTLED:g} x {name} = {least[env]} with "
        f"{name} = {steps} steps; nearest: --T_max={max(least[env] for env in short)}"
    )


def _folder(name: str) -> Path:
    """The run's folder, which is created if it does not exist.

    Raises:
      BadInput: it cannot be a folder, or it is not writable.
    """
    out = folders.expand(name)
    check_folder(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise BadInput(
            f"--out={name} cannot be written to ({error.strerror}); nearest: {Request.out}"
        ) from None
    return out


def check_folder(out: Path) -> None:
    """Checks that a folder exists or can be created.

    Raises:
      BadInput: `out` or one of its parents is a file, or the path cannot be used.
    """
    try:
        for path in (out, *out.parents):
            if path.exists():
                if not path.is_dir():
                    raise BadInput(
                        f"--out={out}: {path} is a file, not a folder; nearest: {path}.run"
                    )
                return
    except OSError as error:
        raise BadInput(
            f"--out={out} cannot be used ({error.strerror}); nearest: {Request.out}"
        ) from None

"""A sweep from its request to its report."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from irl_bench import report
from irl_bench.core import folders
from irl_bench.core.cell import fingerprint
from irl_bench.core.settings import BadInput
from irl_bench.plan import build as plans
from irl_bench.run import runner
from irl_bench.storage.cells import locked, read_plan, write_plan


def sweep(
    request: plans.Request, line: str = "", say: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """Runs what is missing of a request, then writes `verdicts.json` and the report.

    Args:
      request: what to run.
      line: the command to note down in the report.
      say: takes each line that is meant for the user.

    Returns:
      The verdicts of everything in the folder's plan.

    Raises:
      BadInput, StoreError: one line for the user.
      runner.Interrupted: SIGTERM or SIGINT came; it is a SystemExit with status 75.
    """
    out, document, compilations = compute(request, line, say)
    return finish(out, document, compilations, say)


def finish(
    out: Path,
    document: dict[str, Any],
    compilations: dict[str, dict[str, int]],
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """The report of a folder once the cells of `document` are there; returns the verdicts of
    everything in it."""
    with locked(out):
        made = report.load(out, partial=True)
        report.write(made, out)
        displaced = plans.displaced(read_plan(out) or document, document)
    for text in (*made.unfinished, *displaced):
        say(text)
    report.show(made.verdicts, made.sentences, compilations)
    say(f"report: {out / 'report.html'}")
    return made.verdicts


def compute(
    request: plans.Request, line: str, say: Callable[[str], None]
) -> tuple[Path, dict[str, Any], dict[str, dict[str, int]]]:
    """`sweep` without its report: the run's folder, its plan's document and what was compiled."""
    runner.check_options()
    plan = plans.build(request)
    out = _folder(request.out)
    for note in plan.notes:
        say(f"note: {note}")
    document = plans.document(plan, line, fingerprint())
    with locked(out):
        merged, dropped = plans.merge(read_plan(out), document)
        for text in dropped:
            say(text)
        write_plan(out, merged)
    return out, document, runner.run(plan.cells, out, tensorboard=request.tensorboard).compilations


def _folder(name: str) -> Path:
    """The run's folder, made if need be. Raises BadInput if it cannot be one or nothing can be
    written there."""
    out = folders.expand(name)
    check_folder(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise BadInput(
            f"--out={name} cannot be written to ({error.strerror}); nearest: {plans.Request.out}"
        ) from None
    return out


def check_folder(out: Path) -> None:
    """Raises BadInput if `out`, or a folder it would lie in, is a file."""
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
            f"--out={out} cannot be used ({error.strerror}); nearest: {plans.Request.out}"
        ) from None

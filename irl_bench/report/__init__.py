"""The report of a run: verdicts.json, report.html, figures and the table on the terminal. All come
from the stored cells alone."""

from __future__ import annotations

import os
import pathlib

from irl_bench.report.data import ReportData, load, plan_of, verdicts_json
from irl_bench.report.terminal import show

__all__ = ["ReportData", "load", "rebuild", "show", "verdicts_json", "write"]


def rebuild(out: str | os.PathLike[str]) -> ReportData:
    """Reads a run's folder, recomputes its verdicts, writes the report into it and returns its
    data.

    Raises:
      ValueError: the folder holds no plan, a stored cell cannot be used, or a file cannot be
        written; one line.
    """
    from irl_bench.storage.files import locked

    plan_of(out)  # no lock in a folder without a run
    with locked(pathlib.Path(out)):
        data = load(out, partial=True)
        write(data, out)
    return data


def write(data: ReportData, out: str | os.PathLike[str]) -> None:
    """Writes verdicts.json, report.html, and figures/*.png and *.pdf. Equal data give equal bytes.

    Raises StoreError if a file cannot be written.
    """
    from irl_bench.report import figures, page
    from irl_bench.storage.files import write_atomic

    folder = pathlib.Path(out)
    write_atomic(folder / "verdicts.json", verdicts_json(data.verdicts).encode())
    for name, content in figures.draw(data).items():
        write_atomic(folder / "figures" / name, content)
    write_atomic(folder / "report.html", page.build(data).encode())

"""The verdicts as text: a rich table on a terminal, aligned plain text elsewhere."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from irl_bench.core.text import aligned
from irl_bench.report.tables import MISSING, exponent, is_reference, number, window

WIDTH = 100
"""Longest line [characters]."""
HEADER = (
    "mode",
    "algorithm",
    "verdict",
    "slope [95 % CI]",
    "h",
    "ρ",
    "level",
    "untrained",
    "seeds",
)
LIMITS = (14, 12, 14, 20, 8, 8, 8, 9, 6)
"""Most characters of each column; a longer cell ends in an ellipsis. Columns and gaps together stay
within WIDTH."""
_WORDS = 3  # columns of words, aligned left


def show(
    verdicts: Sequence[Mapping[str, Any]],
    sentences: Sequence[str],
    compilations: Mapping[str, Mapping[str, int]] | None = None,
    file: TextIO | None = None,
) -> None:
    """Prints one table per world with the reason of every verdict, then counts and sentences.

    Args:
      verdicts: as `horizon.analyse` returns them.
      sentences: as `horizon.sentences` returns them.
      compilations: `algo env` -> how often each function was compiled; None prints nothing.
      file: where to print; None for standard output.
    """
    stream: TextIO = sys.stdout if file is None else file
    worlds = list(dict.fromkeys(clean(verdict["env"]) for verdict in verdicts))
    for env in worlds:
        learners = [v for v in verdicts if clean(v["env"]) == env and not is_reference(v)]
        limits = window(learners[0]) if learners else MISSING
        title = (
            env
            if not learners
            else f"{env}: no window"
            if limits == MISSING
            else f"{env}: window {limits} steps"
        )
        rows = [_row(verdict) for verdict in learners]
        reasons = [
            (
                f"{clean(v['algo'])}, {clean(v['mode'])}",
                clean(v.get("reason") or MISSING) + _mixed(v) + _exact(v),
            )
            for v in learners
        ]
        if stream.isatty():
            _rich(title, rows, reasons, stream)
        else:
            _plain(title, rows, reasons, stream)
    for name, counts in (compilations or {}).items():
        listed = ", ".join(f"{clean(function)} {count}" for function, count in counts.items())
        print(
            _filled(f"compiled for {clean(name)}: {listed}", later="  "),
            file=stream,
        )
    for sentence in sentences:
        print(_filled(clean(sentence)), file=stream)


def _filled(text: str, first: str = "", later: str = "") -> str:
    """Text in lines of WIDTH, indented. Names of verdicts have hyphens and stay whole."""
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=later, break_on_hyphens=False
    )


def _mixed(verdict: Mapping[str, Any]) -> str:
    """What a mixed verdict is, in words; empty for others."""
    return "; mixed: some seeds come back, and others do not" if verdict.get("mixed") else ""


def _exact(verdict: Mapping[str, Any]) -> str:
    """The comparison with the closed form, in words; empty without one."""
    unjudged = ", ".join(map(str, verdict.get("closed_form_unjudged") or []))
    if verdict.get("closed_form_z") is None and not unjudged:
        return ""
    slopes = f"slope {number(verdict['slope'], 4)}, exactly {number(verdict['exact_slope'], 4)}"
    worst, last = number(verdict["closed_form_z"], 2), number(verdict["closed_form_z_T_max"], 2)
    text = f"; closed form: {slopes}; |z| <= {worst} at any horizon, z = {last} at the longest"
    return text + (f"; all seeds differ from it alike at T = {unjudged}" if unjudged else "")


def clean(text: Any) -> str:
    """A value as one line of text.

    Spaces replace control characters, so that no name can move the cursor or colour the screen.
    """
    return "".join(character if character.isprintable() else " " for character in str(text))


def _row(verdict: Mapping[str, Any]) -> list[str]:
    usable, seeds = verdict.get("usable_seeds"), verdict.get("seeds")
    cells = (
        clean(verdict["mode"]),
        clean(verdict["algo"]),
        clean(verdict["verdict"]),
        exponent(verdict.get("slope"), verdict.get("ci_low"), verdict.get("ci_high"), 2),
        *(
            number(verdict.get(key), 2)
            for key in ("hazard", "recovery", "level", "untrained_level")
        ),
        number(seeds) if usable == seeds else f"{number(usable)}/{number(seeds)}",
    )
    return [
        cell if len(cell) <= limit else cell[: limit - 1] + "…"
        for cell, limit in zip(cells, LIMITS, strict=True)
    ]


def _plain(title: str, rows: list[list[str]], reasons: list[tuple[str, str]], file: TextIO) -> None:
    print(title, *aligned([HEADER, *rows], range(_WORDS), " "), sep="\n", file=file)
    for name, reason in reasons:
        print(
            _filled(f"{name}: {reason}", first="  ", later="    "),
            file=file,
        )
    print(file=file)


def _rich(title: str, rows: list[list[str]], reasons: list[tuple[str, str]], file: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=file)
    table = Table(
        title=Text(title), title_justify="left", box=None, padding=(0, 1, 0, 0), header_style="dim"
    )
    for i, name in enumerate(HEADER):
        table.add_column(name, justify="left" if i < _WORDS else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            *(Text(cell, style="bold" if i == _WORDS - 1 else "") for i, cell in enumerate(row))
        )
    console.print(table)
    for name, reason in reasons:
        console.print(Text(f"{name}: {reason}", style="dim"))
    console.print()

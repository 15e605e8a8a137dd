"""Text for terminals."""

from __future__ import annotations

from collections.abc import Container, Sequence


def aligned(
    rows: Sequence[Sequence[str]], words: Container[int] | None = None, gap: str = "  "
) -> list[str]:
    """Lines of cells in columns; `words`: columns that are set to the left (None: all), the
    others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = words if words is not None else range(len(widths))
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        placed = (
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(cells)
        )
        lines.append("  " + gap.join(placed).rstrip())
    return lines

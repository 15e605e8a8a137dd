"""Text for terminals."""

from __future__ import annotations

from collections.abc import Container, Sequence


def aligned(
    rows: Sequence[Sequence[str]], words: Container[int] | None = None, gap: str = "  "
) -> list[str]:
    """Returns one line of text per row, with the cells aligned in columns.

    Args:
      rows: cells; every row has the same number of them.
      words: indices of the columns that are aligned to the left; None: all of them. The others are
        aligned to the right.
      gap: what separates two columns.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = words if words is not None else range(len(widths))
    lines: list[str] = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        placed = (
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(cells)
        )
        lines.append("  " + gap.join(placed).rstrip())
    return lines

"""The frames of a film: a panel per driver, or one panel with the others as ghosts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from envs import drawing
from envs.core import World
from irl_bench.core.settings import BadInput
from irl_bench.films.footage import Footage

MOST = 1500
"""Frames of a film, which are all held in memory: about 1 MB each."""
LAYOUTS = ("side", "ghosts")
"""side: a panel per driver; ghosts: the first driver's panel, in which the others are outlines."""
STRIP = 64
"""Height of the strip below a panel [pixels], with the driver's name and the curves of the latest
steps."""
CURVES = (150, 8, drawing.WIDTH - 12, STRIP - 8)
"""Corners of the curves in the strip: left, top, right, bottom [pixels]."""
PAPER, INK, BAND, ZERO = "#ffffff", "#222222", "#f6d5cf", "#cccccc"
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
"""Of the entries of an action, in order; further ones begin again."""
GAP = 4
"""Between two panels [pixels]."""


def draw(
    world: World, footages: Sequence[Footage], steps: Sequence[int], layout: str, seconds: float
) -> list[Image.Image]:
    """Draws a frame for each of some steps.

    Args:
      world: that of all episodes.
      footages: the drivers' episodes, the main one first.
      steps: which steps are shown.
      layout: one of LAYOUTS.
      seconds: duration of a step [s].

    Raises:
      BadInput: ghosts in a world that is not drawn on a road; one line.
    """
    main, *others = footages
    if layout == "ghosts":
        if _path(main) is None:
            raise BadInput(
                f"layout=ghosts: {world.name} is not drawn on a road, where the others would be "
                "seen; nearest: layout=side"
            )
        return [_panel(world, main, t, seconds, others) for t in steps]
    return [_beside([_panel(world, footage, t, seconds) for footage in footages]) for t in steps]


def _path(footage: Footage) -> np.ndarray | None:
    """The driver's pictures, float32[H, ...], in a world that is drawn as a road or a track; None
    in any other."""
    pictures = footage.picture or {}
    return pictures.get("road", pictures.get("track"))


def _panel(
    world: World, footage: Footage, t: int, seconds: float, ghosts: Sequence[Footage] = ()
) -> Image.Image:
    """The driver's picture at step t above its strip."""
    first = max(0, t + 1 - drawing.RECENT)
    recent = list(zip(footage.reward[first : t + 1], footage.cost[first : t + 1], strict=True))
    picture, trail = None, None
    if footage.picture is not None:
        picture = {name: part[t] for name, part in footage.picture.items()}
        path = _path(footage)
        if path is not None:
            trail = np.column_stack([path[: t + 1, :2], footage.cost[: t + 1]])
    pixels = drawing.frame(
        world,
        footage.observation[t],
        picture,
        recent,
        age=t + 1,
        trail=trail,
        ghosts=[path[t, :3] for ghost in ghosts if (path := _path(ghost)) is not None],
    )
    panel = Image.new("RGB", (drawing.WIDTH, drawing.HEIGHT + STRIP), PAPER)
    panel.paste(Image.fromarray(pixels), (0, 0))
    panel.paste(_strip(footage, t, seconds, ghosts), (0, drawing.HEIGHT))
    return panel


def _strip(footage: Footage, t: int, seconds: float, ghosts: Sequence[Footage]) -> Image.Image:
    """The driver's name, the time, the failed steps so far, and a car's offset and speed, beside
    curves of the latest steps: the action's entries, on a red ground where a step failed."""
    strip = Image.new("RGB", (drawing.WIDTH, STRIP), PAPER)
    pen, font, small = ImageDraw.Draw(strip), ImageFont.load_default(15), ImageFont.load_default(11)
    failed = int((footage.cost[: t + 1] != 0.0).sum())
    pen.text((10, 3), footage.name[:18], INK, font)
    lines = [f"{(t + 1) * seconds:.1f} s, {failed} failed", *_ego(footage, t, seconds)]
    if ghosts:
        lines.append(f"outline: {', '.join(ghost.name for ghost in ghosts)}"[:24])
    for row, line in enumerate(lines):
        pen.text((10, 22 + 13 * row), line, INK, small)
    left, top, right, bottom = CURVES
    first = max(0, t + 1 - drawing.RECENT)
    wide = (right - left) / drawing.RECENT
    cost = footage.cost[first : t + 1]
    for index in np.flatnonzero(cost != 0.0):
        x = left + index * wide
        pen.rectangle((x, top, x + wide, bottom), BAND)
    middle, tall = (top + bottom) / 2, (bottom - top) / 2
    pen.line((left, middle, right, middle), ZERO)
    rows = footage.action[first : t + 1]
    rows = rows.reshape(len(rows), -1).astype(float)
    if not np.issubdtype(footage.action.dtype, np.floating):  # an action's number
        rows = 2.0 * rows / max(1.0, float(footage.action.max())) - 1.0
    for entry, values in enumerate(np.clip(np.nan_to_num(rows), -1.0, 1.0).T):
        points = [(left + (i + 0.5) * wide, middle - tall * v) for i, v in enumerate(values)]
        pen.line([*points, points[-1]], COLOURS[entry % len(COLOURS)], 1)
    return strip


def _ego(footage: Footage, t: int, seconds: float) -> list[str]:
    """A line with the offset and the speed of a car at step t; [] in a world of something else."""
    path, places = _path(footage), footage.places or {}
    offset = next((name for name in places if "offset" in name), None)
    if path is None or offset is None:
        return []
    line = f"offset {places[offset][t]:.2f} m"
    if t == 0:
        return [line]
    # A road's picture begins with the arc length, a track's with x and y. Where a picture begins
    # anew, a single step would be far too long.
    size = 1 if footage.picture and "road" in footage.picture else 2
    steps = np.diff(path[max(0, t - 5) : t + 1, :size], axis=0)
    return [f"{line}, {np.median(np.linalg.norm(steps, axis=1)) / seconds:.0f} m/s"]


def _beside(panels: Sequence[Image.Image]) -> Image.Image:
    """Panels side by side: up to three in a row, more in rows of two."""
    columns = len(panels) if len(panels) <= 3 else 2
    wide, high = panels[0].size
    rows = -(-len(panels) // columns)
    size = (columns * (wide + GAP) - GAP, rows * (high + GAP) - GAP)
    whole = Image.new("RGB", size, PAPER)
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        whole.paste(panel, (column * (wide + GAP), row * (high + GAP)))
    return whole

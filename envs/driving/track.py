"""Closed race tracks on a uniform grid of arc length, and the speed that friction allows on them.

Tracks come from a fixed bank of procedural shapes (`bank`) or from a file (`read`). Both are smooth
periodic splines through points of the centre line. Everything here is NumPy in float64; a world
turns the tracks into constants.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.interpolate import CubicSpline

from envs.driving.vehicle import MIN_FRENET
from envs.files import FARTHEST

POINTS, SPACING = 1024, 2.0
"""Fewest grid points of a track, and the largest distance between two of them [m]."""
RUNOFF = 3.0
"""Distance of the barrier beyond the edge [m], measured to the car's centre of gravity."""
TRACKS = 12
"""Procedural tracks; the bank holds each in both directions."""
MODES = np.arange(2, 8)
"""Fourier modes of a procedural track's radius."""
LENGTHS, RADII = (700.0, 1500.0), (18.0, 25.0)
"""Ranges of a procedural track's length and of its tightest radius [m]."""
STRAIGHT, STRAIGHTS = 1 / 120.0, 0.15
"""A part whose curvature is below STRAIGHT [1/m] counts as straight; at least this share of a
procedural track is."""
WIDTHS = (4.0, 5.0)
"""Range of a procedural track's half-widths [m]."""
SHORTEST, LONGEST = 100.0, 20_000.0
"""Range of the length of a track from a file [m]."""
FEWEST = 8
"""Fewest points of a track from a file."""
NARROWEST = 1.0
"""Smallest half-width of a track from a file [m]; the car is 1.6 m wide."""
WIDEST = 50.0
"""Largest half-width of a track from a file [m]."""
GAP = 5.0
"""A track from a file is open if the gap between its last and first point is this many times its
largest other spacing."""
COLUMNS = "x_m,y_m,w_tr_right_m,w_tr_left_m"
"""Columns of a track's file."""


class Track(NamedTuple):
    """A closed track; all arrays are float64[N], at arc lengths 0, L / N, 2 L / N, ..."""

    length: float
    """L, the length of the centre line [m]."""
    kappa: np.ndarray
    """Curvature of the centre line [1/m], positive to the left."""
    left: np.ndarray
    """Distance from the centre line to the left edge [m]."""
    right: np.ndarray
    """Distance from the centre line to the right edge [m]."""
    x: np.ndarray
    """Position of the centre line [m]."""
    y: np.ndarray
    """Position of the centre line [m]."""
    heading: np.ndarray
    """Direction of the centre line [rad], without jumps."""

    @property
    def spacing(self) -> float:
        """Distance between two grid points along the centre line [m]."""
        return self.length / len(self.kappa)


def through(points: np.ndarray, left: np.ndarray, right: np.ndarray) -> Track:
    """Returns the track along the smooth closed curve through points of its centre line.

    Args:
      points: float[n, 2] [m], without a repetition of the first; no two in a row are equal.
      left, right: float[n], half-widths at the points [m]; they are linear in between.
    """
    closed = np.concatenate([points, points[:1]])
    chords = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    spline = CubicSpline(chords, closed, bc_type="periodic")
    # Arc length over the chord parameter, by chords of a curve 64 times as fine.
    parts = np.linspace(0.0, 1.0, 64, endpoint=False)
    fine = np.append((chords[:-1, None] + np.diff(chords)[:, None] * parts).ravel(), chords[-1])
    steps = np.linalg.norm(np.diff(spline(fine), axis=0), axis=1)
    arc = np.concatenate([[0.0], np.cumsum(steps)])
    length = float(arc[-1])
    count = max(POINTS, math.ceil(length / SPACING))
    at = np.interp(np.arange(count) * length / count, arc, fine)
    (x, y), (dx, dy), (ddx, ddy) = (spline(at, order).T for order in range(3))
    return Track(
        length=length,
        kappa=(dx * ddy - dy * ddx) / np.hypot(dx, dy) ** 3,
        left=np.interp(at, chords, np.append(left, left[0])),
        right=np.interp(at, chords, np.append(right, right[0])),
        x=x,
        y=y,
        heading=np.unwrap(np.arctan2(dy, dx)),
    )


def reverse(track: Track) -> Track:
    """Returns the track driven in the other direction, from the same first point."""

    def back(values: np.ndarray) -> np.ndarray:
        return np.roll(values[::-1], 1)

    return Track(
        length=track.length,
        kappa=-back(track.kappa),
        left=back(track.right),
        right=back(track.left),
        x=back(track.x),
        y=back(track.y),
        heading=np.unwrap(back(track.heading) + math.pi),
    )


def frenet(track: Track) -> np.ndarray:
    """Returns float[N], the smallest 1 - kappa e_y between the two barriers."""
    return 1.0 - np.maximum(
        track.kappa * (track.left + RUNOFF), -track.kappa * (track.right + RUNOFF)
    )


def procedural(seed: int) -> Track:
    """Returns a procedural track, the same for the same seed.

    The distance of the centre line from a middle point is a sum of a few waves over the angle, so
    the line does not cross itself. Shapes are drawn until one has the length and the straights of
    `LENGTHS` and `STRAIGHTS`; it is scaled to a tightest radius from `RADII`.
    """
    rng = np.random.RandomState(seed)  # unlike that of newer generators, its stream is frozen
    angle = np.linspace(0.0, 2.0 * math.pi, 720, endpoint=False)
    while True:
        sizes = rng.uniform(0.0, 1.0, len(MODES)) * 0.6 / MODES
        phases = rng.uniform(0.0, 2.0 * math.pi, (len(MODES) + 2, 1))
        tightest = rng.uniform(*RADII)
        waves = sizes[:, None] * np.cos(MODES[:, None] * angle + phases[2:])
        radius = 1.0 + waves.sum(0)
        if radius.min() < 0.2:
            continue
        shape = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        middle, half = sum(WIDTHS) / 2, (WIDTHS[1] - WIDTHS[0]) / 2
        left, right = (middle + half * np.cos(n * angle + phases[n - 3, 0]) for n in (3, 4))
        unit = through(shape, left, right)
        track = through(shape * tightest * np.abs(unit.kappa).max(), left, right)
        straight = np.mean(np.abs(track.kappa) < STRAIGHT)
        if LENGTHS[0] <= track.length <= LENGTHS[1] and straight >= STRAIGHTS:
            return track


@functools.cache
def bank() -> tuple[Track, ...]:
    """Returns the procedural tracks, each followed by the same one in the other direction."""
    tracks = map(procedural, range(TRACKS))
    return tuple(way for track in tracks for way in (track, reverse(track)))


def read(path: str | Path) -> Track:
    """Reads a track from a CSV file with the columns `COLUMNS`: points of the centre line and the
    distances from it to both edges [m]. Lines that begin with # are comments.

    The points go round the track once, either way. The last one may repeat the first.

    Raises:
      ValueError: the file cannot be read or holds no usable track; one line that names the file,
        the reason and what to change.
    """
    rows, numbers = _rows(path)
    if len(rows) > 1 and np.linalg.norm(rows[-1, :2] - rows[0, :2]) < 1e-6:
        rows, numbers = rows[:-1], numbers[:-1]
    if len(rows) < FEWEST:
        raise ValueError(
            f"{path}: a track needs at least {FEWEST} points, not {len(rows)}; give one every few "
            "metres"
        )
    # Coordinates of a map are too large for float32.
    points, right, left = rows[:, :2] - rows[:, :2].mean(0), rows[:, 2], rows[:, 3]
    narrow = np.minimum(left, right) < NARROWEST
    if narrow.any():
        raise ValueError(
            f"{path}, line {numbers[np.argmax(narrow)]}: a width is "
            f"{np.minimum(left, right)[narrow][0]:g} m; widths are distances from the centre line "
            f"to an edge, at least {NARROWEST:g} m"
        )
    wide = np.maximum(left, right) > WIDEST
    if wide.any():
        raise ValueError(
            f"{path}, line {numbers[np.argmax(wide)]}: a width is "
            f"{np.maximum(left, right)[wide][0]:g} m; widths are distances from the centre line to "
            f"an edge, at most {WIDEST:g} m"
        )
    spacings = np.linalg.norm(np.diff(points, axis=0), axis=1)
    if not spacings.all():
        raise ValueError(
            f"{path}, line {numbers[int(np.argmin(spacings)) + 1]}: the point is that of the line "
            "before; remove one of them"
        )
    gap = float(np.linalg.norm(points[0] - points[-1]))
    if gap > GAP * spacings.max():
        raise ValueError(
            f"{path}: the track is open: its last point is {gap:.1f} m from the first, and no "
            f"other two in a row are further apart than {spacings.max():.1f} m; close it"
        )
    length = float(spacings.sum()) + gap
    if not SHORTEST <= length <= LONGEST:
        raise ValueError(
            f"{path}: the track is {length:.0f} m long, not {SHORTEST:.0f} m to {LONGEST:.0f} m; "
            "coordinates are in metres"
        )
    track = through(points, left, right)
    crossing = _crossing(track)
    if crossing is not None:
        raise ValueError(
            f"{path}: the centre line crosses itself at x = {track.x[crossing]:.1f} m, "
            f"y = {track.y[crossing]:.1f} m; give the points in the order in which they are driven"
        )
    room = frenet(track)
    if room.min() < MIN_FRENET:
        at = int(np.argmin(room))
        half = track.left[at] if track.kappa[at] > 0.0 else track.right[at]
        raise ValueError(
            f"{path}: the curve at x = {track.x[at]:.1f} m, y = {track.y[at]:.1f} m has a radius "
            f"of {1.0 / abs(track.kappa[at]):.1f} m and needs "
            f"{(half + RUNOFF) / (1.0 - MIN_FRENET):.1f} m there; widen the curve, smooth the "
            "points or narrow the track"
        )
    return track


def _rows(path: str | Path) -> tuple[np.ndarray, list[int]]:
    """Returns the first four columns of a track's file, float[n, 4], and the rows' line numbers.

    Raises:
      ValueError: as `read`.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ValueError(
            f"{path} cannot be read: {reason}; name a CSV file with the columns {COLUMNS}"
        ) from None
    rows, numbers = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        cells = line.split(",")
        if len(cells) < 4:
            raise ValueError(
                f"{path}, line {number}: {len(cells)} columns, not 4; columns are {COLUMNS}, "
                "separated by commas"
            )
        try:
            row = [float(cell) for cell in cells[:4]]
        except ValueError:
            raise ValueError(
                f"{path}, line {number}: {' '.join(line.split())[:40]!r} is not numeric; columns "
                f"are {COLUMNS}, and a header begins with #"
            ) from None
        if not all(math.isfinite(value) for value in row):
            raise ValueError(
                f"{path}, line {number}: a number is not finite; remove the line or repair it"
            )
        if max(map(abs, row)) > FARTHEST:
            raise ValueError(
                f"{path}, line {number}: a number is beyond ±{FARTHEST:,.0f}; columns are {COLUMNS}"
            )
        rows.append(row)
        numbers.append(number)
    return np.array(rows).reshape(-1, 4), numbers


def _crossing(track: Track) -> int | None:
    """Returns a grid point at which the centre line crosses itself, None if it does not."""
    a = np.stack([track.x, track.y], 1)
    b = np.roll(a, -1, 0)

    def side(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
        """On which side of the line from p to q the point r is; > 0: to the left."""
        return (q[..., 0] - p[..., 0]) * (r[..., 1] - p[..., 1]) - (q[..., 1] - p[..., 1]) * (
            r[..., 0] - p[..., 0]
        )

    for i in range(len(a) - 2):
        # Neighbours share an end and do not count.
        c, d = a[i + 2 : len(a) - (i == 0)], b[i + 2 : len(a) - (i == 0)]
        # On a straight the products are rounding errors; there the boxes around the two are apart.
        near = (np.maximum(c, d) >= np.minimum(a[i], b[i])).all(1) & (
            np.minimum(c, d) <= np.maximum(a[i], b[i])
        ).all(1)
        crosses = (side(a[i], b[i], c) * side(a[i], b[i], d) <= 0.0) & (
            side(c, d, a[i]) * side(c, d, b[i]) <= 0.0
        )
        if (near & crosses).any():
            return i
    return None


def speed_profile(
    kappa: np.ndarray,
    spacing: float,
    lateral: float,
    accelerating: float,
    braking: float,
    top: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the highest speeds along a closed track within an ellipse of accelerations,

        (v^2 kappa / lateral)^2 + (v v' / longitudinal)^2 <= 1,    v <= top,

    by one pass against and one in the direction of travel. Both begin at the slowest point of
    sqrt(lateral / |kappa|), which neither changes, so one lap each makes them periodic.

    Args:
      kappa: float[N], curvature at equal distances around the track [1/m].
      spacing: that distance [m].
      lateral: largest lateral acceleration [m/s²].
      accelerating, braking: largest longitudinal accelerations [m/s²].
      top: highest speed [m/s].

    Returns:
      envelope: float[N], the speed from which braking still suffices [m/s].
      speed: float[N], the envelope as far as the car can reach it [m/s].
    """
    cap = lateral / np.maximum(np.abs(kappa), lateral / top**2)
    start = int(np.argmin(cap))

    def swept(limit: np.ndarray, step: int, strength: float) -> np.ndarray:
        squares = limit.copy()
        here = start
        for _ in range(len(limit)):
            there = (here + step) % len(limit)
            used = min(squares[here] * abs(kappa[here]) / lateral, 1.0)
            gain = 2.0 * spacing * strength * math.sqrt(1.0 - used * used)
            squares[there] = min(squares[there], squares[here] + gain)
            here = there
        return squares

    envelope = swept(cap, -1, braking)
    return np.sqrt(envelope), np.sqrt(swept(envelope, 1, accelerating))

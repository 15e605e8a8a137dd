"""Roads and traffic from CommonRoad scenarios, the XML files of versions 2018b and 2020a (Althoff,
Koschi and Manzinger, "CommonRoad: composable benchmarks for motion planning on roads", 2017).

A scenario consists of lanelets, short pieces of a lane with neighbours and successors. The road is
the chain of lanelets that leads through the rightmost lane beside the start of the planning
problem; where it forks, the straightest way is taken. Its length and curvature, the number of
lanes, the cars on them and their speeds at the start are read. Cars of other roads and of the other
direction are left out, as are their trajectories: how cars go on is the world's.

The five kinds of elements that are needed are read here, and not by `commonroad-io`, which asks for
one old version of protobuf that Ray does not run with. A test compares both.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from envs.driving.traffic import LENGTH

LARGEST = 50_000_000
"""Size above which a file is not read [bytes]."""
REACH = 10.0
"""Curvature is the change of the heading from so far behind a point to so far ahead [m]. Points of
a lane are given by hand or from a map, and their curvature jumps."""
SHORTEST = 100.0
"""Least length of a road [m]."""
TIGHTEST = 0.01
"""Largest curvature of a road [1/m]."""
BEHIND = 500.0
"""Length of road that is kept behind the start of a road that is too long [m]."""
FEWEST_LANES, MOST_LANES = 2, 5
MOST_CARS = 50


class Scenario(NamedTuple):
    """The road and the cars of a scenario at its start."""

    curvature: np.ndarray
    """float[n], at arc lengths 0, `spacing`, 2 `spacing`, ... of the road [1/m], positive to the
    left."""
    length: float
    """Of the road [m]."""
    lanes: int
    """Number of lanes beside the start."""
    cars: np.ndarray
    """float[N, 3]: arc length [m], lane, counted from the right from 0, and speed [m/s] of each car
    on the road."""
    own: np.ndarray
    """float[3]: the same of our car, from the planning problem."""


class _Lanelet(NamedTuple):
    """A piece of a lane."""

    left: np.ndarray
    """float[n, 2], points of the left bound [m]."""
    right: np.ndarray
    """float[n, 2], points of the right bound [m]."""
    successors: tuple[str, ...]
    predecessors: tuple[str, ...]
    to_left: str | None
    """The neighbour of the same direction."""
    to_right: str | None

    @property
    def middle(self) -> np.ndarray:
        """float[n, 2], points of the middle [m]."""
        return 0.5 * (self.left + self.right)

    def holds(self, point: np.ndarray) -> bool:
        """Whether a point float[2] [m] lies within, by the even-odd rule."""
        ring = np.concatenate([self.left, self.right[::-1]])
        (x, y), (after_x, after_y) = ring.T, np.roll(ring, -1, 0).T
        crosses = (y > point[1]) != (after_y > point[1])
        with np.errstate(divide="ignore", invalid="ignore"):
            at = x + (point[1] - y) / (after_y - y) * (after_x - x)
        return bool(np.sum(crosses & (at > point[0])) % 2)


def read(path: str | Path, spacing: float, longest: float) -> Scenario:
    """Reads a scenario.

    Args:
      path: of the XML file.
      spacing: distance of the points at which the curvature is told [m].
      longest: length of road that is read at most [m].

    Raises:
      ValueError: the file cannot be read or holds no road that will do; one line that names the
        file, the reason and what to change.
    """
    root = _root(path)
    lanelets = _lanelets(root, path)
    if not lanelets:
        raise ValueError(f"{path}: it has no lanelet, so no road; nearest: a scenario with a road")
    start = root.find("planningProblem/initialState")
    if start is None:
        raise ValueError(
            f"{path}: it has no planning problem, which says where our car begins; nearest: a "
            "scenario with a planningProblem"
        )
    point, speed = _state(start, path)
    at = next((name for name, lanelet in lanelets.items() if lanelet.holds(point)), None)
    if at is None:
        raise ValueError(
            f"{path}: the planning problem begins at ({point[0]:g}, {point[1]:g}), which is on no "
            "lanelet; nearest: a scenario whose car begins on a road"
        )
    first = _along(lanelets, at, lambda lanelet: lanelet.to_right)[-1]
    lanes = len(_along(lanelets, first, lambda lanelet: lanelet.to_left))
    if not FEWEST_LANES <= lanes <= MOST_LANES:
        raise ValueError(
            f"{path}: the road has {lanes} {'lane' if lanes == 1 else 'lanes'} of one direction "
            f"where our car begins; nearest: a scenario with {FEWEST_LANES} to {MOST_LANES}"
        )
    chain = _chain(lanelets, first)
    line = _joined([lanelets[name].middle for name in chain])
    line = _cut(line, _projected(line, point), longest)
    length = float(_lengths(line)[-1])
    if length < SHORTEST:
        raise ValueError(
            f"{path}: the road is {length:.0f} m long; nearest: a scenario with at least "
            f"{SHORTEST:.0f} m"
        )
    curvature = _curvature(line, spacing)
    worst = float(np.abs(curvature).max())
    if worst > TIGHTEST:
        raise ValueError(
            f"{path}: the road bends with a radius of {1 / worst:.0f} m; nearest: a scenario whose "
            f"bends have at least {1 / TIGHTEST:.0f} m"
        )

    def placed(point: np.ndarray) -> tuple[float, int] | None:
        """Arc length and lane of a point; None off the road."""
        for name, lanelet in lanelets.items():
            if lanelet.holds(point):
                aside = _along(lanelets, name, lambda lanelet: lanelet.to_right)
                s = _projected(line, point)
                on = aside[-1] in chain and len(aside) <= lanes and (0.0 < s < length)
                return (s, len(aside) - 1) if on else None
        return None

    own = placed(point)
    assert own is not None, "the chain leads past the start"
    cars = []
    for name, place, velocity in _cars(root, path):
        found = placed(place)
        if found is not None:
            cars.append((name, *found, velocity))
    _check_cars(cars, own, path)
    rows = np.array([car[1:] for car in cars], float)
    return Scenario(curvature, length, lanes, rows, np.array([*own, speed]))


def _check_cars(
    cars: list[tuple[str, float, int, float]], own: tuple[float, int], path: str | Path
) -> None:
    """Raises ValueError unless there are cars, not too many, and each in a place of its own."""
    if not 1 <= len(cars) <= MOST_CARS:
        raise ValueError(
            f"{path}: {len(cars)} cars are on the road of the planning problem at its start; "
            f"nearest: a scenario with 1 to {MOST_CARS}"
        )
    everybody = sorted(
        [("our car", *own), *(car[:3] for car in cars)], key=lambda car: car[1:][::-1]
    )
    for (one, s, lane), (other, further, beside) in itertools.pairwise(everybody):
        if lane == beside and further - s < LENGTH + 0.5:
            raise ValueError(
                f"{path}: {one} and {other} are {further - s:.1f} m apart in lane {lane}, and cars "
                f"are {LENGTH:g} m long here; nearest: leave one of them out"
            )


def _root(path: str | Path) -> ElementTree.Element:
    """The root element of a file."""
    try:
        if (size := Path(path).stat().st_size) > LARGEST:
            raise ValueError(f"{path}: it has {size:,} bytes, more than {LARGEST:,}")
        text = Path(path).read_text("utf-8")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: it is no text in UTF-8, so no CommonRoad XML") from None
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError(f"{path}: it declares XML entities, which no CommonRoad scenario does")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: it is no XML: {error}") from None
    if root.tag != "commonRoad":
        raise ValueError(
            f"{path}: its first element is {root.tag[:40]!r}, not 'commonRoad'; nearest: a "
            "CommonRoad scenario of version 2018b or 2020a"
        )
    return root


def _number(element: ElementTree.Element | None, what: str, path: str | Path) -> float:
    """The number in an element, or in the middle of the interval that it gives."""
    if element is not None:
        texts = [element.findtext(name) for name in ("exact", "intervalStart", "intervalEnd")]
        given = [text for text in (element.text, *texts) if text and text.strip()]
        try:
            values = [float(text) for text in given]
        except ValueError:
            values = []
        if values and all(map(math.isfinite, values)):
            return sum(values) / len(values)
    raise ValueError(f"{path}: {what} is no number")


def _points(element: ElementTree.Element | None, what: str, path: str | Path) -> np.ndarray:
    """The points float[n, 2] [m] in an element."""
    found = [] if element is None else element.findall("point")
    return np.array(
        [[_number(p.find(axis), f"a point of {what}", path) for axis in "xy"] for p in found]
    ).reshape(-1, 2)


def _lanelets(root: ElementTree.Element, path: str | Path) -> dict[str, _Lanelet]:
    """The lanelets by name."""
    found: dict[str, _Lanelet] = {}
    for element in root.findall("lanelet"):
        name = element.get("id", "")
        what = f"lanelet {name}"
        left, right = (
            _points(element.find(side), what, path) for side in ("leftBound", "rightBound")
        )
        if len(left) != len(right) or len(left) < 2:
            raise ValueError(
                f"{path}: {what} has {len(left)} points on its left and {len(right)} on its right; "
                "they must be as many, at least 2"
            )
        beside: dict[str, str | None] = {}
        for side in ("Left", "Right"):
            neighbour = element.find(f"adjacent{side}")
            same = neighbour is not None and neighbour.get("drivingDir") == "same"
            beside[side] = neighbour.get("ref") if same and neighbour is not None else None
        follow, lead = (
            tuple(other.get("ref", "") for other in element.findall(kind))
            for kind in ("successor", "predecessor")
        )
        found[name] = _Lanelet(left, right, follow, lead, beside["Left"], beside["Right"])
    return found


def _state(element: ElementTree.Element, path: str | Path) -> tuple[np.ndarray, float]:
    """The place float[2] [m] and the speed [m/s] of an initial state. A place that is an area
    counts as its middle."""
    position = element.find("position")
    points = _points(position, "an initial state", path)
    if position is not None and not len(points):
        areas = [position.find(f"{kind}/center") for kind in ("rectangle", "circle")]
        centre = next((area for area in areas if area is not None), None)
        if centre is not None:
            points = np.array([[_number(centre.find(axis), "a place", path) for axis in "xy"]])
    if not len(points):
        raise ValueError(f"{path}: an initial state has no position that is a point")
    return points.mean(0), _number(element.find("velocity"), "the speed of an initial state", path)


def _cars(root: ElementTree.Element, path: str | Path) -> list[tuple[str, np.ndarray, float]]:
    """(name, place float[2] [m], speed [m/s]) of every obstacle that moves."""
    moving = [
        *root.findall("dynamicObstacle"),
        *(o for o in root.findall("obstacle") if o.findtext("role") == "dynamic"),
    ]
    return [
        (f"obstacle {obstacle.get('id', '')}", *_state(start, path))
        for obstacle in moving
        if (start := obstacle.find("initialState")) is not None
    ]


def _along(
    lanelets: Mapping[str, _Lanelet], name: str, after: Callable[[_Lanelet], str | None]
) -> list[str]:
    """The lanelets from one on, each the one `after` the last."""
    names = [name]
    while (follows := after(lanelets[names[-1]])) in lanelets and follows not in names:
        assert follows is not None
        names.append(follows)
    return names


def _chain(lanelets: Mapping[str, _Lanelet], name: str) -> list[str]:
    """The lanelets of the straightest way through one of them, in the direction of travel."""

    def turn(one: _Lanelet, other: _Lanelet) -> float:
        """The change of direction over both, from one to the other [rad]."""
        before, after = (np.diff(lanelet.middle[[0, -1]], axis=0)[0] for lanelet in (one, other))
        cross = before[0] * after[1] - before[1] * after[0]
        return abs(math.atan2(cross, float(before @ after)))

    def next_one(lanelet: _Lanelet) -> str | None:
        known = [other for other in lanelet.successors if other in lanelets]
        return min(known, key=lambda other: turn(lanelet, lanelets[other]), default=None)

    def former(lanelet: _Lanelet) -> str | None:
        known = [other for other in lanelet.predecessors if other in lanelets]
        return min(known, key=lambda other: turn(lanelets[other], lanelet), default=None)

    back = _along(lanelets, name, former)[:0:-1]
    ahead = [other for other in _along(lanelets, name, next_one) if other not in back]
    return [*back, *ahead]


def _joined(lines: list[np.ndarray]) -> np.ndarray:
    """Lines one after the other, float[n, 2], without points that repeat the one before."""
    points = np.concatenate(lines)
    far = np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-6
    return points[np.append(True, far)]


def _cut(line: np.ndarray, s: float, longest: float) -> np.ndarray:
    """A line that is no longer than `longest` [m], around the arc length s [m]."""
    at = _lengths(line)
    begin = max(0.0, min(s - BEHIND, at[-1] - longest))
    return line[(at >= begin) & (at <= begin + longest)]


def _lengths(line: np.ndarray) -> np.ndarray:
    """Arc lengths float[n] of the points of a line [m]."""
    return np.append(0.0, np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1)))


def _curvature(line: np.ndarray, spacing: float) -> np.ndarray:
    """Curvature [1/m] of a line at arc lengths 0, `spacing`, ...; see `REACH`."""
    s = _lengths(line)
    x, y = np.diff(line, axis=0).T
    heading = np.unwrap(np.arctan2(y, x))
    middle = 0.5 * (s[1:] + s[:-1])  # where the heading of a piece is that of the line
    at = np.arange(0.0, s[-1], spacing)
    ends = np.clip([at - REACH, at + REACH], middle[0], middle[-1])
    low, high = np.interp(ends, middle, heading)
    return (high - low) / (ends[1] - ends[0])


def _projected(line: np.ndarray, point: np.ndarray) -> float:
    """Arc length of the point of a line that is nearest to another point [m]."""
    start, along = line[:-1], np.diff(line, axis=0)
    share = np.sum((point - start) * along, 1) / np.sum(along**2, 1)
    share = np.clip(share, 0.0, 1.0)
    away = np.linalg.norm(start + share[:, None] * along - point, axis=1)
    index = int(np.argmin(away))
    s = _lengths(line)
    return float(s[index] + share[index] * (s[index + 1] - s[index]))

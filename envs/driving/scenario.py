"""Roads and traffic from CommonRoad scenarios, the XML files of versions 2018b and 2020a (Althoff,
Koschi and Manzinger, "CommonRoad: composable benchmarks for motion planning on roads", 2017).

A scenario consists of lanelets, short pieces of a lane with neighbours and successors. The road is
the chain of lanelets that leads through the rightmost lane beside the start of the planning
problem; a lane that soon ends, as a ramp does, is none of them. Where the road forks, the
straightest way is taken. Its length and curvature, the number of lanes, the cars on them and their
speeds at the start are read. Cars of other roads and of the other direction are left out, as are
those that appear later, pedestrians, cyclists and whatever does not move. So are trajectories: how
cars go on is the world's.

The five kinds of elements that are needed are read here, and not by `commonroad-io`, which asks for
one old version of protobuf that Ray does not run with. A test compares both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from envs.driving.traffic import LENGTH
from envs.files import FARTHEST

NOT_CARS = ("pedestrian", "bicycle", "train")
"""Types of obstacles that are no cars."""
LARGEST = 50_000_000
"""Size above which a file is not read [bytes]."""
REACH = 10.0
"""Curvature is the change of direction from so far behind a point to so far ahead of it [m]. Points
of a lane are given by hand or from a map, and their curvature jumps."""
NEAR = 0.5
"""A point that is no further ahead than this of the one before is left out [m]: where lanelets join
it may lie beside it, or behind."""
FORK = 30.0
"""Of the ways where a road forks, that is the straightest which turns least over so much of it
[m]."""
THROUGH = 0.8
"""A lane beside the start belongs to the road if it goes on for this share of what the longest of
them does."""
SHORTEST_RING = 300.0
"""Length of the ring for a road that is shorter [m]: no car is both ahead and behind."""
FASTEST = 70.0
"""Highest speed at the start [m/s]."""
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

    @property
    def ring(self) -> float:
        """Length of the ring on which the cars drive [m]."""
        return max(self.length, SHORTEST_RING)


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
    point, speed, _ = _state(start, "the planning problem", path)
    around = [name for name, lanelet in lanelets.items() if lanelet.holds(point)]
    if not around:
        raise ValueError(
            f"{path}: the planning problem begins at ({point[0]:g}, {point[1]:g}), which is on no "
            "lanelet; nearest: a scenario whose car begins on a road"
        )
    chain, lanes = _road(lanelets, around)
    if not FEWEST_LANES <= lanes <= MOST_LANES:
        raise ValueError(
            f"{path}: the road has {lanes} {'lane' if lanes == 1 else 'lanes'} of one direction "
            f"where our car begins; nearest: a scenario with {FEWEST_LANES} to {MOST_LANES}"
        )
    line = _joined([lanelets[name].middle for name in chain])
    if len(line) > 1:  # a road may be no longer than `NEAR`
        line = _cut(line, _projected(line, point), longest)
    length = float(_lengths(line)[-1])
    if length < SHORTEST:
        raise ValueError(
            f"{path}: the road is {length:.0f} m long; nearest: a scenario with at least "
            f"{SHORTEST:.0f} m"
        )
    curvature = _curvature(line, spacing)
    worst = float(np.abs(curvature).max())
    if not worst <= TIGHTEST:
        raise ValueError(
            f"{path}: the road bends with a radius of {1 / worst:.0f} m; nearest: a scenario whose "
            f"bends have at least {1 / TIGHTEST:.0f} m"
        )

    def placed(point: np.ndarray) -> tuple[float, int] | None:
        """Arc length and lane of a point; None off the road."""
        s = _projected(line, point)
        if not -1.0 <= s <= length + 1.0:
            return None
        for name, lanelet in lanelets.items():
            if lanelet.holds(point):
                aside = _along(lanelets, name, lambda lanelet: lanelet.to_right)
                lane = next((k for k, other in enumerate(aside) if other in chain), lanes)
                if lane < lanes:
                    return min(max(s, 0.0), length), lane
        return None

    own = placed(point)
    if own is None:
        raise ValueError(
            f"{path}: the planning problem begins on no lane of the road, but on one that soon "
            "ends; nearest: a scenario whose car begins on the road"
        )
    cars = [
        _Car(name, *at, velocity)
        for name, place, velocity in _cars(root, path)
        if (at := placed(place)) is not None
    ]
    rows = np.array([car[1:] for car in cars], float).reshape(-1, 3)
    found = Scenario(curvature, length, lanes, rows, np.array([*own, speed]))
    _check_cars([_Car("our car", *own, speed), *cars], found.ring, path)
    return found


class _Car(NamedTuple):
    """Where a car is at the start."""

    name: str
    s: float
    lane: int
    speed: float


def _check_cars(cars: list[_Car], ring: float, path: str | Path) -> None:
    """Raises ValueError unless there are cars beside ours, not too many, each in a place of its own
    on the ring and at a speed that a car has."""
    if not 2 <= len(cars) <= MOST_CARS + 1:
        raise ValueError(
            f"{path}: {len(cars) - 1} cars are on the road of the planning problem at its start; "
            f"nearest: a scenario with 1 to {MOST_CARS}"
        )
    for car in cars:
        if not 0.0 <= car.speed <= FASTEST:
            raise ValueError(
                f"{path}: {car.name} begins with {car.speed:g} m/s; nearest: from 0 to {FASTEST:g}"
            )
    for lane in {car.lane for car in cars}:
        row = sorted((car for car in cars if car.lane == lane), key=lambda car: car.s)
        for one, other in zip(row, [*row[1:], row[0]], strict=True):
            apart = other.s - one.s if other is not row[0] else other.s + ring - one.s
            if one is not other and apart < LENGTH + 0.5:
                seam = " across the end of the road, which closes to a ring" * (other is row[0])
                raise ValueError(
                    f"{path}: {one.name} and {other.name} are {apart:.1f} m apart in lane "
                    f"{lane}{seam}, and cars are {LENGTH:g} m long here; nearest: leave one of "
                    "them out"
                )


def _root(path: str | Path) -> ElementTree.Element:
    """The root element of a file."""
    try:
        file = Path(path)
        size = file.stat().st_size
        if not file.is_file():  # a pipe would never end
            raise ValueError(f"{path}: it is no regular file")
        if size > LARGEST:
            raise ValueError(f"{path}: it has {size:,} bytes, more than {LARGEST:,}")
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    if b"<!ENTITY" in content:
        raise ValueError(f"{path}: it declares XML entities, which no CommonRoad scenario does")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
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
        ends = [element.findtext(name) for name in ("intervalStart", "intervalEnd")]
        exact = element.findtext("exact") or (element.text or "").strip()
        given = [exact] if exact else [text for text in ends if text]
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
    points = np.array(
        [[_number(p.find(axis), f"a point of {what}", path) for axis in "xy"] for p in found]
    ).reshape(-1, 2)
    if (np.abs(points) > FARTHEST).any():
        raise ValueError(f"{path}: a point of {what} is beyond ±{FARTHEST:,.0f} m")
    return points


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


def _state(
    element: ElementTree.Element, what: str, path: str | Path
) -> tuple[np.ndarray, float, float]:
    """The place float[2] [m], the speed [m/s] and the time step of an initial state. A place that
    is an area counts as its middle."""
    points = np.zeros((0, 2))
    for kind in ("position", "position/polygon"):
        points = points if len(points) else _points(element.find(kind), what, path)
    for kind in ("position/rectangle/center", "position/circle/center"):
        centre = element.find(kind)
        if centre is not None and not len(points):
            place = [_number(centre.find(axis), f"the place of {what}", path) for axis in "xy"]
            points = np.array([place])
    if not len(points):
        raise ValueError(f"{path}: {what} has no position in its initial state")
    time = element.find("time")
    begins = 0.0 if time is None else _number(time, f"the time of {what}", path)
    return points.mean(0), _number(element.find("velocity"), f"the speed of {what}", path), begins


def _cars(root: ElementTree.Element, path: str | Path) -> list[tuple[str, np.ndarray, float]]:
    """(name, place float[2] [m], speed [m/s]) of every car that is there from the start."""
    moving = [
        *root.findall("dynamicObstacle"),
        *(o for o in root.findall("obstacle") if o.findtext("role") == "dynamic"),
    ]
    found = []
    for obstacle in moving:
        start, name = obstacle.find("initialState"), f"obstacle {obstacle.get('id', '')}"
        if start is None or obstacle.findtext("type") in NOT_CARS:
            continue
        place, speed, begins = _state(start, name, path)
        if begins <= 0.0:
            found.append((name, place, speed))
    return found


def _along(
    lanelets: Mapping[str, _Lanelet], name: str, after: Callable[[_Lanelet], str | None]
) -> list[str]:
    """The lanelets from one on, each the one `after` the last."""
    names = [name]
    while (follows := after(lanelets[names[-1]])) in lanelets and follows not in names:
        assert follows is not None
        names.append(follows)
    return names


def _road(lanelets: Mapping[str, _Lanelet], around: list[str]) -> tuple[list[str], int]:
    """The chain of the road's rightmost lane, and the number of lanes beside the start.

    Args:
      lanelets: all of them.
      around: those that hold the start. Where a way turns off, some lie above each other.
    """
    best: tuple[float, list[str], int] = -1.0, [], 0
    for at in around:
        right = _along(lanelets, at, lambda lanelet: lanelet.to_right)[::-1]
        abreast = right + _along(lanelets, at, lambda lanelet: lanelet.to_left)[1:]
        chains = [_chain(lanelets, name) for name in abreast]
        lengths = [_lengths(_joined([lanelets[n].middle for n in c]))[-1] for c in chains]
        through = [length >= THROUGH * max(lengths) for length in lengths]
        first = through.index(True)
        if lengths[first] > best[0]:
            best = lengths[first], chains[first], sum(through[first:])
    return best[1], best[2]


def _chain(lanelets: Mapping[str, _Lanelet], name: str) -> list[str]:
    """The lanelets of the straightest way through one of them, in the direction of travel, from
    `BEHIND` metres behind it on."""

    def turn(one: _Lanelet, other: _Lanelet) -> float:
        """The change of direction from the end of one over the beginning of the other [rad]."""
        before = _cut_at(one.middle[::-1], FORK)[::-1]
        after = _cut_at(other.middle, FORK)
        (x, y), (u, v) = before[-1] - before[0], after[-1] - after[0]
        return abs(math.atan2(x * v - y * u, x * u + y * v))

    def next_one(lanelet: _Lanelet) -> str | None:
        known = [other for other in lanelet.successors if other in lanelets]
        return min(known, key=lambda other: turn(lanelet, lanelets[other]), default=None)

    def former(lanelet: _Lanelet) -> str | None:
        known = [other for other in lanelet.predecessors if other in lanelets]
        return min(known, key=lambda other: turn(lanelets[other], lanelet), default=None)

    back: list[str] = []
    passed = 0.0
    for other in _along(lanelets, name, former)[1:]:
        if passed >= BEHIND:
            break
        back.insert(0, other)
        passed += _lengths(lanelets[other].middle)[-1]
    return [*back, *(n for n in _along(lanelets, name, next_one) if n not in back)]


def _joined(lines: list[np.ndarray]) -> np.ndarray:
    """Lines one after the other, float[n, 2], without points that lead back; see `NEAR`."""
    kept, ahead = [lines[0][0]], np.zeros(2)
    for point in np.concatenate(lines)[1:]:
        step = point - kept[-1]
        far = float(np.linalg.norm(step))
        if (step @ ahead if ahead.any() else far) > NEAR:
            kept.append(point)
            ahead = step / far
    return np.array(kept)


def _cut(line: np.ndarray, s: float, longest: float) -> np.ndarray:
    """A line that is no longer than `longest` [m], around the arc length s [m]."""
    whole = _lengths(line)[-1]
    begin = max(0.0, min(s - BEHIND, whole - longest))
    if begin > 0.0:
        line = _cut_at(line[::-1], whole - begin)[::-1]
    return _cut_at(line, longest)


def _cut_at(line: np.ndarray, longest: float) -> np.ndarray:
    """The beginning of a line, no longer than `longest` [m]."""
    at = _lengths(line)
    if at[-1] <= longest:
        return line
    end = [np.interp(longest, at, part) for part in line.T]
    return np.concatenate([line[at < longest], [end]])


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
    reach = min(REACH, 0.5 * (middle[-1] - middle[0]))
    if reach == 0.0:  # a single straight piece
        return np.zeros(len(at))
    at = np.clip(at, middle[0] + reach, middle[-1] - reach)
    return (np.interp(at + reach, middle, heading) - np.interp(at - reach, middle, heading)) / (
        2.0 * reach
    )


def _projected(line: np.ndarray, point: np.ndarray) -> float:
    """Arc length of the point of a line that is nearest to another point [m]. The line goes on
    straight at both ends."""
    start, along = line[:-1], np.diff(line, axis=0)
    share = np.sum((point - start) * along, 1) / np.sum(along**2, 1)
    low, high = np.zeros(len(share)), np.ones(len(share))
    low[0], high[-1] = -np.inf, np.inf
    share = np.clip(share, low, high)
    away = np.linalg.norm(start + share[:, None] * along - point, axis=1)
    index = int(np.argmin(away))
    s = _lengths(line)
    return float(s[index] + share[index] * (s[index + 1] - s[index]))

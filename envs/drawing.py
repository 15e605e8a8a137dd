"""Draws worlds: clips as plain lines for a browser, and single frames as pixels.

Roads and tracks are drawn from above, a robot from the side, a grid as its cells, and any other
world as a chart of its observation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from envs.core import brax_math
from envs.driving import traffic
from envs.driving.lane_keep import DT, EDGE, RAIL, SPEED
from envs.driving.road import KNOTS, SPACING
from envs.driving.track import RUNOFF
from envs.history import History
from envs.robots.locomotion import Robot

if TYPE_CHECKING:
    from PIL.Image import Image

    from envs.core import State, World

__all__ = ["HEIGHT", "RECENT", "WIDTH", "clip", "frame", "seconds", "view"]

CAR = ((1.2, 0.35), (-1.2, 0.35), (-1.2, -0.35), (1.2, -0.35))
"""Corners of the drawn car, (forward, left) [m]; it is slimmer than the real one to fit a lane of
2 m."""
WINDSCREEN = ((0.55, 0.28), (0.2, 0.28), (0.2, -0.28), (0.55, -0.28))
"""Corners of its windscreen, which shows where the front is [m]."""
ROAD_SPAN, ROBOT_SPAN = 26.0, 5.0
"""Width of a clip [m], which follows the car or the robot."""
BEHIND, AHEAD, STEP = 15.0, 25.0, 0.5
"""Length of road drawn before the first and past the last position of a clip, and the distance
between its points [m]."""

WIDTH, HEIGHT = 480, 320
"""Size of a frame [pixels]; multiples of 16, as video encoders require."""
FINER = 2
"""Frames are drawn this many times larger and then averaged, which smooths their edges."""
RACE_CAR = ((2.2, 0.8), (-2.2, 0.8), (-2.2, -0.8), (2.2, -0.8))
"""Corners of the car on a track, (forward, left) [m]; it is to scale."""
LONG, WIDE = traffic.LENGTH / 2, traffic.WIDTH / 2
BOX = ((LONG, WIDE), (-LONG, WIDE), (-LONG, -WIDE), (LONG, -WIDE))
"""Corners of a car in traffic, (forward, left) [m]: those of the boxes that collide."""
RACE_WINDSCREEN = ((1.0, 0.65), (0.3, 0.65), (0.3, -0.65), (1.0, -0.65))
"""Corners of its windscreen [m]."""
TRACK_SPAN, TRACK_LEAD = 72.0, 18.0
"""Width of a frame and of a clip of a track, and the distance of a frame's middle ahead of the car
[m]."""
TRACK_FENCE = RUNOFF + 0.8
"""Distance of the drawn barrier from the edge [m]: the car's side touches it when the car's middle
is at `RUNOFF`."""
LATEST = 100
"""Number of latest steps in the trail on a track, so that it shows no former laps."""
STEP_TIME = 0.1
"""Duration of a step in pictures of a world whose steps have none [s]."""
RECENT = 60
"""Number of latest steps whose rewards and costs a chart shows."""
FENCE = RAIL + 0.36
"""Distance of the drawn rail from the middle of the lane [m]: the car's side touches it when the
car's middle is at `RAIL`."""
LANE_SPAN, LEAD = 20.0, 5.0
"""Width of a frame of the road, and the distance of its middle ahead of the car [m]."""
DASH, POST = 3.0, 4.0
"""Length of a dash of the middle line and of the gap after it, and the distance between two posts
of the rail [m]."""
SKY_ROOM = 1.1
"""Height of the middle of a frame above a robot's ground [m]."""
REACH = 1.2
"""A torso further than this from the middle of the frame moves the frame up or down [m]."""
SPHERE, CAPSULE = 2, 3
"""MuJoCo's numbers for the two shapes that robots consist of."""
FROM_ABOVE = {"reacher": (0.98, (0.0, 0.0)), "pusher": (2.4, (0.4, -0.2))}
"""Robots that move in a horizontal plane: (width of the frame [m], its middle [m])."""
AIMS = "target", "goal"
"""Links that mark the place to reach."""

GRASS, SHOULDER, ASPHALT, PAINT, DASHES, WOOD = (
    "#b5c99a",
    "#ddd3b8",
    "#6f7378",
    "#f7f7f2",
    "#a4a8ad",
    "#8a6d3b",
)
SKY, GROUND, TILE, HORIZON = "#edf3f8", "#d8d0bf", "#c8bea9", "#77705f"
TRAFFIC = "#e9e4d8"
FINE, FAILING, GLASS, INK, AIM, TABLE, GHOST = (
    "#0072b2",
    "#d1361b",
    "#dcecf5",
    "#333333",
    "#4fa56b",
    "#f1ece0",
    "#f4c430",
)
TERRAIN_COLOURS = {".": "#f4f0e3", "m": "#7d5d3f", "g": "#b3afa5", "G": AIM}
TERRAIN_NAMES = {"m": "mud", "g": "gravel", "G": "goal"}


def clip(picture: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Turns a clip of H steps into lines for a browser.

    Args:
      picture: `World.picture` along the clip, arrays [H, ...].

    Returns:
      {"still": lines that do not move, "frames": a list of H lists of lines, "span": width [m]}. A
      line is {"kind": its style, "points": [[x, y], ...]}; x is forward, y to the left on a road
      and up with a robot [m].
    """
    if "road" in picture:
        return _road(picture["road"])
    if "track" in picture:
        return _track(picture["track"], picture.get("cars"))
    return _robot(picture["bodies"], picture["parents"])


def view(world: World) -> Callable[[State], dict[str, jax.Array] | None]:
    """Returns a function from a state to the arrays that `frame` draws; it runs inside jit.

    For a robot these are {"ends": float32[G, 2, 3]}, the two ends of each of its G capsules [m],
    equal for a sphere. For any other world they are those of `World.picture`.
    """
    if isinstance(world, History):
        own = view(world.inner)
        return lambda state: own(cast(Any, state.pipeline_state))
    if not isinstance(world, Robot):
        return world.picture
    links, _, middle, along = _shapes(world)

    def ends(state: State) -> dict[str, jax.Array]:
        poses = cast(Any, state.pipeline_state).x
        ground = jnp.zeros(3), jnp.array([1.0, 0.0, 0.0, 0.0])
        place, turn = (
            jnp.concatenate([fixed[None], moving])[links + 1]
            for fixed, moving in zip(ground, (poses.pos, poses.rot))
        )
        points = jnp.asarray(np.stack([middle - along, middle + along], 1), jnp.float32)
        rotated = jax.vmap(lambda pair, q: jax.vmap(brax_math.rotate, (0, None))(pair, q))(
            points, turn
        )
        return {"ends": place[:, None] + rotated}

    return ends


def _shapes(robot: Robot) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lists the G spheres and capsules of a robot and its surroundings.

    Returns:
      links: int[G], the link that each shape is fixed to, -1 for none.
      radius: float[G] [m].
      middle, along: float[G, 3], the shape's middle and half its axis in the link's frame [m].
    """
    sys = robot._robot.sys
    kinds = np.asarray(sys.geom_type)
    shown = np.isin(kinds, (SPHERE, CAPSULE))
    size, middle, turn = (
        np.asarray(part, float)[shown] for part in (sys.geom_size, sys.geom_pos, sys.geom_quat)
    )
    w, x, y, z = turn.T
    axis = np.stack([2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y)], 1)
    half = np.where(kinds[shown] == CAPSULE, size[:, 1], 0.0)
    return np.asarray(sys.geom_bodyid)[shown] - 1, size[:, 0], middle, half[:, None] * axis


def frame(
    world: World,
    observation: np.ndarray,
    picture: Mapping[str, np.ndarray] | None,
    recent: Sequence[tuple[float, float]] = (),
    age: int = 0,
    trail: np.ndarray | None = None,
    ghosts: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """Draws one state as pixels.

    Args:
      world: chooses how the state is drawn if `picture` is None.
      observation: float32[O], of the state.
      picture: the result of `view(world)` for the state; a chart is drawn if it is not finite.
      recent: (reward, cost) of the episode's latest steps, the latest last; at most `RECENT` are
        shown.
      age: steps since reset.
      trail: on a road or a track, where the car was before: float[n, 3], the first two entries of
        the picture and cost, the latest last.
      ghosts: on a road or a track, other cars that are shown as outlines: float[3] each, the first
        three entries of their pictures.

    Returns:
      uint8[HEIGHT, WIDTH, 3] in RGB. Failures are red.
    """
    from envs.tabular import CoarseLane, Grid

    failing = bool(recent) and recent[-1][1] > 0.0
    if picture is not None and all(np.isfinite(part).all() for part in picture.values()):
        if "road" in picture:
            return _road_frame(np.asarray(picture["road"], float), failing, trail, ghosts)
        if "track" in picture:
            parts = {name: np.asarray(part, float) for name, part in picture.items()}
            return _track_frame(parts, failing, trail, ghosts)
        if "bodies" in picture:
            bodies, parents = (np.asarray(picture[name]) for name in ("bodies", "parents"))
            return _bodies_frame(bodies.astype(float), parents, failing)
        return _robot_frame(world.unwrapped, np.asarray(picture["ends"], float), failing)
    if isinstance(world, Grid):
        return _grid_frame(int(np.argmax(observation)), failing)
    if isinstance(world, CoarseLane):
        offset, heading = (
            part - centre for part, centre in zip(divmod(int(np.argmax(observation)), 3), (4, 1))
        )
        # Its lane of five offsets is as wide as the lane that a road is drawn with.
        row = [SPEED * DT * age, 0.4 * EDGE * offset, 0.2 * heading]
        return _road_frame(np.concatenate([row, np.zeros(KNOTS)]), failing)
    return _chart_frame(world, np.asarray(observation, float), recent[-RECENT:], age)


def seconds(world: World) -> float:
    """Returns how long a step of a world lasts [s]; STEP_TIME if its steps have no duration."""
    from envs.driving import highway, lane_keep, race
    from envs.robots import swing_up

    own = {
        lane_keep.LaneKeep: lane_keep.DT,
        race.Race: race.DT,
        highway.Highway: highway.DT,
        swing_up.SwingUp: swing_up.DT,
    }
    # `car4w` needs MuJoCo's MJX, which is imported for it alone; its steps last STEP_TIME.
    world = cast("World", world.unwrapped)
    for name in ("_robot", "_playground"):
        if hasattr(world, name):
            return float(getattr(world, name).dt)
    return next((dt for kind, dt in own.items() if isinstance(world, kind)), STEP_TIME)


def _line(kind: str, points: np.ndarray) -> dict[str, Any]:
    """Returns a line of a clip through points float[n, 2] [m], rounded to millimetres."""
    return {"kind": kind, "points": np.asarray(points, float).round(3).tolist()}


Beside = Callable[[np.ndarray, np.ndarray | float], tuple[np.ndarray, np.ndarray]]
"""(arc length [m], distance to the left [m]) -> position float[..., 2] [m] and heading [rad] of the
lane there."""


def _lane(first: float, last: float, knots: np.ndarray) -> tuple[np.ndarray, Beside]:
    """Lays out the lane around the arc lengths first to last [m], in coordinates in which the lane
    starts at `first` in the origin and along x.

    Returns:
      grid: float[n], arc lengths of its points [m].
      beside: positions beside the lane, a function.
    """
    grid = np.arange(first - BEHIND, last + AHEAD, STEP)
    middle = (grid[:-1] + STEP / 2) / SPACING
    curvature = np.interp(middle % KNOTS, np.arange(KNOTS + 1), np.append(knots, knots[0]))
    heading = np.concatenate([[0.0], np.cumsum(curvature * STEP)])
    heading -= np.interp(first, grid, heading)
    half = 0.5 * (heading[1:] + heading[:-1])
    x, y = (
        np.concatenate([[0.0], np.cumsum(part * STEP)]) for part in (np.cos(half), np.sin(half))
    )
    x, y = x - np.interp(first, grid, x), y - np.interp(first, grid, y)

    def beside(place: np.ndarray, left: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        angle = np.interp(place, grid, heading)
        at = np.stack(
            [
                np.interp(place, grid, x) - left * np.sin(angle),
                np.interp(place, grid, y) + left * np.cos(angle),
            ],
            -1,
        )
        return at, angle

    return grid, beside


def _turned(corners: tuple[tuple[float, float], ...], angle: float) -> np.ndarray:
    """Returns corners (forward, left) [m] turned to the left by an angle [rad], float[n, 2]."""
    return np.array(corners) @ np.array(
        [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    )


def _road(rows: np.ndarray) -> dict[str, Any]:
    """Returns `clip` of `picture["road"]`, float32[H, 3 + K]."""
    s, offset, turn = rows[:, :3].astype(float).T
    grid, beside = _lane(s[0], max(s.max(), s[0]), rows[0, 3:].astype(float))
    still = [_line("rail", beside(grid, side * RAIL)[0]) for side in (-1, 1)]
    still += [_line("edge", beside(grid, side * EDGE)[0]) for side in (-1, 1)]
    still.append(_line("middle", beside(grid, 0.0)[0]))
    place, angle = beside(s, offset)
    frames = [
        [_line("body", at + _turned(CAR, phi))] for at, phi in zip(place, angle + turn, strict=True)
    ]
    return {"still": still, "frames": frames, "span": ROAD_SPAN}


def _beside_track(points: np.ndarray, left: np.ndarray | float) -> np.ndarray:
    """Returns float[n, 2], positions `left` metres to the left of a track's points, float[n, 5]."""
    heading = points[:, 2]
    return np.stack(
        [points[:, 0] - left * np.sin(heading), points[:, 1] + left * np.cos(heading)], 1
    )


def _track(rows: np.ndarray, cars: np.ndarray | None = None) -> dict[str, Any]:
    """Returns `clip` of `picture["track"]`, float32[H, 4 + 5 n], and of the other cars in it,
    float32[H, N, 3]."""
    rows = rows.astype(float)
    poses, windows = rows[:, :4], rows[:, 4:].reshape(len(rows), -1, 5)
    still, seen = [], None
    for window in windows:
        # The next stretch is added once the car has driven through half of the last one.
        if (
            seen is not None
            and np.linalg.norm(window[0, :2] - seen, axis=1).argmin() < len(seen) // 2
        ):
            continue
        seen = window[:, :2]
        for side, half in ((1, window[:, 3]), (-1, window[:, 4])):
            still.append(_line("rail", _beside_track(window, side * (half + TRACK_FENCE))))
            still.append(_line("edge", _beside_track(window, side * half)))
    others = np.zeros((len(rows), 0, 3)) if cars is None else cars.astype(float)
    own = RACE_CAR if cars is None else BOX
    frames = [
        [
            *(_line("other", car[:2] + _turned(BOX, car[2])) for car in around),
            _line("body", pose[:2] + _turned(own, pose[2])),
        ]
        for pose, around in zip(poses, others, strict=True)
    ]
    return {"still": still, "frames": frames, "span": TRACK_SPAN}


def _robot(bodies: np.ndarray, parents: np.ndarray) -> dict[str, Any]:
    """Returns `clip` of `picture["bodies"]`, float32[H, B, 2], and `picture["parents"]`,
    int32[H, B]."""
    low, high = bodies[..., 0].min() - 1.0, bodies[..., 0].max() + 1.0
    frames = []
    for places, above in zip(bodies, parents, strict=True):
        links = [
            _line("limb", places[[parent, body]])
            for body, parent in enumerate(above)
            if parent >= 0
        ]
        frames.append(links + [_line("joint", places[[body]]) for body in range(len(places))])
    return {
        "still": [_line("edge", np.array([[low, 0.0], [high, 0.0]]))],
        "frames": frames,
        "span": ROBOT_SPAN,
    }


class _Canvas:
    """A frame in the making. Its coordinates are x to the right and y upwards, in units of which
    `span` fit into its width."""

    def __init__(self, background: str, span: float, centre: tuple[float, float]):
        from PIL import Image, ImageDraw

        self._image = Image.new("RGB", (FINER * WIDTH, FINER * HEIGHT), background)
        self._pen = ImageDraw.Draw(self._image)
        self._scale = FINER * WIDTH / span
        self._centre = np.array(centre)

    def _at(self, points: Any) -> list[tuple[float, float]]:
        """Returns the pixels of points [n, 2] in the canvas's units."""
        at = (np.asarray(points, float) - self._centre) * [self._scale, -self._scale]
        at += [FINER * WIDTH / 2, FINER * HEIGHT / 2]
        return [(x, y) for x, y in np.clip(at, -1e5, 1e5).tolist()]  # Pillow counts pixels in int32

    def area(self, points: Any, colour: str, outline: str | None = None) -> None:
        """Draws a polygon, with a thin outline if that has a colour."""
        corners = self._at(points)
        self._pen.polygon(corners, colour)
        if outline:
            self._pen.line([*corners, corners[0], corners[1]], outline, FINER, joint="curve")

    def line(self, points: Any, colour: str, width: float, inside: bool = False) -> None:
        """Draws a line with round ends; its width is in the canvas's units. With `inside` it is
        narrower, so that an outline remains of a line below it."""
        at, pixels = self._at(points), max(1, round(width * self._scale) - 2 * FINER * inside)
        self._pen.line(at, colour, pixels, joint="curve")
        for x, y in (at[0], at[-1]):
            self._pen.ellipse(
                (x - pixels / 2, y - pixels / 2, x + pixels / 2, y + pixels / 2), colour
            )

    def disc(self, point: Any, colour: str, radius: float, outline: str | None = None) -> None:
        """Draws a disc; its radius is in the canvas's units."""
        ((x, y),) = self._at([point])
        r = radius * self._scale
        self._pen.ellipse((x - r, y - r, x + r, y + r), colour, outline, FINER)

    def image(self) -> Image:
        """Returns the frame in its final size."""
        return self._image.reduce(FINER)


def _pixels(image: Image, texts: Mapping[tuple[int, int], str] | None = None) -> np.ndarray:
    """Returns uint8[HEIGHT, WIDTH, 3]. `texts` maps upper left corners (x, y) [pixels] to texts."""
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default() if texts else None
    for place, text in (texts or {}).items():
        ImageDraw.Draw(image).text(place, text, INK, font)
    return np.array(image)


def _box(left: float, bottom: float, right: float, top: float) -> list[tuple[float, float]]:
    """Returns the corners of a rectangle."""
    return [(left, bottom), (right, bottom), (right, top), (left, top)]


def _road_frame(
    row: np.ndarray,
    failing: bool,
    trail: np.ndarray | None = None,
    ghosts: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """Draws the road from above. The lane at the car's position runs to the right through the
    middle of the frame; the car moves sideways from it. `trail` and `ghosts` are those of
    `frame`."""
    s, offset, turn = row[:3].tolist()
    grid, beside = _lane(s, s, row[3:])

    def along(first: float, last: float, left: float, points: int = 7) -> np.ndarray:
        return beside(np.linspace(first, last, points), left)[0]

    canvas = _Canvas(GRASS, LANE_SPAN, (LEAD, 0.0))
    for half, colour in ((FENCE, SHOULDER), (EDGE, ASPHALT)):
        canvas.area(np.concatenate([beside(grid, half)[0], beside(grid, -half)[0][::-1]]), colour)
    first, last = s - BEHIND, s + AHEAD
    for dash in np.arange(np.ceil(first / (2 * DASH)), last // (2 * DASH)) * 2 * DASH:
        canvas.line(along(dash, dash + DASH, 0.0), DASHES, 0.08)
    for side in (-1, 1):
        canvas.line(beside(grid, side * EDGE)[0], PAINT, 0.1)
        canvas.line(beside(grid, side * FENCE)[0], WOOD, 0.12)
        for post in np.arange(np.ceil(first / POST), last // POST) * POST:
            canvas.disc(along(post, post, side * FENCE, 1)[0], WOOD, 0.17)
    if trail is not None:
        seen = trail[(trail[:, 0] > first) & np.isfinite(trail).all(axis=1)]
        points = beside(seen[:, 0], seen[:, 1])[0]
        for start, end, cost in zip(points[:-1], points[1:], seen[1:, 2]):
            canvas.line([start, end], FAILING if cost else FINE, 0.08)
    for ghost in ghosts:
        if np.isfinite(ghost).all() and first < ghost[0] < last:
            (place,), (angle,) = beside(ghost[:1], ghost[1])
            corners = place + _turned(CAR, angle + ghost[2])
            canvas.line([*corners, corners[0]], GHOST, 0.12)
    (place,), _ = beside(np.array([s]), offset)
    canvas.area(place + _turned(CAR, turn), FAILING if failing else FINE, INK)
    canvas.area(place + _turned(WINDSCREEN, turn), GLASS)
    return _pixels(canvas.image())


def _track_frame(
    picture: Mapping[str, np.ndarray],
    failing: bool,
    trail: np.ndarray | None = None,
    ghosts: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """Draws a track, or a road with traffic, from above. At the car's position it runs to the
    right, and the car is in its place. `trail` and `ghosts` are those of `frame`."""
    row = picture["track"]
    x, y, heading, along = row[:4].tolist()
    points = row[4:].reshape(-1, 5)
    back = np.array([[np.cos(along), -np.sin(along)], [np.sin(along), np.cos(along)]])

    def seen(places: np.ndarray) -> np.ndarray:
        return (np.asarray(places, float) - [x, y]) @ back

    canvas = _Canvas(GRASS, TRACK_SPAN, (TRACK_LEAD, 0.0))
    own = BOX if "cars" in picture else RACE_CAR
    if "cars" in picture:  # a road with traffic has hard shoulders
        fences = [seen(_beside_track(points, side * (half + TRACK_FENCE))) for side, half in (
            (1, points[:, 3]), (-1, points[:, 4])
        )]  # fmt: skip
        canvas.area(np.concatenate([fences[0], fences[1][::-1]]), SHOULDER)
    sides = (1, points[:, 3]), (-1, points[:, 4])
    edges = [seen(_beside_track(points, side * half)) for side, half in sides]
    canvas.area(np.concatenate([edges[0], edges[1][::-1]]), ASPHALT)
    for edge, (side, half) in zip(edges, sides, strict=True):
        canvas.line(edge, PAINT, 0.3)
        canvas.line(seen(_beside_track(points, side * (half + TRACK_FENCE))), WOOD, 0.4)
    for mark in picture.get("marks", ()):
        middle = seen(_beside_track(points, mark))
        # Marks on the edges are solid already.
        inside = (mark < points[:-1, 3] - 0.1) & (mark > 0.1 - points[:-1, 4])
        for i in np.flatnonzero(inside):
            if i % 4 < 2:
                canvas.line(middle[i : i + 2], PAINT, 0.2)
    if trail is not None:
        known = trail[-LATEST:][np.isfinite(trail[-LATEST:]).all(axis=1)]
        places = seen(known[:, :2])
        for start, end, cost in zip(places[:-1], places[1:], known[1:, 2]):
            # A car that has spun is put somewhere else.
            if np.linalg.norm(end - start) < TRACK_LEAD:
                canvas.line([start, end], FAILING if cost else FINE, 0.35)
    for ghost in ghosts:
        if np.isfinite(ghost).all():
            corners = seen(ghost[:2] + _turned(own, ghost[2]))
            canvas.line([*corners, corners[0]], GHOST, 0.3)
    for car in picture.get("cars", ()):
        canvas.area(seen(car[:2] + _turned(BOX, car[2])), TRAFFIC, INK)
    turn = heading - along
    canvas.area(_turned(own, turn), FAILING if failing else FINE, INK)
    canvas.area(_turned(RACE_WINDSCREEN, turn), GLASS)
    return _pixels(canvas.image())


def _robot_frame(world: Any, ends: np.ndarray, failing: bool) -> np.ndarray:
    """Draws a robot from the side, over ground with a tile every two metres, or from above if it
    moves in a horizontal plane."""
    links, radius, _, _ = _shapes(world)
    if world.name in FROM_ABOVE:
        across, depth = [0, 1], ends[..., 2].mean(1)
        canvas = _Canvas(TABLE, *FROM_ABOVE[world.name])
    else:
        across, depth = [0, 2], -ends[..., 1].mean(1)
        x, height = ends[links == 0].mean((0, 1))[across]
        middle = (
            SKY_ROOM + max(0.0, height - SKY_ROOM - REACH) + min(0.0, height - SKY_ROOM + REACH)
        )
        canvas = _Canvas(SKY, ROBOT_SPAN, (x, middle))
        left, right = x - ROBOT_SPAN, x + ROBOT_SPAN
        canvas.area(_box(left, middle - ROBOT_SPAN, right, 0.0), GROUND)
        for tile in np.floor(left / 2) * 2 + np.arange(0.0, 2 * ROBOT_SPAN + 2, 2.0):
            canvas.area(_box(tile, -0.18, tile + 1.0, 0.0), TILE)
        canvas.line([(left, 0.0), (right, 0.0)], HORIZON, 0.025)
    names = ["", *world._robot.sys.link_names]
    for shape in np.argsort(depth, kind="stable"):  # near shapes hide far ones
        aim = names[links[shape] + 1] in AIMS
        colour = HORIZON if links[shape] < 0 else AIM if aim else FAILING if failing else FINE
        points, width = ends[shape][:, across], 2.0 * float(radius[shape])
        canvas.line(points, INK, width)
        canvas.line(points, colour, width, inside=True)
    return _pixels(canvas.image())


def _bodies_frame(bodies: np.ndarray, parents: np.ndarray, failing: bool) -> np.ndarray:
    """Draws parts without shapes from the side, above a line with a tick every metre.

    Args:
      bodies: float[B, 2], position and height of each part [m]; the first is in the middle.
      parents: int[B], the part that each one is attached to, -1 for none.
      failing: whether the state is a failure.
    """
    x = float(bodies[0, 0])
    canvas = _Canvas(SKY, ROBOT_SPAN, (x, 0.0))
    canvas.line([(x - ROBOT_SPAN, 0.0), (x + ROBOT_SPAN, 0.0)], HORIZON, 0.025)
    for tick in np.arange(np.floor(x - ROBOT_SPAN), x + ROBOT_SPAN):
        canvas.line([(tick, -0.1), (tick, 0.0)], HORIZON, 0.025)
    for body, parent in enumerate(parents):
        if parent >= 0:
            canvas.line(bodies[[parent, body]], FAILING if failing else FINE, 0.08)
    canvas.disc(bodies[0], INK, 0.12)
    return _pixels(canvas.image())


def _grid_frame(place: int, failing: bool) -> np.ndarray:
    """Draws the grid from above, with a legend."""
    from envs.tabular import TERRAIN

    canvas = _Canvas("#ffffff", 10.0, (4.5, 3.0))  # a cell is 48 pixels wide
    for row, cells in enumerate(TERRAIN):
        for column, cell in enumerate(cells):
            canvas.area(
                _box(column, 5 - row, column + 1, 6 - row), TERRAIN_COLOURS[cell], "#ffffff"
            )
    row, column = divmod(place, len(TERRAIN[0]))
    canvas.disc((column + 0.5, 5.5 - row), FAILING if failing else FINE, 0.3, "#ffffff")
    texts = {}
    for line, (cell, name) in enumerate(TERRAIN_NAMES.items()):
        canvas.area(_box(6.6, 5.3 - 0.7 * line, 7.0, 5.7 - 0.7 * line), TERRAIN_COLOURS[cell])
        texts[372, 34 + round(33.6 * line)] = name
    return _pixels(canvas.image(), texts)


def _chart_frame(
    world: World, observation: np.ndarray, recent: Sequence[tuple[float, float]], age: int
) -> np.ndarray:
    """Draws the observation as bars, failure flags in red, above the latest rewards and costs."""
    canvas = _Canvas("#ffffff", WIDTH, (WIDTH / 2, HEIGHT / 2))  # a unit is a pixel
    rewards, costs = np.array(recent, float).reshape(-1, 2).T
    signs = (observation, 0.0 if world.n_actions is None else 1.0), (rewards, 0.0), (costs, 1.0)
    panels = (130.0, 290.0), (64.0, 108.0), (16.0, 40.0)
    for row, ((low, high), (values, positive)) in enumerate(zip(panels, signs)):
        left, right, across = 80.0, WIDTH - 16.0, max(1, len(values)) if row == 0 else RECENT
        canvas.area(_box(left, low, right, high), "#f6f6f3")
        sound = np.isfinite(values)
        zero = low if positive else (low + high) / 2
        tall = (high - zero) / max(1.0, np.abs(values[sound]).max(initial=0.0))
        wide = (right - left) / across
        for index, value in enumerate(values):
            x = left + wide * (index + across - len(values))
            flagged = (index in world.failure_flags) if row == 0 else row == 2
            top, bottom = (zero + tall * value, zero) if sound[index] else (high, low)
            colour = INK if not sound[index] else FAILING if flagged else FINE
            canvas.area(
                _box(x + 0.12 * wide, min(top, bottom), x + 0.88 * wide, max(top, bottom)), colour
            )
        canvas.line([(left, zero), (right, zero)], HORIZON, 1.0)
    note = "" if np.isfinite(observation).all() else "   not finite"
    texts = {
        (80, 8): f"{world.name}   step {age}{note}",
        (12, 30): "observation",
        (12, 210): "reward",
        (12, 278): "cost",
    }
    return _pixels(canvas.image(), texts)

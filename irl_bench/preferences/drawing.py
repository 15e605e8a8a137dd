"""Clips as plain shapes that a browser draws: a road from above, or a robot's parts from the side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.driving.lane_keep import EDGE, RAIL
from envs.driving.road import KNOTS, SPACING

CAR = ((1.2, 0.35), (-1.2, 0.35), (-1.2, -0.35), (1.2, -0.35))
"""Corners of the car as drawn: forward and left [m]; slimmer than it is, so that it fits a lane of 2 m."""
ROAD_SPAN, ROBOT_SPAN = 26.0, 5.0
"""Metres that a frame shows from left to right; it follows the car or the robot."""
BEHIND, AHEAD, STEP = 15.0, 25.0, 0.5
"""Metres of road drawn before the first and past the last place of a clip, and between two points of it."""


def clip(picture: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What `World.picture` gave along a clip of H steps, leaves [H, ...], as {"still": lines, "frames": [H] of lines, "span"}.

    A line is {"kind": its style, "points": [[x, y], ...]}; x is forward, y to the left (a road) or up (a robot), in metres.
    """
    return _road(picture["road"]) if "road" in picture else _robot(picture["bodies"], picture["parents"])


def _line(kind: str, points: np.ndarray) -> dict[str, Any]:
    return {"kind": kind, "points": np.asarray(points, float).round(3).tolist()}


def _road(rows: np.ndarray) -> dict[str, Any]:
    s, offset, turn = rows[:, :3].astype(float).T
    knots = rows[0, 3:].astype(float)
    grid = np.arange(s[0] - BEHIND, max(s.max(), s[0]) + AHEAD, STEP)
    middle = (grid[:-1] + STEP / 2) / SPACING
    curvature = np.interp(middle % KNOTS, np.arange(KNOTS + 1), np.append(knots, knots[0]))
    heading = np.concatenate([[0.0], np.cumsum(curvature * STEP)])
    heading -= np.interp(s[0], grid, heading)  # the clip begins at the origin, driving along x
    half = 0.5 * (heading[1:] + heading[:-1])
    x, y = (np.concatenate([[0.0], np.cumsum(part * STEP)]) for part in (np.cos(half), np.sin(half)))
    x, y = x - np.interp(s[0], grid, x), y - np.interp(s[0], grid, y)

    def beside(place: np.ndarray, left: Any) -> tuple[np.ndarray, np.ndarray]:
        angle = np.interp(place, grid, heading)
        at = np.stack([np.interp(place, grid, x) - left * np.sin(angle), np.interp(place, grid, y) + left * np.cos(angle)], -1)
        return at, angle

    still = [_line("rail", beside(grid, side * RAIL)[0]) for side in (-1, 1)]
    still += [_line("edge", beside(grid, side * EDGE)[0]) for side in (-1, 1)]
    still.append(_line("middle", beside(grid, 0.0)[0]))
    place, angle = beside(s, offset)
    frames = []
    for at, phi in zip(place, angle + turn, strict=True):
        turned = np.array([[np.cos(phi), -np.sin(phi)], [np.sin(phi), np.cos(phi)]])
        frames.append([_line("body", at + np.array(CAR) @ turned.T)])
    return {"still": still, "frames": frames, "span": ROAD_SPAN}


def _robot(bodies: np.ndarray, parents: np.ndarray) -> dict[str, Any]:
    low, high = bodies[..., 0].min() - 1.0, bodies[..., 0].max() + 1.0
    frames = []
    for places, above in zip(bodies, parents, strict=True):
        links = [_line("limb", places[[parent, body]]) for body, parent in enumerate(above) if parent >= 0]
        frames.append(links + [_line("joint", places[[body]]) for body in range(len(places))])
    return {"still": [_line("edge", np.array([[low, 0.0], [high, 0.0]]))], "frames": frames, "span": ROBOT_SPAN}

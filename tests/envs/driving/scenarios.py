"""Writes CommonRoad scenarios: a road that bends to the left with a constant radius."""

import math

import numpy as np

CARS = ((100.0, 0, 20.0), (180.0, 1, 22.0), (150.0, 2, 25.0), (60.0, 1, 21.0))
"""(arc length on the right lane [m], lane, speed [m/s])."""
OWN = (90.0, 1, 22.0)
WIDTH = 3.5
HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<commonRoad commonRoadVersion="{version}" '
    'benchmarkID="ZAM_Bend-1_1_T-1" date="2026-11-29" author="irl_bench" affiliation="irl_bench" '
    'source="computed" timeStepSize="0.1">\n<location><geoNameId>-999</geoNameId>'
    "<gpsLatitude>999</gpsLatitude><gpsLongitude>999</gpsLongitude></location>"
    "<scenarioTags><highway/></scenarioTags>\n"
)


def bend(
    lanes=3, length=600.0, radius=400.0, pieces=3, cars=CARS, own=OWN, version="2020a",
    oncoming=False, ramp=False, points=41, overlap=0.0, more="",
):  # fmt: skip
    """The text of a scenario. The right lane has this length and radius. `oncoming` adds a lane of
    the other direction to the left, `ramp` one beside the first piece to the right, and `more` is
    appended before the end. Lanelets have so many points, and overlap by so much [m]."""

    def at(s, left):
        angle, r = s / radius, radius - left
        return f"<x>{r * math.sin(angle):.4f}</x><y>{radius - r * math.cos(angle):.4f}</y>"

    def line(s, left):
        return "".join(f"<point>{at(q, left)}</point>" for q in s)

    def state(s, lane, speed):
        return (
            f"<initialState><position><point>{at(s, lane * WIDTH)}</point></position>"
            f"<orientation><exact>{s / radius:.5f}</exact></orientation><time><exact>0</exact>"
            f"</time><velocity><exact>{speed}</exact></velocity>"
        )

    parts = [HEAD.format(version=version)]
    for piece in range(pieces):
        s = np.linspace(piece * length / pieces - overlap * (piece > 0),
                        (piece + 1) * length / pieces, points)  # fmt: skip
        for lane in range(-1 if ramp and not piece else 0, lanes + oncoming):
            name = 100 * (piece + 1) + lane
            back = lane == lanes
            way = s[::-1] if back else s
            left, right = lane + 0.5, lane - 0.5
            first, second = (right, left) if back else (left, right)
            after, before = (name - 100, name + 100) if back else (name + 100, name - 100)
            links = [("predecessor", before), ("successor", after)]
            known = [(k, n) for k, n in links if 100 <= n < 100 * (pieces + 1) and lane >= 0]
            beside = ""
            if not back and lane < lanes - 1 + oncoming:
                same = "same" if lane < lanes - 1 else "opposite"
                beside += f'<adjacentLeft ref="{name + 1}" drivingDir="{same}"/>'
            if back:
                beside += f'<adjacentLeft ref="{name - 1}" drivingDir="opposite"/>'
            elif lane > (-1 if ramp and not piece else 0):
                beside += f'<adjacentRight ref="{name - 1}" drivingDir="same"/>'
            parts.append(
                f'<lanelet id="{name}"><leftBound>{line(way, first * WIDTH)}</leftBound>'
                f"<rightBound>{line(way, second * WIDTH)}</rightBound>"
                + "".join(f'<{kind} ref="{other}"/>' for kind, other in known)
                + f"{beside}<laneletType>highway</laneletType></lanelet>\n"
            )
    shape = "<shape><rectangle><length>4.5</length><width>1.8</width></rectangle></shape>"
    for number, car in enumerate(cars):
        kind, role = ("dynamicObstacle", "") if version == "2020a" else ("obstacle", "dynamic")
        parts.append(
            f'<{kind} id="{9000 + number}">{f"<role>{role}</role>" if role else ""}'
            f"<type>car</type>{shape}{state(*car)}</initialState></{kind}>\n"
        )
    if own:
        parts.append(
            f'<planningProblem id="9900">{state(*own)}<yawRate><exact>0</exact></yawRate>'
            "<slipAngle><exact>0</exact></slipAngle></initialState><goalState><time>"
            "<intervalStart>10</intervalStart><intervalEnd>100</intervalEnd></time></goalState>"
            "</planningProblem>\n"
        )
    return "".join([*parts, more, "</commonRoad>\n"])

"""CommonRoad scenarios: what is read of a bend whose numbers are known, and the world on it."""

import os
import re

import jax
import numpy as np
import pytest

import envs
from envs.driving import road, scenario
from envs.driving.highway import MIN_SPEED
from envs.driving.traffic import LANE
from tests.envs.driving.scenarios import CARS, OWN, WIDTH, bend

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def file(tmp_path):
    """Returns a function that writes a scenario and returns its path."""

    def written(**values):
        (path := tmp_path / "bend.xml").write_text(bend(**values))
        return path

    return written


def read(path):
    return scenario.read(path, road.SPACING, road.KNOTS * road.SPACING)


@pytest.mark.parametrize("values", [{}, {"oncoming": True}, {"version": "2018b"}, {"pieces": 1}])
def test_a_bend_is_read_as_it_was_written(file, values):
    found = read(file(**values))
    assert found.lanes == 3 and found.length == pytest.approx(600.0, abs=0.1)
    assert len(found.curvature) == 30
    np.testing.assert_allclose(found.curvature, 1 / 400.0, rtol=0.01)
    # Between points that are 15 m apart the line is a chord.
    near = 0.3 if values == {"pieces": 1} else 0.1
    np.testing.assert_allclose(found.cars, CARS, atol=near)
    np.testing.assert_allclose(found.own, OWN, atol=near)


def test_a_bend_to_the_right_has_a_negative_curvature(file):
    mirrored = bend().replace("<y>", "<y>-").replace("<y>--", "<y>")
    for one, other in (("leftBound", "#"), ("rightBound", "leftBound"), ("#", "rightBound")):
        mirrored = mirrored.replace(one, other)
    for one, other in (("adjacentLeft", "#"), ("adjacentRight", "adjacentLeft"),
                       ("#", "adjacentRight")):  # fmt: skip
        mirrored = mirrored.replace(one, other)
    path = file()
    path.write_text(mirrored)
    found = read(path)
    # The leftmost lane is the right one now: its radius is smaller.
    np.testing.assert_allclose(found.curvature, -1 / (400.0 - 2 * WIDTH), rtol=0.01)
    assert found.lanes == 3 and found.own[1] == 1 and list(found.cars[:, 1]) == [2, 1, 0, 1]


def test_cars_of_other_roads_are_left_out(file):
    """One beside the road, and one in the lane of the other direction."""
    cars = (*CARS, (300.0, 9, 20.0), (320.0, 3, 20.0))
    assert len(read(file(cars=cars, oncoming=True)).cars) == len(CARS)


def test_where_the_road_forks_the_straightest_way_is_taken(file):
    """A lanelet that turns off sharply is a successor too, and stands first."""
    turn = (
        '<lanelet id="7"><leftBound><point><x>197</x><y>55</y></point><point><x>100</x><y>300</y>'
        "</point></leftBound><rightBound><point><x>200</x><y>55</y></point><point><x>103</x>"
        "<y>300</y></point></rightBound></lanelet>"
    )
    path = file(more=turn)
    text = path.read_text().replace(
        '<successor ref="200"/>', '<successor ref="7"/><successor ref="200"/>'
    )
    path.write_text(text)
    assert text.count('ref="7"') == 1
    np.testing.assert_allclose(read(path).curvature, 1 / 400.0, rtol=0.01)


def test_a_road_of_few_points_and_of_points_that_repeat_or_step_back(file):
    """A straight road of two points, and joints where the next lanelet begins a little behind the
    end of the last one."""
    straight = read(file(radius=1e9, points=2, pieces=1, cars=((100.0, 0, 20.0),)))
    np.testing.assert_allclose(straight.curvature, 0.0, atol=1e-6)
    assert straight.length == pytest.approx(600.0)
    for overlap in (-0.5, 0.0, 1e-4, 0.01, 0.5):
        found = read(file(points=15, overlap=overlap))
        np.testing.assert_allclose(found.curvature, 1 / 400.0, rtol=0.15)
    far = read(file(length=5000.0, radius=1e9, points=2, pieces=1, own=(2000.0, 1, 22.0),
                    cars=((1900.0, 0, 20.0), (10.0, 0, 20.0))))  # fmt: skip
    assert far.length == pytest.approx(road.KNOTS * road.SPACING) and len(far.cars) == 1
    assert far.own[0] == pytest.approx(scenario.BEHIND) and far.cars[0, 0] == pytest.approx(400.0)


def test_our_car_may_begin_where_the_road_does(file):
    for s in (0.001, 599.99):
        assert read(file(own=(s, 1, 22.0))).own[0] == pytest.approx(s, abs=0.1)


def test_a_lane_that_soon_ends_is_none_of_the_road(file):
    """Beside the first third of the road is an acceleration lane."""
    cars = ((100.0, 0, 20.0), (250.0, 1, 21.0), (150.0, -1, 15.0))
    found = read(file(cars=cars, ramp=True))
    assert found.lanes == 3 and found.length == pytest.approx(600.0, abs=0.1)
    np.testing.assert_allclose(found.cars, cars[:2], atol=0.1)
    with pytest.raises(ValueError, match="on no lane of the road"):
        read(file(cars=cars, own=(90.0, -1, 22.0), ramp=True))


def test_who_appears_later_walks_or_cycles_is_left_out(file):
    text = file().read_text()
    first, second = (
        text.index("<dynamicObstacle"),
        text.index("<dynamicObstacle", 3 + text.index("<dynamicObstacle")),
    )
    late = text[first:second].replace("<time><exact>0<", "<time><exact>40<")
    walker = text[first:second].replace("<type>car<", "<type>pedestrian<")
    path = file()
    path.write_text(text[:first] + late + walker + text[second:])
    np.testing.assert_allclose(read(path).cars, CARS[1:], atol=0.1)


@pytest.mark.parametrize("shape", ["rectangle", "circle", "polygon"])
def test_a_place_that_is_an_area_counts_as_its_middle(file, shape):
    def area(found):
        x, y = float(found[1]), float(found[2])
        at = lambda dx, dy: f"<x>{x + dx:.4f}</x><y>{y + dy:.4f}</y>"
        corners = ((-1, -1), (1, -1), (1, 1), (-1, 1))
        inside = (
            "".join(f"<point>{at(*corner)}</point>" for corner in corners)
            if shape == "polygon"
            else f"<center>{at(0, 0)}</center>"
        )
        return f"<position><{shape}>{inside}</{shape}></position>"

    path = file()
    place = r"<position><point><x>(.*?)</x><y>(.*?)</y></point></position>"
    path.write_text(re.sub(place, area, path.read_text()))
    np.testing.assert_allclose(read(path).cars, CARS, atol=0.1)


def test_the_encoding_is_the_files_own(file):
    path = file()
    text = path.read_text().replace("irl_bench", "M\u00fcller").replace("UTF-8", "ISO-8859-1")
    path.write_bytes(text.encode("latin-1"))
    assert len(read(path).cars) == len(CARS)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_never_ends_is_no_file(make, tmp_path):
    make(path := tmp_path / "endless.xml")
    with pytest.raises(ValueError, match="no regular file"):
        read(path)


def test_a_long_road_is_cut_around_the_start(file):
    found = read(file(length=6000.0, radius=1500.0, pieces=40, own=(3000.0, 1, 22.0),
                      cars=((2900.0, 0, 20.0), (3100.0, 0, 21.0), (100.0, 0, 22.0))))  # fmt: skip
    assert found.length == pytest.approx(road.KNOTS * road.SPACING, abs=10.0)
    assert found.own[0] == pytest.approx(scenario.BEHIND, abs=5.0)
    np.testing.assert_allclose(found.cars[:, 0] - found.own[0], [-100.0, 100.0], atol=0.5)


def test_it_reads_what_the_reference_reader_reads(file):
    reader = pytest.importorskip("commonroad.common.file_reader")
    path = file(oncoming=True)
    theirs, problems = reader.CommonRoadFileReader(str(path)).open()
    mine = scenario._lanelets(scenario._root(path), path)
    for lanelet in theirs.lanelet_network.lanelets:
        own = mine[str(lanelet.lanelet_id)]
        np.testing.assert_allclose(own.middle, lanelet.center_vertices)
        np.testing.assert_allclose(own.left, lanelet.left_vertices)
        assert list(map(int, own.successors)) == lanelet.successor
        for neighbour, same, name in (
            (lanelet.adj_left, lanelet.adj_left_same_direction, own.to_left),
            (lanelet.adj_right, lanelet.adj_right_same_direction, own.to_right),
        ):
            assert (str(neighbour) if same else None) == name
    cars = scenario._cars(scenario._root(path), path)
    assert len(cars) == len(theirs.dynamic_obstacles)
    for (name, place, speed), other in zip(cars, theirs.dynamic_obstacles, strict=True):
        assert name == f"obstacle {other.obstacle_id}"
        np.testing.assert_allclose(place, other.initial_state.position)
        assert speed == other.initial_state.velocity
        inside = theirs.lanelet_network.find_lanelet_by_position([place])[0]
        assert [n for n, lanelet in mine.items() if lanelet.holds(place)] == list(map(str, inside))
    (problem,) = problems.planning_problem_dict.values()
    root = scenario._root(path).find("planningProblem/initialState")
    np.testing.assert_allclose(scenario._state(root, "", path)[0], problem.initial_state.position)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "not XML <", "it is no XML"),
        (lambda text: text.replace("commonRoad", "openDrive"), "is 'openDrive', not 'commonRoad'"),
        (lambda text: "<!DOCTYPE a [<!ENTITY b 'c'>]>" + text, "declares XML entities"),
        (lambda text: text.replace("lanelet", "lane"), "no lanelet, so no road"),
        (lambda text: text.replace("planningProblem", "problem"), "has no planning problem"),
        (lambda text: text.replace("<exact>22.0</exact>", "<exact>fast</exact>"), "is no number"),
        (lambda text: re.sub("<x>[^<]*", "<x>1e200", text, count=1), "lanelet .* is beyond"),
        (lambda text: text.replace("<point>", "", 1).replace("</point>", "", 1), "as many"),
        (lambda text: bend(own=(90.0, 9, 20.0)), "which is on no lanelet"),
        (lambda text: bend(lanes=1, cars=(), own=(90.0, 0, 20.0)), "has 1 lane of one direction"),
        (lambda text: bend(length=80.0, cars=CARS[-1:], own=(10.0, 1, 20.0)), "road is 80 m long"),
        (lambda text: bend(length=0.4, pieces=1, cars=(), own=(0.2, 1, 1.0)), "road is 0 m long"),
        (lambda text: bend(radius=60.0, length=150.0), "bends with a radius of 60 m"),
        (lambda text: bend(cars=()), "0 cars are on the road"),
        (lambda text: bend(cars=((92.0, 1, 20.0),)), "our car and obstacle 9000 are 2.0 m apart"),
        (lambda text: bend(cars=((150.0, 1, 20.0), (152.0, 1, 20.0))), "9000 and obstacle 9001"),
        (lambda text: bend(own=(1.0, 1, 20.0), cars=((599.0, 1, 20.0),)), "2.0 m apart .* across"),
        (lambda text: bend(cars=((150.0, 1, -20.0),)), "obstacle 9000 begins with -20 m/s"),
        (lambda text: bend(cars=((150.0, 1, 1e38),)), "nearest: from 0 to 70"),
        (
            lambda text: text.replace("<velocity>", "<speed>").replace("</velocity>", "</speed>"),
            "the speed of the planning problem is no number",
        ),
    ],
)
def test_a_file_that_will_not_do_is_one_line(file, change, message):
    path = file()
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=message) as error:
        envs.make("highway", scenario=str(path))
    assert str(error.value).startswith(f"{path}") and "\n" not in str(error.value)


def test_a_file_that_is_not_there_and_values_that_come_from_it(file, tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        envs.make("highway", scenario=str(tmp_path / "none.xml"))
    with pytest.raises(ValueError, match=r"must be one of none \| FILE.xml"):
        envs.make("highway", scenario="bend.osm")
    path = str(file())
    assert float(envs.make("highway", scenario=path, lanes=3).dials.lanes) == 3.0  # as it is
    for values, message in (
        ({"lanes": 4}, "highway.lanes=4: it comes from bend.xml"),
        ({"density": 9.0, "frames": "2"}, "highway.density=9.0: it comes from bend.xml"),
        ({"cars": "30"}, "highway.cars=30: the cars come from the scenario"),
    ):
        with pytest.raises(ValueError, match=message):
            envs.make("highway", scenario=path, **values)
    with pytest.raises(ValueError, match="merge has no dial 'scenario'"):
        envs.make("merge", scenario=path)


def test_the_world_begins_as_the_scenario_does(file):
    cars = (*CARS[1:], (110.0, 0, 0.0))
    world = envs.make("highway", scenario=str(file(cars=cars, own=(90.0, 1, 1.0))), crosswind=3.0)
    assert world.count == 4 and float(world.dials.lanes) == 3.0
    assert world.observation_size == envs.make("highway").observation_size
    states = jax.vmap(world.reset)(jax.random.split(jax.random.PRNGKey(0), 32))
    inner = states.pipeline_state
    np.testing.assert_allclose(inner.cars.s, np.tile([c[0] for c in cars], (32, 1)), atol=0.1)
    np.testing.assert_array_equal(inner.cars.y, np.tile([LANE * c[1] for c in cars], (32, 1)))
    np.testing.assert_allclose(inner.cars.v, np.tile([c[2] for c in cars], (32, 1)))
    usual = [*(c[2] for c in cars[:-1]), float(world.dials.traffic_speed)]
    np.testing.assert_allclose(np.mean(inner.cars.desired, axis=0), usual, atol=2.0)
    assert np.ptp(inner.cars.desired, axis=0).min() > 5.0
    # Ours stands nearly still, and its equations are singular at rest.
    assert np.abs(np.asarray(inner.car.v_x) - MIN_SPEED).max() < 2.0
    assert np.ptp(inner.car.e_y) > 0.05
    np.testing.assert_allclose(states.obs[:, 8], 1 / 400.0, rtol=0.01)


def test_the_expert_drives_a_scenario(file):
    world = envs.make("highway", scenario=str(file()))

    def drive(state):
        def step(state, _):
            after = world.step(state, world.expert(state, state.pipeline_state.key))
            return after, (after.metrics["cost"], after.pipeline_state.car.s)

        return jax.lax.scan(step, state, None, 600)[1]

    cost, s = jax.jit(jax.vmap(lambda key: drive(world.reset(key))))(
        jax.random.split(jax.random.PRNGKey(1), 32)
    )
    assert float(np.mean(cost)) < 0.01
    assert float(np.min(s[:, -1])) > 90.0 + 60.0 * 15.0  # past the end of the road, which repeats

"""An ant on a course: the frames it is seen in, the geometry of the course, and its expert."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax import math as brax_math

import envs
from envs.robots import ant_course
from envs.robots.ant_course import HALF_WIDTH, KERB, AntCourse, turned
from envs.robots.locomotion import Ant

pytestmark = pytest.mark.usefixtures("quick_compilation")
KEY = jax.random.PRNGKey(3)


@functools.cache
def made(**dials):
    return envs.make("ant_course", **dials)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["spring", "mjx"])
@pytest.mark.parametrize("angle", [0.7, -2.5])
def test_an_ant_that_is_turned_in_the_world_looks_as_turned_says(backend, angle):
    """Physics' own observation of a pose and motion, and of the same ant turned by an angle."""
    robot = Ant(backend)._robot
    rng = np.random.default_rng(0)
    q = np.array(robot.sys.init_q) + rng.normal(0, 0.1, robot.sys.q_size())
    q[3:7] /= np.linalg.norm(q[3:7])
    qd = rng.normal(0, 0.5, robot.sys.qd_size())
    turn = np.array([np.cos(angle / 2), 0, 0, np.sin(angle / 2)])

    def seen(q, qd):
        return robot._get_obs(robot.pipeline_init(jnp.asarray(q), jnp.asarray(qd)))

    def rotated(vector):
        return np.asarray(brax_math.rotate(jnp.asarray(vector), jnp.asarray(turn)))

    q2, qd2 = q.copy(), qd.copy()
    q2[:3] = rotated(q[:3])
    q2[3:7] = brax_math.quat_mul(jnp.asarray(turn), jnp.asarray(q[3:7]))
    qd2[:3] = rotated(qd[:3])
    if backend != "mjx":  # MuJoCo keeps the rate of rotation in the torso's own frame
        qd2[3:6] = rotated(qd[3:6])
    np.testing.assert_allclose(
        turned(seen(q2, qd2), jnp.float32(angle), backend), seen(q, qd), atol=2e-5
    )
    back = turned(turned(seen(q, qd), jnp.float32(angle), backend), jnp.float32(-angle), backend)
    np.testing.assert_allclose(back, seen(q, qd), atol=2e-6)


def test_the_offset_is_the_distance_to_the_nearest_point_of_the_course():
    """A point that strays beside a tight course, against the course as a fine polygon."""
    world = made(bend=2.0)
    zero = jnp.zeros(())
    course = {
        "phases": jnp.array([0.3, 2.0, 4.0]), "s": zero, "foot": jnp.zeros(2), "heading": zero
    }  # fmt: skip
    s = np.linspace(0.0, 60.0, 60001)
    kappa = np.asarray(jax.vmap(lambda x: world._curvature(course, x))(jnp.asarray(s)))
    heading = np.concatenate([[0.0], np.cumsum(0.5 * (kappa[1:] + kappa[:-1]) * np.diff(s))])
    points = np.concatenate(
        [np.zeros((1, 2)),
         np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1)[:-1] * np.diff(s)[:, None], 0)]
    )  # fmt: skip
    steps = np.arange(1, 190)
    beside = 2.5 * np.sin(steps / 25.0)
    index = (steps * 300).astype(int)
    normal = np.stack([-np.sin(heading[index]), np.cos(heading[index])], 1)
    places = (points[index] + beside[:, None] * normal).astype(np.float32)

    def follow(course, place):
        course, ds = world._follow(course, place)
        return course, (world._offset(course, place), course["s"], ds)

    last, (offset, along, _) = jax.lax.scan(follow, course, jnp.asarray(places))
    np.testing.assert_allclose(offset, beside, atol=0.03)
    np.testing.assert_allclose(along, s[index], atol=0.1)
    np.testing.assert_allclose(last["heading"], heading[index[-1]], atol=0.01)
    apart = np.linalg.norm(points[None] - places[::20, None], axis=2).min(1)
    np.testing.assert_allclose(np.abs(offset[::20]), apart, atol=0.03)


COUNT, CHUNK = 16, 25


@functools.cache
def player():
    """Steps of the expert from states and under dials: costs, observations and dones [CHUNK,
    COUNT]. One program serves all tests here."""

    def step(world, states, _):
        states = jax.vmap(lambda s: world.step(s, world.expert(s, KEY)))(states)
        return states, (states.metrics["cost"], states.obs, states.reward, states.done)

    return jax.jit(
        lambda dials, states: jax.lax.scan(
            functools.partial(step, made().bind(dials)), states, None, length=CHUNK
        )
    )


def play(states, steps, **dials):
    rows = []
    for _ in range(steps // CHUNK):
        states, row = player()(made(**dials).dials_for("nominal"), states)
        rows.append(row)
    return states, [np.concatenate(parts) for parts in zip(*rows, strict=True)]


@functools.cache
def running():
    """Ants that the expert has led for 200 steps."""
    states = jax.jit(jax.vmap(made().reset))(jax.random.split(KEY, COUNT))
    return play(states, 200)[0]


def beside(states, offsets, off=None):
    """The ants of some states, with the course moved so that they are `offsets` beside it."""
    world, offsets = made(), jnp.asarray(offsets, jnp.float32)
    off = jnp.abs(offsets) > HALF_WIDTH if off is None else jnp.asarray(off)

    def one(state, offset, off):
        course = state.info["course"]
        normal = jnp.stack([-jnp.sin(course["heading"]), jnp.cos(course["heading"])])
        moved = {**course, "foot": world._place(state.pipeline_state) - offset * normal}
        info, zero = state.info, jnp.zeros(())
        return world._state(
            state.pipeline_state, moved, 1.0 * off, info["speed"], zero, info["key"], jnp.zeros(8)
        )

    return jax.vmap(one)(states, offsets, off)


@pytest.mark.slow
def test_the_expert_stays_on_the_course_and_runs():
    _, (cost, obs, reward, _) = play(running(), 50)
    assert not cost.any() and np.abs(obs[..., 27]).max() < HALF_WIDTH
    assert 5.0 < reward.mean() < 7.0  # progress along the course [m/s]


@pytest.mark.slow
def test_the_expert_comes_back_from_three_metres_beside_the_course():
    away = np.resize([3.0, -3.0], COUNT)
    states = beside(running(), away)
    np.testing.assert_allclose(states.obs[:, 27], away, atol=1e-4)
    assert np.asarray(states.metrics["cost"]).all()
    _, (cost, _, _, _) = play(states, 100)
    back, still = (cost[: AntCourse.recovery_steps] == 0).any(0), cost[-1] == 0
    # 99 % of 256 do. Contacts are chaotic, so which ant of these takes longer differs by processor.
    assert back.sum() >= COUNT - 2 and still.sum() >= COUNT - 2


def test_the_edge_and_the_kerb():
    """Off the course from HALF_WIDTH on, and back on it within KERB; nothing in between changes."""
    between = 0.5 * (HALF_WIDTH + KERB)
    offsets = np.resize([between, between, HALF_WIDTH + 0.4, KERB - 0.4], COUNT)
    off = np.resize([False, True, False, True], COUNT)
    _, (cost, _, _, _) = play(beside(running(), offsets, off), CHUNK)
    np.testing.assert_array_equal(cost[0], np.resize([0.0, 1.0, 1.0, 0.0], COUNT))


def test_an_ant_that_hardly_moves_has_failed_until_it_runs_again():
    """The pace is averaged over half a second: a = a + (1 - exp(-0.1)) (v - a) per step of 0.05 s;
    slow below 2.5 m/s, until above 3 m/s."""
    states = beside(running(), np.zeros(COUNT))
    pace = jnp.asarray(np.resize([1.0, 5.0], COUNT), jnp.float32)
    speed = {**states.info["speed"], "pace": pace}
    states = states.replace(info={**states.info, "speed": speed})
    after, (cost, _, reward, _) = play(states, CHUNK)
    assert not cost[:, 1::2].any()
    assert cost[:3, ::2].all() and not cost[12:, ::2].any()
    assert not reward[:3, ::2].any()  # what stands still earns nothing
    assert np.asarray(after.info["speed"]["pace"]).min() > 4.0


def test_a_fresh_start_has_time_to_get_going():
    """Without it, who is brought back would be slow at once, and be brought back again."""
    states, rows = jax.jit(jax.vmap(made().reset))(jax.random.split(KEY, COUNT)), []
    for _ in range(4):
        states, _ = play(states, CHUNK)
        rows.append(np.asarray(states.info["speed"]["slow"]))
    assert not np.any(rows) and np.asarray(states.info["speed"]["pace"]).min() > 3.0


def test_the_course_moves_under_a_running_ant_that_is_brought_back():
    """It keeps its gait, and the course leads where it runs."""
    before = beside(running(), np.resize([4.0, 0.0], COUNT))
    _, (cost, obs, _, _) = play(before, CHUNK, reacquisition=1.0)
    assert not cost[0].any()
    back = obs[0, ::2]
    np.testing.assert_allclose(back[:, [14, 27]], 0.0, atol=1e-4)  # no drift, no offset
    assert back[:, 13].min() > 2.0 and obs[0, 1::2, 13].min() > 2.0
    assert np.abs(back[:, 5:13] - np.asarray(before.obs)[::2, 5:13]).max() < 1.0  # the joints go on


def lying(states, lies):
    """Some states with the ants fallen that `lies`, float32[COUNT], says."""
    ant = states.pipeline_state
    info = {**ant.info, "fallen": jnp.asarray(lies), "standing": jnp.zeros(COUNT)}
    return states.replace(pipeline_state=ant.replace(info=info))


@pytest.mark.slow
@pytest.mark.parametrize("fallen_start", [0.0, 1.0])
def test_a_fallen_ant_that_is_brought_back_starts_again_where_it_lay(fallen_start):
    """Also where episodes begin with a fallen ant."""
    states = lying(beside(running(), np.zeros(COUNT)), np.resize([1.0, 0.0], COUNT))
    after, (cost, obs, _, _) = play(states, CHUNK, reacquisition=1.0, fallen_start=fallen_start)
    back = obs[0, ::2]
    assert not cost[0].any()
    np.testing.assert_allclose(back[:, 27], 0.0, atol=0.01)
    np.testing.assert_allclose(back[:, 0], made().reset(KEY).obs[0], atol=0.1)  # its height
    assert np.abs(back[:, 13:16]).max() < 0.5 and np.ptp(back[:, 5]) > 0.01  # at rest, not alike

    def covered(states):
        ant = states.pipeline_state
        return np.asarray(ant.info["place"] + ant.pipeline_state.x.pos[:, 0, :2])

    assert np.linalg.norm(covered(states), axis=1).min() > 30.0  # far from where episodes begin
    assert np.linalg.norm(covered(after) - covered(states), axis=1)[::2].max() < 5.0  # [m]


@pytest.mark.parametrize("angle", [0.3, 2.5])
def test_who_runs_away_stays_within_sight_of_the_course(angle):
    """A straight run of 600 m at an angle to a course with tight bends. Without the bound the foot
    would pass the centre of a bend, where no point of the course is nearest."""
    world, zero = made(bend=2.0), jnp.zeros(())
    course = {
        "phases": jnp.array([0.3, 2.0, 4.0]), "s": zero, "foot": jnp.zeros(2), "heading": zero
    }  # fmt: skip
    steps = jnp.arange(1, 2001) * 0.3
    places = steps[:, None] * jnp.array([jnp.cos(angle), jnp.sin(angle)])

    def follow(course, place):
        course, ds = world._follow(course, place)
        return course, (world._offset(course, place), ds)

    _, (offset, ds) = jax.lax.scan(follow, course, places)
    assert np.abs(offset).max() <= ant_course.FARTHEST + 1e-3
    assert np.abs(ds).max() < 2 * 0.3


@pytest.mark.slow
def test_every_backend_steps_inside_jit():
    world = envs.make("ant_course", backend="mjx")
    state = jax.eval_shape(world.reset, KEY)
    after = jax.eval_shape(world.step, state, jax.ShapeDtypeStruct((8,), jnp.float32))
    shapes = [[leaf.shape for leaf in jax.tree.leaves(tree)] for tree in (state, after)]
    assert shapes[0] == shapes[1]


def test_a_fallen_ant_has_failed_wherever_it_lies():
    lies = np.resize([1.0, 0.0], COUNT)
    states = lying(beside(running(), np.zeros(COUNT)), lies)
    _, (cost, _, reward, done) = play(states, CHUNK)
    np.testing.assert_array_equal(cost[0], lies)
    np.testing.assert_array_equal(done[0], lies)
    assert not reward[0, ::2].any() and reward[0, 1::2].all()


def test_the_preview_shows_the_bends_to_come():
    world, states = made(), running()
    course = states.info["course"]
    for i, distance in enumerate(ant_course.PREVIEW):
        s = np.asarray(course["s"])
        grid = np.linspace(0, distance, 201)
        kappa = jax.vmap(
            lambda c, s, grid=grid: jax.vmap(lambda d: world._curvature(c, s + d))(
                jnp.asarray(grid)
            )
        )(course, jnp.asarray(s))
        turn = np.trapezoid(np.asarray(kappa), grid, axis=1)
        np.testing.assert_allclose(states.obs[:, 28 + i], turn, atol=2e-3)


@pytest.mark.slow
def test_the_expert_keeps_to_the_course_for_fifty_seconds():
    """512 episodes of 1,000 steps after the burn-in: off the course in at most 0.1 % of them."""
    world = made().with_burn_in(300)

    @jax.jit
    def off(key):
        states = jax.vmap(world.begin)(jax.random.split(key, 512))

        def step(states, _):
            states = jax.vmap(lambda s: world.step(s, world.expert(s, KEY)))(states)
            return states, states.metrics["cost"].mean()

        return jax.lax.scan(step, states, None, length=1000)[1].mean()

    assert float(off(KEY)) <= 1e-3

"""Robots: rewards against Brax's own, costs, dials, falls, broken physics, demonstrators' files;
every backend traced."""

import functools
import json
import pathlib
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax import envs as brax_envs

import envs
from envs import demonstrators
from envs.robots import locomotion
from irl_bench.plan.presets import ROBOTS

STEPS = 120
pytestmark = pytest.mark.usefixtures("quick_compilation")


@functools.cache
def made(name, **options):
    return envs.make(name, **options)


def drive(dials, keys, name="hopper", steps=STEPS, scale=1.0, backend="auto"):
    """The start and, after each of `steps` steps of random actions times `scale`, (states,
    actions) [steps, batch, ...]."""
    made(name, backend=backend)  # outside jit, since Brax makes arrays of its systems
    return _drive(dials, keys, jnp.float32(scale), name, steps, backend)


@functools.partial(jax.jit, static_argnames=("name", "steps", "backend"))
def _drive(dials, keys, scale, name, steps, backend):
    world = made(name, backend=backend).bind(dials)

    def step(states, key):
        action = scale * jax.random.uniform(
            key, (len(keys), world.action_size), minval=-1.0, maxval=1.0
        )
        after = jax.vmap(world.step)(states, action)
        return after, (after, action)

    start = jax.vmap(world.reset)(keys)
    return start, jax.lax.scan(step, start, jax.random.split(jax.random.PRNGKey(5), steps))[1]


def nominal(name="hopper", **dials):
    return jax.tree.map(jnp.float32, made(name).dials.replace(**dials))


KEYS = jax.random.split(jax.random.PRNGKey(0), 8)


LONG = {"steps": 400, "scale": 2.0}
"""Of rollouts in which most hoppers fall."""


@pytest.fixture(scope="module")
def hops():
    return drive(nominal(), KEYS, **LONG)


def test_every_registered_robot_is_in_the_table_of_budgets():
    assert {name for name, target in envs.WORLDS.items() if "locomotion" in target} == set(ROBOTS)


def test_latencies_are_those_that_were_measured():
    measured = {}
    for name in ("latency.txt", "latency-settled.txt"):  # the second replaces the first
        text = (pathlib.Path(__file__).parents[3] / "results" / name).read_text()
        lines = [line for line in text.splitlines() if line.startswith(("$", "latency"))]
        measured |= {
            re.search(r"--env=(\w+)", command)[1]: int(re.match(r"latency L = (\d+):", answer)[1])
            for command, answer in zip(lines[::2], lines[1::2], strict=True)
        }
    assert measured == {name: envs.kind(name).latency for name in ROBOTS}


def test_the_usual_physics_is_that_of_the_demonstrator():
    assert {name: made(name).backend for name in ("hopper", "walker2d")} == {
        "hopper": "spring",
        "walker2d": "positional",
    }
    assert made("walker2d").has_expert and not envs.make("walker2d", backend="spring").has_expert


def test_the_usual_physics_of_an_accelerator_is_mjx_where_what_is_asked_for_ships(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for name, quality, backend in (
        ("hopper", "expert", "mjx"),
        ("hopper", "50", "spring"),
        ("inverted_double_pendulum", "expert", "spring"),
        ("walker2d", "50", "mjx"),  # ships nowhere: that of the expert
    ):
        assert envs.make(name, demonstrator=quality).backend == backend


def fallen(unhealthy, height, least):
    """A slow record of who is down: from the first unhealthy step until 25 standing ones in a
    row."""
    down, run, rows = np.zeros(unhealthy.shape[1], bool), np.zeros(unhealthy.shape[1]), []
    for bad, high in zip(unhealthy, height >= least, strict=True):
        run = np.where(~bad & high, run + 1, 0)
        down = bad | (down & (run < 25))
        rows.append(down)
    return np.array(rows)


def test_reward_is_braxs_and_a_fall_costs_until_the_robot_stands(hops):
    start, (after, action) = hops
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        brax = brax_envs.get_environment("hopper", backend="spring")
    position = np.asarray(after.pipeline_state.x.pos[:, :, 0])
    before = np.concatenate([np.asarray(start.pipeline_state.x.pos[None, :, 0]), position[:-1]])
    speed = (position[..., 0] - before[..., 0]) / float(brax.dt)
    angle, joints = (
        np.asarray(after.pipeline_state.q[..., 2]),
        np.asarray(after.pipeline_state.q[..., 2:]),
    )
    moving = np.concatenate([joints, np.asarray(after.pipeline_state.qd)], -1)
    healthy = (position[..., 2] > 0.7) & (np.abs(angle) < 0.2) & (np.abs(moving) < 100).all(-1)
    control = 1e-3 * np.square(np.clip(action, -1.0, 1.0)).sum(-1)
    np.testing.assert_allclose(after.reward, speed + healthy - control, atol=2e-3)
    low = position[..., 2] < 0.7
    down = fallen(low, position[..., 2], made("hopper").standing)
    np.testing.assert_array_equal(after.metrics["cost"], down)
    np.testing.assert_array_equal(after.done, down | ~healthy)
    assert 0.05 < np.mean(down) < 0.95
    assert (~down & ~healthy).any()  # a lean is no fall
    graded = np.asarray(after.metrics["graded_cost"])
    assert (graded[down] == 1).all() and ((graded >= 0) & (graded <= 1)).all()


def test_a_fallen_robot_is_upright_again_after_standing(hops):
    """A hopper that has fallen is put back into its start by hand, and held there."""
    world = made("hopper").bind(nominal())
    start, (after, _) = hops
    at = np.argwhere(np.asarray(after.metrics["cost"]) > 0)[0]
    lying = jax.tree.map(lambda x: x[at[0], at[1]], after)
    first = jax.tree.map(lambda x: x[at[1]], start)
    step = jax.jit(world.step)
    costs = []
    for _ in range(30):
        # The start again and again: only what remembers the fall goes on.
        lying = step(first.replace(info=lying.info, metrics=lying.metrics), jnp.zeros(3))
        costs.append(float(lying.metrics["cost"]))
    assert costs == [1.0] * 24 + [0.0] * 6


def stood_up(after):
    """bool[steps, batch]: where a robot was stood up, which moves its origin."""
    place = np.asarray(after.info["place"])
    return (np.diff(place, axis=0, prepend=0.0) != 0).any(axis=-1)


def test_a_robot_that_is_stood_up_begins_anew_where_it_lies(hops):
    _, (after, _) = drive(nominal(reacquisition=1.0), KEYS, **LONG)
    _, (alone, _) = hops
    helped, place = stood_up(after), np.asarray(after.info["place"])
    assert (np.asarray(after.metrics["cost"]) == 0).all() and helped.any()
    # It falls as one falls that is not helped, and lies where that one lies.
    for i in np.flatnonzero(helped.any(axis=0)):
        t = int(np.argmax(helped[:, i]))
        assert np.asarray(alone.metrics["cost"])[t, i] == 1
        x = np.asarray(alone.pipeline_state.x.pos)[t, i, 0, 0]
        stands = np.asarray(after.pipeline_state.x.pos)[t, i, 0, 0] + place[t, i, 0]
        np.testing.assert_allclose(stands, x, atol=1e-5)
    # The way back is no speed: rewards stay those of hopping.
    assert np.abs(np.asarray(after.reward)).max() < 2 * np.abs(np.asarray(alone.reward)).max()


NOISE = {"hopper": 5e-3, "inverted_pendulum": 0.01}
"""Brax's largest deviation of a start from the usual pose at rest."""


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("hopper", "spring"),
        *(
            pytest.param("inverted_pendulum", backend, marks=pytest.mark.slow)
            for backend in locomotion.BACKENDS
        ),
    ],
)
def test_every_standing_up_is_a_fresh_start_of_braxs(name, backend):
    long = LONG if name == "hopper" else {"scale": 2.0}
    _, (after, _) = drive(
        nominal(name, reacquisition=1.0), KEYS, name=name, backend=backend, **long
    )
    robot, helped, physics = (
        made(name, backend=backend)._robot,
        stood_up(after),
        after.pipeline_state,
    )
    q, qd = np.asarray(physics.q)[helped], np.asarray(physics.qd)[helped]
    most = NOISE[name] + 1e-6
    assert np.abs(q - np.asarray(robot.sys.init_q)).max() <= most and np.abs(qd).max() <= most
    assert len(np.unique(np.hstack([q, qd]), axis=0)) == len(q) > len(KEYS) / 2
    expected = jax.jit(jax.vmap(robot.pipeline_init))(q, qd)
    for part in ("x", "xd"):
        jax.tree.map(
            lambda leaf, right: np.testing.assert_allclose(
                np.asarray(leaf)[helped], right, atol=1e-5
            ),
            getattr(physics, part),
            getattr(expected, part),
        )
    if name == "inverted_pendulum":
        np.testing.assert_array_equal(np.asarray(after.obs)[helped], np.hstack([q, qd]))
        again = np.flatnonzero(helped.sum(axis=0) > 2)
        gaps = [np.diff(np.flatnonzero(helped[:, i])) for i in again]
        assert len(gaps) and any(len(set(gap)) > 1 for gap in gaps)


@pytest.mark.slow
def test_who_starts_fallen_is_stood_up_upright():
    start, (after, _) = drive(nominal(fallen_start=1.0, reacquisition=1.0), KEYS)
    angle = np.abs(np.asarray(after.pipeline_state.q[0, :, 2]))
    assert (np.abs(np.asarray(start.pipeline_state.q[:, 2])) > 1.4).all()
    assert stood_up(after)[0].all() and (angle < 0.01).all()


def test_a_push_adds_its_speed_to_the_whole_robot():
    """Without gravity's and the ground's say: the change of the robot's momentum in one step is
    its mass times the speed."""
    _, (alone, _) = drive(nominal(), KEYS)
    _, (pushed, _) = drive(nominal(push=0.7, push_rate=1.0), KEYS)
    mass = np.asarray(made("hopper")._robot.sys.link.inertia.mass)

    def speed(states):
        return (np.asarray(states.pipeline_state.xd.vel)[0, :, :, 0] @ mass) / mass.sum()

    changes = speed(pushed) - speed(alone)
    np.testing.assert_allclose(np.abs(changes), 0.7, atol=0.05)
    assert len({change > 0 for change in changes}) == 2  # forward and backward


@pytest.mark.parametrize(
    "backend",
    [pytest.param(backend, marks=pytest.mark.slow) for backend in locomotion.BACKENDS],
)
def test_a_push_moves_every_part_on_every_backend(backend):
    """Nothing holds a cart on its rail: the push's speed is that of each part after one step, and
    takes the cart as far."""
    usual = {"name": "inverted_pendulum", "backend": backend, "scale": 2.0}
    _, (alone, _) = drive(nominal("inverted_pendulum"), KEYS, **usual)
    dials = nominal("inverted_pendulum", push=0.7, push_rate=1.0)
    _, (pushed, _) = drive(dials, KEYS, **usual)

    def change(of):
        return np.asarray(of(pushed.pipeline_state))[0] - np.asarray(of(alone.pipeline_state))[0]

    speeds = change(lambda physics: physics.xd.vel[..., 0])
    np.testing.assert_allclose(np.abs(speeds), 0.7, atol=0.05)
    assert (speeds[:, :1] * speeds > 0).all() and len(set(np.sign(speeds[:, 0]))) == 2
    way = change(lambda physics: physics.q[..., 0])
    dt = float(made("inverted_pendulum", backend=backend)._robot.dt)
    np.testing.assert_allclose(way / dt, speeds[:, 0], atol=0.05)


@pytest.mark.slow
def test_pushes_come_at_their_rate():
    def velocities(rate, push):
        world = made("hopper").bind(nominal(push_rate=rate, push=push))
        physics = world.reset(KEYS[0]).pipeline_state
        keys = jax.random.split(jax.random.PRNGKey(7), 4000)
        return np.asarray(jax.vmap(lambda key: world._pushed(physics, key).qd[0])(keys))

    moved = np.abs(velocities(0.1, 3.0) - velocities(0.0, 3.0)) > 1
    assert abs(moved.mean() - 0.1) < 4 * np.sqrt(0.09 / 4000)


def test_a_slow_cheetah_has_recovered_when_it_is_brisk():
    world = made("halfcheetah")
    failed = lambda pace, before: float(
        world._failed(None, None, jnp.float32(pace * world.pace), jnp.float32(before))
    )
    assert [failed(0.55, 0), failed(0.49, 0), failed(0.55, 1), failed(0.61, 1)] == [0, 1, 1, 0]


def test_starts_differ_and_cost_nothing(hops):
    start, _ = hops
    assert len(np.unique(np.asarray(start.obs), axis=0)) == len(KEYS)
    for name in ("cost", "graded_cost"):
        assert (np.asarray(start.metrics[name]) == 0).all()


@pytest.mark.parametrize("dial", ["mass", "strength", "friction", "disabled_joint", "noise"])
def test_a_dial_changes_the_motion_without_compiling_again(dial, hops):
    value = {"mass": 2.0, "strength": 0.5, "friction": 0.2, "disabled_joint": 2.0, "noise": 0.3}[
        dial
    ]
    before = _drive._cache_size()
    _, (after, _) = drive(nominal(**{dial: value}), KEYS)
    assert _drive._cache_size() == before
    assert not np.allclose(after.obs[-1], hops[1][0].obs[-1], atol=1e-2)


def test_a_disabled_joint_has_no_force(hops):
    """With every joint weakened to nothing, or the action zero, motions agree: only what
    actuators push is turned off."""
    _, (limp, _) = drive(nominal(strength=0.0), KEYS)
    _, (still, _) = drive(nominal(), KEYS, scale=0.0)
    np.testing.assert_allclose(limp.obs[:20], still.obs[:20], atol=1e-4)


def test_disabled_joints_are_those_from_the_first_on():
    """The factors on the actuators' force, read from the physics that the dials make."""

    def gear(**dials):
        return np.asarray(made("hopper").bind(nominal(**dials))._dialled().sys.actuator.gear)

    for first, count, expected in [
        (0, 1, [1, 1, 1]),
        (0, 3, [1, 1, 1]),
        (1, 1, [0, 1, 1]),
        (2, 2, [1, 0, 0]),
        (3, 9, [1, 1, 0]),
    ]:
        np.testing.assert_allclose(
            gear(disabled_joint=first, disabled_count=count), gear() * expected
        )


def test_a_fallen_start_is_down_and_a_share_is_a_share():
    start, (after, _) = drive(nominal(fallen_start=1.0), KEYS)
    assert np.asarray(after.metrics["cost"]).mean() > 0.95
    assert (np.abs(np.asarray(start.pipeline_state.q[:, 2])) > 1.4).all()
    half, _ = drive(nominal(fallen_start=0.5), jax.random.split(jax.random.PRNGKey(1), len(KEYS)))
    turned = np.abs(np.asarray(half.pipeline_state.q[:, 2])) > 1.4
    assert 0 < turned.sum() < len(KEYS)


def test_a_torso_that_is_hardly_turned_is_hardly_lowered():
    robot = made("humanoid").bind(nominal(fallen_from=0.0))
    poses = jax.vmap(lambda key: robot._fallen_pose(robot._robot.sys.init_q, key))(
        jax.random.split(jax.random.PRNGKey(3), 200)
    )
    angles, drop = (
        2 * np.arccos(np.asarray(poses[:, 3])),
        np.asarray(poses[:, 2] - robot._robot.sys.init_q[2]),
    )
    np.testing.assert_allclose(
        drop, np.where(angles > np.pi / 2, -0.9, -0.9 * np.sin(angles)), atol=1e-3
    )


@pytest.mark.parametrize("least", [0, 90, 150])
def test_a_free_torso_is_turned_by_the_least_angle_or_more(least):
    ant = made("ant").bind(nominal(fallen_from=least))
    poses = jax.vmap(lambda key: ant._fallen_pose(ant._robot.sys.init_q, key))(
        jax.random.split(jax.random.PRNGKey(3), 200)
    )
    angles = np.degrees(2 * np.arccos(np.clip(np.asarray(poses[:, 3]), -1, 1)))
    assert least - 0.1 <= angles.min() < least + 20 and 160 < angles.max() <= 180.1


def test_broken_physics_is_not_taken_for_standing():
    _, (after, _) = drive(nominal(mass=jnp.nan), KEYS)
    for values in (after.metrics["cost"], after.metrics["graded_cost"], after.reward):
        assert np.isnan(np.asarray(values)).all()


def test_swimmer_says_why():
    with pytest.raises(ValueError, match=r"swimmer is broken in Brax 0\.14\.2"):
        envs.make("swimmer")


def test_an_unknown_backend_names_the_nearest():
    with pytest.raises(ValueError, match="nearest: positional"):
        envs.make("hopper", backend="positionl")


@pytest.mark.slow
@pytest.mark.parametrize("backend", locomotion.BACKENDS)
@pytest.mark.parametrize("name", ROBOTS)
def test_every_robot_on_every_backend_is_traced(name, backend, capsys):
    world = envs.make(name, backend=backend)
    state = jax.eval_shape(world.reset, jax.ShapeDtypeStruct((2,), jnp.uint32))
    action = jax.ShapeDtypeStruct((world.action_size,), jnp.float32)
    after = jax.eval_shape(world.step, state, action)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    assert after.obs.shape == (world.observation_size,)
    with capsys.disabled():
        print(f"{name} {backend}: observation {world.observation_size}, action {world.action_size}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ROBOTS)
def test_every_robot_moves_on_spring(name):
    _, (after, _) = drive(nominal(name), KEYS[:2], name=name, steps=5)
    for values in (after.obs, after.reward, after.metrics["cost"], after.metrics["graded_cost"]):
        assert np.isfinite(np.asarray(values)).all()


@pytest.fixture
def network(tmp_path):
    """A demonstrator's file of random weights with its card: 3 -> 4 -> 2."""
    import hashlib

    from safetensors.numpy import save

    rng = np.random.default_rng(0)
    shapes = {
        "mean": 3,
        "scale": 3,
        "kernel_0": (3, 4),
        "bias_0": 4,
        "kernel_1": (4, 2),
        "bias_1": 2,
    }
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    content = save(weights)
    (tmp_path / "toy-spring.safetensors").write_bytes(content)
    (tmp_path / "toy-spring.json").write_text(
        json.dumps({"sha256": hashlib.sha256(content).hexdigest()})
    )
    return tmp_path / "toy-spring.safetensors", weights


def test_a_demonstrators_network_is_the_formula(network):
    path, w = network
    x = np.array([0.3, -2.0, 50.0], np.float32)
    z = np.clip((x - w["mean"]) * w["scale"], -10, 10)
    expected = np.tanh(np.tanh(z @ w["kernel_0"] + w["bias_0"]) @ w["kernel_1"] + w["bias_1"])
    np.testing.assert_allclose(
        demonstrators.read(path).act(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-6
    )


def test_a_flipped_bit_in_a_demonstrators_file_is_one_line(network):
    path, _ = network
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"toy-spring\.safetensors is damaged: its SHA-256"):
        demonstrators.read(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [("toy-spring.json", "is missing"), ("toy-spring.safetensors", "is missing")],
)
def test_a_missing_half_of_a_demonstrator_is_one_line(name, message, network):
    path, _ = network
    (path.parent / name).unlink()
    with pytest.raises(ValueError, match=message):
        demonstrators.read(path)


@pytest.mark.parametrize("name", demonstrators.shipped())
def test_every_shipped_demonstrator_fits_its_world_and_has_a_card(name):
    found = demonstrators.read(demonstrators.FOLDER / f"{name}.safetensors")
    card = found.card
    world = made(
        card["world"],
        **({"backend": card["backend"]} if "backend" in envs.kind(card["world"]).options else {}),
    )
    assert world.backend == card["backend"]
    assert (
        found.weights["kernel_0"].shape[0]
        == found.weights["mean"].shape[0]
        == world.observation_size
    )
    assert found.act(jnp.zeros(world.observation_size)).shape == (world.action_size,)
    assert (demonstrators.FOLDER / f"{name}.safetensors").stat().st_size <= 300_000
    needed = {
        "return",
        "random_return",
        "command",
        "env_steps",
        "seed",
        "versions",
        "sha256",
        "licence",
    }
    assert needed <= card.keys() and len(card["return"]) == 3

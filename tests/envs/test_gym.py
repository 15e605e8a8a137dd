"""The worlds behind Gymnasium's interface: Gymnasium's own checker, equality with the worlds'
steps, episodes, frames, and vectorised worlds."""

import copy
import itertools
import subprocess
import sys

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode

import envs
import envs.gym
from envs import drawing
from envs.chain import Chain
from envs.gym import GymWorld, VectorWorld

pytestmark = pytest.mark.usefixtures("quick_compilation")

rng = np.random.default_rng(0)


class Ending(Chain):
    """A chain that sets `done` when it is off, so that its episodes end at different times."""

    def step(self, state, action):
        after = super().step(state, action)
        return after.replace(done=after.metrics["cost"])


@pytest.fixture
def ending(monkeypatch):
    """Makes `envs.make` return an `Ending` for every name."""
    monkeypatch.setattr(envs, "make", lambda name, **values: Ending(**values))


def colour_of(frame, colour):
    """Returns bool[H, W], the pixels of exactly this colour."""
    return (frame == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(-1)


@pytest.mark.filterwarnings("ignore:.*Box observation space (minimum|maximum) value is:UserWarning")
@pytest.mark.parametrize("name", ["chain", "lane_keep", "grid"])
def test_gymnasiums_own_checker_passes(name):
    check_env(gymnasium.make(f"irl_bench/{name}-v0").unwrapped)


def test_every_world_has_a_name_and_needs_no_import():
    assert {f"irl_bench/{name}-v0" for name in envs.names()} <= gymnasium.registry.keys()
    spec = gymnasium.spec("irl_bench/hopper-v0")
    assert (spec.entry_point, spec.vector_entry_point) == (
        "envs.gym:GymWorld",
        "envs.gym:VectorWorld",
    )
    program = """
import sys
import gymnasium
env = gymnasium.make("envs.gym:irl_bench/chain-v0", render_mode="rgb_array")
env.reset(seed=0)
print(env.render().shape, "irl_bench" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout == "(320, 480, 3) False\n", ran.stderr


def test_steps_are_the_worlds_and_dials_apply():
    env = gymnasium.make("irl_bench/chain-v0", hazard=0.5)
    world = envs.make("chain", hazard=0.5)
    observation, _ = env.reset(seed=3)
    key = jax.random.PRNGKey(
        int(np.random.Generator(np.random.PCG64(np.random.SeedSequence(3))).integers(2**31))
    )
    state = jax.jit(world.reset)(key)
    np.testing.assert_array_equal(observation, state.obs)
    step = jax.jit(world.step)
    for action in [0, 1, 2, 3] * 5:
        observation, reward, terminated, truncated, info = env.step(action)
        state = step(state, action)
        np.testing.assert_array_equal(observation, state.obs)
        assert reward == float(state.reward) and not terminated and not truncated
        assert info == {name: float(value) for name, value in state.metrics.items()}
        assert {"cost", "graded_cost"} <= set(info)


def test_an_episode_is_cut_at_its_horizon_and_failure_does_not_end_it():
    env = gymnasium.make("irl_bench/chain-v0", horizon=5, hazard=1.0)
    env.reset(seed=0)
    ends = [env.step(0)[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]


@pytest.mark.parametrize("kind", [GymWorld, VectorWorld])
def test_what_comes_before_a_reset_says_so(kind):
    env = kind("chain", render_mode="rgb_array")
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        env.step(0)
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        env.render()
    with pytest.raises(gymnasium.error.ResetNeeded, match="render"):
        kind("chain").render()


@pytest.mark.parametrize("mode", [None, "rgb_array"])
def test_a_render_mode_goes_with_dials_and_options(mode):
    kwargs = copy.deepcopy({"render_mode": mode, "hazard": 0.25, "horizon": 7})
    env = gymnasium.make("irl_bench/chain-v0", **kwargs)
    assert (
        env.render_mode == mode
        and float(env.unwrapped.world.dials.hazard) == 0.25
        and env.unwrapped.horizon == 7
    )
    again = gymnasium.make(copy.deepcopy(env.spec))
    assert again.render_mode == mode and float(again.unwrapped.world.dials.hazard) == 0.25
    with pytest.raises(ValueError, match="no dial 'rendermode'"):
        gymnasium.make("irl_bench/chain-v0", rendermode=mode)


@pytest.mark.parametrize("kind", [GymWorld, VectorWorld])
def test_bad_arguments_are_refused_in_one_line(kind):
    for values, text in [
        ({"render_mode": "human"}, "render_mode='human' must be None or one of rgb_array"),
        ({"horizon": 0}, "horizon=0 must be at least 1"),
    ]:
        with pytest.raises(ValueError, match=text) as raised:
            kind("chain", **values)
        assert "\n" not in str(raised.value)


def test_a_render_mode_that_nobody_knows_is_refused_through_make_too():
    with (
        pytest.warns(UserWarning, match="ansi"),
        pytest.raises(ValueError, match="one of rgb_array"),
    ):
        gymnasium.make("irl_bench/chain-v0", render_mode="ansi")
    with pytest.raises(ValueError, match="one of rgb_array"):
        gymnasium.make_vec("irl_bench/chain-v0", num_envs=2, render_mode="human")


@pytest.mark.parametrize("kind", [GymWorld, VectorWorld])
def test_without_a_render_mode_nothing_is_drawn(kind):
    env = kind("chain")
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="rgb_array"):
        assert env.render() is None


def test_frames_per_second_follow_the_control_step():
    assert gymnasium.make("irl_bench/lane_keep-v0").metadata == {
        "render_modes": ["rgb_array"],
        "render_fps": 10.0,
    }
    for env in (GymWorld("hopper"), VectorWorld("hopper", 2)):
        assert env.metadata["render_fps"] == round(1.0 / float(env.world._robot.dt), 3) == 125.0


def test_frames_show_the_car_leaving_its_lane():
    env = gymnasium.make("irl_bench/lane_keep-v0", render_mode="rgb_array", hazard_rate=0.0)
    env.reset(seed=1)
    heights, frames = [], []
    for _ in range(25):
        failing = env.step(np.array([0.15, 0.0], np.float32))[4]["cost"] == 1.0
        frames.append(env.render())
        assert frames[-1].shape == (320, 480, 3) and frames[-1].dtype == np.uint8
        car = colour_of(frames[-1], drawing.FAILING if failing else drawing.FINE)
        assert 300 < car.sum() < 2000
        assert not colour_of(frames[-1], drawing.FINE if failing else drawing.FAILING).any()
        heights.append(np.nonzero(car)[0].mean())
    assert (
        failing and np.all(np.diff(heights[:10]) <= 0) and heights[0] - heights[-1] > 30
    )  # it goes to the left, which is up
    assert all((before != after).any() for before, after in itertools.pairwise(frames))
    env.reset(seed=1)
    assert not np.array_equal(env.render(), frames[-1])


def test_gymnasium_collects_the_frames():
    env = gymnasium.make("irl_bench/grid-v0", render_mode="rgb_array_list", slip=0.0)
    env.reset(seed=0)
    for action in (1, 3, 1):
        env.step(action)
    frames = env.render()
    assert len(frames) == 4 and any((a != b).any() for a, b in itertools.pairwise(frames))


@pytest.mark.parametrize("kind", [GymWorld, VectorWorld])
def test_observations_are_the_callers_own(kind):
    env = kind("chain")
    first, _ = env.reset(seed=0)
    kept = first.copy()
    second = env.step(0 if kind is GymWorld else [0])[0]
    for observation in (first, second):
        assert (
            type(observation) is np.ndarray
            and observation.dtype == np.float32
            and observation.flags.writeable
        )
        observation[:] = 9.0
    np.testing.assert_array_equal(env.reset(seed=0)[0], kept)


@pytest.mark.parametrize("kind, shape", [(GymWorld, r"\(2,\)"), (VectorWorld, r"\(3, 2\)")])
def test_actions_of_a_wrong_shape_are_refused(kind, shape):
    many = {"num_envs": 3} if kind is VectorWorld else {}
    env = kind("lane_keep", **many)
    env.reset(seed=0)
    for wrong in (np.zeros(3), np.zeros((3, 1)), 0.0, np.zeros((3, 3))):
        with pytest.raises(
            ValueError, match=f"lane_keep takes an action of shape {shape}, not "
        ) as raised:
            env.step(wrong)
        assert "\n" not in str(raised.value)
    env = kind("chain", **many)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="chain takes an action of shape"):
        env.step([[0]])
    for wrong in (4, -1, 0.5, float("nan")):
        with pytest.raises(ValueError, match="whole number from 0 to 3"):
            env.step([wrong] * 3 if many else wrong)
    env.step(np.full(3, 2, np.int64) if many else np.int64(2))


def test_an_action_that_is_not_finite_is_the_worlds_to_judge():
    single, many = (
        GymWorld("lane_keep", render_mode="rgb_array"),
        VectorWorld("lane_keep", 3, render_mode="rgb_array"),
    )
    many.reset(seed=0)
    actions = np.array([[np.nan, 0.0], [np.inf, 0.0], [0.0, 0.0]], np.float32)
    infos = many.step(actions)[4]
    step = jax.jit(single.world.step)
    for i, action in enumerate(actions):
        single.reset(seed=i)
        judged = step(single._state, action).metrics["cost"]
        np.testing.assert_equal(single.step(action)[4]["cost"], float(judged))
        np.testing.assert_equal(infos["cost"][i], float(judged))
        np.testing.assert_array_equal(single.render(), many.render()[i])


def test_a_step_is_compiled_once():
    for env in (GymWorld("lane_keep"), VectorWorld("lane_keep", 2, horizon=2)):
        env.reset(seed=0)
        for _ in range(5):
            env.step(np.zeros(env.action_space.shape, np.float32))
        assert env._step._cache_size() == 1


def test_make_vec_gives_a_vector_world_and_gymnasiums_own_on_request():
    name = "irl_bench/chain-v0"
    env = gymnasium.make_vec(name, num_envs=3, hazard=0.5, horizon=9)
    assert (
        type(env) is VectorWorld
        and env.num_envs == 3
        and env.horizon == 9
        and env.world.dials.hazard == 0.5
    )
    assert (
        type(gymnasium.make_vec(env.spec)) is VectorWorld
        and gymnasium.make_vec(env.spec).num_envs == 3
    )
    explicit = gymnasium.make_vec(
        f"envs.gym:{name}", num_envs=3, vectorization_mode="vector_entry_point"
    )
    assert type(explicit) is VectorWorld
    sync = gymnasium.make_vec(name, num_envs=3, vectorization_mode="sync")
    assert type(sync) is gymnasium.vector.SyncVectorEnv
    for one in (explicit, env):
        assert one.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        assert (one.observation_space, one.action_space) == (
            sync.observation_space,
            sync.action_space,
        )
        assert one.single_observation_space == sync.single_observation_space
        assert one.single_action_space == sync.single_action_space
    assert gymnasium.make_vec(name, num_envs=2, max_episode_steps=5).horizon == 5
    assert gymnasium.make_vec(name, num_envs=2, max_episode_steps=50, horizon=6).horizon == 6
    assert gymnasium.make_vec(name, num_envs=2, max_episode_steps=10**6).horizon == Chain.horizon
    with pytest.raises(ValueError, match="num_envs=0"):
        VectorWorld("chain", 0)
    with pytest.raises(ValueError, match="autoreset_mode='never' must be one of NextStep"):
        VectorWorld("chain", 2, autoreset_mode="never")


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_a_vector_world_does_what_gymnasiums_own_vector_does(ending, mode):
    """With episodes that end or are truncated at different times, observations, rewards, ends and
    infos are equal."""
    values = {"hazard": 0.3, "terminate": True, "horizon": 6}
    ours = VectorWorld("chain", 5, autoreset_mode=mode.value, **values)
    theirs = gymnasium.vector.SyncVectorEnv(
        [lambda: GymWorld("chain", **values)] * 5, autoreset_mode=mode
    )
    ended = np.zeros((2, 5), int)
    for seed in (7, None, [3, None, 0, 2**32, 5]):
        assert data_equivalence(ours.reset(seed=seed), theirs.reset(seed=seed), exact=True)
        for _ in range(20):
            actions = rng.integers(4, size=5)
            mine, expected = ours.step(actions), theirs.step(actions)
            assert [part.dtype for part in mine[:4]] == [part.dtype for part in expected[:4]]
            for part, wanted in zip(mine[:4], expected[:4]):
                np.testing.assert_array_equal(part, wanted)
            assert set(mine[4]) == set(expected[4])
            for key, wanted in expected[4].items():
                if key == "final_obs":
                    for one, other in zip(mine[4][key], wanted, strict=True):
                        np.testing.assert_array_equal(one, other)
                else:
                    assert data_equivalence(mine[4][key], wanted, exact=True), key
            ended += np.stack(mine[2:4])
    assert (ended > 0).all()  # each world's episodes were both ended and cut
    assert ours.np_random_seed == theirs.np_random_seed
    assert [one.integers(100) for one in ours.np_random] == [
        one.integers(100) for one in theirs.np_random
    ]


@pytest.mark.parametrize("name", ["lane_keep", "coarse_lane"])
def test_each_world_goes_through_what_a_single_one_of_its_seed_does(name):
    many = gymnasium.make_vec(f"irl_bench/{name}-v0", num_envs=3, horizon=5)
    many.action_space.seed(0)
    actions = [many.action_space.sample() for _ in range(14)]
    seeds = [11, 2, 40]
    first = many.reset(seed=seeds)
    steps = [many.step(action) for action in actions]
    single = GymWorld(name, horizon=5)
    for i, seed in enumerate(seeds):
        observation, info = single.reset(seed=seed)
        np.testing.assert_allclose(first[0][i], observation, atol=1e-5)
        assert first[1]["graded_cost"][i] == pytest.approx(info["graded_cost"], abs=1e-5)
        over = False
        for action, (observations, rewards, terminations, truncations, infos) in zip(
            actions, steps
        ):
            if over:
                (observation, info), reward, over = single.reset(), 0.0, False
            else:
                observation, reward, _, over, info = single.step(action[i])
            np.testing.assert_allclose(observations[i], observation, atol=1e-4)
            assert (
                rewards[i] == pytest.approx(reward, abs=1e-5)
                and truncations[i] == over
                and not terminations[i]
            )
            assert {key: infos[key][i] for key in info} == pytest.approx(info, abs=1e-4)
    assert np.stack([step[3] for step in steps]).sum() == 6  # two cuts each


def test_what_drivers_measure_is_in_info():
    """Alone and in a batch, as in the world's own metrics."""
    alone, batch = gymnasium.make("irl_bench/highway-v0"), VectorWorld("highway", 2)
    for env, act in ((alone, np.zeros(2)), (batch, np.zeros((2, 2)))):
        env.reset(seed=0)
        info = env.step(act.astype(np.float32))[-1]
        assert {"collision", "at_fault", "off_road", "speeding", "time_to_collision"} <= set(info)
    assert info["time_to_collision"].shape == (2,) and info["_time_to_collision"].all()


def test_seeds():
    env = VectorWorld("lane_keep", 3)
    first, info = env.reset(seed=5)
    assert (
        set(info) == {"cost", "_cost", "graded_cost", "_graded_cost"}
        and info["_cost"].tolist() == [True] * 3
    )
    np.testing.assert_array_equal(env.reset(seed=[5, 6, 7])[0], first)
    np.testing.assert_array_equal(env.reset(seed=np.array([5, 6, 7]))[0], first)
    assert env.np_random_seed == (5, 6, 7)
    swapped, _ = env.reset(seed=(7, None, 5))
    np.testing.assert_array_equal(swapped[[2, 0]], first[[0, 2]])
    assert (env.reset()[0] != swapped).any(1).all()  # goes on, and does not repeat
    assert len({row.tobytes() for row in VectorWorld("lane_keep", 3).reset()[0]}) == 3
    for wrong in ([1, 2], [1, 2, 3, 4]):
        with pytest.raises(ValueError, match="one for each of the 3 worlds"):
            env.reset(seed=wrong)


def test_some_worlds_can_be_reset_alone():
    env = VectorWorld("lane_keep", 3, horizon=4, autoreset_mode=AutoresetMode.DISABLED)
    mask = np.array([False, True, False])
    options = {"reset_mask": mask}
    with pytest.raises(gymnasium.error.ResetNeeded, match="all"):
        env.reset(options=options)
    start, _ = env.reset(seed=0)
    action = np.zeros((3, 2), np.float32)
    before = [env.step(action)[0] for _ in range(2)][-1]
    after, info = env.reset(seed=[9, 1, 9], options=options)
    assert options == {"reset_mask": mask}
    np.testing.assert_array_equal(after[1], start[1])
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert info["_cost"].tolist() == mask.tolist() and info["graded_cost"][0] == 0.0
    assert not env.step(action)[3].any()
    assert env.step(action)[3].tolist() == [True, False, True]
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset_mask"):
        env.step(action)
    env.reset(options={"reset_mask": ~mask})
    assert env.step(action)[3].tolist() == [False] * 3
    for wrong in (np.zeros(3, bool), np.ones(2, bool), [True] * 3, np.ones(3)):
        with pytest.raises(ValueError, match="reset_mask must be"):
            env.reset(options={"reset_mask": wrong})


def test_vector_frames_are_those_of_the_single_worlds():
    many = gymnasium.make_vec("irl_bench/chain-v0", num_envs=2, render_mode="rgb_array", horizon=3)
    single = GymWorld("chain", render_mode="rgb_array", horizon=3)
    many.reset(seed=3)
    for step in range(6):
        many.step([step % 2, step % 3])
    single.reset(seed=4)
    for step in range(3):
        single.step(step % 3)
    single.reset()
    for step in range(4, 6):
        single.step(step % 3)
    frames = many.render()
    assert len(frames) == 2 and frames[0].dtype == np.uint8
    np.testing.assert_array_equal(frames[1], single.render())


def test_gymnasiums_wrappers_for_vectors_apply():
    env = gymnasium.make_vec("irl_bench/lane_keep-v0", num_envs=4, horizon=5)
    env = gymnasium.wrappers.vector.RecordEpisodeStatistics(env)
    env.reset(seed=0)
    for _ in range(5):
        _, rewards, _, truncations, infos = env.step(np.zeros((4, 2)))
    assert truncations.all() and infos["episode"]["l"].tolist() == [5] * 4
    np.testing.assert_allclose(infos["episode"]["r"], 5.0)
    assert rewards.dtype == np.float64


def test_a_robot_is_drawn_and_its_fall_ends_its_episode_alone():
    many = VectorWorld("inverted_pendulum", 2, terminate=True, render_mode="rgb_array")
    many.reset(seed=0)
    poles, ends = [], []
    for _ in range(40):
        _, _, terminations, truncations, _ = many.step(np.array([[1.0], [0.0]]))
        ends.append(terminations)
        if not ends[-1][0]:
            poles.append(colour_of(many.render()[0], drawing.FINE))
        else:
            break
    assert ends[-1].tolist() == [True, False] and not truncations.any()
    assert (
        colour_of(many.render()[0], drawing.FAILING).sum() > 500
        and not colour_of(many.render()[1], drawing.FAILING).any()
    )
    assert (poles[0] != poles[-1]).sum() > 100
    _, rewards, terminations, _, infos = many.step(np.array([[1.0], [0.0]]))
    assert (
        rewards[0] == 0.0
        and rewards[1] > 0.0
        and not terminations.any()
        and infos["cost"][0] == 0.0
    )


def test_gymnasiums_own_processes_work_when_spawned():
    values = {"horizon": 3, "vectorization_mode": "async"}
    env = gymnasium.make_vec(
        "irl_bench/chain-v0", num_envs=2, vector_kwargs={"context": "spawn"}, **values
    )
    try:
        ours = VectorWorld("chain", 2, horizon=3)
        np.testing.assert_array_equal(env.reset(seed=4)[0], ours.reset(seed=4)[0])
        for _ in range(5):
            mine, theirs = ours.step([0, 1]), env.step(np.array([0, 1]))
            for part, wanted in zip(mine[:4], theirs[:4]):
                np.testing.assert_array_equal(part, wanted)
    finally:
        env.close()

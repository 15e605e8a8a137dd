"""Discriminators: losses against NumPy, norms against SVD, and who is rewarded by what a
discriminator cannot tell."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_bench.adversarial import discriminator
from irl_bench.adversarial.discriminator import Config, Discriminator, Network, Rows, Steps
from irl_bench.algos import airl, gail
from irl_bench.core.settings import BadInput
from irl_bench.core.statistics import correlation
from irl_bench.core.types import Spec, Task
from irl_bench.nets.policies import standardiser, view
from irl_bench.rollouts.evaluation import collect
from tests.worlds.endings import Short
from tests.worlds.helpers import Line

KEY = jax.random.PRNGKey(0)
pytestmark = pytest.mark.usefixtures("quick_compilation")
rng = np.random.default_rng(0)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def rows(count, seed):
    draw = np.random.default_rng(seed)
    shapes = (count, 3), (count, 2), (count, 3), (count,)
    return Steps(*(jnp.asarray(draw.normal(size=shape), jnp.float32) for shape in shapes))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing):
    expert, policy = rng.normal(size=(2, 50)) * 3
    labels = 1 - smoothing, smoothing
    bce = lambda z, label: (
        -np.mean(label * np.log(sigmoid(z)) + (1 - label) * np.log(1 - sigmoid(z)))
    )
    expected = 0.5 * (bce(expert, labels[0]) + bce(policy, labels[1]))
    assert np.isclose(
        discriminator.cross_entropy(jnp.asarray(expert), jnp.asarray(policy), smoothing),
        expected,
        rtol=1e-5,
    )


def test_rewards_from_a_logit():
    z = np.linspace(-8, 8, 33)
    d = sigmoid(z)
    of = lambda form: np.asarray(discriminator.reward_of(jnp.asarray(z), form))
    np.testing.assert_allclose(of("softplus"), -np.log(1 - d), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(of("log_d"), np.log(d), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(of("logit"), np.log(d) - np.log(1 - d), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of("clipped_logit"), np.clip(z, -5, 5), rtol=1e-6)


def linear(params, steps):
    parts = jnp.concatenate([steps.observation, steps.action, steps.next_observation], -1)
    return parts @ params["w"] + 7.0 * steps.log_prob


def test_gradient_penalty_of_a_linear_logit():
    """|grad| is |w| everywhere; the log-probability is no input of the discriminator's own."""
    w = rng.normal(size=8)
    found = discriminator.gradient_penalty(linear, {"w": jnp.asarray(w)}, rows(5, 1), 1.0)
    assert np.isclose(found, (np.linalg.norm(w) - 1) ** 2, rtol=1e-5)


def test_gradient_penalty_against_finite_differences():
    network = Network((5,))
    params = network.init(KEY, jnp.zeros(6))["params"]
    logit = lambda p, s: network.apply(
        {"params": p}, jnp.concatenate([s.observation, s.next_observation], -1)
    )
    steps, h = rows(4, 2), 1e-3
    x = np.concatenate([steps.observation, steps.next_observation], 1).astype(float)

    def value(x):
        hidden = np.tanh(x @ np.asarray(params["kernel_0"], float) + np.asarray(params["bias_0"]))
        return (hidden @ np.asarray(params["kernel_1"], float) + np.asarray(params["bias_1"]))[:, 0]

    gradient = np.stack([(value(x + h * e) - value(x - h * e)) / (2 * h) for e in np.eye(6)], 1)
    expected = np.mean((np.linalg.norm(gradient, axis=1) - 0.5) ** 2)
    assert np.isclose(
        discriminator.gradient_penalty(logit, params, steps, 0.5), expected, rtol=1e-3
    )


def test_largest_singular_value():
    for shape in ((7, 3), (64, 64), (5, 1)):
        matrix = rng.normal(size=shape) @ np.diag(np.linspace(3, 1, shape[1]))
        assert np.isclose(
            discriminator.largest_singular_value(jnp.asarray(matrix)),
            np.linalg.norm(matrix, 2),
            rtol=0.03,
        )


def test_spectral_norm_bounds_the_slope():
    network = Network((16, 16), spectral=True)
    params = jax.tree.map(lambda x: 10 * x, network.init(KEY, jnp.zeros(3))["params"])
    slopes = jax.vmap(jax.grad(lambda x: network.apply({"params": params}, x)))(
        jax.random.normal(KEY, (200, 3))
    )
    assert np.linalg.norm(slopes, axis=1).max() < 1.1


def test_energy_distance():
    a, b = rng.normal(size=(2, 40, 2))
    b = b + 1.0
    pair = lambda x, y: np.linalg.norm(x[:, None] - y[None], axis=-1)
    within = pair(a, a).sum() / (40 * 39) + pair(b, b).sum() / (40 * 39)
    assert np.isclose(
        discriminator.energy_distance(jnp.asarray(a), jnp.asarray(b)),
        2 * pair(a, b).mean() - within,
        rtol=1e-3,
    )
    same = discriminator.energy_distance(*jnp.asarray(rng.normal(size=(2, 400, 2))))
    assert (
        abs(float(same))
        < 0.05
        < float(discriminator.energy_distance(jnp.asarray(a), jnp.asarray(b)))
    )


def test_correlation():
    x, y = rng.normal(size=(2, 30))
    assert np.isclose(
        correlation(jnp.asarray(x), jnp.asarray(y)),
        np.corrcoef(x, y)[0, 1],
        atol=1e-6,
    )
    assert correlation(jnp.ones(30), jnp.asarray(y)) == 0.0


# Fitting.


def task_of(world=None, demos=4, steps=16):
    world = world or Line()
    return Task(collect(world, KEY, demos, steps), world.dials)


def judge_of(config, world=None, reads_actions=False, mixup=False):
    world = world or Line()
    network = Network((16,))
    logit = lambda p, s: network.apply({"params": p}, s.observation)
    judge = Discriminator(Spec(world, 16, 4, 16), config, logit, reads_actions, 32, mixup=mixup)
    return judge, network.init(KEY, jnp.zeros(3))["params"]


def taken(observation, action=None, ended=None):
    """Rows of a policy that stays where it is."""
    count = len(observation)
    action = jnp.zeros((count, 1)) if action is None else action
    return Rows(
        observation,
        action,
        observation,
        jnp.zeros(count),
        jnp.zeros(count) if ended is None else ended,
    )


@pytest.mark.parametrize(
    ("change", "mixup"),
    [
        ({}, False),
        ({"replay": 3}, False),
        *(
            pytest.param(change, mixup, marks=pytest.mark.slow)
            for change, mixup in (
                ({}, True),
                ({"smoothing": 0.1}, False),
                ({"penalty": 0.0}, False),
                ({"penalty": 1.0, "penalty_norm": 0.0}, False),
            )
        ),
    ],
)
def test_a_discriminator_learns_to_tell_the_sides_apart(change, mixup):
    config = dataclasses.replace(
        Config(penalty=0.1, penalty_norm=0.0, disc_steps=200, disc_learning_rate=1e-2), **change
    )
    judge, params = judge_of(config, mixup=mixup)
    task = task_of()
    state = judge.init(params, task.demonstrations)
    far = taken(jnp.full((32, 3), 2.0))
    state, found = jax.jit(judge.fit, static_argnums=3)(
        state, task.demonstrations, far, None, jnp.int32(0), KEY
    )
    assert found["disc_accuracy_expert"] > 0.9 and found["disc_accuracy_policy"] > 0.9
    assert found["disc_logit_expert"] > 0 > found["disc_logit_policy"]


def test_replay_draws_from_earlier_rounds_and_no_further():
    """Only rows that were put in are drawn: one kind in the first round, two in the second, the
    first gone in the third."""
    judge, params = judge_of(
        Config(replay=2, disc_steps=1, disc_batch=4096, penalty=0.0, disc_learning_rate=1e-8)
    )
    seen = []
    judge.logit = lambda p, s: s.observation[:, 0]
    task = task_of()
    state = judge.init(params, task.demonstrations)
    state = state.replace(inputs=state.inputs.replace(mean=jnp.zeros(3), scale=jnp.ones(3)))
    for round_, value in enumerate((1.0, 2.0, 3.0)):
        policy = taken(jnp.full((32, 3), value))
        state, found = judge.fit(
            state, task.demonstrations, policy, None, jnp.int32(round_), jax.random.PRNGKey(round_)
        )
        seen.append(float(found["disc_logit_policy"]))
    np.testing.assert_allclose(seen, [1.0, 1.5, 2.5], atol=0.05)


def test_what_is_remembered_has_the_density_of_the_current_policy():
    judge, params = judge_of(
        Config(replay=2, disc_steps=1, disc_batch=4096, penalty=0.0, disc_learning_rate=1e-8),
        None,
        True,
    )
    judge.logit = lambda p, s: s.log_prob
    task = task_of()
    state, seen = judge.init(params, task.demonstrations), []
    for round_, slope in enumerate((1.0, 10.0)):
        policy = taken(jnp.ones((32, 3)), action=jnp.full((32, 1), round_ + 1.0))
        density = lambda observation, action, slope=slope: slope * action[:, 0] * observation[:, 0]
        state, found = judge.fit(
            state,
            task.demonstrations,
            policy,
            density,
            jnp.int32(round_),
            jax.random.PRNGKey(round_),
        )
        seen.append(float(found["disc_logit_policy"]))
    np.testing.assert_allclose(seen, [1.0, 15.0], atol=0.5)  # half of the rows 10 * 1, half 10 * 2


def test_masked_and_last_steps_are_never_an_experts():
    task = task_of()
    mask = np.ones((4, 16), np.float32)
    mask[:, 5:] = 0
    observation = np.array(task.demonstrations.observation)
    observation[:, 4:] = (
        100.0  # the last step in use and what is masked: the former has no successor
    )
    observation[:, :4] = rng.normal(size=(4, 4, 3))
    demos = task.demonstrations.replace(
        mask=jnp.asarray(mask), observation=jnp.asarray(observation)
    )
    judge, params = judge_of(Config(disc_steps=1, disc_batch=512, penalty=0.0))
    state = judge.init(params, demos)
    judge.logit = lambda p, s: s.observation[:, 0]
    _, found = judge.fit(state, demos, taken(jnp.zeros((32, 3))), None, jnp.int32(0), KEY)
    expected = np.clip(np.asarray(state.inputs(jnp.asarray(observation[:, :4]))), -10, 10)[
        ..., 0
    ].mean()
    assert np.isclose(found["disc_logit_expert"], expected, atol=0.1)


def test_both_sides_are_standardised_alike_and_flags_are_hidden():
    from envs.chain import OFF_VIEW, Chain

    world = Chain()
    demos = collect(world, KEY, 4, 16)
    for mask in (True, False):
        judge = Discriminator(
            Spec(world, 16, 4, 16),
            Config(mask_failure=mask),
            lambda p, s: s.observation[:, 0],
            False,
            8,
        )
        state = judge.init({}, demos)
        flag = jnp.eye(65)[OFF_VIEW][None]
        shown = judge.steps(state.inputs, flag, None, flag, jnp.zeros(1))
        assert bool(shown.observation[0, OFF_VIEW] != 0) != mask
    expected = standardiser(
        demos.observation.reshape(-1, 65), demos.mask.reshape(-1), keep_constant=True
    )
    np.testing.assert_array_equal(state.inputs.scale, expected.scale)


# The algorithms.

SMALL = {
    "hidden": (8,),
    "value_hidden": (8,),
    "disc_hidden": (8,),
    "worlds": 8,
    "unroll": 16,
    "minibatches": 2,
    "bc_steps": 20,
    "episode_steps": 16,
    "rounds": 3,
    "disc_batch": 32,
    "policy_delay": 0,
}


@pytest.mark.parametrize("algo", [gail, pytest.param(airl, marks=pytest.mark.slow)])
def test_reward_changes_after_a_discriminator_update(algo):
    """The policy is trained on the reward of the discriminator just fitted, not of the first
    one."""
    spec, task = Spec(Line(), 16, 4, 16), task_of()
    start = algo.make(spec, algo.Config(**SMALL))
    state, rewards = jax.jit(start.init)(KEY, task), []  # it does not depend on the rate
    for rate in (1e-8, 1e-1):  # as good as frozen, and not
        learner = algo.make(spec, algo.Config(**SMALL, disc_learning_rate=rate))
        rewards.append(float(jax.jit(learner.update)(state, task)[1]["reward_mean"]))
    assert abs(rewards[0] - rewards[1]) > 1e-3


@pytest.mark.parametrize("form", ["softplus", "log_d", "logit", "clipped_logit"])
def test_a_constant_discriminator_rewards_neither_living_nor_dying(form):
    """In a world that ends after four steps every policy and every end must be worth the same:
    nothing is terminal, so equal rewards give equal advantages whatever their sign."""
    from irl_bench.rl import ppo

    world = Short()
    spec = Spec(world, 8, 4, 8)
    config = gail.Config(
        **{**SMALL, "unroll": 32, "statistics": "running"}, init="random", reward=form
    )
    inner = ppo.PPO(spec, config, terminate=False, init="random")
    state = inner.init(KEY, Task(collect(world, KEY, 4, 8), world.dials))
    state, batch = inner.collect(state, world.dials)
    assert not batch.termination.any()
    reward = discriminator.reward_of(jnp.full(batch.reward.shape, 0.3), form)
    endless = float(reward[0, 0]) / (1 - config.discount)
    value = jnp.full(reward.shape, endless)
    found = ppo.returns(batch, reward, value, value, config.discount, config.gae_lambda)
    np.testing.assert_allclose(found, value, rtol=1e-4)


@pytest.mark.parametrize("form", ["softplus", "log_d"])
def test_an_absorbing_state_makes_ends_neutral(form, monkeypatch):
    """Where the world ends after four steps into a state with the same reward, an end is worth
    what going on is."""
    from irl_bench.rl import ppo

    world = Short()
    spec = Spec(world, 8, 4, 8)
    config = gail.Config(
        **{**SMALL, "unroll": 32, "statistics": "running"},
        init="random",
        reward=form,
        absorbing=True,
    )
    inner = ppo.PPO(spec, config, terminate=True, init="random")
    state = inner.init(KEY, Task(collect(world, KEY, 4, 8), world.dials))
    state, batch = inner.collect(state, world.dials)
    assert batch.termination.any()
    reward = discriminator.reward_of(jnp.full(batch.reward.shape, 0.3), form)
    seen, real = [], ppo.returns
    monkeypatch.setattr(
        ppo, "returns", lambda *arguments: seen.append(arguments) or real(*arguments)
    )
    for absorbing in (reward[0, 0], None):
        inner.improve(state, batch, reward, absorbing)
        shown, scaled, _, after, *rates = seen.pop()
        value = jnp.full(reward.shape, float(scaled[0, 0]) / (1 - config.discount))
        found = real(shown, scaled, value, jnp.where(batch.termination > 0, after, value), *rates)
        assert np.allclose(found, value, rtol=1e-4) == (
            absorbing is not None
        )  # a mere end is not neutral


def test_terminations_lead_into_the_absorbing_state_and_stay_there():
    config = Config(absorbing=True, disc_steps=1, disc_batch=8192, penalty=0.0)
    judge = Discriminator(
        Spec(Line(), 16, 4, 16), config, lambda p, s: s.observation[:, -1], False, 32, 4.0
    )
    task = task_of()
    state = judge.init({}, task.demonstrations)
    ended = jnp.zeros(32).at[jnp.array([3, 17])].set(1.0)
    there = judge.absorbed
    steps = judge.steps(
        state.inputs, jnp.ones((32, 3)), None, jnp.full((32, 3), 2.0), jnp.zeros(32), ended
    )
    assert (
        steps.observation.shape == steps.next_observation.shape == (32, 4)
        and not steps.observation[:, -1].any()
    )
    np.testing.assert_array_equal(steps.next_observation[:, -1], ended)
    np.testing.assert_array_equal(steps.next_observation[3], there.observation[0])
    assert (steps.next_observation[4, :3] != 0).any()
    # Two of 32 rows lead there, and each goes with 4 steps there: 8 of 40 rows.
    _, found = judge.fit(
        state, task.demonstrations, taken(jnp.ones((32, 3)), ended=ended), None, jnp.int32(0), KEY
    )
    assert (
        np.isclose(found["disc_logit_policy"], 8 / 40, atol=0.015)
        and found["disc_logit_expert"] == 0.0
    )


@pytest.mark.parametrize("algo", [gail, pytest.param(airl, marks=pytest.mark.slow)])
def test_the_absorbing_state_is_judged_paid_and_kept(algo, monkeypatch):
    from irl_bench.rl import ppo

    world = Short()
    spec, task = Spec(world, 8, 4, 8), Task(collect(world, KEY, 4, 8), world.dials)
    config = algo.Config(
        **{**SMALL, "unroll": 32}, init="random", absorbing=True, disc_learning_rate=1e-8
    )
    learner = algo.make(spec, config)
    state = learner.init(KEY, task)
    params = jax.tree.map(jnp.zeros_like, state.discriminator.params)
    if algo is airl:  # g = 2 and h = 0 everywhere, by g's constant
        params["g"]["bias_1"] = jnp.full(1, 2.0)
    state = state.replace(discriminator=state.discriminator.replace(params=params))
    paid, improve = [], ppo.PPO.improve

    def spy(self, state, batch, reward, absorbing):
        paid.append(float(absorbing))
        assert batch.termination.any()
        return improve(self, state, batch, reward, absorbing)

    monkeypatch.setattr(ppo.PPO, "improve", spy)
    state, _ = learner.update(state, task)
    expected = np.log(2.0) if algo is gail else 2.0
    np.testing.assert_allclose([*paid, learner.reward(state)["absorbing"]], expected, rtol=1e-4)


@pytest.mark.slow
def test_f_is_no_bonus_for_living_where_falls_end_episodes():
    """An undecided discriminator has f = log pi: alone, its mean would pay for living or for
    falling, as the deviation is."""
    world = Line()
    spec, task = Spec(world, 16, 4, 16), task_of(world)
    means = []
    for reward in ("f", "log_ratio"):
        config = airl.Config(**SMALL, absorbing=True, disc_learning_rate=1e-8, reward=reward)
        learner = airl.make(spec, config)
        means.append(
            float(jax.jit(learner.update)(jax.jit(learner.init)(KEY, task), task)[1]["reward_mean"])
        )
    assert np.isclose(*means, atol=1e-4)


@pytest.mark.slow
def test_actions_are_needed_where_they_are_read():
    spec, task = Spec(Line(), 16, 4, 16), task_of()
    blind = Task(task.demonstrations.replace(action=None), task.dials)
    for config in (
        gail.Config(**SMALL, init="random", inputs="state_action"),
        gail.Config(**SMALL),
    ):
        with pytest.raises(BadInput, match="actions"):
            gail.make(spec, config).init(KEY, blind)
    with pytest.raises(BadInput, match="actions"):
        airl.make(spec, airl.Config(**SMALL, init="random")).init(KEY, blind)
    for inputs in ("state", "state_transition"):
        learner = gail.make(spec, gail.Config(**SMALL, init="random", inputs=inputs))
        _, metrics = jax.jit(learner.update)(jax.jit(learner.init)(KEY, blind), blind)
        assert np.isfinite(metrics["disc_loss"])


def test_airl_reads_the_current_density_of_both_sides():
    """z = f - log pi: with f fixed at 0, the mean logits are minus the mean log-probabilities,
    the expert's included."""
    spec, task = Spec(Line(), 16, 4, 16), task_of()
    learner = airl.make(
        spec, airl.Config(**SMALL, disc_learning_rate=1e-8, disc_steps=1, penalty=0.0)
    )
    state = jax.jit(learner.init)(KEY, task)
    zero = jax.tree.map(jnp.zeros_like, state.discriminator.params)
    state = state.replace(discriminator=state.discriminator.replace(params=zero))
    _, metrics = jax.jit(learner.update)(state, task)
    from irl_bench.rl import ppo

    inner = ppo.PPO(spec, airl.Config(**SMALL), terminate=False, init="bc")
    demos = task.demonstrations
    x = view(inner.inputs(state.policy), demos.observation[:, :-1])
    density = inner.policy.log_prob(
        state.policy.weights["policy"], x, inner.policy.unsquash(demos.action[:, :-1])
    )
    assert np.isclose(
        metrics["disc_logit_expert"],
        -density.mean(),
        atol=3 * float(density.std()) / 32**0.5 + 0.05,
    )
    assert metrics["disc_logit_policy"] < 0  # a narrow Gaussian's own samples have high density

"""DAgger: the label budget, the mixture that drives, how the aggregate fills, and the chain it
must solve."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import chain
from envs.chain import OFF_VIEW, RECOVER, SITUATIONS, Chain
from irl_bench.algos import bc, dagger
from irl_bench.core.types import Spec
from tests.worlds.helpers import Line, chain_actions, chain_expert, demonstrate, line_expert, train

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.PRNGKey(0)
DEMO_ROWS, EPISODES, STEPS, ITERATIONS = 2 * 24, 2, 8, 3
SPEC = Spec(Chain(), 16, 4, 24)
DIALS = Chain(hazard=1.0, recovery=1.0).dials
"""Where an observation follows from the one before it and the action: off after every mistake,
back after `recover`."""


@functools.cache
def learner_of(**changes):
    config = {
        "hidden": (4,),
        "iterations": ITERATIONS,
        "steps_per_round": 2,
        "batch_size": 8,
        "episode_steps": STEPS,
    }
    return dagger.make(SPEC, dagger.Config(**{**config, **changes}))


@functools.cache
def history(**changes):
    """(task, states after init and each update, metrics): every state but the last acted in the
    round after it."""
    learner, task = learner_of(**changes), demonstrate(SPEC, DIALS, KEY)
    states, metrics, update = [jax.jit(learner.init)(KEY, task)], [], jax.jit(learner.update)
    for _ in range(learner.rounds):
        state, row = update(states[-1], task)
        states.append(state)
        metrics.append(row)
    return task, states, metrics


def rows_of(round_):
    """Where the rows of round 1, 2, ... lie."""
    start = DEMO_ROWS + (round_ - 1) * EPISODES * STEPS
    return slice(start, start + EPISODES * STEPS)


def episodes_of(data, round_):
    """observation [episodes, steps, 65] and action [episodes, steps] of a round."""
    rows = rows_of(round_)
    shape = (EPISODES, STEPS)
    return np.asarray(data.observation[rows]).reshape(*shape, -1), np.asarray(
        data.action[rows]
    ).reshape(shape)


@given(
    demos=st.integers(1, 200),
    demo_steps=st.integers(1, 600),
    iterations=st.integers(1, 1000),
    initial=st.floats(0.01, 0.99),
    episode_steps=st.integers(1, 1000),
)
@settings(max_examples=300, deadline=None)
def test_label_budget_is_never_above_that_of_bc(
    demos, demo_steps, iterations, initial, episode_steps
):
    spec = Spec(Chain(), 16, demos, demo_steps)
    config = dagger.Config(iterations=iterations, initial=initial, episode_steps=episode_steps)
    used, episodes, steps = dagger.budget(spec, config)
    assert 1 <= used <= demos and episodes >= 0 and 1 <= steps <= episode_steps
    online = iterations * episodes * steps
    left = (demos - used) * demo_steps - online
    assert (
        0 <= left < iterations * steps or episodes == 0
    )  # what is left is not enough for one more rollout a round
    if (demos - used) * demo_steps >= iterations:
        assert episodes > 0
    consumes = dagger.make(spec, config).consumes
    assert (consumes.expert_queries, consumes.env_steps) == (
        used * demo_steps + online,
        online,
    ) and consumes.interactive
    assert (
        consumes.expert_queries
        <= bc.make(spec, bc.Config()).consumes.expert_queries
        == demos * demo_steps
    )


def test_budget_of_the_cases_below():
    config = dagger.Config(iterations=ITERATIONS, episode_steps=STEPS)
    assert dagger.budget(SPEC, config) == (2, EPISODES, STEPS)
    assert learner_of().rounds == 1 + ITERATIONS


@pytest.mark.parametrize("decay", [0.0, 0.3, 1.0])
def test_beta(decay):
    def beta(schedule):
        config = dagger.Config(beta=schedule, beta_decay=decay)
        return [float(dagger.beta_at(config, jnp.int32(i))) for i in range(1, 6)]

    i = np.arange(1, 6)
    assert beta("none") == [0.0] * 5
    np.testing.assert_allclose(beta("linear"), np.maximum(0.0, 1.0 - decay * i), atol=1e-6)
    np.testing.assert_allclose(beta("exponential"), (1.0 - decay) ** i, atol=1e-6)


def test_the_first_round_fits_the_demonstrations_alone():
    task, states, metrics = history()
    for state in states[:2]:
        np.testing.assert_array_equal(
            state.data.mask, np.arange(DEMO_ROWS + ITERATIONS * EPISODES * STEPS) < DEMO_ROWS
        )
        demos = task.demonstrations
        np.testing.assert_array_equal(
            state.data.observation[:DEMO_ROWS], demos.observation[:2].reshape(DEMO_ROWS, -1)
        )
        np.testing.assert_array_equal(
            state.data.action[:DEMO_ROWS], demos.action[:2].reshape(DEMO_ROWS)
        )
    assert float(metrics[0]["labels"]) == DEMO_ROWS
    assert float(metrics[0]["departures"]) == float(metrics[0]["failed_steps"]) == 0.0


def test_each_round_fills_its_own_rows_and_touches_no_others():
    _, states, metrics = history()
    for round_ in range(1, ITERATIONS + 1):
        before, after = states[round_].data, states[round_ + 1].data
        rows = rows_of(round_)
        np.testing.assert_array_equal(after.mask, np.arange(after.mask.size) < rows.stop)
        for old, new in ((before.observation, after.observation), (before.action, after.action)):
            np.testing.assert_array_equal(old[: rows.start], new[: rows.start])
        assert float(metrics[round_]["labels"]) == rows.stop
    assert float(metrics[-1]["labels"]) == learner_of().consumes.expert_queries
    assert states[-1].data.mask.all()


@pytest.mark.parametrize("beta", ["none", "linear"])
def test_labels_are_those_of_the_expert_at_the_states_visited(beta):
    _, states, _ = history(beta=beta)
    data = states[-1].data
    assert (np.asarray(data.observation).sum(-1) == 1).all()
    np.testing.assert_array_equal(data.action, chain_expert(np.asarray(data.observation)))


def test_without_beta_the_learner_of_the_round_before_drives():
    learner = learner_of()
    _, states, metrics = history()
    for round_ in range(1, ITERATIONS + 1):
        observation, label = episodes_of(states[round_ + 1].data, round_)
        act = jax.jit(jax.vmap(jax.vmap(learner.act, (None, 0, None)), (None, 0, None)))
        action = np.asarray(act(learner.policy(states[round_]), jnp.asarray(observation), KEY))
        off = observation[..., OFF_VIEW] == 1
        assert not off[:, 0].any()
        next_off = np.where(off, action != RECOVER, action != label)  # by the dials
        np.testing.assert_array_equal(off[:, 1:], next_off[:, :-1])
        assert float(metrics[round_]["departures"]) == (~off & next_off).sum()
        assert float(metrics[round_]["failed_steps"]) == next_off.sum()


def test_with_beta_1_the_expert_drives():
    _, states, metrics = history(beta="linear", beta_decay=0.0)
    assert not np.asarray(states[-1].data.observation)[:, OFF_VIEW].any()
    assert all(float(row["departures"]) == 0 for row in metrics)


def test_beta_is_the_share_of_steps_that_the_expert_drives():
    """A policy that always plays `recover` leaves at each of its own steps on the road and comes
    back at once."""
    spec = Spec(Chain(), 16, 32, 64)
    config = dagger.Config(
        hidden=(4,),
        iterations=1,
        steps_per_round=1,
        batch_size=1,
        initial=0.03,
        beta="exponential",
        beta_decay=0.3,
    )
    learner, task = dagger.make(spec, config), demonstrate(spec, DIALS, KEY)
    state = jax.jit(learner.init)(KEY, task)
    state.params.weights["net"]["Dense_1"]["bias"] = jnp.asarray([0.0, 0.0, 0.0, 100.0])
    state, metrics = jax.jit(learner.update)(state.replace(round=jnp.int32(1)), task)
    online = learner.consumes.env_steps
    on = online - np.asarray(state.data.observation)[-online:, OFF_VIEW].sum()
    assert online > 1500 and abs(float(metrics["departures"]) / on - 0.3) < 4 * np.sqrt(
        0.3 * 0.7 / on
    )


def test_continuous_world():
    spec = Spec(Line(), 16, 4, 24)
    config = dagger.Config(
        hidden=(4,), iterations=2, steps_per_round=2, batch_size=8, episode_steps=8
    )
    learner, task = dagger.make(spec, config), demonstrate(spec, Line().dials_for("nominal"), KEY)
    state, metrics = jax.jit(lambda key: train(learner, key, task))(KEY)
    assert state.data.mask.all() and float(metrics["labels"][-1]) == learner.consumes.expert_queries
    np.testing.assert_allclose(
        state.data.action, jax.vmap(line_expert)(state.data.observation), rtol=1e-5, atol=1e-6
    )


def test_no_online_labels_where_the_budget_has_none():
    spec = Spec(Chain(), 16, 1, 24)
    learner = dagger.make(
        spec, dagger.Config(hidden=(4,), iterations=2, steps_per_round=2, batch_size=8)
    )
    state, metrics = jax.jit(lambda task: train(learner, KEY, task))(demonstrate(spec, DIALS, KEY))
    assert (
        learner.consumes.env_steps == 0
        and state.data.mask.size == 24
        and not metrics["departures"].any()
    )


def test_learns_to_recover_where_a_clone_cannot():
    """The same labels: the clone never sees the road from outside, DAgger's learner sees it and
    is told the way back."""
    spec, dials = (
        Spec(Chain(), 64, 16, 64),
        Chain(hazard=1.0).dials_for("dagger_chain").replace(hazard=jnp.float32(1.0)),
    )
    learners = (
        bc.make(spec, bc.Config(hidden=(64,), learning_rate=2e-2, rounds=6, steps_per_round=80)),
        dagger.make(
            spec,
            dagger.Config(
                hidden=(64,),
                learning_rate=2e-2,
                iterations=4,
                steps_per_round=100,
                batch_size=256,
                initial=0.1,
            ),
        ),
    )

    def one(key):
        task = demonstrate(spec, dials, jax.random.fold_in(key, 0))
        return [
            learner.policy(train(learner, jax.random.fold_in(key, 1), task)[0])
            for learner in learners
        ]

    params = jax.jit(jax.vmap(one))(jax.random.split(KEY, 3))
    assert learners[1].consumes.expert_queries <= learners[0].consumes.expert_queries
    for i in range(3):
        rates = [
            chain.exact_rates(
                chain_actions(learner, jax.tree.map(lambda x, i=i: x[i], of)), Chain().dials
            )
            for learner, of in zip(learners, params)
        ]
        (h_bc, rho_bc), (h_dagger, rho_dagger) = rates
        assert rho_bc == 0.0 and rho_dagger == pytest.approx(1 / 3)
        assert 0 < h_bc < 0.01 and h_dagger < 0.01
    assert chain_actions(learners[0], jax.tree.map(lambda x: x[0], params[0])).shape == (
        SITUATIONS + 1,
    )

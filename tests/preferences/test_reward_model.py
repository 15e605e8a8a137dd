"""Learned rewards: losses against NumPy, what ties and held-out labels do, and a known reward
recovered."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from irl_bench.core.types import Spec
from irl_bench.preferences import reward_model
from irl_bench.preferences.reward_model import (
    Comparisons,
    Config,
    RewardModel,
    Segments,
    accuracy,
    bradley_terry,
)
from tests.worlds.helpers import Line

KEY = jax.random.PRNGKey(0)
pytestmark = pytest.mark.usefixtures("quick_compilation")
rng = np.random.default_rng(0)


def model(**settings):
    return RewardModel(
        Spec(Line(), 8, 4, 4), Config(**{"reward_hidden": (16,), "reward_batch": 32, **settings})
    )


def data(count=600, pairs=1000, length=5, seed=0):
    draw = np.random.default_rng(seed)
    seen = draw.normal(size=(count, length, 3)).astype(np.float32)
    reward = seen[..., 0] - 0.5 * np.abs(seen[..., 1])
    segments = Segments(jnp.asarray(seen), jnp.zeros((count, length, 2)), jnp.asarray(reward))
    first, second = draw.integers(0, count, (2, pairs))
    label = (reward.sum(1)[first] > reward.sum(1)[second]).astype(np.float32)
    return segments, Comparisons(
        jnp.asarray(first), jnp.asarray(second), jnp.asarray(label), jnp.ones(pairs)
    )


def test_bradley_terry():
    margin, label, weight = (
        rng.normal(size=30) * 4,
        rng.choice([0, 0.5, 1], 30),
        rng.integers(0, 2, 30),
    )
    p = 1 / (1 + np.exp(-margin))
    each = -label * np.log(p) - (1 - label) * np.log(1 - p)
    expected = (weight * each).sum() / weight.sum()
    assert np.isclose(
        bradley_terry(*map(jnp.asarray, (margin, label, weight))), expected, rtol=1e-5
    )
    assert bradley_terry(jnp.ones(3), jnp.ones(3), jnp.zeros(3)) == 0  # no answer at all


def test_a_bounded_judgement_stays_bounded_far_away():
    segments, made = data()
    ours, free = model(bounded=True), model()
    fitted, _ = jax.jit(
        lambda key: ours.fit(ours.see(ours.init(key), segments), segments, made, 200, key)
    )(KEY)
    far = jnp.full((4, 3), 1e3).at[:, 1].set(-1e3)
    one = jax.tree.map(lambda p: p[0], fitted.params)
    here = ours.raw(one, fitted, far, jnp.zeros((4, 2)))
    assert (jnp.abs(here) <= 1).all()
    np.testing.assert_allclose(
        here, jnp.tanh(free.raw(one, fitted, far, jnp.zeros((4, 2)))), rtol=1e-6
    )
    assert ours.fresh_accuracy(ours.standardise(fitted, segments), data(seed=5)[0], KEY) > 0.85


def test_accuracy_leaves_ties_and_skipped_pairs_out():
    margin = jnp.array([1.0, -1.0, 2.0, -2.0, 0.0])
    label = jnp.array([1.0, 1.0, 0.5, 0.0, 1.0])
    assert accuracy(margin, label, jnp.ones(5)) == pytest.approx((1 + 0 + 1 + 0.5) / 4)
    assert accuracy(margin, label, jnp.array([1.0, 0, 1, 1, 0])) == 1.0
    assert accuracy(margin, jnp.full(5, 0.5), jnp.ones(5)) == 0.5


def test_the_loss_of_a_step_is_that_of_summed_rewards():
    ours, (segments, made) = model(), data(pairs=3)
    state = ours.see(ours.init(KEY), segments)
    margin = ours.margins(state, segments, made.first, made.second)
    x = (np.asarray(segments.observation) - np.asarray(state.inputs.mean)) * np.asarray(
        state.inputs.scale
    )
    params = jax.tree.map(np.asarray, state.params)
    for member in range(3):
        one = jax.tree.map(lambda p, m=member: p[m], params)
        hidden = np.tanh(x @ one["Dense_0"]["kernel"] + one["Dense_0"]["bias"])
        total = (hidden @ one["Dense_1"]["kernel"] + one["Dense_1"]["bias"])[..., 0].sum(1)
        np.testing.assert_allclose(
            margin[member], total[made.first] - total[made.second], rtol=2e-3, atol=1e-4
        )


@functools.cache
def fitted(steps=400, shuffled=False):
    ours, (segments, made) = model(), data()
    if shuffled:
        made = made.replace(
            label=jnp.asarray(np.random.default_rng(1).permutation(np.asarray(made.label)))
        )

    def run(key):
        state = ours.see(ours.init(key), segments)
        state, loss = ours.fit(state, segments, made, steps, key)
        state = ours.standardise(state, segments)
        return state, loss, ours.fresh_accuracy(state, data(seed=5)[0], key)

    return ours, *jax.jit(run)(KEY)


def test_a_known_reward_is_recovered():
    ours, state, loss, accuracy = fitted()
    fresh, _ = data(seed=5)
    found = ours.reward_fn(state, fresh.observation, fresh.action, fresh.observation)
    assert accuracy > 0.9 and loss < 0.3
    assert (
        stats.spearmanr(np.asarray(found).ravel(), np.asarray(fresh.reward).ravel()).statistic > 0.9
    )


def test_shuffled_answers_teach_nothing():
    *_, accuracy = fitted(shuffled=True)
    assert 0.3 < accuracy < 0.7


def test_judgements_have_mean_0_and_deviation_1_on_the_reference_states():
    ours, state, *_ = fitted()
    segments, _ = data()
    each = jax.vmap(lambda p: ours.raw(p, state, segments.observation, segments.action))(
        state.params
    )
    each = (np.asarray(each) - np.asarray(state.mean)[:, None, None]) * np.asarray(state.scale)[
        :, None, None
    ]
    np.testing.assert_allclose(each.mean((1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(each.std((1, 2)), 1, atol=1e-3)
    judged = ours.reward_fn(state, segments.observation, segments.action, segments.observation)
    np.testing.assert_allclose(judged, each.mean(0), atol=1e-4)


def test_accuracy_is_the_share_of_fresh_decided_pairs():
    ours, state, *_ = fitted()
    fresh, _ = data(seed=5)
    # Half of all segments are worth the same, so that many pairs are ties.
    fresh = fresh.replace(reward=fresh.reward.at[::2].set(0.0))
    found = float(ours.fresh_accuracy(state, fresh, KEY))
    count = len(fresh.reward)
    first, second = np.asarray(jax.random.randint(KEY, (2, 8 * reward_model.PROBES), 0, count))
    true = np.asarray(fresh.reward).sum(1)
    learned = np.asarray(
        ours.reward_fn(state, fresh.observation, fresh.action, fresh.observation)
    ).sum(1)
    decided = np.flatnonzero(true[first] != true[second])[: reward_model.PROBES]
    assert len(decided) == reward_model.PROBES
    a, b = first[decided], second[decided]
    right = (learned[a] > learned[b]) == (true[a] > true[b])
    assert found == pytest.approx(right.mean(), abs=2e-3)
    tied = fresh.replace(reward=jnp.zeros_like(fresh.reward))
    assert ours.fresh_accuracy(state, tied, KEY) == 0.5


def test_without_any_answer_nothing_is_learned():
    ours, (segments, made) = model(members=1, reward_weight_decay=0.0), data()
    begun = ours.see(ours.init(KEY), segments)
    state, loss = ours.fit(begun, segments, made.replace(weight=jnp.zeros(1000)), 20, KEY)
    assert loss == 0 and jax.tree.all(
        jax.tree.map(lambda a, b: (a == b).all(), state.params, begun.params)
    )


def test_an_action_counts_only_where_it_is_asked_for():
    seen, action = jnp.zeros((4, 3)), jnp.asarray(rng.normal(size=(4, 2)), jnp.float32)
    for inputs, same in (("state", True), ("state_action", False)):
        ours = model(reward_inputs=inputs)
        state = ours.init(KEY).replace(scale=jnp.ones(3))
        found = ours.reward_fn(state, seen, action, seen)
        assert (jnp.ptp(found) == 0) == same


def test_a_pessimist_lowers_what_the_members_disagree_on():
    ours, state, *_ = fitted()
    timid = model(pessimism=2.0)
    fresh, _ = data(seed=5)
    each = jax.vmap(lambda p: ours.raw(p, state, fresh.observation, fresh.action))(state.params)
    each = (np.asarray(each) - np.asarray(state.mean)[:, None, None]) * np.asarray(state.scale)[
        :, None, None
    ]
    found = timid.reward_fn(state, fresh.observation, fresh.action, fresh.observation)
    np.testing.assert_allclose(found, each.mean(0) - 2 * each.std(0), atol=1e-4)

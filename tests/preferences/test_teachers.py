"""Teachers: each one's probabilities against the formula, and that answers are drawn with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_bench.preferences.teachers import (
    TEACHERS,
    Pool,
    Teacher,
    answer,
    pool_of,
    probabilities,
    worth,
)

POOL = Pool(jnp.float32(4.0), jnp.float32(2.0))
rng = np.random.default_rng(0)


def of(teacher, first, second, pool=POOL):
    found = probabilities(
        teacher, jnp.asarray(first, jnp.float32), jnp.asarray(second, jnp.float32), pool
    )
    return [float(x) for x in (found.first, found.second, found.equal, found.skipped)]


def test_the_oracle_prefers_the_higher_return_and_calls_equal_ones_equal():
    assert of(Teacher(), [1, 2], [2, 0.5]) == [1, 0, 0, 0]
    assert of(Teacher(), [0, 0], [2, 0.5]) == [0, 1, 0, 0]
    assert of(Teacher(), [0.5, 0.5], [1, 0]) == [0, 0, 1, 0]


@pytest.mark.parametrize("beta", [0.0, 0.5, 3.0])
def test_a_boltzmann_teacher_scales_the_margin_once(beta):
    first, second = rng.normal(size=(2, 5))
    expected = 1 / (1 + np.exp(-beta * (first.sum() - second.sum()) / 2.0))
    assert np.allclose(
        of(Teacher(beta=beta), first, second), [expected, 1 - expected, 0, 0], atol=1e-6
    )


def test_a_myopic_teacher_weighs_the_end():
    reward = rng.normal(size=(3, 6)).astype(np.float32)
    expected = [sum(0.9 ** (5 - t) * row[t] for t in range(6)) for row in reward]
    np.testing.assert_allclose(
        worth(Teacher(discount=0.9), jnp.asarray(reward)), expected, rtol=1e-5
    )
    assert of(Teacher(), [3, 0, 0], [0, 0, 2]) == [1, 0, 0, 0]
    assert of(Teacher(discount=0.5), [3, 0, 0], [0, 0, 2]) == [0, 1, 0, 0]


def test_a_mistaken_teacher_turns_preferences_round_but_not_ties():
    assert np.allclose(of(Teacher(mistake=0.1), [2.0], [1.0]), [0.9, 0.1, 0, 0])
    assert of(Teacher(mistake=0.1), [1.0], [1.0]) == [0, 0, 1, 0]


def test_skipping_and_equality_are_measured_by_the_pools_mean():
    skips, ties = Teacher(skip=0.5), Teacher(equal=0.25)
    assert of(skips, [1.9], [1.0]) == [0, 0, 0, 1]  # both below 0.5 * 4
    assert of(skips, [2.1], [1.0]) == [1, 0, 0, 0]
    assert of(ties, [2.1], [1.2]) == [0, 0, 1, 0]  # apart by less than 0.25 * 4
    assert of(ties, [2.1], [1.0]) == [1, 0, 0, 0]
    assert of(Teacher(skip=0.5, equal=0.5), [1.9], [1.8]) == [
        0,
        0,
        0,
        1,
    ]  # a pair that is skipped is not called equal


def test_a_skipping_teacher_knows_poor_returns_where_all_are_negative():
    pool = Pool(jnp.float32(-4.0), jnp.float32(1.0))
    said = lambda one, two: float(
        probabilities(Teacher(skip=0.5), jnp.float32([one]), jnp.float32([two]), pool).skipped
    )
    assert said(-6.1, -7.0) == 1 and said(-5.9, -7.0) == 0  # -4 - 0.5 * 4 = -6


def test_answers_are_drawn_with_the_probabilities():
    """A Boltzmann teacher must sample: one that always says the likelier answer is an oracle."""
    teacher = Teacher(beta=1.0, skip=0.5)
    reward = jnp.array([[2.5, 2.0], [1.0, 1.5], [3.0, 3.0]])[:, :, None]
    first, second = reward[:, 0], reward[:, 1]
    keys = jax.random.split(jax.random.PRNGKey(0), 4000)
    label, weight = jax.vmap(lambda k: answer(teacher, first, second, POOL, k))(keys)
    p = probabilities(teacher, first, second, POOL)
    answered = np.asarray(weight).mean(0)
    np.testing.assert_allclose(answered, 1 - np.asarray(p.skipped), atol=1e-6)
    share = np.asarray(label * weight).mean(0)
    np.testing.assert_allclose(share, p.first + 0.5 * p.equal, atol=0.03)


@pytest.mark.parametrize("name", TEACHERS)
def test_probabilities_sum_to_one(name):
    first, second = jnp.asarray(rng.normal(size=(2, 50, 7)), jnp.float32)
    pool = pool_of(TEACHERS[name], jnp.concatenate([first, second]))
    p = probabilities(TEACHERS[name], first, second, pool)
    np.testing.assert_allclose(p.first + p.second + p.equal + p.skipped, 1.0, atol=1e-6)
    assert all((np.asarray(x) >= 0).all() for x in (p.first, p.second, p.equal, p.skipped))

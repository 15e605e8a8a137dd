"""Simulated teachers: which of two segments is preferred, from the true rewards along them.

    P(first) = sigmoid(beta * (R_1 - R_2) / spread),   R = sum_t gamma^(H-1-t) r_t
                        Christiano et al. 2017 (arXiv 1706.03741), eq. 1
                        B-Pref: Lee et al. 2021 (arXiv 2111.03026), eq. 3 and section 4.1

beta = inf is the oracle, which calls equal returns equal. A mistake reverses a preference. A
teacher that skips gives no answer where both segments are poor; a teacher with `equal` says "equal"
where they hardly differ. Return differences are divided by the standard deviation (spread) of the
pool's segment returns, so that beta means the same in every world.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


@dataclasses.dataclass(frozen=True)
class Teacher:
    """How a teacher answers; each number may be a traced scalar."""

    beta: Any = float("inf")
    """Rationality, per spread of the pool's segment returns; inf: always the higher return."""
    discount: Any = 1.0
    """gamma: a step that lies k steps before the segment's end has weight gamma^k, so a myopic
    teacher weighs the end most."""
    mistake: Any = 0.0
    """Probability that a preference is reversed."""
    skip: Any = 0.0
    """No answer where both returns are below m - (1 - skip) |m|, with m the pool's mean return. For
    m > 0 that is B-Pref's skip m, which would call nearly all returns poor where m < 0."""
    equal: Any = 0.0
    """The answer is "equal" where the returns differ by less than this times |m|."""


TEACHERS = {
    "oracle": Teacher(),
    "boltzmann": Teacher(beta=2.0),
    "myopic": Teacher(discount=0.9),
    "mistake": Teacher(mistake=0.1),
    "skip": Teacher(skip=0.3),
    "equal": Teacher(equal=0.3),
}
"""Teachers by name. Each differs from the oracle in one respect, as in B-Pref."""


class Answer(struct.PyTreeNode):
    """Probabilities of a teacher's four answers, float32[...] each; they sum to 1."""

    first: jax.Array
    """The first segment is preferred."""
    second: jax.Array
    """The second segment is preferred."""
    equal: jax.Array
    """Neither is preferred."""
    skipped: jax.Array
    """There is no answer."""


class Pool(struct.PyTreeNode):
    """Statistics of the segment returns in the pool that pairs are taken from."""

    mean: jax.Array
    """float32[]."""
    spread: jax.Array
    """float32[]: the standard deviation."""


def worth(teacher: Teacher, reward: jax.Array) -> jax.Array:
    """Computes the returns of segments with the teacher's discount, float32[...], from their
    rewards float32[..., H]."""
    length = reward.shape[-1]
    return jnp.sum(
        reward * jnp.asarray(teacher.discount, jnp.float32) ** jnp.arange(length - 1, -1, -1), -1
    )


def pool_of(teacher: Teacher, reward: jax.Array) -> Pool:
    """Mean and spread of the returns of segments whose rewards are float32[S, H]."""
    returns = worth(teacher, reward)
    return Pool(jnp.mean(returns), jnp.std(returns) + 1e-8)


def probabilities(teacher: Teacher, first: jax.Array, second: jax.Array, pool: Pool) -> Answer:
    """Probabilities of the answers to pairs of segments, float32[...] each.

    Args:
      teacher: who answers.
      first: rewards along the first segments, float32[..., H].
      second: rewards along the second segments, float32[..., H].
      pool: of the segments.
    """
    first_return, second_return = worth(teacher, first), worth(teacher, second)
    gap = first_return - second_return
    beta = jnp.asarray(teacher.beta, jnp.float32)
    certain = jnp.isinf(beta)
    soft = jax.nn.sigmoid(jnp.where(certain, 0.0, beta) * gap / pool.spread)
    prefers = jnp.where(certain, jnp.where(gap > 0, 1.0, 0.0), soft)
    prefers = prefers * (1.0 - teacher.mistake) + (1.0 - prefers) * teacher.mistake
    size = jnp.abs(pool.mean)
    poor = pool.mean - (1.0 - teacher.skip) * size
    skipped = (jnp.maximum(first_return, second_return) < poor) & (teacher.skip > 0.0)
    tied = (jnp.abs(gap) < teacher.equal * size) | (certain & (gap == 0))
    skipped = skipped.astype(jnp.float32)
    tied = tied.astype(jnp.float32) * (1.0 - skipped)
    answers = 1.0 - skipped - tied
    return Answer(answers * prefers, answers * (1.0 - prefers), tied, skipped)


def answer(
    teacher: Teacher, first: jax.Array, second: jax.Array, pool: Pool, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draws answers to pairs of segments.

    Args:
      teacher: who answers.
      first: rewards along the first segments, float32[..., H].
      second: rewards along the second segments, float32[..., H].
      pool: of the segments.
      key: consumed.

    Returns:
      The label float32[...]: 1 first, 0 second, 0.5 equal; and the weight float32[...]: 0 where
      there is no answer, else 1.
    """
    p = probabilities(teacher, first, second, pool)
    u = jax.random.uniform(key, p.first.shape)
    label = jnp.where(u < p.first, 1.0, jnp.where(u < p.first + p.second, 0.0, 0.5))
    return label, (u <= p.first + p.second + p.equal).astype(jnp.float32)

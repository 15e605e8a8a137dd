"""Simulated teachers: which of two segments is preferred, from the true rewards along them.

    P(first) = sigmoid(beta * (R_1 - R_2) / spread),   R = sum_t gamma^(H-1-t) r_t
                        Christiano et al. 2017 (arXiv 1706.03741), eq. 1
                        B-Pref: Lee et al. 2021 (arXiv 2111.03026), eq. 3 and section 4.1

beta = inf is the oracle, which calls equal returns equal. A mistake turns a preference round; a
teacher that skips does not answer where both segments are poor, one that says "equal" does so where
they hardly differ. Margins are scaled once, by the spread of segment returns in the pool, so that
beta means the same in every world.
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
    """gamma: weight of a step that lies k steps before the segment's end is gamma^k, so the end
    counts most (myopia)."""
    mistake: Any = 0.0
    """Probability that a preference is turned round."""
    skip: Any = 0.0
    """No answer where both returns are poor: below this times the pool's mean m; in general
    below m - (1 - skip) |m|, since B-Pref's skip m would call nearly all returns poor where they
    are negative."""
    equal: Any = 0.0
    """"Equal" where the returns differ by less than this times the pool's mean."""


TEACHERS = {
    "oracle": Teacher(),
    "boltzmann": Teacher(beta=2.0),
    "myopic": Teacher(discount=0.9),
    "mistake": Teacher(mistake=0.1),
    "skip": Teacher(skip=0.3),
    "equal": Teacher(equal=0.3),
}
"""By name. Each differs from the oracle in one thing, as in B-Pref."""


@struct.dataclass
class Answer:
    """Probabilities of a teacher's four answers, or one of them drawn as 0 and 1; float32[...]
    each, summing to 1."""

    first: jax.Array
    second: jax.Array
    equal: jax.Array
    skipped: jax.Array


@struct.dataclass
class Pool:
    """Segment returns in the pool that is asked about."""

    mean: jax.Array
    spread: jax.Array


def worth(teacher: Teacher, reward: jax.Array) -> jax.Array:
    """The return of segments as the teacher sees it, float32[...], from rewards float32[..., H]."""
    length = reward.shape[-1]
    return jnp.sum(
        reward * jnp.asarray(teacher.discount, jnp.float32) ** jnp.arange(length - 1, -1, -1), -1
    )


def pool_of(teacher: Teacher, reward: jax.Array) -> Pool:
    """Mean and spread of the returns of segments whose rewards are float32[S, H]."""
    found = worth(teacher, reward)
    return Pool(jnp.mean(found), jnp.std(found) + 1e-8)


def probabilities(teacher: Teacher, first: jax.Array, second: jax.Array, pool: Pool) -> Answer:
    """Of the answers to pairs of segments whose rewards are float32[..., H]."""
    one, two = worth(teacher, first), worth(teacher, second)
    gap = one - two
    beta = jnp.asarray(teacher.beta, jnp.float32)
    certain = jnp.isinf(beta)
    soft = jax.nn.sigmoid(jnp.where(certain, 0.0, beta) * gap / pool.spread)
    prefers = jnp.where(certain, jnp.where(gap > 0, 1.0, 0.0), soft)
    prefers = prefers * (1.0 - teacher.mistake) + (1.0 - prefers) * teacher.mistake
    size = jnp.abs(pool.mean)
    poor = pool.mean - (1.0 - teacher.skip) * size
    skipped = (jnp.maximum(one, two) < poor) & (teacher.skip > 0.0)
    tied = (jnp.abs(gap) < teacher.equal * size) | (certain & (gap == 0))
    skipped = skipped.astype(jnp.float32)
    tied = tied.astype(jnp.float32) * (1.0 - skipped)
    answers = 1.0 - skipped - tied
    return Answer(answers * prefers, answers * (1.0 - prefers), tied, skipped)


def answer(
    teacher: Teacher, first: jax.Array, second: jax.Array, pool: Pool, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Drawn answers to pairs of segments whose rewards are float32[..., H]; `key` is consumed.

    Returns:
      label float32[...]: 1 first, 0 second, 0.5 equal; and weight float32[...]: 0 where there was
      no answer, else 1.
    """
    p = probabilities(teacher, first, second, pool)
    u = jax.random.uniform(key, p.first.shape)
    label = jnp.where(u < p.first, 1.0, jnp.where(u < p.first + p.second, 0.0, 0.5))
    return label, (u <= p.first + p.second + p.equal).astype(jnp.float32)

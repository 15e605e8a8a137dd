"""A two-state chain, on or off the demonstrations' distribution, whose cost has a closed form.

On the distribution, every step draws one of 64 situations, in which one of three lane actions is
right. 99 steps in 100 are plain; the others hold one of 63 rare situations, Zipf-1 distributed. A
wrong action leaves the distribution with probability `hazard`. Off it, every situation looks the
same. Demonstrations never contain this view, because the expert never errs. The fourth action,
`recover`, then comes back with probability `recovery`. A deterministic policy thus leaves at a rate
h and returns at a rate rho, both exact (`exact_rates`), and its cumulative cost is known at every
horizon (`closed_form`).

The option `tail` chooses how the rare situations are distributed. N draws miss some of them, whose
expected probability is the missing mass M(N) = sum_k p_k (1 - p_k)^N:

| tail | probability of kind k | M(N) |
|---|---|---|
| zipf | ~ 1 / k, 63 kinds | no single exponent |
| 1.5, 2, 3 | ~ k^-s | ~ N^(-1 + 1/s) |
| geometric | ~ 2^-k | ~ 1 / N |

Modes, each a set of changed dials:

* `dagger_chain`, the nominal one: an error costs 1 / recovery = 3 steps on average if the policy
  knows `recover`;
* `cliff`: no policy comes back;
* `recoverable`: every policy comes back, whatever its actions, with probability 1/4 per step;
* `front_loaded`: only the first action matters, and it always meets a rare situation. J(T) is
  linear in T at a fixed policy; the T² of the theory appears as J / eps because the error rate
  averaged over an episode, eps, falls like 1/T.

Source: Ross and Bagnell 2010 (cliff, front-loaded errors); Ross, Gordon and Bagnell 2011,
  arXiv:1011.0686 (u). The exponent of the missing mass of p_k ~ k^-s is Karlin's 1967 (J. Math.
  Mech. 17, 373-401), for regularly varying tails of index 1 / s.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from scipy import special

from envs.core import State, World, dial
from envs.names import nearest

__all__ = [
    "OFF_VIEW",
    "RECOVER",
    "SITUATIONS",
    "TAILS",
    "Chain",
    "ChainDials",
    "Tail",
    "closed_form",
    "exact_first",
    "exact_rates",
]

SITUATIONS = 64
"""K, the number of situations with the tail `zipf`."""
OFF_VIEW = SITUATIONS
"""Index of the off flag in the observation with the tail `zipf`."""
RECOVER = 3
"""The action that comes back; it is wrong in every situation. The actions before it are the lane
actions."""
ACTIONS = RECOVER + 1
"""The number of actions."""

RARE = 0.01
"""Share of steps with a rare situation."""
_weights = np.append(0.0, 1.0 / np.arange(1, SITUATIONS))
ZIPF = _weights / _weights.sum()
"""float64[K]: probability of each situation given that it is rare, p_k = (1 / k) / sum_j (1 / j);
situation 0, the plain one, has 0."""
PROBABILITY = np.append(1.0 - RARE, RARE * ZIPF[1:])
"""float64[K]: probability of each situation at any step."""
CORRECT = np.arange(SITUATIONS, dtype=np.int32) % RECOVER
"""int32[K]: the right action in each situation; the three actions are right in 0.20, 0.47 and 0.33
of the rare situations' mass."""


@dataclasses.dataclass(frozen=True)
class Tail:
    """How the situations are distributed, and the settings that suit it."""

    probability: np.ndarray
    """float64[K]: probability of each situation at any step."""
    rare: np.ndarray
    """float64[K]: probability of each situation given that it is rare; situation 0 has 0."""
    correct: np.ndarray
    """int32[K]: the right action in each situation, k mod 3."""
    hazard: float
    """Default of the dial `hazard` [1/step]."""
    horizon: int
    """T_max [steps]."""

    @property
    def situations(self) -> int:
        """K, the number of situations; also the index of the off flag in the observation."""
        return len(self.probability)


def _tail(rare: np.ndarray, hazard: float) -> Tail:
    """Returns the tail whose rare situations have the probabilities `rare`, float64[K - 1], given
    that one is drawn."""
    return Tail(
        probability=np.append(1.0 - RARE, RARE * rare),
        rare=np.append(0.0, rare),
        correct=np.arange(len(rare) + 1, dtype=np.int32) % RECOVER,
        hazard=hazard,
        horizon=2048,
    )


def _power(s: float, law: int, deep: int) -> np.ndarray:
    """Returns float64[law + deep] of sum 1: p_k = k^-s / zeta(s) for k = 1..law. The mass that the
    infinite law has beyond `law` is spread evenly over `deep` kinds.

    A law cut at its last kind would lack the mass of the kinds that nobody has seen yet, which is
    all that counts for large N. The even kinds keep that mass while N p << 1. With law / (s - 1) of
    them each is as likely as the law's last kind.
    """
    head = np.arange(1.0, law + 1.0) ** -s / special.zeta(s)
    return np.append(head, np.full(deep, (1.0 - head.sum()) / deep))


TAILS: Mapping[str, Tail] = {
    "zipf": Tail(PROBABILITY, ZIPF, CORRECT, hazard=0.8, horizon=1024),
    "1.5": _tail(_power(1.5, 341, 682), hazard=0.1),
    "2": _tail(_power(2.0, 127, 128), hazard=0.3),
    "3": _tail(_power(3.0, 42, 21), hazard=0.8),
    "geometric": _tail(np.append(0.5 ** np.arange(1.0, 31.0), 0.5**30), hazard=0.8),
}
"""The values of the option `tail`, with K = 64, 1024, 256, 64 and 32 situations.

Only RARE of the steps lie in the tail, so N steps hold N / 100 rare situations. A tail lasts a
hundred times as long as if every step were rare, and a one-hot observation is enough. For n = 8..64
demonstrations and T = 64..4096 the least-squares exponent of the missing mass is within 0.02 of its
limit. Beyond N = 3e5 the tail 1.5 is exhausted. The hazards keep h T <= 0.3 at n = 16 and
T = 2048."""


@struct.dataclass
class ChainDials:
    """The dials of `Chain`."""

    hazard: float = dial(
        0.8,
        "probability that a wrong action leaves the distribution",
        unit="1/step",
        low=0.0,
        high=1.0,
    )
    recovery: float = dial(
        1 / 3,
        "probability that `recover` comes back, per step off",
        unit="1/step",
        low=0.0,
        high=1.0,
    )
    reacquisition: float = dial(
        0.0, "probability of coming back whatever the action", unit="1/step", low=0.0, high=1.0
    )
    front: float = dial(
        0.0, "share of the hazard that is moved to the first step; 1: all of it", low=0.0, high=1.0
    )


@struct.dataclass
class ChainState:
    """The inner state of the chain."""

    situation: jax.Array
    """int32[] in 0..K-1: the situation of this step, which is hidden while off."""
    off: jax.Array
    """bool[]: whether the chain is off the demonstrations' distribution."""
    step: jax.Array
    """int32[]: steps since reset."""
    key: jax.Array
    """uint32[2]: the world's own randomness, split at every step."""


class Chain(World):
    """Two states with a closed-form cost: on the demonstrations' distribution, or off it.

    The observation is float32[K + 1], 65 entries with the tail `zipf`: one-hot of the situation
    while on; while off, only the last entry, the off flag, is 1.

    The action is int32[]: 0, 1 and 2 are lane actions, 3 is `recover`. Cost and graded cost are
    both 1 if the state reached is off, and the reward is 1 - cost. `recovery_steps` is the number
    of steps within which the expert is back in 99 % of cases at the nominal dials:
    log 0.01 / log(1 - recovery), 12.
    """

    name = "chain"
    modes: Mapping[str, Mapping[str, float]] = {
        "dagger_chain": {},
        "cliff": {"recovery": 0.0},
        "recoverable": {"reacquisition": 0.25},
        "front_loaded": {"front": 1.0},
    }
    horizon = 1024
    n_actions = ACTIONS
    recovery_steps = 12
    latency = 1
    failure_flags = (OFF_VIEW,)
    options: ClassVar = {"tail": tuple(TAILS)}

    def __init__(self, tail: str = "zipf", **dials: float):
        self.tail = _known(tail)
        self.chosen = {"tail": tail}
        self.dials = ChainDials(**{"hazard": self.tail.hazard, **dials})
        self.horizon = self.tail.horizon
        self.failure_flags = (self.tail.situations,)

    @property
    def observation_size(self) -> int:
        """K + 1, the situations and the off flag."""
        return self.tail.situations + 1

    @property
    def action_size(self) -> int:
        """The number of actions."""
        return ACTIONS

    def reset(self, rng: jax.Array) -> State:
        """Returns a start on the distribution; rng, uint32[2], is consumed."""
        key, draw = jax.random.split(rng)
        if self.chosen["tail"] == "zipf":
            place, rare = jax.random.uniform(draw, (2,))
            # `_situation` inverts the distribution function, whose last share RARE holds the rare
            # situations.
            place = jnp.where(rare < self.dials.front, 1.0 - RARE + RARE * place, place)
            situation = _situation(place)
        else:
            place, rare, front = jax.random.uniform(draw, (3,))
            situation = self._draw(place, jnp.where(front < self.dials.front, 0.0, rare))
        return self._state(
            ChainState(situation, jnp.zeros((), bool), jnp.zeros((), jnp.int32), key),
            jnp.float32(0.0),
        )

    def step(self, state: State, action: jax.Array) -> State:
        """Returns the next state; the action is int32[] in 0..3."""
        chain, dials = cast(ChainState, state.pipeline_state), self.dials
        key, draw = jax.random.split(chain.key)
        if self.chosen["tail"] == "zipf":
            place, chance = jax.random.uniform(draw, (2,))
            next_situation = _situation(place)
        else:
            place, rare, chance = jax.random.uniform(draw, (3,))
            next_situation = self._draw(place, rare)
        wrong = action != jnp.asarray(self.tail.correct)[chain.situation]
        hazard = wrong * dials.hazard * jnp.where(chain.step > 0, 1.0 - dials.front, 1.0)
        stay = (1.0 - (action == RECOVER) * dials.recovery) * (1.0 - dials.reacquisition)
        off = chance < jnp.where(chain.off, stay, hazard)
        reached = ChainState(next_situation, off, chain.step + 1, key)
        return self._state(reached, 1.0 - off.astype(jnp.float32))

    def expert(self, state: State, key: jax.Array) -> jax.Array:
        """Returns the right action while on, `recover` while off, int32[]; the key is not used."""
        del key
        chain = cast(ChainState, state.pipeline_state)
        right = jnp.asarray(self.tail.correct)[chain.situation]
        return jnp.where(chain.off, jnp.int32(RECOVER), right)

    def expected_cost(self, policy: Callable[[jax.Array], jax.Array], horizon: int) -> jax.Array:
        """Returns J(T), float32[horizon], by the recursion behind `closed_form`, from the policy's
        actions in the K + 1 views."""
        dials, tail = self.dials, self.tail
        actions = jax.vmap(policy)(jnp.eye(tail.situations + 1))
        wrong = (actions[:-1] != jnp.asarray(tail.correct)).astype(jnp.float32)
        share, rare = (
            wrong @ jnp.asarray(tail.probability, jnp.float32),
            wrong @ jnp.asarray(tail.rare, jnp.float32),
        )
        first = dials.hazard * ((1.0 - dials.front) * share + dials.front * rare)
        later = dials.hazard * share * (1.0 - dials.front)
        stay = (1.0 - dials.recovery * (actions[-1] == RECOVER)) * (1.0 - dials.reacquisition)

        def step(off: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
            off = off * stay + (1.0 - off) * jnp.where(t == 0, first, later)
            return off, off

        return jnp.cumsum(jax.lax.scan(step, jnp.zeros(()), jnp.arange(horizon))[1])

    def _draw(self, place: jax.Array, rare: jax.Array) -> jax.Array:
        """Returns int32[], the situation of two uniform numbers in [0, 1): `rare` decides whether
        it is rare, `place` which rare one it is.

        One number alone could not tell kinds of probability 1e-7 apart: it is a multiple of 2^-23.
        """
        edges = jnp.asarray(np.cumsum(self.tail.rare)[:-1], jnp.float32)
        kind = jnp.searchsorted(edges, place, side="right").astype(jnp.int32)
        return jnp.where(rare < RARE, kind, 0)

    def _state(self, chain: ChainState, reward: jax.Array) -> State:
        """Returns the state of the world with observation and costs."""
        cost, situations = chain.off.astype(jnp.float32), self.tail.situations
        seen = jnp.where(chain.off, situations, chain.situation)
        metrics = {"cost": cost, "graded_cost": cost}
        inner = cast(Any, chain)  # Brax annotates the states of its own physics alone
        return State(inner, jax.nn.one_hot(seen, situations + 1), reward, jnp.zeros(()), metrics)


def _known(tail: str) -> Tail:
    """Returns a tail by name; raises ValueError, one line, if there is none."""
    if tail not in TAILS:
        raise ValueError(
            f"chain.tail={tail} must be one of {' | '.join(TAILS)}; nearest: "
            f"{nearest(str(tail), TAILS)}"
        )
    return TAILS[tail]


def _situation(uniform: jax.Array) -> jax.Array:
    """Returns int32[], the situation of the tail `zipf`: the inverse of its cumulative
    distribution at `uniform` in [0, 1)."""
    # Without the last edge, which is 1 up to rounding, the index cannot be K.
    edges = jnp.asarray(np.cumsum(PROBABILITY)[:-1], jnp.float32)
    return jnp.searchsorted(edges, uniform, side="right").astype(jnp.int32)


def exact_rates(actions: np.ndarray, dials: ChainDials, tail: str = "zipf") -> tuple[float, float]:
    """Returns (h, rho) [1/step] of the deterministic policy that plays `actions[i]` when entry i of
    its observation is 1.

    h = hazard * sum_k p_k 1[a_k != a*_k] is the rate of leaving; the rate of every step but the
    first is (1 - front) h. rho = 1 - (1 - recovery 1[a_off = recover]) (1 - reacquisition) is the
    rate of coming back.

    Args:
      actions: int[K + 1], the action in each situation, then the one in the off view.
      dials: of the world.
      tail: of the world.

    Raises:
      ValueError: `actions` does not hold K + 1 entries, or there is no such tail; one line.
    """
    actions, law = np.asarray(actions), _known(tail)
    if actions.shape != (law.situations + 1,):
        raise ValueError(f"actions must have shape ({law.situations + 1},), not {actions.shape}")
    h = float(dials.hazard) * float(law.probability[actions[:-1] != law.correct].sum())
    recovery = float(dials.recovery) * bool(actions[-1] == RECOVER)
    return h, 1.0 - (1.0 - recovery) * (1.0 - float(dials.reacquisition))


def exact_first(actions: np.ndarray, dials: ChainDials, tail: str = "zipf") -> float:
    """Returns h_1, the probability that a deterministic policy leaves in the first step, whose
    situation is rare with probability `front`.

    Args:
      actions: int[K + 1], as in `exact_rates`.
      dials: of the world.
      tail: of the world.
    """
    law, front = _known(tail), float(dials.front)
    wrong = np.asarray(actions)[:-1] != law.correct
    return float(dials.hazard) * float(((1.0 - front) * law.probability + front * law.rare) @ wrong)


def closed_form(
    h: float, rho: float, horizons: np.ndarray, front: float = 0.0, first: float | None = None
) -> np.ndarray:
    """Returns J(T), the expected number of failures among the states reached by the first T steps,
    starting on the distribution.

    With the first step's hazard h_1, the later steps' h' = (1 - front) h and q = 1 - h' - rho, the
    state after step t is off with probability p_t = q^(t-1) h_1 + h' (1 + q + ... + q^(t-2)), and
    J(T) = p_1 + ... + p_T. For front = 0, h_1 = h and k = h + rho this is

        J(T) = (h / k) [T - (1 - k) (1 - (1 - k)^T) / k],

    but the sums are evaluated term by term: the quotient cancels for small k. For front = 1,
    J(T) = h_1 (1 - (1 - rho)^T) / rho.

    Args:
      h: rate of leaving [1/step].
      rho: rate of coming back [1/step].
      horizons: int[...], T >= 1.
      front: the dial.
      first: h_1, from `exact_first`; h if None.

    Returns:
      float64[...], the shape of `horizons`.
    """
    horizons = np.asarray(horizons)
    later = (1.0 - front) * h
    powers = (1.0 - later - rho) ** np.arange(horizons.max())
    entered_later = np.concatenate([[0.0], np.cumsum(powers)[:-1]])
    return np.cumsum((h if first is None else first) * powers + later * entered_later)[horizons - 1]

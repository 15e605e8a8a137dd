"""Maximum causal entropy inverse RL, solved exactly on a world whose dynamics are a table.

    maximise over w:  E_D[sum gamma^t w·phi] - V_w(start),   gradient  E_D[phi] - E_pi_w[phi]
                          Ziebart et al. 2010; Gleave and Toyer 2022 (arXiv 2203.11409), section 2

pi_w is the soft-optimal policy of the reward w·phi. Soft value iteration computes it, and a linear
solve gives its discounted occupancy. So only the demonstrations are a sample. The objective is
concave, so its maximum is the exact answer with which sampling algorithms can be compared.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from envs.tabular import DISCOUNT, Tabular, occupancy, soft_values
from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.settings import BadInput, setting
from irl_bench.core.types import Demonstrations, Spec, Task


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of maximum-entropy IRL."""

    rounds: int = setting(20, "rounds of training", unit="rounds", low=1, high=10000)
    steps_per_round: int = setting(
        50, "gradient steps in a round", unit="steps", low=1, high=100_000
    )
    learning_rate: float = setting(
        0.2, "Adam's step size at the start of a cosine to 0", low=1e-6, high=100.0
    )
    features: str = setting(
        "world",
        "what the reward is linear in: the world's features, or an indicator of each state",
        choices=("world", "states"),
    )
    l2: float = setting(0.0, "weight of the penalty |w|² / 2", low=0.0, high=1e3)


class State(struct.PyTreeNode):
    """Everything that is kept between rounds."""

    weights: jax.Array
    """w, float32[F]: one per feature."""
    opt_state: Any
    """Of the optimiser of `weights`."""
    log_policy: jax.Array
    """log pi_w, float32[S, A]."""


def demonstrated(demos: Demonstrations, features: jax.Array) -> jax.Array:
    """The demonstrations' mean features, discounted by gamma^t.

    The weights of all steps are normalised to sum 1, since demonstrations have finite length.

    Args:
      demos: N episodes of T one-hot observations of S states.
      features: phi, float32[S, F].

    Returns:
      float32[F].
    """
    length = demos.mask.shape[1]
    weight = demos.mask * DISCOUNT ** jnp.arange(length)
    return jnp.einsum("nt,nts,sf->f", weight, demos.observation, features) / jnp.sum(weight)


def make(spec: Spec, config: Config) -> Learner:
    """Returns the learner of maximum causal entropy IRL, which acts by sampling from pi_w.

    Raises:
      BadInput: the world's dynamics are not a table.
    """
    if not isinstance(spec.world, Tabular):
        raise BadInput(
            f"maxent_irl needs a world whose dynamics are a table, which {spec.world.name} is not; "
            "nearest: grid"
        )
    steps = config.rounds * config.steps_per_round
    transform = optax.adam(optax.cosine_decay_schedule(config.learning_rate, steps), b1=0.8)

    def features() -> jax.Array:
        world = cast(Tabular, spec.world)
        return (
            jnp.asarray(world.features, jnp.float32)
            if config.features == "world"
            else jnp.eye(len(world.features))
        )

    def solve(weights: jax.Array, task: Task) -> tuple[jax.Array, jax.Array]:
        """log pi_w, float32[S, A], and its feature expectations, float32[F]."""
        world = cast(Tabular, spec.world.bind(task.dials))
        transitions = world.transitions()
        q, v = soft_values(transitions, features() @ weights)
        visits = occupancy(
            transitions, jnp.exp(q - v[:, None]), jnp.asarray(world.start, jnp.float32)
        )
        return q - v[:, None], visits @ features()

    def init(key: jax.Array, task: Task) -> State:
        weights = jnp.zeros(features().shape[1])
        return State(weights, transform.init(weights), solve(weights, task)[0])

    def update(state: State, task: Task) -> tuple[State, dict[str, jax.Array]]:
        target = demonstrated(task.demonstrations, features())

        def step(carry: tuple[jax.Array, Any], _: None) -> tuple[tuple[jax.Array, Any], None]:
            weights, opt_state = carry
            gradient = solve(weights, task)[1] - target + config.l2 * weights
            updates, opt_state = transform.update(gradient, opt_state)
            return (cast(jax.Array, optax.apply_updates(weights, updates)), opt_state), None

        (weights, opt_state), _ = jax.lax.scan(
            step, (state.weights, state.opt_state), None, length=config.steps_per_round
        )
        log_policy, expectations = solve(weights, task)
        metrics = {
            "feature_gap": jnp.max(jnp.abs(expectations - target)),
            "reward_norm": jnp.linalg.norm(weights),
        }
        return State(weights, opt_state, log_policy), metrics

    def act(log_policy: jax.Array, observation: jax.Array, key: jax.Array) -> jax.Array:
        return jax.random.categorical(key, observation @ log_policy).astype(jnp.int32)

    consumes = Consumes(expert_queries=spec.labels())
    return Learner(
        init=init,
        update=update,
        policy=lambda state: state.log_policy,
        act=act,
        rounds=config.rounds,
        consumes=consumes,
    )

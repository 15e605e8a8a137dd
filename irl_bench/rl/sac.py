"""Soft actor-critic: off-policy maximum-entropy RL with two critics, a replay buffer and a tuned
temperature.

    y       = r + gamma (1 - termination) (min_i Q'_i(s', a') - alpha log pi(a'|s')),
                                                                                   a' ~ pi(.|s')
    L(Q_i)  = 1/2 E (Q_i(s, a) - y)²
    L(pi)   = E (alpha log pi(a|s) - min_i Q_i(s, a)),   a ~ pi(.|s)
    L(alpha) = -alpha E (log pi(a|s) + H)
                                       Haarnoja et al. 2018 (arXiv 1812.05905), eq. 3, 5, 7 and 18

Q'_i are the target critics, moving averages of the critics. A round takes `unroll` steps in each of
`worlds` worlds, then `updates` gradient steps on the buffer. `algos/sac.py` wraps this as a
`Learner`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple, TypeAlias, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from brax.training.acme import running_statistics
from flax import struct

from irl_bench.core.settings import BadInput, setting
from irl_bench.core.types import Spec, Task
from irl_bench.nets.policies import (
    MLP,
    Standardiser,
    Weights,
    standardised_by,
    tanh_log_derivative,
    view,
)
from irl_bench.nets.supervised import PolicyParams
from irl_bench.rollouts.experience import ActionSample, Worlds, begin, flat, unroll

MIN_LOG_STD, MAX_LOG_STD = -5.0, 2.0
"""Bounds of the policy's log-standard deviation, which depends on the state."""

Batch: TypeAlias = dict[str, jax.Array]
"""Transitions by name: observation and next_observation float32[B, O] (standardised, where a loss
reads them), action float32[B, A], reward float32[B], goes_on float32[B] (0 after a termination,
else 1)."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of SAC."""

    rounds: int = setting(
        1000,
        "rounds; each is one rollout and the updates after it",
        unit="rounds",
        low=1,
        high=10_000_000,
    )
    worlds: int = setting(64, "worlds side by side, per seed", low=1, high=65536)
    unroll: int = setting(8, "steps of every world in a round", unit="steps", low=1, high=65536)
    episode_steps: int = setting(
        512, "age at which a training episode is cut", unit="steps", low=1, high=1_000_000
    )
    hidden: tuple[int, ...] = setting(
        (128, 128), "widths of the policy's hidden layers", unit="units", low=1, high=4096
    )
    value_hidden: tuple[int, ...] = setting(
        (128, 128), "widths of the critics' hidden layers", unit="units", low=1, high=4096
    )
    capacity: int = setting(
        1_000_000, "most recent steps that the buffer holds", unit="steps", low=1, high=100_000_000
    )
    random_rounds: int = setting(
        8,
        "rounds of uniformly random actions before the first update",
        unit="rounds",
        low=0,
        high=1_000_000,
    )
    updates: int = setting(128, "gradient steps per round", low=1, high=1_000_000)
    batch_size: int = setting(
        128, "steps per gradient step, drawn uniformly", unit="steps", low=1, high=65536
    )
    learning_rate: float = setting(
        6e-4, "Adam's step size, for policy, critics and temperature", low=1e-8, high=1.0
    )
    discount: float = setting(0.99, "gamma", low=0.0, high=1.0)
    tau: float = setting(
        5e-3,
        "weight of the new critics in the target critics' moving average, per gradient step",
        low=0.0,
        high=1.0,
    )
    reward_scale: float = setting(1.0, "factor on rewards, against the entropy", low=1e-6, high=1e6)
    entropy_target: float = setting(
        -1.0, "H, the target entropy per component of the action", low=-10.0, high=1.0
    )


class Networks(NamedTuple):
    """What a gradient step changes."""

    actor: Weights
    """Of the policy's network."""
    critics: Weights
    """Of both critics; leaves [2, ...]."""
    target_critics: Weights
    """Moving average of `critics`; leaves [2, ...]."""
    log_alpha: jax.Array
    """float32[]: log of the temperature."""
    opt_states: Any
    """Of the optimisers of actor, critics and log_alpha, in this order."""


class State(struct.PyTreeNode):
    """Everything that changes while SAC trains."""

    networks: Networks
    statistics: running_statistics.RunningStatisticsState
    """Of observations; they standardise the networks' inputs."""
    worlds: Worlds
    """The training worlds."""
    buffer: Batch
    """Raw transitions, [capacity, ...], the oldest overwritten first."""
    round: jax.Array
    """int32[]: rounds done."""
    key: jax.Array
    """Of the rounds to come."""


class SAC:
    """SAC on one world with continuous actions: pure functions whose only memory is a `State`.

    Args:
      spec: the world and its sizes.
      config: the settings.
      terminate: whether the world's `done` ends an episode.

    Raises:
      BadInput: the world's actions are discrete, or `random_rounds` leaves no round to train in.
    """

    def __init__(self, spec: Spec, config: Config, terminate: bool = True):
        if spec.n_actions is not None:
            raise BadInput(
                f"sac needs continuous actions, and those of {spec.world.name} are not; nearest: "
                "ppo"
            )
        if config.random_rounds >= config.rounds:
            raise BadInput(
                f"random_rounds={config.random_rounds} leaves none of rounds={config.rounds}; "
                f"nearest: random_rounds={config.rounds - 1}"
            )
        self.spec, self.config, self.terminate = spec, config, terminate
        # The same activation as a stored demonstrator's.
        self.actor = MLP(tuple(config.hidden), 2 * spec.action_size, head_scale=1.0)
        self.critic = MLP(tuple(config.value_hidden), 1, head_scale=1.0, activation=nn.relu)
        self.transform = optax.adam(config.learning_rate)
        self.steps_per_round = config.worlds * config.unroll
        # A multiple of a round's steps, so that each round is written in one piece.
        self.capacity = (
            min(config.rounds, math.ceil(config.capacity / self.steps_per_round))
            * self.steps_per_round
        )

    @property
    def env_steps(self) -> int:
        """Environment steps over all rounds [steps]."""
        return self.config.rounds * self.steps_per_round

    # Policy and critics.

    def distribution(self, actor: Weights, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Distribution of the raw action at standardised observations x, float32[..., O].

        Returns:
          Mean and log-standard deviation, float32[..., A] each.
        """
        out = cast(jax.Array, self.actor.apply({"params": actor}, x))
        mean, spread = jnp.split(out, 2, -1)
        return mean, MIN_LOG_STD + 0.5 * (MAX_LOG_STD - MIN_LOG_STD) * (1.0 + jnp.tanh(spread))

    def sample(self, actor: Weights, x: jax.Array, key: jax.Array) -> ActionSample:
        """Random actions at standardised observations x, float32[..., O]; `key` is consumed."""
        mean, log_std = self.distribution(actor, x)
        noise = jax.random.normal(key, mean.shape)
        raw = mean + jnp.exp(log_std) * noise
        log_prob = jnp.sum(
            -0.5 * jnp.square(noise)
            - log_std
            - 0.5 * jnp.log(2.0 * jnp.pi)
            - tanh_log_derivative(raw),
            -1,
        )
        return ActionSample(jnp.tanh(raw), raw, log_prob)

    def q(self, critics: Weights, x: jax.Array, action: jax.Array) -> jax.Array:
        """Q_1 and Q_2, float32[2, ...], at standardised observations x and actions."""
        inputs = jnp.concatenate([x, action], -1)

        def critic_value(critic: Weights) -> jax.Array:
            return cast(jax.Array, self.critic.apply({"params": critic}, inputs))[..., 0]

        return jax.vmap(critic_value)(critics)

    def inputs(self, state: State) -> Standardiser:
        """Standardiser of the networks' inputs."""
        return standardised_by(state.statistics)

    def params(self, state: State) -> PolicyParams:
        """Parameters of the policy that is evaluated."""
        return PolicyParams(state.networks.actor, self.inputs(state))

    def act(self, params: PolicyParams, observation: jax.Array, key: jax.Array) -> jax.Array:
        """The deterministic action float32[A] at an observation float32[O]: tanh of the mean."""
        del key
        return jnp.tanh(self.distribution(params.weights, view(params.inputs, observation))[0])

    # Initialisation and updates.

    def init(self, key: jax.Array, task: Task) -> State:
        """The state before the first round; `key` is consumed. Demonstrations are not used."""
        config, sizes = self.config, (self.spec.observation_size, self.spec.action_size)
        actor_key, critic_key, world_key, key = jax.random.split(key, 4)
        blank, both = jnp.zeros(sizes[0]), jnp.zeros(sum(sizes))
        actor = self.actor.init(actor_key, blank)["params"]
        critics = jax.vmap(lambda k: self.critic.init(k, both)["params"])(
            jax.random.split(critic_key, 2)
        )
        log_alpha = jnp.zeros(())
        shapes = {
            "observation": sizes[:1],
            "action": sizes[1:],
            "reward": (),
            "next_observation": sizes[:1],
            "goes_on": (),
        }
        return State(
            networks=Networks(
                actor=actor,
                critics=critics,
                target_critics=critics,
                log_alpha=log_alpha,
                opt_states=tuple(
                    self.transform.init(weights) for weights in (actor, critics, log_alpha)
                ),
            ),
            statistics=running_statistics.init_state(jax.ShapeDtypeStruct(sizes[:1], jnp.float32)),
            worlds=begin(
                self.spec.world.bind(task.dials), world_key, config.worlds, config.episode_steps
            ),
            buffer={name: jnp.zeros((self.capacity, *shape)) for name, shape in shapes.items()},
            round=jnp.int32(0),
            key=key,
        )

    def update(self, state: State, dials: Any) -> tuple[State, dict[str, jax.Array]]:
        """One round: a rollout into the buffer, then gradient steps.

        Args:
          state: before the round.
          dials: the world's.

        Returns:
          The state after the round, and metrics, float32[] each: the losses of the last gradient
          step (0 without one), `entropy`, `q`, `std`, `alpha`, and means over the rollout.
        """
        config = self.config
        roll_key, fit_key, key = jax.random.split(state.key, 3)
        inputs, at_random = self.inputs(state), state.round < config.random_rounds

        def act(observation: jax.Array, key: jax.Array) -> ActionSample:
            draw_key, random_key = jax.random.split(key)
            sample = self.sample(state.networks.actor, view(inputs, observation), draw_key)
            uniform = jax.random.uniform(random_key, sample.action.shape, minval=-1.0, maxval=1.0)
            return sample._replace(action=jnp.where(at_random, uniform, sample.action))

        world = self.spec.world.bind(dials)
        worlds, batch = unroll(
            world, act, state.worlds, roll_key, config.unroll, config.episode_steps, self.terminate
        )
        statistics = running_statistics.update(
            state.statistics, batch.observation.reshape(-1, self.spec.observation_size)
        )
        new = {
            name: getattr(batch, name)
            for name in ("observation", "action", "reward", "next_observation")
        }
        new = flat({**new, "goes_on": 1.0 - batch.termination})
        slots = self.capacity // self.steps_per_round
        first_row = state.round % slots * self.steps_per_round
        buffer = {
            name: jax.lax.dynamic_update_slice_in_dim(rows, new[name], first_row, 0)
            for name, rows in state.buffer.items()
        }
        filled = jnp.minimum(state.round + 1, slots) * self.steps_per_round
        state = state.replace(
            worlds=worlds, statistics=statistics, buffer=buffer, round=state.round + 1, key=key
        )
        steps = jnp.where(at_random, 0, config.updates)
        state, losses = self._fit(state, filled, steps, fit_key)
        x = view(self.inputs(state), batch.observation)
        std = jnp.exp(self.distribution(state.networks.actor, x)[1])
        return state, {
            **losses,
            "std": jnp.mean(std),
            "alpha": jnp.exp(state.networks.log_alpha),
            "reward_mean": jnp.mean(batch.reward),
            "true_return": jnp.mean(batch.reward) * config.episode_steps,
            "cost": jnp.mean(batch.cost),
            "graded_cost": jnp.mean(batch.graded_cost),
        }

    def _fit(
        self, state: State, filled: jax.Array, steps: jax.Array, key: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        """`steps` gradient steps on the first `filled` rows of the buffer, and the last one's
        losses."""
        inputs, buffer = self.inputs(state), state.buffer

        def step(
            index: jax.Array, carry: tuple[Networks, dict[str, jax.Array]]
        ) -> tuple[Networks, dict[str, jax.Array]]:
            networks, _ = carry
            row_key, loss_key = jax.random.split(jax.random.fold_in(key, index))
            rows = jax.random.randint(row_key, (self.config.batch_size,), 0, filled)
            batch = {name: values[rows] for name, values in buffer.items()}
            batch |= {
                name: view(inputs, batch[name]) for name in ("observation", "next_observation")
            }
            return self.gradient_step(networks, batch, loss_key)

        zeros = {name: jnp.zeros(()) for name in ("critic_loss", "policy_loss", "entropy", "q")}
        networks, losses = jax.lax.fori_loop(0, steps, step, (state.networks, zeros))
        return state.replace(networks=networks), losses

    def gradient_step(
        self, networks: Networks, batch: Batch, key: jax.Array
    ) -> tuple[Networks, dict[str, jax.Array]]:
        """One step of critics, policy, temperature and target critics.

        Args:
          networks: before the step.
          batch: B transitions with standardised observations.
          key: consumed.

        Returns:
          The networks after the step, and `critic_loss`, `policy_loss`, `entropy` and `q`,
          float32[] each, before it.
        """
        actor, critics, target_critics, log_alpha, opt_states = networks
        next_key, action_key = jax.random.split(key)
        alpha = jnp.exp(log_alpha)
        target = self.target(actor, target_critics, alpha, batch, next_key)
        (critic_loss, q), critic_gradients = jax.value_and_grad(self.critic_loss, has_aux=True)(
            critics, batch, target
        )
        (policy_loss, log_prob), actor_gradients = jax.value_and_grad(
            self.policy_loss, has_aux=True
        )(actor, critics, alpha, batch, action_key)
        surplus = jnp.mean(log_prob) + self.config.entropy_target * self.spec.action_size
        log_alpha_gradient = -alpha * surplus  # d/d log_alpha of -alpha surplus
        stepped = []
        for weights, gradients, opt_state in zip(
            (actor, critics, log_alpha),
            (actor_gradients, critic_gradients, log_alpha_gradient),
            opt_states,
            strict=True,
        ):
            updates, opt_state = self.transform.update(gradients, opt_state)
            stepped.append((optax.apply_updates(weights, updates), opt_state))
        (actor, critics, log_alpha), opt_states = zip(*stepped, strict=True)
        target_critics = optax.incremental_update(critics, target_critics, self.config.tau)
        losses = {
            "critic_loss": critic_loss,
            "policy_loss": policy_loss,
            "entropy": -jnp.mean(log_prob),
            "q": jnp.mean(q),
        }
        return Networks(actor, critics, target_critics, log_alpha, opt_states), losses

    def target(
        self,
        actor: Weights,
        target_critics: Weights,
        alpha: jax.Array,
        batch: Batch,
        key: jax.Array,
    ) -> jax.Array:
        """The critics' target y, eq. 3 and 5 of the paper; float32[B]. `key` is consumed."""
        action, _, log_prob = self.sample(actor, batch["next_observation"], key)
        q = jnp.min(self.q(target_critics, batch["next_observation"], action), 0)
        value = q - alpha * log_prob
        return (
            self.config.reward_scale * batch["reward"]
            + self.config.discount * batch["goes_on"] * value
        )

    def critic_loss(
        self, critics: Weights, batch: Batch, target: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The sum over both critics of 1/2 E (Q_i - y)², eq. 5; float32[].

        Returns:
          The loss, and Q float32[2, B].
        """
        q = self.q(critics, batch["observation"], batch["action"])
        return 0.5 * jnp.sum(jnp.mean(jnp.square(q - target), -1)), q

    def policy_loss(
        self, actor: Weights, critics: Weights, alpha: jax.Array, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """E (alpha log pi(a|s) - min_i Q_i(s, a)), eq. 7; `key` is consumed.

        Returns:
          The loss float32[], and log pi float32[B] of the sampled actions.
        """
        action, _, log_prob = self.sample(actor, batch["observation"], key)
        q = jnp.min(self.q(critics, batch["observation"], action), 0)
        return jnp.mean(alpha * log_prob - q), log_prob

"""Soft actor-critic: off-policy maximum-entropy RL with two critics, a replay buffer and a tuned
temperature.

    y       = r + gamma (1 - termination) (min_i Q'_i(s', a') - alpha log pi(a'|s')),
                                                                                   a' ~ pi(.|s')
    L(Q_i)  = 1/2 E (Q_i(s, a) - y)²
    L(pi)   = E (alpha log pi(a|s) - min_i Q_i(s, a)),   a ~ pi(.|s)
    L(alpha) = -alpha E (log pi(a|s) + H)
                                       Haarnoja et al. 2018 (arXiv 1812.05905), eq. 3, 5, 7 and 18

A round is `unroll` steps of `worlds` worlds and `updates` gradient steps on what the buffer holds.
`algos/sac.py` makes a Learner of it.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from brax.training.acme import running_statistics
from flax import struct

from irl_bench.core.settings import BadInput, setting
from irl_bench.core.types import Spec, Task
from irl_bench.nets.policies import MLP, Standardiser, log_slope, standardised_by, view
from irl_bench.nets.supervised import PolicyParams
from irl_bench.rollouts.experience import Worlds, begin, flat, unroll

MIN_LOG_STD, MAX_LOG_STD = -5.0, 2.0
"""Bounds of the policy's log-deviation, which depends on the state."""


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
        1_000_000, "steps that the buffer holds, the latest", unit="steps", low=1, high=100_000_000
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
        5e-3, "share by which the slow critics follow in each gradient step", low=0.0, high=1.0
    )
    reward_scale: float = setting(1.0, "factor on rewards, against the entropy", low=1e-6, high=1e6)
    entropy_target: float = setting(
        -1.0, "H, the entropy aimed at, per component of the action", low=-10.0, high=1.0
    )


@struct.dataclass
class State:
    """Everything that changes while SAC trains."""

    actor: Any
    critics: Any
    """Leaves [2, ...]."""
    slow: Any
    """The critics that targets are made of."""
    log_alpha: jax.Array
    opt_states: Any
    statistics: running_statistics.RunningStatisticsState
    """Of observations."""
    worlds: Worlds
    buffer: dict[str, jax.Array]
    """Rows [capacity, ...] of observation, action, reward, next_observation and goes_on (0 after
    a termination)."""
    round: jax.Array
    """int32."""
    key: jax.Array


class SAC:
    """The functions of SAC on one world with continuous actions; pure, with `State` as their only
    memory.

    `terminate`: whether the world's `done` ends an episode.
    """

    def __init__(self, spec: Spec, config: Config, terminate: bool = True):
        if spec.n_actions is not None:
            raise BadInput(
                f"sac needs continuous actions, and those of {spec.world.name} are not; nearest: "
                "ppo"
            )
        if config.random_rounds >= config.rounds:
            raise BadInput(f"random_rounds={config.random_rounds} leaves none of "
                           f"rounds={config.rounds}; nearest: "
                           f"random_rounds={config.rounds - 1}")  # fmt: skip
        self.spec, self.config, self.terminate = spec, config, terminate
        # The same activation as a stored demonstrator's.
        self.actor = MLP(tuple(config.hidden), 2 * spec.action_size, head_scale=1.0)
        self.critic = MLP(tuple(config.value_hidden), 1, head_scale=1.0, activation=nn.relu)
        self.transform = optax.adam(config.learning_rate)
        self.steps_per_round = config.worlds * config.unroll
        # Whole rounds, so that one is always written in one piece.
        self.capacity = (
            min(config.rounds, math.ceil(config.capacity / self.steps_per_round))
            * self.steps_per_round
        )

    @property
    def env_steps(self) -> int:
        """Environment steps over all rounds."""
        return self.config.rounds * self.steps_per_round

    # Policy and critics.

    def distribution(self, actor: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and log-deviation float32[..., A] of the raw action at standardised observations."""
        mean, spread = jnp.split(self.actor.apply({"params": actor}, x), 2, -1)  # type: ignore[arg-type]
        return mean, MIN_LOG_STD + 0.5 * (MAX_LOG_STD - MIN_LOG_STD) * (1.0 + jnp.tanh(spread))

    def sample(
        self, actor: Any, x: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(action, raw action, log pi(a|s)) drawn at x; `key` is consumed."""
        mean, log_std = self.distribution(actor, x)
        noise = jax.random.normal(key, mean.shape)
        raw = mean + jnp.exp(log_std) * noise
        log_prob = jnp.sum(
            -0.5 * jnp.square(noise) - log_std - 0.5 * jnp.log(2.0 * jnp.pi) - log_slope(raw), -1
        )
        return jnp.tanh(raw), raw, log_prob

    def q(self, critics: Any, x: jax.Array, action: jax.Array) -> jax.Array:
        """Q_1 and Q_2, float32[2, ...]."""
        inputs = jnp.concatenate([x, action], -1)
        return jax.vmap(lambda one: self.critic.apply({"params": one}, inputs)[..., 0])(critics)  # type: ignore[index]

    def inputs(self, state: State) -> Standardiser:
        """What the networks standardise observations with."""
        return standardised_by(state.statistics)

    def params(self, state: State) -> PolicyParams:
        """The policy that is evaluated."""
        return PolicyParams(state.actor, self.inputs(state))

    def act(self, params: PolicyParams, observation: jax.Array, key: jax.Array) -> jax.Array:
        """The tanh of the mean at observation[O]."""
        del key
        return jnp.tanh(self.distribution(params.weights, view(params.inputs, observation))[0])

    # The life of a state.

    def init(self, key: jax.Array, task: Task) -> State:
        """A state before the first round; `key` is consumed."""
        config, sizes = self.config, (self.spec.observation_size, self.spec.action_size)
        actor_key, critic_key, world_key, key = jax.random.split(key, 4)
        blank, both = jnp.zeros(sizes[0]), jnp.zeros(sum(sizes))
        actor = self.actor.init(actor_key, blank)["params"]
        critics = jax.vmap(lambda k: self.critic.init(k, both)["params"])(
            jax.random.split(critic_key, 2)
        )
        log_alpha = jnp.zeros(())
        widths = {
            "observation": sizes[:1],
            "action": sizes[1:],
            "reward": (),
            "next_observation": sizes[:1],
            "goes_on": (),
        }
        return State(
            actor=actor,
            critics=critics,
            slow=critics,
            log_alpha=log_alpha,
            opt_states=tuple(self.transform.init(part) for part in (actor, critics, log_alpha)),
            statistics=running_statistics.init_state(jax.ShapeDtypeStruct(sizes[:1], jnp.float32)),
            worlds=begin(
                self.spec.world.bind(task.dials), world_key, config.worlds, config.episode_steps
            ),
            buffer={name: jnp.zeros((self.capacity, *shape)) for name, shape in widths.items()},
            round=jnp.int32(0),
            key=key,
        )

    def update(self, state: State, dials: Any) -> tuple[State, dict[str, jax.Array]]:
        """One round: steps of the worlds into the buffer, then gradient steps."""
        config = self.config
        roll_key, fit_key, key = jax.random.split(state.key, 3)
        inputs, at_random = self.inputs(state), state.round < config.random_rounds

        def act(observation: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            draw_key, random_key = jax.random.split(key)
            action, raw, log_prob = self.sample(state.actor, view(inputs, observation), draw_key)
            anything = jax.random.uniform(random_key, action.shape, minval=-1.0, maxval=1.0)
            return jnp.where(at_random, anything, action), raw, log_prob

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
        pieces = self.capacity // self.steps_per_round
        at = state.round % pieces * self.steps_per_round
        buffer = {
            name: jax.lax.dynamic_update_slice_in_dim(rows, new[name], at, 0)  # type: ignore[arg-type]
            for name, rows in state.buffer.items()
        }
        held = jnp.minimum(state.round + 1, pieces) * self.steps_per_round
        state = state.replace(
            worlds=worlds, statistics=statistics, buffer=buffer, round=state.round + 1, key=key
        )
        state, found = self._fit(state, held, jnp.where(at_random, 0, config.updates), fit_key)
        std = jnp.exp(
            self.distribution(state.actor, view(self.inputs(state), batch.observation))[1]
        )
        return state, {
            **found,
            "std": jnp.mean(std),
            "alpha": jnp.exp(state.log_alpha),
            "reward_mean": jnp.mean(batch.reward),
            "true_return": jnp.mean(batch.reward) * config.episode_steps,
            "cost": jnp.mean(batch.cost),
            "graded_cost": jnp.mean(batch.graded_cost),
        }

    def _fit(
        self, state: State, held: jax.Array, steps: jax.Array, key: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        """`steps` gradient steps on the first `held` rows of the buffer, and the last one's
        losses."""
        inputs, buffer = self.inputs(state), state.buffer

        def step(index: jax.Array, carry: Any) -> Any:
            parts, _ = carry
            row_key, loss_key = jax.random.split(jax.random.fold_in(key, index))
            rows = jax.random.randint(row_key, (self.config.batch_size,), 0, held)
            part = {name: values[rows] for name, values in buffer.items()}
            part |= {name: view(inputs, part[name]) for name in ("observation", "next_observation")}
            return self.gradient_step(*parts, part, loss_key)

        parts = (state.actor, state.critics, state.slow, state.log_alpha, state.opt_states)
        nothing = {name: jnp.zeros(()) for name in ("critic_loss", "policy_loss", "entropy", "q")}
        (actor, critics, slow, log_alpha, opt_states), found = jax.lax.fori_loop(
            0, steps, step, (parts, nothing)
        )
        return state.replace(
            actor=actor, critics=critics, slow=slow, log_alpha=log_alpha, opt_states=opt_states
        ), found

    def gradient_step(
        self,
        actor: Any,
        critics: Any,
        slow: Any,
        log_alpha: jax.Array,
        opt_states: Any,
        part: Any,
        key: jax.Array,
    ) -> tuple[Any, dict[str, jax.Array]]:
        """One step of critics, policy and temperature on rows of standardised observations;
        ((parts), losses)."""
        next_key, own_key = jax.random.split(key)
        alpha = jnp.exp(log_alpha)
        target = self.target(actor, slow, alpha, part, next_key)
        (critic_loss, q), slope = jax.value_and_grad(self.critic_loss, has_aux=True)(
            critics, part, target
        )
        (policy_loss, log_prob), rise = jax.value_and_grad(self.policy_loss, has_aux=True)(
            actor, critics, alpha, part, own_key
        )
        surplus = jnp.mean(log_prob) + self.config.entropy_target * self.spec.action_size
        tilt = -alpha * surplus  # d/d log_alpha of -alpha surplus
        moved = []
        for own, gradient, opt_state in zip(
            (actor, critics, log_alpha), (rise, slope, tilt), opt_states, strict=True
        ):
            updates, opt_state = self.transform.update(gradient, opt_state)
            moved.append((optax.apply_updates(own, updates), opt_state))
        (actor, critics, log_alpha), opt_states = zip(*moved, strict=True)
        slow = optax.incremental_update(critics, slow, self.config.tau)
        found = {
            "critic_loss": critic_loss,
            "policy_loss": policy_loss,
            "entropy": -jnp.mean(log_prob),
            "q": jnp.mean(q),
        }
        return (actor, critics, slow, log_alpha, opt_states), found

    def target(
        self, actor: Any, slow: Any, alpha: jax.Array, part: Any, key: jax.Array
    ) -> jax.Array:
        """y, float32[B]."""
        action, _, log_prob = self.sample(actor, part["next_observation"], key)
        value = jnp.min(self.q(slow, part["next_observation"], action), 0) - alpha * log_prob
        return (
            self.config.reward_scale * part["reward"]
            + self.config.discount * part["goes_on"] * value
        )

    def critic_loss(
        self, critics: Any, part: Any, target: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Sum over both of 1/2 E (Q_i - y)², and Q."""
        q = self.q(critics, part["observation"], part["action"])
        return 0.5 * jnp.sum(jnp.mean(jnp.square(q - target), -1)), q

    def policy_loss(
        self, actor: Any, critics: Any, alpha: jax.Array, part: Any, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """E (alpha log pi - min Q), and log pi."""
        action, _, log_prob = self.sample(actor, part["observation"], key)
        q = jnp.min(self.q(critics, part["observation"], action), 0)
        return jnp.mean(alpha * log_prob - q), log_prob

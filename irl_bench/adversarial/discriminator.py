"""Discriminators: told apart are the expert's steps (label 1) and the policy's (label 0), by a
logit z with D = sigmoid(z).

    minimise E_expert[softplus(-z)] + E_policy[softplus(z)] + penalty
                              Goodfellow et al. 2014; Ho and Ermon 2016 (arXiv 1606.03476), eq. 16

What the logit is, a free network (GAIL) or f - log pi (AIRL), is the caller's. Losses are pure
functions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from irl_bench.core.quantities import INPUT_LIMIT
from irl_bench.core.settings import BadInput, setting
from irl_bench.core.types import Demonstrations, Spec
from irl_bench.nets.policies import Standardiser, standardiser
from irl_bench.nets.supervised import draw
from irl_bench.rollouts.experience import Transition, flat

REMEMBERED = 4096
"""Rows, at most, that are remembered of a round."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of a discriminator."""

    disc_hidden: tuple[int, ...] = setting(
        (64, 64), "widths of the discriminator's hidden layers", unit="units", low=1, high=4096
    )
    disc_learning_rate: float = setting(1e-3, "its Adam's step size", low=1e-8, high=1.0)
    disc_steps: int = setting(8, "its gradient steps per round", unit="steps", low=1, high=100_000)
    disc_batch: int = setting(
        256, "rows of either side in such a step", unit="rows", low=1, high=65536
    )
    penalty: float = setting(1.0, "weight of the gradient penalty", low=0.0, high=1e6)
    penalty_norm: float = setting(
        0.0, "norm that the penalty pulls the gradient to", low=0.0, high=1e3
    )
    spectral_norm: bool = setting(False, "divide its matrices by their largest singular values")
    smoothing: float = setting(0.0, "label smoothing: labels are 1 - s and s", low=0.0, high=0.49)
    mixup: bool = setting(
        False, "train on mixtures of an expert's and a policy's row, with mixed labels"
    )
    replay: int = setting(
        0, "rounds whose steps are negatives, this one and those before it; 0: all steps of this "
           "one alone", unit="rounds",
        low=0, high=10_000,
    )  # fmt: skip
    mask_failure: bool = setting(True, "hide the world's failure flags from the discriminator")
    absorbing: bool = setting(
        False, "restart training episodes where the world says done; the rest of them counts as "
               "steps in one absorbing state, "
        "whose reward is learned like any other",
    )  # fmt: skip


@struct.dataclass
class Steps:
    """Steps of either side, as rows."""

    observation: jax.Array
    """float32[n, O], standardised; with `absorbing` float32[n, O + 1], whose last entry is 1 in
    the absorbing state alone."""
    action: jax.Array
    """float32[n, K]: the action, one-hot in a discrete world; zeros where nothing reads it."""
    next_observation: jax.Array
    """As `observation`."""
    log_prob: jax.Array
    """float32[n]: log pi(a|s) under the current policy; zeros where nothing reads it."""


@struct.dataclass
class Rows:
    """Steps as they were taken, n of them."""

    observation: jax.Array
    """float32[n, O]."""
    action: jax.Array
    """float32[n, A] or int32[n]."""
    next_observation: jax.Array
    """float32[n, O]."""
    log_prob: jax.Array
    """float32[n]: log pi(a|s) when it was drawn."""
    termination: jax.Array
    """float32[n]: 1 where the world ended the episode."""

    @classmethod
    def of(cls, batch: Transition) -> Rows:
        """Those of a rollout [L, E]."""
        return flat(
            cls(**{field.name: getattr(batch, field.name) for field in dataclasses.fields(cls)})
        )


Logit = Callable[[Any, Steps], jax.Array]
"""(params, steps of n rows) -> float32[n]"""


class Network(nn.Module):
    """Tanh multilayer perceptron with one output; with `spectral`, every matrix has spectral
    norm 1 (Miyato et al. 2018)."""

    hidden: tuple[int, ...]
    spectral: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i, width in enumerate((*self.hidden, 1)):
            kernel = self.param(
                f"kernel_{i}",
                nn.initializers.variance_scaling(1.0, "fan_in", "normal"),
                (x.shape[-1], width),
            )
            bias = self.param(f"bias_{i}", nn.initializers.zeros, (width,))
            x = x @ (kernel / largest_singular_value(kernel) if self.spectral else kernel) + bias
            x = nn.tanh(x) if i < len(self.hidden) else x
        return x[..., 0]


def largest_singular_value(matrix: jax.Array, iterations: int = 12) -> jax.Array:
    """By power iteration from a fixed start; the singular vectors are held constant in the
    gradient, float32[]."""
    v = jnp.sin(1.0 + jnp.arange(matrix.shape[1], dtype=matrix.dtype))
    for _ in range(iterations):
        u = matrix @ v
        u = u / (jnp.linalg.norm(u) + 1e-12)
        v = matrix.T @ u
        v = v / (jnp.linalg.norm(v) + 1e-12)
    u, v = jax.lax.stop_gradient((u, v))
    return u @ matrix @ v + 1e-12


def cross_entropy(expert: jax.Array, policy: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Binary cross-entropy of logits, half of each side; labels are 1 - s and s. float32[]."""
    return 0.5 * (mean_bce(expert, 1.0 - smoothing) + mean_bce(policy, smoothing))


def mean_bce(logit: jax.Array, label: Any) -> jax.Array:
    """Mean of -l log D - (1 - l) log(1 - D) = softplus(z) - l z."""
    return jnp.mean(jax.nn.softplus(logit) - label * logit)


def gradient_penalty(logit: Logit, params: Any, steps: Steps, norm: float) -> jax.Array:
    """E (|grad z| - norm)² over `steps`, z's gradient in observation, action and next one
    (Gulrajani et al. 2017, eq. 3)."""

    # A row's logit depends on that row alone, so the gradient of their sum is that of each.
    gradient = jax.grad(lambda rows: jnp.sum(logit(params, rows)))(steps)
    parts = (gradient.observation, gradient.action, gradient.next_observation)
    found = jnp.sqrt(sum(jnp.sum(jnp.square(part), -1) for part in parts) + 1e-12)
    return jnp.mean(jnp.square(found - norm))


def reward_of(logit: jax.Array, form: str, limit: float = 5.0) -> jax.Array:
    """Reward from a logit z: "softplus" -log(1 - D), "log_d" log D, "logit" z, "clipped_logit" z
    within +-limit."""
    return {
        "softplus": jax.nn.softplus(logit),
        "log_d": -jax.nn.softplus(-logit),
        "logit": logit,
        "clipped_logit": jnp.clip(logit, -limit, limit),
    }[form]


@struct.dataclass
class State:
    """What a discriminator keeps between rounds."""

    params: Any
    opt_state: Any
    inputs: Standardiser
    """Both sides are standardised by the demonstrations' statistics; failure flags have scale 0
    if they are masked."""
    memory: Rows | None
    """Those of the last `replay` rounds, replay * min(n, REMEMBERED) rows; None without replay."""


def kept(state: State, absorbing: jax.Array | None) -> dict[str, Any]:
    """What is stored of a learned reward; `absorbing` is that of the absorbing state, None
    without one."""
    found = {"params": state.params, "inputs": state.inputs}
    return found if absorbing is None else {**found, "absorbing": absorbing}


class Discriminator:
    """Fits a logit to tell expert from policy.

    Args:
      logit: read at standardised steps.
      reads_actions: whether it reads actions too.
      rows_per_round: of the policy.
      stays: how many steps in the absorbing state go with one that leads there.
    """

    def __init__(
        self,
        spec: Spec,
        config: Config,
        logit: Logit,
        reads_actions: bool,
        rows_per_round: int,
        stays: Any = 100.0,
    ):
        self.spec, self.config, self.logit = spec, config, logit
        self.reads_actions, self.rows, self.stays = reads_actions, rows_per_round, stays
        self.transform = optax.adam(config.disc_learning_rate, b1=0.5)

    @property
    def width(self) -> int:
        """Entries of an observation as the logit reads it."""
        return self.spec.observation_size + self.config.absorbing

    @property
    def action_width(self) -> int:
        return self.spec.n_actions or self.spec.action_size

    def init(self, params: Any, demos: Demonstrations) -> State:
        """A state around freshly initialised `params`.

        Raises:
          BadInput: demonstrations without actions for a logit that reads them.
        """
        if self.reads_actions and demos.action is None:
            raise BadInput(
                "its discriminator reads actions, which these demonstrations lack; nearest: "
                "--gail.inputs=state"
            )
        if demos.mask.shape[1] < 2:
            raise BadInput(
                "a discriminator reads steps with their successors, so one step is too few; "
                "nearest: 2 steps"
            )
        inputs = standardiser(
            demos.observation.reshape(-1, self.spec.observation_size),
            demos.mask.reshape(-1),
            keep_constant=True,
        )
        if self.config.mask_failure:
            seen = (
                jnp.ones(self.spec.observation_size)
                .at[jnp.array(self.spec.world.failure_flags, int)]
                .set(0.0)
            )
            inputs = inputs.replace(scale=inputs.scale * seen)
        kept = min(self.rows, REMEMBERED)
        count = self.config.replay * kept
        seen, none = jnp.zeros((count, self.spec.observation_size)), jnp.zeros(count)
        action = (
            jnp.zeros(count, jnp.int32)
            if self.spec.n_actions
            else jnp.zeros((count, self.spec.action_size))
        )
        memory = Rows(seen, action, seen, none, none) if count else None
        return State(params, self.transform.init(params), inputs, memory)

    @property
    def absorbed(self) -> Steps:
        """One step from the absorbing state into itself."""
        there = jnp.zeros((1, self.width)).at[:, -1].set(1.0)
        return Steps(there, jnp.zeros((1, self.action_width)), there, jnp.zeros(1))

    def steps(
        self,
        inputs: Standardiser,
        observation: jax.Array,
        action: Any,
        next_observation: jax.Array,
        log_prob: jax.Array,
        termination: jax.Array | None = None,
    ) -> Steps:
        """Standardised steps from raw ones; leading axes are free. With `absorbing`, a
        terminating step leads there."""

        def see(x: jax.Array) -> jax.Array:
            x = jnp.clip(inputs(x), -INPUT_LIMIT, INPUT_LIMIT)
            return (
                jnp.concatenate([x, jnp.zeros((*x.shape[:-1], 1))], -1)
                if self.config.absorbing
                else x
            )

        if action is None or not self.reads_actions:
            action = jnp.zeros((*observation.shape[:-1], self.action_width))
        elif self.spec.n_actions is not None:
            action = jax.nn.one_hot(action, self.action_width)
        after = see(next_observation)
        if self.config.absorbing and termination is not None:
            after = jnp.where(termination[..., None] > 0, self.absorbed.next_observation[0], after)
        return Steps(see(observation), action, after, log_prob)

    def seen(self, inputs: Standardiser, rows: Rows) -> Steps:
        """The policy's own rows as its logit reads them."""
        return self.steps(
            inputs,
            rows.observation,
            rows.action,
            rows.next_observation,
            rows.log_prob,
            rows.termination,
        )

    def fit(
        self,
        state: State,
        demos: Demonstrations,
        policy: Rows,
        log_prob: Callable[[jax.Array, jax.Array], jax.Array] | None,
        round: jax.Array,
        key: jax.Array,
    ) -> tuple[State, dict[str, jax.Array]]:
        """`disc_steps` gradient steps on the policy's rows (and those remembered) against the
        expert's; `key` is consumed.

        Args:
          state: the discriminator's.
          demos: N episodes; the last step of each has no successor and is not used.
          policy: the rows of this round.
          log_prob: (observation[n, O], action[n, ...]) -> log pi(a|s) of the current policy, for
            the expert's rows and those remembered; None if the logit reads none.
          round: int32, how many rounds were fitted before.
          key: for the batches.

        Returns:
          The state, and loss, penalty, accuracy on either side and mean logits of the last step,
          before it was taken.
        """
        config = self.config
        length = demos.mask.shape[1]
        memory = state.memory
        if memory is not None:
            key, memory_key = jax.random.split(key)
            kept = min(self.rows, REMEMBERED)
            chosen = (
                jnp.arange(kept)
                if kept == self.rows
                else jax.random.randint(memory_key, (kept,), 0, self.rows)
            )
            start = round % config.replay * kept
            memory = jax.tree.map(
                lambda m, x: jax.lax.dynamic_update_slice_in_dim(m, x[chosen], start, 0),
                memory,
                policy,
            )
            filled = jnp.minimum(round + 1, config.replay) * kept
        if config.absorbing:
            seen, of = (policy, self.rows) if memory is None else (memory, filled)
            there = jnp.sum(seen.termination) * self.stays
            absorbed_share = there / (there + of)
        # Only steps whose successor was recorded.
        upto = jnp.cumsum((demos.mask[:, :-1] * demos.mask[:, 1:]).reshape(-1))

        def expert_batch(key: jax.Array) -> Steps:
            drawn = draw(upto, key, config.disc_batch)
            episode, t = drawn // (length - 1), drawn % (length - 1)
            observation = demos.observation[episode, t]
            action = None if demos.action is None else demos.action[episode, t]
            density = (
                jnp.zeros(config.disc_batch) if log_prob is None else log_prob(observation, action)
            )
            return self.steps(
                state.inputs, observation, action, demos.observation[episode, t + 1], density
            )

        def policy_batch(key: jax.Array) -> Steps:
            if memory is None:
                index = jax.random.randint(key, (config.disc_batch,), 0, self.rows)
                rows = jax.tree.map(lambda x: x[index], policy)
            else:
                index = (jax.random.uniform(key, (config.disc_batch,)) * filled).astype(jnp.int32)
                rows = jax.tree.map(lambda x: x[index], memory)
                if log_prob is not None:
                    rows = rows.replace(log_prob=log_prob(rows.observation, rows.action))
            rows = self.seen(state.inputs, rows)
            if not config.absorbing:
                return rows
            there = (
                jax.random.uniform(jax.random.fold_in(key, 1), (config.disc_batch,))
                < absorbed_share
            )
            return jax.tree.map(
                lambda a, b: jnp.where(there.reshape(-1, *[1] * (b.ndim - 1)), a, b),
                self.absorbed,
                rows,
            )

        def step(
            carry: tuple[Any, Any], key: jax.Array
        ) -> tuple[tuple[Any, Any], dict[str, jax.Array]]:
            params, opt_state = carry
            expert_key, policy_key, mix_key = jax.random.split(key, 3)
            batches = expert_batch(expert_key), policy_batch(policy_key)
            gradient, found = jax.grad(self.loss, has_aux=True)(params, *batches, mix_key)
            updates, opt_state = self.transform.update(gradient, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), found

        keys = jax.random.split(key, config.disc_steps)
        (params, opt_state), found = jax.lax.scan(step, (state.params, state.opt_state), keys)
        return state.replace(params=params, opt_state=opt_state, memory=memory), jax.tree.map(
            lambda x: x[-1], found
        )

    def loss(
        self, params: Any, expert: Steps, policy: Steps, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss of one batch of either side, and its parts."""
        config = self.config
        share = jax.random.uniform(key, (config.disc_batch,))
        mixed = jax.tree.map(lambda a, b: _mix(share, a, b), expert, policy)
        both = jax.tree.map(
            lambda a, b: jnp.concatenate([a, b]), expert, policy
        )  # one pass is quicker than two
        z_expert, z_policy = jnp.split(self.logit(params, both), 2)
        if config.mixup:
            labels = share * (1.0 - config.smoothing) + (1.0 - share) * config.smoothing
            loss = mean_bce(self.logit(params, mixed), labels)
        else:
            loss = cross_entropy(z_expert, z_policy, config.smoothing)
        zero = isinstance(config.penalty, int | float) and config.penalty == 0
        penalty = (
            jnp.zeros(())
            if zero
            else gradient_penalty(self.logit, params, mixed, config.penalty_norm)
        )
        found = {
            "disc_loss": loss,
            "disc_penalty": penalty,
            "disc_accuracy_expert": jnp.mean(z_expert > 0),
            "disc_accuracy_policy": jnp.mean(z_policy <= 0),
            "disc_logit_expert": jnp.mean(z_expert),
            "disc_logit_policy": jnp.mean(z_policy),
        }
        return loss + config.penalty * penalty, found


def _mix(share: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    share = share.reshape(-1, *[1] * (a.ndim - 1))
    return share * a + (1.0 - share) * b


def energy_distance(x: jax.Array, y: jax.Array) -> jax.Array:
    """2 E|x - y| - E|x - x'| - E|y - y'| of two samples float32[n, O]; 0 for equal distributions
    (Székely and Rizzo 2013)."""

    def mean_distance(a: jax.Array, b: jax.Array) -> jax.Array:
        squared = jnp.sum(a * a, -1)[:, None] + jnp.sum(b * b, -1)[None] - 2.0 * a @ b.T
        return jnp.sum(jnp.sqrt(jnp.maximum(squared, 0.0)))

    n, m = len(x), len(y)
    within = mean_distance(x, x) / (n * (n - 1)) + mean_distance(y, y) / (m * (m - 1))
    return 2.0 * mean_distance(x, y) / (n * m) - within

"""Discriminators, which tell the expert's steps (label 1) from the policy's (label 0).

    minimise E_expert[softplus(-z)] + E_policy[softplus(z)] + penalty,   D = sigmoid(z)
                              Goodfellow et al. 2014; Ho and Ermon 2016 (arXiv 1606.03476), eq. 16

The caller supplies the logit z: a free network (GAIL) or f - log pi (AIRL). Losses are pure
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
from irl_bench.core.settings import BadInput, NeedsActions, setting
from irl_bench.core.types import Demonstrations, Spec
from irl_bench.nets.masking import MaskConfig, check_mask, masked
from irl_bench.nets.policies import Standardiser, standardiser
from irl_bench.nets.supervised import draw
from irl_bench.rollouts.experience import Transition, flat

REMEMBERED = 4096
"""The most rows of one round that the replay memory keeps."""


@dataclasses.dataclass(frozen=True)
class Config(MaskConfig):
    """Settings of a discriminator."""

    disc_hidden: tuple[int, ...] = setting(
        (64, 64), "widths of the discriminator's hidden layers", unit="units", low=1, high=4096
    )
    disc_learning_rate: float = setting(
        1e-3, "Adam's step size for the discriminator", low=1e-8, high=1.0
    )
    disc_steps: int = setting(
        8, "gradient steps of the discriminator per round", unit="steps", low=1, high=100_000
    )
    disc_batch: int = setting(
        256, "rows of either side in such a step", unit="rows", low=1, high=65536
    )
    penalty: float = setting(1.0, "weight of the gradient penalty", low=0.0, high=1e6)
    penalty_norm: float = setting(
        0.0, "gradient norm that the penalty pulls towards", low=0.0, high=1e3
    )
    spectral_norm: bool = setting(
        False, "divide the discriminator's matrices by their largest singular values"
    )
    smoothing: float = setting(0.0, "label smoothing: labels are 1 - s and s", low=0.0, high=0.49)
    replay: int = setting(
        0,
        "size of the replay memory of negatives in rounds, including the current one; 0: no "
        "memory, all steps of the current round",
        unit="rounds",
        low=0,
        high=10_000,
    )
    absorbing: bool = setting(
        False,
        "restart a training episode at the world's done and count its remaining steps as steps in "
        "an absorbing state with a learned reward",
    )


class Steps(struct.PyTreeNode):
    """n steps of either side, as a logit reads them."""

    observation: jax.Array
    """float32[n, O], standardised; with `absorbing` float32[n, O + 1], whose last entry is 1 in
    the absorbing state alone."""
    action: jax.Array
    """float32[n, K]: the action, one-hot in a discrete world; zeros if the logit reads none."""
    next_observation: jax.Array
    """As `observation`."""
    log_prob: jax.Array
    """float32[n]: log pi(a|s) under the current policy; zeros if the logit reads none."""


class Rows(struct.PyTreeNode):
    """n raw steps of the policy."""

    observation: jax.Array
    """float32[n, O]."""
    action: jax.Array
    """float32[n, A] or int32[n]."""
    next_observation: jax.Array
    """float32[n, O]."""
    log_prob: jax.Array
    """float32[n]: log pi(a|s) under the policy that drew the action."""
    termination: jax.Array
    """float32[n]: 1 where the world ended the episode."""

    @classmethod
    def of(cls, batch: Transition) -> Rows:
        """The L * E rows of a rollout [L, E]."""
        return flat(
            cls(**{field.name: getattr(batch, field.name) for field in dataclasses.fields(cls)})
        )


Logit = Callable[[Any, Steps], jax.Array]
"""(params, n steps) -> float32[n]"""


class Network(nn.Module):
    """A tanh multilayer perceptron with one output."""

    hidden: tuple[int, ...]
    """Widths of the hidden layers."""
    spectral: bool = False
    """Whether every matrix is divided by its spectral norm (Miyato et al. 2018)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs float32[...] of inputs float32[..., I]."""
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
    """The largest singular value of a matrix, by power iteration from a fixed start; float32[].

    The gradient treats the singular vectors as constants (Miyato et al. 2018, algorithm 1).

    Args:
      matrix: float32[m, n].
      iterations: number of power iterations, at least 1.
    """
    u = jnp.zeros(matrix.shape[0], matrix.dtype)
    v = jnp.sin(1.0 + jnp.arange(matrix.shape[1], dtype=matrix.dtype))
    for _ in range(iterations):
        u = matrix @ v
        u = u / (jnp.linalg.norm(u) + 1e-12)
        v = matrix.T @ u
        v = v / (jnp.linalg.norm(v) + 1e-12)
    u, v = jax.lax.stop_gradient((u, v))
    return u @ matrix @ v + 1e-12


def cross_entropy(expert: jax.Array, policy: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Binary cross-entropy in which either side has weight 1/2; float32[].

    Args:
      expert: logits of expert steps, float32[n].
      policy: logits of policy steps, float32[m].
      smoothing: s; the labels are 1 - s and s.
    """
    return 0.5 * (mean_bce(expert, 1.0 - smoothing) + mean_bce(policy, smoothing))


def mean_bce(logit: jax.Array, label: jax.Array | float) -> jax.Array:
    """Mean of -l log D - (1 - l) log(1 - D) = softplus(z) - l z; float32[].

    Args:
      logit: z, float32[n].
      label: l in [0, 1], a scalar or float32[n].
    """
    return jnp.mean(jax.nn.softplus(logit) - label * logit)


def gradient_penalty(logit: Logit, params: Any, steps: Steps, norm: float) -> jax.Array:
    """E (|grad z| - norm)² over `steps` (Gulrajani et al. 2017, eq. 3); float32[].

    The gradient is that of z in observation, action and next observation together.
    """

    # A row's logit depends on that row alone, so the gradient of the sum holds that of each row.
    gradient = jax.grad(lambda rows: jnp.sum(logit(params, rows)))(steps)
    parts = (gradient.observation, gradient.action, gradient.next_observation)
    norms = jnp.sqrt(sum(jnp.sum(jnp.square(part), -1) for part in parts) + 1e-12)
    return jnp.mean(jnp.square(norms - norm))


def reward_of(logit: jax.Array, form: str, limit: float = 5.0) -> jax.Array:
    """The reward of a logit z, float32[...].

    Args:
      logit: z, float32[...].
      form: "softplus" -log(1 - D), "log_d" log D, "logit" z, "clipped_logit" z within +-limit.
      limit: the largest magnitude of a clipped logit.

    Raises:
      KeyError: any other form.
    """
    return {
        "softplus": jax.nn.softplus(logit),
        "log_d": -jax.nn.softplus(-logit),
        "logit": logit,
        "clipped_logit": jnp.clip(logit, -limit, limit),
    }[form]


class State(struct.PyTreeNode):
    """Everything that a discriminator keeps between rounds."""

    params: Any
    """Of the logit."""
    opt_state: Any
    """Of the optimiser of `params`."""
    inputs: Standardiser
    """The demonstrations' statistics, which standardise both sides. A masked failure flag has
    scale 0."""
    memory: Rows | None
    """Rows of the last `replay` rounds, replay * min(n, REMEMBERED) in all; None without replay."""


def kept(state: State, absorbing: jax.Array | None) -> dict[str, Any]:
    """Returns the params of the learned reward in the form in which they are stored.

    Args:
      state: the discriminator's.
      absorbing: reward of the absorbing state, float32[]; None without one.

    Returns:
      {"params", "inputs"}, and "absorbing" where there is one.
    """
    params = {"params": state.params, "inputs": state.inputs}
    return params if absorbing is None else {**params, "absorbing": absorbing}


class Discriminator:
    """Fits a logit that tells expert from policy.

    Args:
      spec: the world's sizes.
      config: the settings.
      logit: a function of standardised steps.
      reads_actions: whether the logit reads actions.
      rows_per_round: n, rows of the policy in a round.
      stays: number of absorbing steps counted for each step that enters the absorbing state.
      mixup: whether the loss is taken at mixtures of an expert's and a policy's row, with mixed
        labels (Zhang et al. 2018, arXiv 1710.09412).
    """

    def __init__(
        self,
        spec: Spec,
        config: Config,
        logit: Logit,
        reads_actions: bool,
        rows_per_round: int,
        stays: Any = 100.0,
        mixup: bool = False,
    ):
        check_mask(spec.world, config)
        self.spec, self.config, self.logit = spec, config, logit
        self.reads_actions, self.rows, self.stays = reads_actions, rows_per_round, stays
        self.mixup = mixup
        self.transform = optax.adam(config.disc_learning_rate, b1=0.5)

    @property
    def width(self) -> int:
        """Number of entries of an observation as the logit reads it."""
        return self.spec.observation_size + self.config.absorbing

    @property
    def action_width(self) -> int:
        """K, entries of an action as the logit reads it: A, or the number of actions."""
        return self.spec.n_actions or self.spec.action_size

    def init(self, params: Any, demos: Demonstrations) -> State:
        """The state before the first round.

        Args:
          params: of the logit, freshly initialised.
          demos: the demonstrations, whose statistics standardise both sides.

        Raises:
          BadInput: the demonstrations lack actions that the logit reads, or hold one step each.
        """
        if self.reads_actions and demos.action is None:
            raise NeedsActions("a discriminator that reads actions")
        if demos.mask.shape[1] < 2:
            raise BadInput(
                "a discriminator needs pairs of consecutive steps, but these demonstrations have "
                "one step each; nearest: 2 steps"
            )
        inputs = standardiser(
            demos.observation.reshape(-1, self.spec.observation_size),
            demos.mask.reshape(-1),
            keep_constant=True,
        )
        inputs = masked(inputs, self.spec.world, self.config)
        count = self.config.replay * min(self.rows, REMEMBERED)
        observation, zeros = jnp.zeros((count, self.spec.observation_size)), jnp.zeros(count)
        action = (
            jnp.zeros(count, jnp.int32)
            if self.spec.n_actions
            else jnp.zeros((count, self.spec.action_size))
        )
        memory = Rows(observation, action, observation, zeros, zeros) if count else None
        return State(params, self.transform.init(params), inputs, memory)

    @property
    def absorbed(self) -> Steps:
        """One step from the absorbing state into itself; leaves [1, ...]."""
        there = jnp.zeros((1, self.width)).at[:, -1].set(1.0)
        return Steps(there, jnp.zeros((1, self.action_width)), there, jnp.zeros(1))

    def steps(
        self,
        inputs: Standardiser,
        observation: jax.Array,
        action: jax.Array | None,
        next_observation: jax.Array,
        log_prob: jax.Array,
        termination: jax.Array | None = None,
    ) -> Steps:
        """Raw steps as the logit reads them; leading axes are free.

        Args:
          inputs: standardises observations.
          observation: float32[..., O].
          action: float32[..., A] or int32[...]; None for a logit that reads no actions.
          next_observation: float32[..., O].
          log_prob: float32[...]: log pi(a|s).
          termination: float32[...]: 1 for a step that leads into the absorbing state, if there is
            one; None: no step does.
        """

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

    def policy_steps(self, inputs: Standardiser, rows: Rows) -> Steps:
        """The policy's rows as the logit reads them."""
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
        """Takes `disc_steps` gradient steps on policy rows against expert rows.

        Args:
          state: the discriminator's.
          demos: N episodes; the last step of each has no successor and is not used.
          policy: the n rows of this round. With `replay`, batches are drawn from the memory, which
            holds them.
          log_prob: (observation[n, O], action[n, ...]) -> log pi(a|s) of the current policy, for
            rows of the expert and of the memory; None if the logit reads none.
          round: int32[], how many rounds were fitted before.
          key: consumed.

        Returns:
          The new state, and loss, penalty, accuracies and mean logits of the last batch before its
          step, float32[] each.
        """
        config = self.config
        length = demos.mask.shape[1]
        # Negatives are the first `count` rows of `negatives`.
        memory, negatives, count = state.memory, policy, self.rows
        if memory is not None:
            key, memory_key = jax.random.split(key)
            per_round = min(self.rows, REMEMBERED)
            chosen = (
                jnp.arange(per_round)
                if per_round == self.rows
                else jax.random.randint(memory_key, (per_round,), 0, self.rows)
            )
            start = round % config.replay * per_round
            memory = jax.tree.map(
                lambda m, x: jax.lax.dynamic_update_slice_in_dim(m, x[chosen], start, 0),
                memory,
                policy,
            )
            negatives, count = memory, jnp.minimum(round + 1, config.replay) * per_round
        absorbed_share: jax.Array | None = None
        if config.absorbing:
            there = jnp.sum(negatives.termination) * self.stays
            absorbed_share = there / (there + count)
        # Only steps whose successor was recorded.
        upto = jnp.cumsum((demos.mask[:, :-1] * demos.mask[:, 1:]).reshape(-1))

        def expert_batch(key: jax.Array) -> Steps:
            drawn = draw(upto, key, config.disc_batch)
            episode, t = drawn // (length - 1), drawn % (length - 1)
            observation = demos.observation[episode, t]
            action = None if demos.action is None else demos.action[episode, t]
            if log_prob is None:
                density = jnp.zeros(config.disc_batch)
            else:
                assert action is not None  # `init` has refused such demonstrations
                density = log_prob(observation, action)
            return self.steps(
                state.inputs, observation, action, demos.observation[episode, t + 1], density
            )

        def policy_batch(key: jax.Array) -> Steps:
            if memory is None:
                index = jax.random.randint(key, (config.disc_batch,), 0, self.rows)
                rows = jax.tree.map(lambda x: x[index], policy)
            else:
                index = (jax.random.uniform(key, (config.disc_batch,)) * count).astype(jnp.int32)
                rows = jax.tree.map(lambda x: x[index], memory)
                if log_prob is not None:
                    rows = rows.replace(log_prob=log_prob(rows.observation, rows.action))
            steps = self.policy_steps(state.inputs, rows)
            if absorbed_share is None:
                return steps
            there = (
                jax.random.uniform(jax.random.fold_in(key, 1), (config.disc_batch,))
                < absorbed_share
            )
            return jax.tree.map(
                lambda a, b: jnp.where(there.reshape(-1, *[1] * (b.ndim - 1)), a, b),
                self.absorbed,
                steps,
            )

        def step(
            carry: tuple[Any, Any], key: jax.Array
        ) -> tuple[tuple[Any, Any], dict[str, jax.Array]]:
            params, opt_state = carry
            expert_key, policy_key, mix_key = jax.random.split(key, 3)
            batches = expert_batch(expert_key), policy_batch(policy_key)
            gradient, metrics = jax.grad(self.loss, has_aux=True)(params, *batches, mix_key)
            updates, opt_state = self.transform.update(gradient, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), metrics

        keys = jax.random.split(key, config.disc_steps)
        (params, opt_state), metrics = jax.lax.scan(step, (state.params, state.opt_state), keys)
        return state.replace(params=params, opt_state=opt_state, memory=memory), jax.tree.map(
            lambda x: x[-1], metrics
        )

    def loss(
        self, params: Any, expert: Steps, policy: Steps, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss of one batch of either side, and its diagnostics.

        Args:
          params: of the logit.
          expert: `disc_batch` steps of the expert.
          policy: `disc_batch` steps of the policy.
          key: of the mixtures at which penalty and mixup are taken; consumed.

        Returns:
          Cross-entropy plus weighted penalty, float32[], and diagnostics by name, float32[] each.
        """
        config = self.config
        share = jax.random.uniform(key, (config.disc_batch,))
        mixed = jax.tree.map(lambda a, b: _mix(share, a, b), expert, policy)
        both = jax.tree.map(
            lambda a, b: jnp.concatenate([a, b]), expert, policy
        )  # one pass is quicker than two
        z_expert, z_policy = jnp.split(self.logit(params, both), 2)
        if self.mixup:
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
        metrics = {
            "disc_loss": loss,
            "disc_penalty": penalty,
            "disc_accuracy_expert": jnp.mean(z_expert > 0),
            "disc_accuracy_policy": jnp.mean(z_policy <= 0),
            "disc_logit_expert": jnp.mean(z_expert),
            "disc_logit_policy": jnp.mean(z_policy),
        }
        return loss + config.penalty * penalty, metrics


def _mix(share: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    share = share.reshape(-1, *[1] * (a.ndim - 1))
    return share * a + (1.0 - share) * b


def energy_distance(x: jax.Array, y: jax.Array) -> jax.Array:
    """2 E|x - y| - E|x - x'| - E|y - y'|, float32[]; 0 in expectation for equal distributions
    (Székely and Rizzo 2013).

    Args:
      x: sample float32[n, O], n >= 2.
      y: sample float32[m, O], m >= 2.
    """

    def mean_distance(a: jax.Array, b: jax.Array) -> jax.Array:
        squared = jnp.sum(a * a, -1)[:, None] + jnp.sum(b * b, -1)[None] - 2.0 * a @ b.T
        return jnp.sum(jnp.sqrt(jnp.maximum(squared, 0.0)))

    n, m = len(x), len(y)
    within = mean_distance(x, x) / (n * (n - 1)) + mean_distance(y, y) / (m * (m - 1))
    return 2.0 * mean_distance(x, y) / (n * m) - within

"""Proximal policy optimisation with the reward as an argument.

    L = E[min(w A, clip(w, 1 - c, 1 + c) A)] - 1/2 E[(V - R)²] + e H,   w = pi(a|s) / pi_old(a|s)
                                              Schulman et al. 2017 (arXiv 1707.06347), eq. 7 and 9

Advantages A and returns R are generalised advantage estimates (Schulman et al. 2016, arXiv
1506.02438, eq. 16), computed once per rollout. An episode that is cut for its length is
bootstrapped with the value of the true next state; an episode that the world ended is not. Brax
provides the estimator and the running statistics.

`algos/ppo.py` wraps this as a `Learner`. Algorithms that learn a reward keep a `State` inside their
own; each round they call `collect`, then `improve` with their rewards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
import optax
from brax.training.acme import running_statistics
from brax.training.agents.ppo.losses import compute_gae
from flax import struct

from envs.core import State as WorldState
from irl_bench.core.settings import BadInput, NeedsActions, setting
from irl_bench.core.types import Demonstrations, Spec, Task
from irl_bench.nets.policies import (
    MAX_LOG_STD,
    MIN_LOG_STD,
    MLP,
    Policy,
    Standardiser,
    Weights,
    standardised_by,
    view,
)
from irl_bench.nets.supervised import PolicyParams, fit, flatten, optimiser
from irl_bench.rollouts import starts
from irl_bench.rollouts.experience import (
    Act,
    ActionSample,
    Transition,
    Worlds,
    begin,
    flat,
    unroll,
)

REWARD_LIMIT = 10.0
"""Normalised rewards are clipped to +-REWARD_LIMIT."""
KL_STEPS = 16
"""About so many steps of a rollout tell how far the policy is from its start; all of them would
take much of a round."""

Metrics: TypeAlias = dict[str, jax.Array]
"""Diagnostics of a round by name, float32[] each."""
Rows: TypeAlias = dict[str, jax.Array]
"""Rows of a rollout by name: x float32[n, O] (standardised), raw, log_prob float32[n], advantage
float32[n], target float32[n]."""
_Carry: TypeAlias = tuple[Weights, optax.OptState]


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    """Settings of a policy that is cloned from demonstrations and rolled out."""

    episode_steps: int = setting(
        512, "age at which a training episode is cut", unit="steps", low=1, high=1_000_000
    )
    hidden: tuple[int, ...] = setting(
        (64, 64), "widths of the policy's hidden layers", unit="units", low=1, high=4096
    )
    log_std: float = setting(
        -2.0, "log-deviation of raw actions in the first round", low=MIN_LOG_STD, high=MAX_LOG_STD
    )
    bc_steps: int = setting(
        2400,
        "gradient steps of behavioural cloning before training",
        unit="steps",
        low=1,
        high=10_000_000,
    )


@dataclasses.dataclass(frozen=True)
class TrainingConfig(PolicyConfig):
    """Settings of PPO, shared by all algorithms that train their policy with it."""

    statistics: str = setting(
        "demonstrations",
        "what observations are standardised by: the demonstrations, or all seen so far",
        choices=("demonstrations", "running"),
    )
    rounds: int = setting(
        128,
        "rounds; each is one rollout and the updates from it",
        unit="rounds",
        low=1,
        high=10_000_000,
    )
    worlds: int = setting(32, "worlds side by side, per seed", low=1, high=65536)
    unroll: int = setting(128, "steps of every world in a round", unit="steps", low=1, high=65536)
    linger: int = setting(
        1_000_000,
        "steps for which a training episode continues after its first done, if done does not end "
        "it; episode_steps or more: until the episode is cut for its length",
        unit="steps",
        low=1,
        high=1_000_000,
    )
    value_hidden: tuple[int, ...] = setting(
        (64, 64), "widths of the value network's hidden layers", unit="units", low=1, high=4096
    )
    epochs: int = setting(4, "passes over a rollout", low=1, high=1000)
    minibatches: int = setting(8, "gradient steps per pass", low=1, high=65536)
    learning_rate: float = setting(3e-4, "Adam's step size in the first round", low=1e-8, high=1.0)
    learning_rate_end: float = setting(
        0.1,
        "step size in the last round as a share of the first round's; linear in between",
        low=0.0,
        high=1.0,
    )
    discount: float = setting(0.97, "gamma", low=0.0, high=1.0)
    gae_lambda: float = setting(0.95, "lambda of the advantage estimates", low=0.0, high=1.0)
    clip: float = setting(
        0.2, "largest change of the probability ratio that is rewarded", low=0.0, high=10.0
    )
    entropy: float = setting(
        0.0, "weight of the entropy bonus in the first round", low=0.0, high=10.0
    )
    entropy_end: float = setting(
        1.0,
        "entropy weight in the last round as a share of the first round's; linear in between",
        low=0.0,
        high=1.0,
    )
    max_grad_norm: float = setting(
        0.5, "gradients are scaled down to this norm", low=1e-6, high=1e6
    )
    log_std_min: float = setting(-3.0, "lower bound of log_std", low=MIN_LOG_STD, high=MAX_LOG_STD)
    log_std_max: float = setting(-1.0, "upper bound of log_std", low=MIN_LOG_STD, high=MAX_LOG_STD)
    normalise_reward: bool = setting(
        True, "divide rewards by the running standard deviation of the discounted return"
    )
    centre_reward: bool = setting(
        True,
        "subtract the rollout's mean from rewards where no end cuts them off, so that a constant "
        "reward teaches nothing",
    )
    policy_delay: int = setting(
        0,
        "rounds at the start in which the policy is frozen; only the value network is trained",
        unit="rounds",
        low=0,
        high=10**6,
    )
    reference_kl: float = setting(
        0.0,
        "reward is lowered by this times log(pi / pi_ref); the reference is the policy at the "
        "start",
        low=0.0,
        high=100.0,
    )
    probe: int = setting(
        0,
        "rollouts of the current policy that are measured in every round, always from the same "
        "starts and with the same random numbers; they train nothing; 0: none; needs "
        "statistics=demonstrations",
        low=0,
        high=65536,
    )
    probe_warm: int = setting(
        200,
        "each of these starts is reached by 0 to probe_warm - 1 steps of the first policy",
        unit="steps",
        low=1,
        high=100_000,
    )
    probe_length: int = setting(100, "length of these rollouts", unit="steps", low=1, high=100_000)


@dataclasses.dataclass(frozen=True)
class Config(TrainingConfig):
    """Settings of PPO where the policy may begin without demonstrations."""

    init: str = setting(
        "bc",
        "how the policy begins: a clone of the demonstrations, or random",
        choices=("bc", "random"),
    )


@dataclasses.dataclass(frozen=True)
class AdversarialConfig(Config):
    """PPO's settings under a reward that is learned at the same time.

    The policy changes slowly, so that the discriminator keeps up. Faster policies left the lane for
    good on some seeds (docs/lab/2026-11-24-inverse-rl-settings.md).
    """

    rounds: int = setting(
        120,
        "rounds; each is one rollout and the updates from it",
        unit="rounds",
        low=1,
        high=10_000_000,
    )
    learning_rate: float = setting(1e-4, "Adam's step size in the first round", low=1e-8, high=1.0)
    discount: float = setting(0.95, "gamma", low=0.0, high=1.0)
    log_std: float = setting(
        -2.8, "log-deviation of raw actions in the first round", low=MIN_LOG_STD, high=MAX_LOG_STD
    )


class Probe(struct.PyTreeNode):
    """What the rollouts of a probe have in common in all rounds."""

    start: WorldState
    """States that they begin in; leaves [B, ...]."""
    key: jax.Array
    """Of their random numbers."""
    reference: Transition
    """The first policy's rollouts, [B, 1, probe_length]."""


class State(struct.PyTreeNode):
    """Everything that PPO keeps between rounds."""

    weights: Weights
    """{"policy", "value"}: of both networks."""
    opt_state: optax.OptState
    """Of the optimiser of both networks."""
    statistics: running_statistics.RunningStatisticsState
    """Of observations; they standardise the networks' inputs."""
    reference: Weights
    """The policy's weights at the start."""
    worlds: Worlds
    """E training worlds."""
    returns: jax.Array
    """float32[E]: discounted sum of the current episode's rewards in each world; it gives the scale
    of rewards."""
    return_variance: jax.Array
    """float32[]: moving average over rounds of the variance of `returns`."""
    round: jax.Array
    """int32[]: rounds done."""
    key: jax.Array
    """Of the rounds to come."""
    probe: Probe | None = None
    """What the probe's rollouts have in common; None with `probe=0`."""


class PPO:
    """PPO on one world: pure functions whose only memory is a `State`.

    Args:
      spec: the world and its sizes.
      config: the settings.
      terminate: whether the world's `done` ends an episode. Algorithms that learn a reward pass
        False: if an end cut off all further reward, the reward's sign alone would decide whether
        the policy prefers to end its episodes.
      init: how the policy begins: "bc", a clone of the demonstrations; "random"; or "given", random
        until the caller replaces it (`with_policy`).

    Raises:
      BadInput: settings that contradict each other; one line with the nearest valid value.
    """

    def __init__(self, spec: Spec, config: TrainingConfig, *, init: str, terminate: bool = True):
        _check_bounds(config)
        self.spread = spec.spread
        _check_rows(config, self.spread.devices)
        if config.policy_delay >= config.rounds:
            raise BadInput(
                f"policy_delay={config.policy_delay} leaves none of rounds={config.rounds}; "
                f"nearest: policy_delay={config.rounds - 1}"
            )
        if config.probe and config.statistics == "running":
            # Today's statistics would change what the reference policy does.
            raise BadInput(
                f"probe={config.probe} needs a reference policy that stays the same; nearest: "
                "statistics=demonstrations"
            )
        self.spec, self.config, self.terminate, self.start = spec, config, terminate, init
        self.policy = Policy(spec, config.hidden, log_std=config.log_std)
        self.value = MLP(tuple(config.value_hidden), 1, head_scale=1.0)
        self.steps_per_round = config.worlds * config.unroll
        steps = config.rounds * config.epochs * config.minibatches
        rate = optax.linear_schedule(
            config.learning_rate, config.learning_rate * config.learning_rate_end, steps
        )
        self.transform = optax.chain(
            optax.clip_by_global_norm(config.max_grad_norm), optax.adam(rate, eps=1e-5)
        )

    @property
    def env_steps(self) -> int:
        """Environment steps over all rounds [steps]."""
        return self.config.rounds * self.steps_per_round

    # Observations and values.

    def inputs(self, state: State) -> Standardiser:
        """Standardiser of the networks' inputs."""
        return standardised_by(state.statistics)

    def params(self, state: State) -> PolicyParams:
        """Parameters of the policy that is evaluated."""
        return PolicyParams(state.weights["policy"], self.inputs(state))

    def act(self, params: PolicyParams, observation: jax.Array, key: jax.Array) -> jax.Array:
        """The policy's mode at an observation float32[O]: float32[A], or int32[]."""
        del key
        return self.policy.mode(params.weights, view(params.inputs, observation))

    def values(self, weights: Any, x: jax.Array) -> jax.Array:
        """V, float32[...], at standardised observations x, float32[..., O]."""
        return cast(jax.Array, self.value.apply({"params": weights["value"]}, x))[..., 0]

    # Initialisation.

    def init(self, key: jax.Array, task: Task) -> State:
        """The state before the first round.

        Args:
          key: consumed.
          task: demonstrations (used by `init=bc` and `statistics=demonstrations`) and dials.

        Raises:
          BadInput: `init=bc` and the demonstrations have no actions.
        """
        config = self.config
        policy_key, value_key, world_key, fit_key, key = jax.random.split(key, 5)
        demos = task.demonstrations
        shape = jax.ShapeDtypeStruct((self.spec.observation_size,), jnp.float32)
        statistics = running_statistics.init_state(shape)
        # A clone must keep the statistics that it was fitted with.
        if config.statistics == "demonstrations" or self.start == "bc":
            rows = demos.observation.reshape(-1, self.spec.observation_size)
            statistics = running_statistics.update(statistics, rows, weights=demos.mask.reshape(-1))
        policy = self.policy.init(policy_key)
        value = self.value.init(value_key, jnp.zeros(self.spec.observation_size))["params"]
        world = self.spec.world.bind(task.dials)
        state = State(
            weights={"policy": policy, "value": value},
            opt_state=self.transform.init({"policy": policy, "value": value}),
            statistics=statistics,
            reference=policy,
            worlds=begin(
                world,
                self.spread.own(world_key),
                self.spread.share(config.worlds),
                config.episode_steps,
            ),
            returns=jnp.zeros(self.spread.share(config.worlds)),
            return_variance=jnp.zeros(()),
            round=jnp.int32(0),
            key=key,
        )
        if self.start == "bc":
            policy = self._clone(state, task, fit_key)
            state = state.replace(weights={"policy": policy, "value": value}, reference=policy)
        return self._with_probe(state, task.dials)

    def per_world(self, state: State) -> State:
        """As `Learner.per_world`: True at the leaves of the training worlds."""
        shared = jax.tree.map(lambda _: False, state)
        worlds = jax.tree.map(lambda _: True, state.worlds)
        return shared.replace(worlds=worlds, returns=True)

    def _clone(self, state: State, task: Task, key: jax.Array) -> Any:
        """The policy's weights after behavioural cloning, with the initial `log_std`."""
        weights = state.weights["policy"]
        if task.demonstrations.action is None and hasattr(self.config, "init"):
            raise NeedsActions("init=bc")
        weights = clone(
            self.policy, weights, self.inputs(state), task.demonstrations, self.config.bc_steps, key
        )
        return self.policy.with_log_std(weights)

    def with_policy(self, state: State, params: PolicyParams, dials: Any) -> State:
        """Returns the initial state with `params` as first policy and as reference policy.

        The policy keeps its own standardiser, and its `log_std` is reset to the initial value.
        """
        weights = self.policy.with_log_std(params.weights)
        statistics = dataclasses.replace(
            state.statistics, mean=params.inputs.mean, std=1.0 / params.inputs.scale
        )
        state = state.replace(
            weights={**state.weights, "policy": weights}, reference=weights, statistics=statistics
        )
        return self._with_probe(state, dials)

    def _with_probe(self, state: State, dials: Any) -> State:
        """The initial state with what a probe needs; no other random number changes."""
        config = self.config
        if not config.probe:
            return state
        world, act = self.spec.world.bind(dials), self._acting(state, state.reference)
        *reach_keys, key = jax.random.split(probe_key(state.key), 4)
        start = starts.reached(world, act, config.probe, config.probe_warm, reach_keys)
        reference = starts.alike(world, act, start, 1, config.probe_length, key)
        return state.replace(probe=Probe(start, key, reference))

    def _acting(self, state: State, weights: Weights) -> Act:
        """Samples the actions of a policy with `weights`; its log pi is 0."""
        inputs = self.inputs(state)

        def act(observation: jax.Array, key: jax.Array) -> ActionSample:
            raw = self.policy.draw(weights, view(inputs, observation), key)
            return ActionSample(self.policy.squash(raw), raw, jnp.zeros(len(raw)))

        return act

    def restarted(self, state: State) -> State:
        """Returns the state with the policy reset to the reference policy and Adam's moments reset
        to zero.

        The value network keeps its weights, and the step size keeps its schedule.
        """
        # The value's moments are reset too, because one step count corrects the bias of both.
        adam = lambda node: isinstance(node, optax.ScaleByAdamState)
        opt_state = jax.tree.map(
            lambda x: jax.tree.map(jnp.zeros_like, x) if adam(x) else x,
            state.opt_state,
            is_leaf=adam,
        )
        return state.replace(
            weights={**state.weights, "policy": state.reference}, opt_state=opt_state
        )

    # Rounds.

    def collect(self, state: State, dials: Any) -> tuple[State, Transition]:
        """One rollout of the current policy.

        Args:
          state: before the round.
          dials: the world's.

        Returns:
          The state with worlds and key moved on, and [L, E] transitions. With worlds that are
          spread over devices, they are those of this device's worlds.
        """
        key, rollout_key = jax.random.split(state.key)
        inputs, policy = self.inputs(state), state.weights["policy"]

        def act(observation: jax.Array, key: jax.Array) -> ActionSample:
            x = view(inputs, observation)
            raw = self.policy.draw(policy, x, key)
            return ActionSample(self.policy.squash(raw), raw, self.policy.log_prob(policy, x, raw))

        config = self.config
        world = self.spec.world.bind(dials)
        worlds, batch = unroll(
            world,
            act,
            state.worlds,
            self.spread.own(rollout_key),
            config.unroll,
            config.episode_steps,
            self.terminate,
            config.linger,
        )
        return state.replace(worlds=worlds, key=key), batch

    def probe(self, state: State, dials: Any, reward: Callable[[Transition], jax.Array]) -> Metrics:
        """Measures the current policy on `probe` rollouts of `probe_length` steps.

        They begin in the same states and have the same random numbers in every round, so a
        difference between two rounds is one of their policies. Best-of-n's rollouts begin in the
        same states as those of RLHF, with other random numbers. Nothing learns from them, and they
        count in no budget. Callers measure before `improve`, so a round's probe is of the policy
        that begins it, and the last update is not measured.

        Args:
          state: the current state; with its initial state it shares starts and random numbers.
          dials: the world's.
          reward: transitions [...] -> their learned reward, float32[...].

        Returns:
          {} with `probe=0`, else means over rollouts of sums over steps, float32[] each:
          `probe_gold` of the world's reward, `probe_proxy` of the learned reward,
          `probe_proxy_start` of the learned reward on the first policy's rollouts, and `probe_kl`
          of KL(pi || pi_ref) [nats], which is that of whole rollouts.
        """
        if state.probe is None:
            return {}
        policy, length = state.weights["policy"], self.config.probe_length
        world, act = self.spec.world.bind(dials), self._acting(state, policy)
        batch = starts.alike(world, act, state.probe.start, 1, length, state.probe.key)
        x = view(self.inputs(state), batch.observation)
        total = lambda values: jnp.mean(jnp.sum(values, -1))
        return {
            "probe_gold": total(batch.reward),
            "probe_proxy": total(reward(batch)),
            "probe_proxy_start": total(reward(state.probe.reference)),
            "probe_kl": total(self.policy.kl(policy, state.reference, x)),
        }

    def improve(
        self, state: State, batch: Transition, reward: jax.Array, absorbing: jax.Array | None = None
    ) -> tuple[State, Metrics]:
        """Updates policy and value from one rollout and its rewards.

        Args:
          state: as `collect` returned it.
          batch: [L, E] transitions, as `collect` returned them.
          reward: float32[L, E].
          absorbing: float32[], the reward of every step after a termination, without end. None: no
            reward follows a termination.

        Returns:
          The state after the round, and the round's metrics: of the rollout (`reward_mean`,
          `reward_std`, `true_return`, `cost`, `graded_cost`, `explained_variance`,
          `reference_kl`) and of the last epoch (`policy_loss`, `value_loss`, `entropy`, `kl`,
          `clipped`, `std`).
        """
        config, mean, var, std = self.config, self.spread.mean, self.spread.var, self.spread.std
        key, loss_key = jax.random.split(state.key)
        metrics = {"reward_mean": mean(reward), "reward_std": std(reward)}
        if config.statistics == "running":
            rows = batch.observation.reshape(-1, self.spec.observation_size)
            statistics = running_statistics.update(
                state.statistics, rows, pmap_axis_name=self.spread.axis
            )
            state = state.replace(statistics=statistics)
            # The ratio compares two policies, so both must see the same inputs.
            x = view(self.inputs(state), batch.observation)
            batch = batch.replace(
                log_prob=self.policy.log_prob(state.weights["policy"], x, batch.raw)
            )
        x, x_next = (
            view(self.inputs(state), o) for o in (batch.observation, batch.next_observation)
        )
        if self.start != "random":  # distance of the policy from its start
            some = x[:: max(1, config.unroll // KL_STEPS)]
            metrics["reference_kl"] = mean(
                self.policy.kl(state.weights["policy"], state.reference, some)
            )
        if not is_zero(config.reference_kl):
            log_ratio = batch.log_prob - self.policy.log_prob(state.reference, x, batch.raw)
            reward = reward - config.reference_kl * log_ratio
        if config.centre_reward and (absorbing is not None or not self.terminate):
            # In an endless task a constant changes no policy. While the value is still far from
            # its fixed point, though, it favours the states that the policy visits often.
            centre = mean(reward)
            reward, absorbing = jax.tree.map(lambda r: r - centre, (reward, absorbing))
        if config.normalise_reward:
            scale, state = self._scale(state, batch, reward)
            reward, absorbing = jax.tree.map(
                lambda r: jnp.clip(scale * r, -REWARD_LIMIT, REWARD_LIMIT), (reward, absorbing)
            )
        value, next_value = self.values(state.weights, x), self.values(state.weights, x_next)
        if absorbing is not None:
            # A termination becomes a cut before a state of known value, r / (1 - gamma).
            ends = batch.termination
            next_value = jnp.where(ends > 0, absorbing * forever(config.discount), next_value)
            batch = batch.replace(
                truncation=jnp.maximum(batch.truncation, ends), termination=jnp.zeros_like(ends)
            )
        target = returns(batch, reward, value, next_value, config.discount, config.gae_lambda)
        advantage = target - value
        metrics["explained_variance"] = 1.0 - var(advantage) / (var(target) + 1e-8)
        advantage = (advantage - mean(advantage)) / (std(advantage) + 1e-8)
        share = state.round / max(1, config.rounds - 1)
        entropy = config.entropy * (1.0 - share * (1.0 - config.entropy_end))
        rows = flat(
            {
                "x": x,
                "raw": batch.raw,
                "log_prob": batch.log_prob,
                "advantage": advantage,
                "target": target,
            }
        )
        # A policy without a gradient does not move: Adam's moments stay zero.
        trains = (state.round >= config.policy_delay).astype(jnp.float32)
        rows["advantage"] = rows["advantage"] * trains
        weights, opt_state, losses = self._fit(
            state.weights, state.opt_state, rows, entropy * trains, loss_key
        )
        metrics |= losses
        if not self.policy.discrete:
            metrics["std"] = jnp.mean(jnp.exp(weights["policy"]["log_std"]))
        metrics |= {
            "true_return": mean(batch.reward) * self.config.episode_steps,
            "cost": mean(batch.cost),
            "graded_cost": mean(batch.graded_cost),
        }
        return state.replace(
            weights=weights, opt_state=opt_state, round=state.round + 1, key=key
        ), metrics

    def _scale(self, state: State, batch: Transition, reward: jax.Array) -> tuple[jax.Array, State]:
        """Factor on rewards, float32[]: one over the standard deviation of the discounted return,
        whose variance is a moving average over rounds; and the state that holds it."""
        ended = jnp.maximum(batch.truncation, batch.termination)

        def step(
            total: jax.Array, reward_and_end: tuple[jax.Array, jax.Array]
        ) -> tuple[jax.Array, jax.Array]:
            reward, end = reward_and_end
            total = total * self.config.discount + reward
            return total * (1.0 - end), total

        carried, totals = jax.lax.scan(step, state.returns, (reward, ended))
        variance = self.spread.var(totals)
        variance = jnp.where(
            state.round == 0, variance, 0.9 * state.return_variance + 0.1 * variance
        )
        return 1.0 / jnp.sqrt(variance + 1e-8), state.replace(
            returns=carried, return_variance=variance
        )

    def _fit(
        self,
        weights: Weights,
        opt_state: optax.OptState,
        rows: Rows,
        entropy: jax.Array,
        key: jax.Array,
    ) -> tuple[Weights, optax.OptState, Metrics]:
        """Epochs of minibatches; returns weights, optimiser state and the last epoch's mean
        losses.

        Each device shuffles its own rows, so that a minibatch is the union of the devices' parts.
        """
        config, spread = self.config, self.spread
        count, key = spread.share(self.steps_per_round), spread.own(key)

        def minibatch(
            carry: _Carry, index_and_key: tuple[jax.Array, jax.Array]
        ) -> tuple[_Carry, Metrics]:
            weights, opt_state = carry
            index, key = index_and_key
            batch = jax.tree.map(lambda x: x[index], rows)
            gradients, losses = jax.grad(self.loss, has_aux=True)(weights, batch, entropy, key)
            gradients = spread.average(gradients)
            updates, opt_state = self.transform.update(gradients, opt_state, weights)
            weights = cast(Any, optax.apply_updates(weights, updates))
            if not self.policy.discrete:
                # The weights are projected. Clipping inside the loss would stop the gradient, and
                # a deviation beyond its bounds could never return.
                log_std = jnp.clip(
                    weights["policy"]["log_std"], config.log_std_min, config.log_std_max
                )
                weights = {**weights, "policy": {**weights["policy"], "log_std": log_std}}
            return (weights, opt_state), losses

        def epoch(carry: _Carry, key: jax.Array) -> tuple[_Carry, Metrics]:
            order_key, loss_key = jax.random.split(key)
            index = jax.random.permutation(order_key, count).reshape(config.minibatches, -1)
            carry, losses = jax.lax.scan(
                minibatch, carry, (index, jax.random.split(loss_key, config.minibatches))
            )
            return carry, jax.tree.map(jnp.mean, losses)

        (weights, opt_state), losses = jax.lax.scan(
            epoch, (weights, opt_state), jax.random.split(key, config.epochs)
        )
        return weights, opt_state, spread.average(jax.tree.map(lambda x: x[-1], losses))

    def loss(
        self, weights: Weights, batch: Rows, entropy: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        """PPO's loss on one minibatch, eq. 9 of the paper with its sign reversed.

        Args:
          weights: {"policy", "value"}.
          batch: a minibatch of rows.
          entropy: float32[], weight of the entropy bonus.
          key: consumed.

        Returns:
          The loss float32[], and its parts.
        """
        log_ratio = (
            self.policy.log_prob(weights["policy"], batch["x"], batch["raw"]) - batch["log_prob"]
        )
        surrogate = clipped_surrogate(log_ratio, batch["advantage"], self.config.clip)
        value_loss = 0.5 * jnp.mean(jnp.square(self.values(weights, batch["x"]) - batch["target"]))
        bonus = jnp.mean(self.policy.entropy(weights["policy"], batch["x"], key))
        parts = {
            "policy_loss": -surrogate,
            "value_loss": value_loss,
            "entropy": bonus,
            # k3 of Schulman's note on approximating KL: unbiased and never negative.
            "kl": jnp.mean(jnp.expm1(log_ratio) - log_ratio),
            "clipped": jnp.mean(jnp.abs(jnp.expm1(log_ratio)) > self.config.clip),
        }
        return -surrogate + value_loss - entropy * bonus, parts


def probe_key(key: jax.Array) -> jax.Array:
    """The key of a probe. It is apart from all keys that a round draws.

    Args:
      key: `State.key` before the first round; not consumed.
    """
    return jax.random.fold_in(key, 0x70726F62)


def clone(
    policy: Policy,
    weights: Any,
    inputs: Standardiser,
    demos: Demonstrations,
    steps: int,
    key: jax.Array,
) -> Any:
    """Behavioural cloning of demonstrations by maximum likelihood.

    Args:
      policy: whose weights are fitted.
      weights: at the start.
      inputs: standardises the observations.
      demos: the demonstrations.
      steps: number of gradient steps, on 256 labelled states each.
      key: consumed.

    Returns:
      The fitted weights.

    Raises:
      NeedsActions: the demonstrations have no actions.
    """
    if demos.action is None:
        raise NeedsActions("a clone")
    data = flatten(view(inputs, demos.observation), demos.action, demos.mask)
    transform = optimiser(3e-3, 1e-2, steps)
    identity = Standardiser(jnp.zeros(()), jnp.ones(()))
    weights, _, _ = fit(
        policy, "nll", transform, weights, transform.init(weights), identity, data, key, steps, 256
    )
    # A feature that is constant in the demonstrations starts without influence. Training may give
    # it influence.
    varies = jnp.std(data.observation, 0, where=data.mask[:, None] > 0) > 0
    first = weights["net"]["Dense_0"]
    net = {**weights["net"], "Dense_0": {**first, "kernel": first["kernel"] * varies[:, None]}}
    return {**weights, "net": net}


def _check_bounds(config: TrainingConfig) -> None:
    low, first, high = config.log_std_min, config.log_std, config.log_std_max
    if all(isinstance(bound, float) for bound in (low, first, high)) and not low <= first <= high:
        nearest = min(max(first, low), max(low, high))
        raise BadInput(
            f"log_std={first:g} must be in [log_std_min, log_std_max] = [{low:g}, {high:g}]; "
            f"nearest: {nearest:g}"
        )


def _check_rows(config: TrainingConfig, devices: int) -> None:
    """Raises BadInput unless worlds and rows can be shared out equally."""
    if config.worlds % devices:
        near = max(1, round(config.worlds / devices)) * devices
        raise BadInput(
            f"worlds={config.worlds} cannot be spread evenly over {devices} devices; nearest: "
            f"worlds={near}"
        )
    rows = config.worlds // devices * config.unroll
    if rows % config.minibatches:
        near = max(n for n in range(1, config.minibatches + 1) if rows % n == 0)
        what = "worlds * unroll" if devices == 1 else f"worlds * unroll / {devices} devices"
        raise BadInput(
            f"minibatches={config.minibatches} does not divide {what} = {rows}; "
            f"nearest: minibatches={near}"
        )


def is_zero(weight: Any) -> bool:
    """Whether a term with this weight is left out of the program.

    A weight that a search varies is an array, and its term always stays.
    """
    return isinstance(weight, int | float) and weight == 0


def forever(discount: Any) -> jax.Array:
    """Returns the discounted value of a reward of 1 at every step, 1 / (1 - gamma), capped at 1000;
    float32[].

    Args:
      discount: gamma in [0, 1], a float or float32[].
    """
    return 1.0 / jnp.maximum(1.0 - discount, 1e-3)


def clipped_surrogate(log_ratio: jax.Array, advantage: jax.Array, clip: float) -> jax.Array:
    """E[min(w A, clip(w, 1 - c, 1 + c) A)], eq. 7 of the paper; float32[].

    Args:
      log_ratio: log w, float32[n].
      advantage: A, float32[n].
      clip: c.
    """
    ratio = jnp.exp(log_ratio)
    return jnp.mean(
        jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - clip, 1.0 + clip) * advantage)
    )


def returns(
    batch: Transition,
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    discount: float,
    gae_lambda: float,
) -> jax.Array:
    """Returns R = V + A by generalised advantage estimation.

    A is the sum of (gamma lambda)^k delta with delta = r + gamma (1 - termination) V(s') - V(s) and
    the true next state s'. The sum stops where an episode ends, for whatever reason. Brax's
    estimator drops a truncated step instead. Such a step is therefore passed to it as a
    termination whose reward includes gamma V(s').

    Args:
      batch: [L, E] transitions, of which truncation and termination are used.
      reward: float32[L, E].
      value: float32[L, E], V at the observation.
      next_value: float32[L, E], V at the true next observation.
      discount: gamma.
      gae_lambda: lambda.

    Returns:
      float32[L, E].
    """
    ended = jnp.maximum(batch.truncation, batch.termination)
    bootstrapped = reward + discount * batch.truncation * next_value
    return compute_gae(
        truncation=jnp.zeros_like(ended),
        termination=ended,
        rewards=bootstrapped,
        values=value,
        bootstrap_value=next_value[-1],
        lambda_=gae_lambda,
        discount=discount,
    )[0]

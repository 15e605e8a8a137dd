"""Behavioural cloning that tries by driving which parts of the past it should see.

    fit pi(a | s * m, m) on random masks m;  repeat: drive under masks drawn from p(m), regress the
    return on the mask, p(m_g = 1) = sigmoid(w_g / tau);  act with m_g = [w_g > 0]
                                    de Haan et al. 2019 (arXiv 1905.11979), algorithms 1 and 2

A mask hides groups of entries: each former frame, and the last action. The newest frame is always
seen. Interventions take environment steps and see the world's reward, which BC does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from envs.core import State as WorldState
from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.types import Spec, Task
from irl_bench.nets.policies import Policy, Weights, standardiser
from irl_bench.nets.supervised import Data, Kept, PolicyParams, draw, mean_in_use, optimiser
from irl_bench.rollouts.scan import observation_of, scan

EPISODES, STEPS = 32, 256
"""Episodes of a round of interventions, one mask each, and their length [steps]."""
TEMPERATURE = 0.02
"""tau, in units of the reward per step."""
RIDGE = 1.0
"""Added to the diagonal of the regression, in episodes."""


class Masked(struct.PyTreeNode):
    """A policy with the mask that it acts under."""

    policy: PolicyParams
    """The network's parameters."""
    mask: jax.Array
    """float32[G]: 1 for groups that are seen, else 0."""


class State(struct.PyTreeNode):
    """Everything that is kept between rounds."""

    weights: Weights
    """Of the policy after the last round."""
    opt_state: Any
    """Of the optimiser of `weights`."""
    best: Kept
    """The policy with the lowest held-out loss under random masks. This one drives and acts."""
    gram: jax.Array
    """float32[G + 1, G + 1]: sum over episodes of x x', with x = (m - 1/2, 1)."""
    moment: jax.Array
    """float32[G + 1]: sum over episodes of x times the mean reward."""
    round: jax.Array
    """int32[]: rounds done."""
    key: jax.Array
    """Of the rounds to come."""


def effects(gram: jax.Array, moment: jax.Array) -> jax.Array:
    """Returns by how much seeing each group raises the reward per step, float32[G]: the ridge
    regression of the reward on the mask."""
    size = len(moment)
    # The constant is not shrunk.
    ridge = RIDGE * jnp.diag(jnp.ones(size).at[-1].set(1e-6))
    return jnp.linalg.solve(gram + ridge, moment)[:-1]


def make(spec: Spec, config: Any, rows: Callable[[Task], tuple[Data, Data]]) -> Learner:
    """Returns the learner.

    Args:
      spec: of a world that shows the past.
      config: `bc.Config` with interventions.
      rows: the rows for training and the held-out rows, those of plain BC.
    """
    groups = spec.world.past
    size = len(groups)
    # seen[g, o]: whether group g holds entry o.
    member = np.zeros((size, spec.observation_size), np.float32)
    for row, group in zip(member, groups, strict=True):
        row[list(group)] = 1.0
    present = 1.0 - member.sum(0)
    policy = Policy(spec, config.hidden, config.first_scale, more=size)
    transform = optimiser(
        config.learning_rate, config.weight_decay, config.rounds * config.steps_per_round
    )

    def view(params: PolicyParams, observation: jax.Array, mask: jax.Array) -> jax.Array:
        """What the network sees of observations [..., O] under masks [..., G]."""
        return jnp.concatenate([params.inputs(observation) * (present + mask @ member), mask], -1)

    def some(key: jax.Array, count: int) -> jax.Array:
        """Random masks float32[count, G]."""
        return 1.0 * jax.random.bernoulli(key, 0.5, (count, size))

    def init(key: jax.Array, task: Task) -> State:
        key, weights_key = jax.random.split(key)
        training, _ = rows(task)
        inputs = standardiser(training.observation, training.mask, config.keep_constant)
        weights = policy.init(weights_key)
        best = Kept.start(PolicyParams(weights, inputs))
        zero = jnp.zeros((size + 1, size + 1))
        return State(weights, transform.init(weights), best, zero, zero[0], jnp.int32(0), key)

    def fit(state: State, task: Task, key: jax.Array) -> tuple[State, jax.Array, jax.Array]:
        """A round of gradient steps on random masks; also returns their mean loss, and the held-out
        one."""
        training, test = rows(task)
        params = state.best.policy
        upto = jnp.cumsum(training.mask)

        def loss(weights: Any, key: jax.Array) -> jax.Array:
            rows_key, mask_key = jax.random.split(key)
            chosen = draw(upto, rows_key, config.batch_size)
            x = view(params, training.observation[chosen], some(mask_key, config.batch_size))
            return jnp.mean(policy.loss(config.loss)(weights, x, training.action[chosen]))

        def step(i: jax.Array, carry: Any) -> Any:
            weights, opt_state, total = carry
            value, gradient = jax.value_and_grad(loss)(weights, jax.random.fold_in(key, i))
            updates, opt_state = transform.update(gradient, opt_state, weights)
            return jax.tree.map(jnp.add, weights, updates), opt_state, total + value

        weights, opt_state, total = jax.lax.fori_loop(
            0, config.steps_per_round, step, (state.weights, state.opt_state, jnp.zeros(()))
        )
        # All rounds are compared under the same masks.
        x = view(params, test.observation, some(jax.random.PRNGKey(0), len(test.mask)))
        values = policy.loss(config.loss)(weights, x, test.action)
        held_out = mean_in_use(values, test.mask)
        best = state.best.after(weights, held_out, config.patience)
        return (
            state.replace(weights=weights, opt_state=opt_state, best=best),
            total / config.steps_per_round,
            held_out,
        )

    def drive(params: PolicyParams, masks: jax.Array, dials: Any, key: jax.Array) -> jax.Array:
        """The mean reward of an episode under each mask float32[EPISODES, G]; float32[EPISODES]."""
        world = spec.world.bind(dials)

        def act(states: WorldState, memory: Any, x: Any) -> tuple[jax.Array, None]:
            return policy.mode(params.weights, view(params, observation_of(states), masks)), None

        def record(before: WorldState, after: WorldState, memory: Any, aside: None) -> Any:
            return after, None, after.reward

        start = jax.vmap(world.begin)(jax.random.split(key, EPISODES))
        _, reward = scan(world, act, record, start, jnp.arange(STEPS), worlds=True)
        return reward.mean(0)

    def update(state: State, task: Task) -> tuple[State, dict[str, jax.Array]]:
        key, fit_key, mask_key, drive_key = jax.random.split(state.key, 4)
        training = state.round < config.rounds
        # A loop of at most one pass: what is not done takes no time, for all seeds at once.
        nothing = state, jnp.zeros(()), jnp.zeros(())
        state, loss, held_out = jax.lax.fori_loop(
            0, jnp.where(training, 1, 0), lambda _, carry: fit(carry[0], task, fit_key), nothing
        )

        def intervene(_: jax.Array, sums: Any) -> Any:
            gram, moment, _ = sums
            share = jax.nn.sigmoid(effects(gram, moment) / TEMPERATURE)
            masks = 1.0 * (jax.random.uniform(mask_key, (EPISODES, size)) < share)
            reward = drive(state.best.policy, masks, task.dials, drive_key)
            x = jnp.concatenate([masks - 0.5, jnp.ones((EPISODES, 1))], 1)
            return gram + x.T @ x, moment + reward @ x, reward.mean()

        gram, moment, reward = jax.lax.fori_loop(
            0, jnp.where(training, 0, 1), intervene, (state.gram, state.moment, jnp.zeros(()))
        )
        found = effects(gram, moment)
        state = state.replace(gram=gram, moment=moment, round=state.round + 1, key=key)
        return state, {
            "loss": loss,
            "masked_held_out_loss": held_out,
            "best_masked_held_out_loss": state.best.loss,
            "intervention_reward": reward,
            **{f"effect_{g}": found[g] for g in range(size)},
        }

    def act(params: Masked, observation: jax.Array, key: jax.Array) -> jax.Array:
        del key
        return policy.mode(params.policy.weights, view(params.policy, observation, params.mask))

    def chosen(state: State) -> Masked:
        return Masked(state.best.policy, 1.0 * (effects(state.gram, state.moment) > 0.0))

    return Learner(
        init=init,
        update=update,
        policy=chosen,
        act=act,
        rounds=config.rounds + config.interventions,
        consumes=Consumes(
            expert_queries=spec.labels(), env_steps=config.interventions * EPISODES * STEPS
        ),
    )

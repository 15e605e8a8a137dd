"""PPO on a robot: the whole loop beside its bare rollout, beside Brax's own trainer, and beside
what the machine could do."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

import envs
from irl_bench.core.types import Spec, Task
from irl_bench.rl import ppo
from irl_bench.tools.timing import in_turn

SETTINGS = {
    "init": "random", "statistics": "running", "unroll": 20, "episode_steps": 1000,
    "epochs": 4, "minibatches": 32, "hidden": (64, 64), "value_hidden": (64, 64),
    "discount": 0.97, "learning_rate": 3e-4, "entropy": 1e-2, "rounds": 1000,
}  # fmt: skip
WORLDS, WORLDS_ACCELERATED = 256, 16_384
"""Worlds on a CPU and on an accelerator: with fewer its time goes into starting kernels."""
ROUNDS = 8
"""Rounds per timed call."""


def robots(env: str, counts: Sequence[int], steps: int, repeats: int) -> list[dict[str, Any]]:
    """Steps/s of PPO's loop, of its bare rollout and of Brax's `ppo.train` at equal settings;
    the limit by arithmetic."""
    del env, steps
    counts = counts or [WORLDS if jax.default_backend() == "cpu" else WORLDS_ACCELERATED]
    return [one(name, worlds, repeats) for name in ("hopper", "ant") for worlds in counts]


def one(env: str, worlds: int, repeats: int) -> dict[str, Any]:
    """The row of one robot on one device."""
    world = envs.make(env, backend="spring")
    config = ppo.Config(**SETTINGS, worlds=worlds)  # type: ignore[arg-type]
    inner = ppo.PPO(Spec(world, 1000, 1, 1), config)
    dials = jax.tree.map(jnp.float32, world.dials)
    state = jax.jit(lambda key: inner.init(key, Task(None, dials)))(jax.random.PRNGKey(0))  # type: ignore[arg-type]

    def rollout(state: ppo.State) -> Any:
        def step(_: jax.Array, carry: Any) -> Any:
            state, seen = carry
            state, batch = inner.collect(state, dials)
            return state, seen + jnp.sum(batch.observation) + jnp.sum(batch.reward)

        return jax.lax.fori_loop(0, ROUNDS, step, (state, jnp.zeros(())))

    def loop(state: ppo.State) -> Any:
        def step(_: jax.Array, state: ppo.State) -> ppo.State:
            state, batch = inner.collect(state, dials)
            return inner.improve(state, batch, batch.reward)[0]

        return jax.lax.fori_loop(0, ROUNDS, step, state)

    roll, train = jax.jit(rollout), jax.jit(loop)
    _, times = in_turn({"rollout": lambda: roll(state), "loop": lambda: train(state)}, repeats)
    taken = ROUNDS * inner.steps_per_round
    bare, whole = (float(np.median(times[name])) for name in ("rollout", "loop"))
    arithmetic = (
        ROUNDS * flops(world.observation_size, world.action_size, config) / matmul_rate(repeats)
    )  # type: ignore[arg-type]
    theirs = brax_rate(env, config, repeats)
    return {
        "robot": env,
        "worlds": config.worlds,
        "steps_per_round": inner.steps_per_round,
        "rollout_steps_per_s": taken / bare,
        "loop_steps_per_s": taken / whole,
        "brax_steps_per_s": theirs,
        "ratio_to_brax": taken / whole / theirs,
        "limit_steps_per_s": taken / (bare + arithmetic),
        "ratio_to_limit": (bare + arithmetic) / whole,
    }


def flops(observation: int, action: int, config: ppo.Config) -> float:
    """Multiplications and additions of the networks' matrices in the updates of one round:
    forward once, backward twice."""

    def matrices(hidden: tuple[int, ...], last: int) -> int:
        widths = (observation, *hidden, last)
        return sum(a * b for a, b in itertools.pairwise(widths))

    policy, value = matrices(config.hidden, action), matrices(config.value_hidden, 1)
    rows = config.worlds * config.unroll
    return 2.0 * rows * (3 * config.epochs * (policy + value) + 2 * value)


def matmul_rate(repeats: int, size: int = 512) -> float:
    """Floating-point operations per second of products of two square matrices."""

    @jax.jit
    def product(a: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 20, lambda _, x: (x @ a) / size, a)

    a = jnp.ones((size, size))
    _, times = in_turn({"product": lambda: product(a)}, repeats)
    return 20 * 2.0 * size**3 / float(np.median(times["product"]))


def brax_rate(env: str, config: ppo.Config, epochs: int) -> float:
    """Steps/s of Brax's `ppo.train` at these settings, the median of `epochs` after the first,
    its evaluations left out."""
    from brax import envs as brax_envs
    from brax.training.agents.ppo import networks, train

    found: list[float] = []

    def progress(_: int, metrics: dict[str, Any]) -> None:
        if "training/sps" in metrics:
            found.append(float(metrics["training/sps"]))

    # JAX removed the call by which Brax 0.14.2 copies its state to every device.
    def replicated(tree: Any, devices: Sequence[Any]) -> Any:
        return jax.device_put(jax.tree.map(lambda x: jnp.stack([x] * len(devices)), tree))

    per_call = config.worlds * config.unroll
    world = brax_envs.get_environment(env, backend="spring")
    with mock.patch.object(jax, "device_put_replicated", replicated, create=True):
        train.train(
            environment=world,
            num_timesteps=per_call * ROUNDS * (epochs + 1),
            max_devices_per_host=1,
            num_envs=config.worlds,
            episode_length=config.episode_steps,
            unroll_length=config.unroll,
            batch_size=config.worlds // config.minibatches,
            num_minibatches=config.minibatches,
            num_updates_per_batch=config.epochs,
            learning_rate=config.learning_rate,
            entropy_cost=config.entropy,
            discounting=config.discount,
            normalize_observations=True,
            max_grad_norm=config.max_grad_norm,
            network_factory=functools.partial(
                networks.make_ppo_networks,
                policy_hidden_layer_sizes=config.hidden,
                value_hidden_layer_sizes=config.value_hidden,
            ),
            num_evals=epochs + 2,
            run_evals=False,
            use_pmap_on_reset=False,
            progress_fn=progress,
        )
    return float(np.median(found[1:]))

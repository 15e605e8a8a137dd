"""Measures PPO on robots: the whole loop against its rollout alone, against Brax's own trainer, and
against the limit that the machine's arithmetic sets."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

import envs
from irl_bench.core.types import Spec, Task
from irl_bench.rl import ppo
from irl_bench.tools.timing import seconds

SETTINGS = {
    "statistics": "running", "unroll": 20, "episode_steps": 1000,
    "epochs": 4, "minibatches": 32, "hidden": (64, 64), "value_hidden": (64, 64),
    "discount": 0.97, "learning_rate": 3e-4, "entropy": 1e-2, "rounds": 1000,
}  # fmt: skip
"""Settings of PPO, the same for both trainers."""
WORLDS, WORLDS_ACCELERATED = 256, 16_384
"""Default numbers of worlds on a CPU and on an accelerator. With fewer worlds an accelerator spends
its time on starting kernels."""
ROUNDS = 8
"""Number of rounds per timed call."""
SIZE, TIMES = 512, 20
"""Rows of the square matrices whose products tell how fast the machine computes, and how many
products a call takes."""
PRODUCTS = TIMES * 2.0 * SIZE**3
"""Multiplications and additions of such a call."""


def robots(env: str, counts: Sequence[int], steps: int, repeats: int) -> list[dict[str, Any]]:
    """Returns a row of `robot_speed` for hopper and ant at each number of worlds; `env` and `steps`
    are not used."""
    del env, steps
    counts = counts or [WORLDS if jax.default_backend() == "cpu" else WORLDS_ACCELERATED]
    return [robot_speed(name, worlds, repeats) for name in ("hopper", "ant") for worlds in counts]


def robot_speed(env: str, worlds: int, repeats: int) -> dict[str, Any]:
    """Compares PPO's loop with its rollout alone and with Brax's `ppo.train` on one device.

    Args:
      env: one of Brax's robots.
      worlds: number of worlds.
      repeats: number of timed calls.

    Returns:
      A row with steps/s, medians over turns, and their ratios, medians of the turns' own. A turn
      is an epoch of Brax's trainer, a rollout, a loop, and a product of matrices.
    """
    world = envs.make(env, backend="spring")
    config = ppo.TrainingConfig(**cast(Any, SETTINGS), worlds=worlds)
    inner = ppo.PPO(Spec(world, 1000, 1, 1), config, init="random")
    dials = jax.tree.map(jnp.float32, world.dials)
    task = Task(cast(Any, None), dials)  # no demonstrations, as nothing is imitated
    state = jax.jit(lambda key: inner.init(key, task))(jax.random.PRNGKey(0))

    def rollout(state: ppo.State) -> Any:
        def step(_: jax.Array, carry: Any) -> Any:
            state, total = carry
            state, batch = inner.collect(state, dials)
            return state, total + jnp.sum(batch.observation) + jnp.sum(batch.reward)

        return jax.lax.fori_loop(0, ROUNDS, step, (state, jnp.zeros(())))

    def loop(state: ppo.State) -> Any:
        def step(_: jax.Array, state: ppo.State) -> ppo.State:
            state, batch = inner.collect(state, dials)
            return inner.improve(state, batch, batch.reward)[0]

        return jax.lax.fori_loop(0, ROUNDS, step, state)

    roll, train, multiply = jax.jit(rollout), jax.jit(loop), products()
    calls = {"rollout": lambda: roll(state), "loop": lambda: train(state), "products": multiply}
    taken: dict[str, list[float]] = {name: [] for name in calls}

    def ours() -> None:
        for name, call in calls.items():
            taken[name] += seconds(call, 1)

    theirs = brax_rates(env, config, repeats + 1, ours)[1:]  # the first turn compiles
    bare, whole, product = (np.array(taken[name][1:]) for name in calls)
    steps = ROUNDS * inner.steps_per_round
    work = ROUNDS * flops(world.observation_size, world.action_size, config)
    limit = bare + work * product / PRODUCTS
    median = lambda values: float(np.median(values))
    return {
        "robot": env,
        "worlds": config.worlds,
        "steps_per_round": inner.steps_per_round,
        "rollout_steps_per_s": steps / median(bare),
        "loop_steps_per_s": steps / median(whole),
        "brax_steps_per_s": median(theirs),
        "ratio_to_brax": median(steps / whole / theirs),
        "limit_steps_per_s": steps / median(limit),
        "ratio_to_limit": median(limit / whole),
    }


def flops(observation: int, action: int, config: ppo.TrainingConfig) -> float:
    """Returns the number of multiplications and additions in the networks' matrix products of one
    round's updates; a backward pass counts as two forward passes.

    Args:
      observation, action: sizes of an observation and an action.
      config: sizes of networks and rollout.
    """

    def matrices(hidden: tuple[int, ...], last: int) -> int:
        widths = (observation, *hidden, last)
        return sum(a * b for a, b in itertools.pairwise(widths))

    policy, value = matrices(config.hidden, action), matrices(config.value_hidden, 1)
    rows = config.worlds * config.unroll
    return 2.0 * rows * (3 * config.epochs * (policy + value) + 2 * value)


def products() -> Callable[[], jax.Array]:
    """Returns a call of `PRODUCTS` multiplications and additions, in products of matrices."""

    @jax.jit
    def product(a: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, TIMES, lambda _, x: (x @ a) / SIZE, a)

    a = jnp.ones((SIZE, SIZE))
    return lambda: product(a)


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Sets an attribute for the duration of a block, and restores or removes it afterwards."""
    attributes = vars(owner)  # unlike getattr, this does not trigger warnings of a module
    existed, before = name in attributes, attributes.get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if existed:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def brax_rates(
    env: str, config: ppo.TrainingConfig, epochs: int, after: Callable[[], None]
) -> np.ndarray:
    """Returns steps/s of Brax's `ppo.train` at the same settings, without its evaluations, of each
    epoch; float[epochs]. `after` is called after each epoch, and its time does not count."""
    from brax import envs as brax_envs
    from brax.training.agents.ppo import networks, train

    rates: list[float] = []

    def progress(_: int, metrics: Mapping[str, Any]) -> None:
        if "training/sps" in metrics:
            rates.append(float(metrics["training/sps"]))
            after()

    # Brax 0.14.2 copies its state to every device by a function that JAX has removed.
    def replicated(tree: Any, devices: Sequence[Any]) -> Any:
        return jax.device_put(jax.tree.map(lambda x: jnp.stack([x] * len(devices)), tree))

    per_call = config.worlds * config.unroll
    world = brax_envs.get_environment(env, backend="spring")
    with replaced(jax, "device_put_replicated", replicated):
        train.train(
            environment=world,
            num_timesteps=per_call * ROUNDS * epochs,
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
            num_evals=epochs + 1,
            run_evals=False,
            use_pmap_on_reset=False,
            progress_fn=progress,
        )
    return np.array(rates)

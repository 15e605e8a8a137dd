"""A two-state world with a closed-form cost and learners of a few parameters: the fixtures of
the frame's tests."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from envs.core import State, World, dial
from irl_bench.core.cell import CellSpec
from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.types import Spec, Task

ROUNDS = 12
BAD_SEED, BAD_METRIC_ROUND, BAD_PARAMS_ROUND = 1, 5, 7


@struct.dataclass
class Dials:
    slip: float = dial(0.1, "chance of leaving the road whatever is done", low=0.0, high=1.0)
    back: float = dial(0.0, "chance of coming back", low=0.0, high=1.0)


def _uniform(word: jax.Array) -> jax.Array:
    """[0, 1) from a uint32 by a mixing hash (MurmurHash3's finaliser): compiles in no time,
    unlike Threefry."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        word = (word ^ (word >> shift)) * jnp.uint32(factor)
    return ((word ^ (word >> 16)) >> 8).astype(jnp.float32) / 2**24


class TwoState(World):
    """On or off the road. Action 1, or a slip, leaves it; `back` is the chance per step of
    coming back. The expert does 0."""

    name = "two_state"
    modes = {"nominal": {}, "recoverable": {"back": 0.5}}  # noqa: RUF012 as in `World`
    horizon = 16
    n_actions = 2

    def __init__(self):
        self.dials = Dials()

    @property
    def observation_size(self) -> int:
        return 3

    @property
    def action_size(self) -> int:
        return 1

    def _state(self, off: jax.Array, word: jax.Array) -> State:
        obs = jnp.stack([off, _uniform(word + 1) - 0.5, _uniform(word + 2) - 0.5])
        zero = jnp.float32(0)
        return State(word, obs, zero, zero, {"cost": off, "graded_cost": 0.5 * off})

    def reset(self, rng: jax.Array) -> State:
        return self._state(jnp.float32(0), rng[0] ^ (rng[1] << 7))

    def step(self, state: State, action: jax.Array) -> State:
        word = state.pipeline_state + jnp.uint32(0x9E3779B9)
        chance = _uniform(word)
        leaves = (action == 1) | (chance < self.dials.slip)
        off = jnp.where(state.metrics["cost"] == 1, chance >= self.dials.back, leaves).astype(
            jnp.float32
        )
        return self._state(off, word)

    def expert(self, state: State, key: jax.Array) -> jax.Array:
        del state, key
        return jnp.int32(0)


def closed_form(horizon: int, slip: float, back: float) -> np.ndarray:
    """float[horizon]: J(T) of the expert, the expected number of off states among those after
    steps 1..T."""
    k, steps = slip + back, np.arange(1, horizon + 1)
    return np.cumsum(slip / k * (1 - (1 - k) ** steps))


def _act(params: jax.Array, observation: jax.Array, key: jax.Array) -> jax.Array:
    del key
    return (observation @ params > 0).astype(jnp.int32)


def _maker(rounds: int = ROUNDS, fails: bool = False) -> Callable[[Spec, object], Learner]:
    """Noisy logistic regression. With `fails`, the loss of BAD_SEED turns NaN and later the
    params of the seed after it."""

    def make(spec: Spec, config: object) -> Learner:
        del config

        def init(key: jax.Array, task: Task) -> dict:
            del task

            def of(seed: int) -> jax.Array:
                # Seeds are known to a learner by their random numbers alone.
                return jax.random.fold_in(jax.random.fold_in(jax.random.PRNGKey(0), seed), 1)

            return {
                "weights": jax.random.uniform(key, (3,)),
                "square": (jnp.arange(1024.0).reshape(32, 32) % 7 - 3) / 20,
                "round": jnp.int32(0),
                "key": key,
                "marks": jnp.stack(
                    [jnp.all(key == of(BAD_SEED)), jnp.all(key == of(BAD_SEED + 1))]
                ),
                "nothing": jnp.zeros((0, 2)),
            }

        def loss(weights: jax.Array, task: Task) -> jax.Array:
            demos = task.demonstrations
            logit = demos.observation @ weights
            return jnp.mean(
                demos.mask * jnp.logaddexp(0.0, jnp.where(demos.action == 1, -logit, logit))
            )

        def update(state: dict, task: Task) -> tuple[dict, dict[str, jax.Array]]:
            round_, key = (
                state["round"] + 1,
                state["key"] * jnp.uint32(1664525) + jnp.uint32(1013904223),
            )
            value, gradient = jax.value_and_grad(loss)(state["weights"], task)
            # A matrix product in each round: where a rounding error that depends on the schedule
            # would show.
            square = jnp.tanh(
                state["square"] @ state["square"] + task.dials.slip + 0.1 * state["weights"][0]
            )
            weights = state["weights"] - 0.1 * gradient + 0.05 * (_uniform(key[0]) - 0.5)
            if fails:
                value = jnp.where(state["marks"][0] & (round_ >= BAD_METRIC_ROUND), jnp.nan, value)
                weights = jnp.where(
                    state["marks"][1] & (round_ >= BAD_PARAMS_ROUND), jnp.inf, weights
                )
            metrics = {
                "loss": value,
                "square": square.mean(),
                "departures": (weights[0] > 0).astype(jnp.float32),
            }
            return {
                **state,
                "weights": weights,
                "square": square,
                "round": round_,
                "key": key,
            }, metrics

        consumes = Consumes(expert_queries=spec.demos * spec.demo_steps, interactive=True)
        return Learner(
            init=init,
            update=update,
            policy=lambda state: state["weights"],
            act=_act,
            rounds=rounds,
            consumes=consumes,
        )

    return make


make = _maker()
make_long = _maker(rounds=4000)
make_failing = _maker(fails=True)


class Known(TwoState):
    """The same world, which knows the cost of policies that play one action everywhere."""

    name = "known"

    def expected_cost(self, policy: Callable[[jax.Array], jax.Array], horizon: int) -> jax.Array:
        slip = jnp.where(policy(jnp.zeros(3)) == 1, 1.0, self.dials.slip)
        k = slip + self.dials.back
        return jnp.cumsum(slip / k * (1 - (1 - k) ** jnp.arange(1, horizon + 1)))


def stay(observation: jax.Array, key: jax.Array) -> jax.Array:
    """A policy that does what the expert does."""
    del observation, key
    return jnp.int32(0)


def draw(observation: jax.Array, key: jax.Array) -> jax.Array:
    """A policy that tosses a coin."""
    del observation
    return (key[1] & 1).astype(jnp.int32)


def make_expert(spec: Spec, config: object) -> Learner:
    """The world's own expert: nothing to learn and no state."""
    del spec, config
    return Learner(
        init=lambda key, task: (),
        update=lambda state, task: (state, {}),
        policy=lambda state: (),
        act=None,
        rounds=0,
        consumes=Consumes(),
    )


def make_slow_to_compile(spec: Spec, config: object) -> Learner:
    """Takes minutes to compile."""
    plain = make(spec, config)

    def update(state: dict, task: Task) -> tuple[dict, dict[str, jax.Array]]:
        square = state["square"]
        for index in range(3000):
            square = jnp.sort(jnp.tanh(square @ square + index), axis=index % 2)
        return plain.update({**state, "square": square}, task)

    return Learner(
        init=plain.init,
        update=update,
        policy=plain.policy,
        act=plain.act,
        rounds=plain.rounds,
        consumes=plain.consumes,
    )


def cell(**changes: object) -> CellSpec:
    """A small cell of the toys."""
    fields = {
        "algo": "tests.worlds.toys:make",
        "env": "tests.worlds.toys:TwoState",
        "mode": "nominal",
        "horizon": 16,
        "demos": 4,
        "demo_steps": 8,
        "episodes": 32,
        "block": 8,
        "eps_episodes": 16,
        "eps_steps": 8,
        "eval_every": 5,
        "first_seed": 0,
        "width": 3,
    }
    return CellSpec(**{**fields, **changes})

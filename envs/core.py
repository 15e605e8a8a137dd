"""The base class of all worlds: a Brax environment with dials, costs and an expert.

A world is an ordinary Brax environment, `reset(key) -> State` and `step(state, action) -> State`,
with

* `state.metrics["cost"]`: 1.0 if the state just reached is a failure, else 0.0. It is 0.0 after
  `reset`. After an action or in a state that is not finite, cost, graded cost and reward are NaN,
  so that broken numbers never count as success;
* `state.metrics["graded_cost"]`: the same loss in [0, 1], with intermediate values;
* `expert(state, key)`: the demonstrator's action at *any* state; it runs inside jit;
* `dials`: a frozen dataclass of scalars. Dials are data: `world.bind(dials)` inside jit changes
  them without recompiling.

A failure never ends an episode. The cost is paid until the horizon or until the world recovers, so
a cost curve has no survivorship bias.
"""

from __future__ import annotations

import abc
import contextlib
import copy
import dataclasses
import io
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import struct

# MuJoCo prints that its optional part `warp` is not installed.
with contextlib.redirect_stdout(io.StringIO()):
    from brax import envs as brax_envs
    from brax import math as brax_math
    from brax.envs.base import Env, State

from envs.parts import Step, in_parts

__all__ = ["State", "World", "brax_envs", "brax_math", "dial", "dial_fields", "soundness"]


def dial(
    default: float,
    help: str,
    *,
    unit: str = "1",
    low: float = float("-inf"),
    high: float = float("inf"),
    whole: bool = False,
) -> Any:
    """Declares a dial: a field of a world's `flax.struct.dataclass` of dials.

    Args:
      default: its value unless a flag, a mode or `World.bind` changes it.
      help: its meaning, in a few words.
      unit: its unit; "1" for a number without one.
      low, high: its closed range.
      whole: whether it counts something, so that only whole numbers are valid.

    Returns:
      A dataclass field whose metadata hold help, unit, low, high and whole.
    """
    return struct.field(
        pytree_node=True,
        default=default,
        metadata={"help": help, "unit": unit, "low": low, "high": high, "whole": whole},
    )


def dial_fields(dials: Any) -> dict[str, dataclasses.Field]:
    """Returns the fields of a world's dials by name; `field.metadata` holds help, unit, low and
    high."""
    return {f.name: f for f in dataclasses.fields(dials)}


def soundness(*arrays: jax.Array) -> jax.Array:
    """Returns float32[]: 0 if every number in the arrays is finite, else NaN.

    A world adds it to its costs. Without it, broken physics and NaN actions would count as success,
    because comparisons with NaN are false.
    """
    finite = jnp.stack([jnp.isfinite(array).all() for array in arrays]).all()
    return jnp.where(finite, 0.0, jnp.nan)


class World(Env):
    """A Brax environment with dials, costs and an expert.

    Attributes:
      name: as in the registry; letters, digits, dot, underscore and hyphen.
      dials: a frozen `flax.struct.dataclass`; every leaf is a scalar.
      modes: named sets of changed dials that a sweep compares; the first one changes nothing.
      horizon: T_max [steps], the longest horizon that the world is meant for.
      n_actions: number of actions of a discrete world; None in a continuous one. A discrete action
        is an int32 scalar, a continuous one is float32[action_size] in [-1, 1].
      recovery_steps: u, the steps within which the expert undoes a failure in at least 99 % of
        cases; None if it cannot.
      latency: L, the steps from a wrong action to the failure that it causes.
      options: {name: valid values, the default first} of choices that are fixed when a world is
        made, such as a backend; the constructor takes them by name.
      files: {option: ending} of options that also take the path of a file with that ending, such
        as ".csv"; the file's hash belongs into `source`.
      chosen: the options in use.
      fixed: {dial: why it cannot be changed}, of dials that an option settles.
      source: {file name: SHA-256} of the files that determine the world's numbers, such as a
        demonstrator's weights.
      burn_in: steps that the expert acts before an episode begins (`begin`); 0: none.
      at_once: how many worlds a CPU steps at once (`envs.parts`); 0: all of them.
      failure_flags: indices of the observation's entries that show a failure directly, which are
        constant as long as none happens. Learned rewards do not see them by default, because they
        would learn nothing but the flag.
      velocities: indices of the observation's entries that are velocities, which the option
        `velocities=hidden` of `envs.history` takes out.
      past: groups of indices of the entries that tell of the past: one group for each former frame,
        and one for the last action (`envs.history`).
      last_action: indices of the entries that show the last action.
    """

    name: str
    dials: Any
    modes: Mapping[str, Mapping[str, float]] = {"nominal": {}}
    horizon: int
    n_actions: int | None = None
    recovery_steps: int | None = None
    latency: int = 1
    burn_in: int = 0
    at_once: int = 0
    failure_flags: tuple[int, ...] = ()
    velocities: tuple[int, ...] = ()
    past: tuple[tuple[int, ...], ...] = ()
    last_action: tuple[int, ...] = ()
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    files: ClassVar[Mapping[str, str]] = {}
    chosen: Mapping[str, str] = {}
    fixed: Mapping[str, str] = {}
    source: Mapping[str, str] = {}
    _once: Mapping[str, Callable[..., State]] = {}

    @property
    def has_expert(self) -> bool:
        """Whether `expert` returns actions."""
        return True

    @property
    def backend(self) -> str:
        """Name of the physics: one of Brax's backends, or "irl_bench" for a world's own."""
        return "irl_bench"

    @property
    @abc.abstractmethod
    def observation_size(self) -> int:
        """O, number of entries of an observation, which is one flat vector."""

    def bind(self, dials: Any) -> World:
        """Returns a copy of this world with other dials; cheap, and allowed inside jit."""
        bound = copy.copy(self)
        bound.dials = dials
        return bound

    def with_burn_in(self, burn_in: int) -> World:
        """Returns a copy of this world whose episodes begin after `burn_in` steps of its expert."""
        later = copy.copy(self)
        later.burn_in, later._once = burn_in, {}
        return later

    def traced_once(self) -> World:
        """Returns a copy of this world whose `begin` and `advance` JAX traces once, however many
        functions call them and whatever its dials. They compute the same.

        Tracing a robot's step takes seconds, and a learner's functions hold several.
        """
        once = copy.copy(self)
        once._once = {
            "begin": jax.jit(lambda dials, rng: self.bind(dials).begin(rng), inline=True),
            "advance": self._traced_step(),
        }
        return once

    def advance(self, state: State, action: jax.Array) -> State:
        """Returns what `step` returns."""
        if self._once:
            return self._once["advance"](self.dials, state, action)
        if self._partly:
            return self._traced_step()(self.dials, state, action)
        return self.step(state, action)

    @property
    def _partly(self) -> bool:
        return self.at_once > 0 and jax.default_backend() == "cpu"

    def _traced_step(self) -> Step:
        """(dials, state, action) -> the next state, in parts if need be; traced once."""

        def step(dials: Any, state: State, action: jax.Array) -> State:
            return self.bind(dials).step(state, action)

        return in_parts(step, self.at_once) if self._partly else jax.jit(step, inline=True)

    def begin(self, rng: jax.Array) -> State:
        """Returns the state at t = 0 of an episode: that of `reset`, or where the expert is after
        `burn_in` steps.

        A robot starts at rest and then runs, so its hazard depends on t. After a burn-in it does
        not. An episode whose expert has failed by then begins at `reset` instead.

        Args:
          rng: uint32[2], consumed.
        """
        if self._once:
            return self._once["begin"](self.dials, rng)
        if not self.burn_in:
            return self.reset(rng)
        reset_key, key = jax.random.split(rng)
        fresh = self.reset(reset_key)

        def step(t: jax.Array, state: State) -> State:
            return self.advance(state, self.expert(state, jax.random.fold_in(key, t)))

        later = jax.lax.fori_loop(0, self.burn_in, step, fresh)
        failed = ~(later.metrics["cost"] == 0.0)  # NaN has failed too
        return jax.tree.map(lambda a, b: jnp.where(failed, a, b), fresh, later)

    def dials_for(self, mode: str) -> Any:
        """Returns the dials of a mode as float32 scalars, to be passed to a jitted function.

        Raises:
          KeyError: the world has no such mode.
        """
        changed = self.dials.replace(**self.modes[mode])
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), changed)

    def expert(self, state: State, key: jax.Array) -> jax.Array:
        """Returns the demonstrator's action at `state`.

        Args:
          state: any state of the world, also one that the demonstrator never reaches.
          key: consumed by a demonstrator that draws its actions.

        Returns:
          int32[] in a discrete world, else float32[action_size].

        Raises:
          NotImplementedError: the world has no expert.
        """
        raise NotImplementedError(f"{type(self).__name__} has no expert")

    def random_action(self, key: jax.Array) -> jax.Array:
        """Returns a uniformly random action: int32[] in a discrete world, else
        float32[action_size].

        Args:
          key: uint32[2], consumed.
        """
        if self.n_actions is not None:
            return jax.random.randint(key, (), 0, self.n_actions, jnp.int32)
        return jax.random.uniform(key, (self.action_size,), minval=-1.0, maxval=1.0)

    @property
    def expert_reads_observations(self) -> bool:
        """Whether the expert is a function of the observation alone, `expert_at`."""
        return False

    def expert_at(self, observation: jax.Array) -> jax.Array:
        """Returns the expert's action as a function of the observation, which can be
        differentiated.

        Args:
          observation: float32[O].

        Returns:
          float32[action_size].

        Raises:
          NotImplementedError: the expert needs more than the observation.
        """
        raise NotImplementedError(f"the expert of {type(self).__name__} reads the state")

    def probe(self) -> dict[str, Any] | None:
        """Returns a grid of states over two quantities, on which reports show learned rewards.

        Returns:
          None in a world without such a grid, else a dictionary with
          observation: float32[P, O], row by row of y;
          x, y: float[P], the two quantities;
          x_name, y_name: their names, with units;
          cost: float[P], the graded cost of each state.
        """
        return None

    def picture(self, state: State) -> dict[str, jax.Array] | None:
        """Returns the quantities from which a state is drawn; runs inside jit.

        Returns:
          None in a world that is not drawn, else a dictionary with either
          road: float32[3 + K], the car's arc length [m], lateral offset [m] and heading error
            [rad], then the curvatures [1/m] at the knots of a closed road; or
          track: float32[4 + 5 n], the car's x [m], y [m] and heading [rad] and the heading of the
            track beside it [rad], then x, y, heading and the distances to the left and the right
            edge [m] of n points of the track around the car; with traffic also
          marks: float32[K], distances of lane marks to the left of those points [m], and
          cars: float32[N, 3], x [m], y [m] and heading [rad] of the other cars; or
          bodies: float32[B, 2], forward position and height [m] of a robot's parts, and
          parents: int32[B], the part that each one is attached to, -1 for none.
        """
        del state
        return None

    def whereabouts(self, state: State) -> dict[str, jax.Array] | None:
        """Returns two numbers that tell where a state is, for charts of where failures begin; runs
        inside jit.

        Returns:
          {name with its unit, such as "lateral offset [m]": float32[]}, for the horizontal axis and
          the vertical one; None in a world without such a chart.
        """
        del state
        return None

    def expected_cost(
        self, policy: Callable[[jax.Array], jax.Array], horizon: int
    ) -> jax.Array | None:
        """Returns J(T), the expected cumulative cost of a policy, in closed form.

        Args:
          policy: observation -> action, deterministic; called inside jit.
          horizon: the longest T [steps].

        Returns:
          float32[horizon], J(T) for T = 1..horizon under the bound dials; None in a world without
          a closed form.
        """
        del policy, horizon
        return None

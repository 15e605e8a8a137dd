"""What every world here adds to `brax.envs.Env`: dials, costs and an expert that can be asked
anywhere.

A world is an ordinary Brax environment, `reset(key) -> State` and `step(state, action) -> State`,
with

* `state.metrics["cost"]`: 1.0 if the state just reached is a failure, else 0.0 (0.0 after `reset`);
  NaN, as are the other cost and the reward, after an action or in a state that is not finite, since
  a failure of numbers must not pass for success;
* `state.metrics["graded_cost"]`: the same loss in [0, 1] with intermediate values;
* `expert(state, key)`: the demonstrator's action at *any* state, inside jit;
* `dials`: a frozen dataclass of scalars. They are data: `world.bind(dials)` inside jit swaps them
  without recompiling.

Failure never ends an episode. It is absorbed or recovered from until the horizon, so a cost curve
has no survivors' bias.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import struct

with contextlib.redirect_stdout(
    io.StringIO()
):  # Brax's MuJoCo prints that its optional part `warp` is not installed
    from brax import envs as brax_envs
    from brax import math as brax_math
    from brax.envs.base import Env, State

__all__ = ["State", "World", "brax_envs", "brax_math", "dial", "dial_fields", "soundness"]


def dial(
    default: float,
    help: str,
    *,
    unit: str = "1",
    low: float = float("-inf"),
    high: float = float("inf"),
) -> Any:
    """A dial's default, what it means, its unit and its closed range [low, high]."""
    return struct.field(
        pytree_node=True,
        default=default,
        metadata={"help": help, "unit": unit, "low": low, "high": high},
    )


def dial_fields(dials: Any) -> dict[str, dataclasses.Field]:
    """The dials of a world by name; `field.metadata` holds help, unit, low and high."""
    return {f.name: f for f in dataclasses.fields(dials)}


def soundness(*arrays: jax.Array) -> jax.Array:
    """float32[]: 0 if every number in the arrays is finite, else NaN. Added to a cost it marks
    what cannot be judged: comparisons with NaN are false, so broken physics and NaN actions
    would pass for success."""
    finite = jnp.stack([jnp.isfinite(array).all() for array in arrays]).all()
    return jnp.where(finite, 0.0, jnp.nan)


class World(Env):
    """A Brax environment with dials, costs and an expert.

    Attributes:
      name: as in the registry; letters, digits, dot, underscore and hyphen.
      dials: the world's frozen dataclass of dials (`flax.struct.dataclass`), every leaf a scalar.
      modes: named changes of dials that the sweep runs side by side; the first is the world as it
        is.
      horizon: T_max [steps], the longest horizon the world is meant for.
      n_actions: number of actions of a discrete world, None for a continuous one. A discrete action
        is an int32 scalar, a continuous one float32[action_size] in [-1, 1].
      recovery_steps: u, the steps within which the expert undoes a failure in at least 99 % of
        cases (None: it cannot).
      latency: L, the steps from a wrong action to the failure it causes.
      options: {name: valid values, the default first} of what is chosen when a world is made and
        cannot be turned later, such as a backend; its constructor takes them by name.
      chosen: the options in use.
      source: {file name: SHA-256} of files that determine the world's numbers, such as a
        demonstrator's weights.
      failure_flags: entries of the observation that tell of a failure as such; demonstrations hold
        them constant. Reward learners are kept from reading them unless told otherwise: they would
        only learn the flag.
    """

    name: str
    dials: Any
    modes: Mapping[str, Mapping[str, float]] = {"nominal": {}}
    horizon: int
    n_actions: int | None = None
    recovery_steps: int | None = None
    latency: int = 1
    failure_flags: tuple[int, ...] = ()
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    chosen: Mapping[str, str] = {}
    source: Mapping[str, str] = {}

    @property
    def has_expert(self) -> bool:
        """Whether `expert` can be asked."""
        return True

    @property
    def backend(self) -> str:
        return "irl_bench"

    def bind(self, dials: Any) -> World:
        """This world with other dials; cheap, and legal inside jit."""
        bound = copy.copy(self)
        bound.dials = dials
        return bound

    def dials_for(self, mode: str) -> Any:
        """The dials of a mode as float32 leaves, ready to be passed to a jitted function."""
        changed = self.dials.replace(**self.modes[mode])
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), changed)

    def expert(self, state: State, key: jax.Array) -> jax.Array:
        """The demonstrator's action at `state`: int32[] for a discrete world,
        float32[action_size] otherwise."""
        raise NotImplementedError(f"{type(self).__name__} has no expert")

    def probe(self) -> dict[str, Any] | None:
        """States in which a learned reward is looked at, on a grid of two quantities; None in a
        world without.

        Returns:
          observation: float32[P, O], row by row of y.
          x, y: float32[P], the two quantities, and x_name, y_name: what they are, with units.
          cost: float32[P], the graded cost there.
        """
        return None

    def picture(self, state: State) -> dict[str, jax.Array] | None:
        """What has to be known to draw a state for people; None in a world that is not drawn.

        Returns:
          road: float32[3 + K], a car's arc length [m], lateral offset [m] and heading error [rad],
            and the curvatures [1/m] at the knots of a closed road; or
          bodies: float32[B, 2], forward place and height [m] of a robot's parts, and
          parents: int32[B], the part that each hangs on, -1 for none.
        """
        del state
        return None

    def expected_cost(
        self, policy: Callable[[jax.Array], jax.Array], horizon: int
    ) -> jax.Array | None:
        """J(T) for T = 1..horizon in closed form, float32[horizon]; None in a world that has none.

        Args:
          policy: observation -> action, deterministic. Called inside jit; the bound dials apply.
          horizon: the longest T.
        """
        del policy, horizon
        return None

"""The training worlds of one learner, spread over several devices.

Each of D devices steps E / D of the E worlds and computes gradients on their rows. Means over all
rows are means over devices of each device's mean, because all hold equally many. So every device
takes the same steps, and the copies of the weights stay equal bit by bit. With one device every
function here is the plain one.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp

AXIS = "worlds"
"""Name of the axis of devices inside `shard_map`."""

_Tree = TypeVar("_Tree")
_LAX = cast("Any", jax.lax)
"""`jax.lax` where its own annotations leave a type open."""


@dataclasses.dataclass(frozen=True)
class Spread:
    """How many devices share the training worlds of a learner.

    With more than one, the methods work where the axis AXIS is bound.
    """

    devices: int = 1
    """D; 1: the worlds are not spread."""

    @property
    def axis(self) -> str | None:
        """AXIS; None if the worlds are not spread."""
        return AXIS if self.devices > 1 else None

    def share(self, count: int) -> int:
        """Each device's share of `count` worlds or rows; `count` is a multiple of D."""
        return count // self.devices

    def own(self, key: jax.Array) -> jax.Array:
        """A key of this device's own, from a key that all devices have."""
        return key if self.axis is None else jax.random.fold_in(key, _LAX.axis_index(self.axis))

    def average(self, tree: _Tree) -> _Tree:
        """The mean over devices of each leaf, the same on all of them."""
        return tree if self.axis is None else _LAX.pmean(tree, self.axis)

    def mean(self, x: jax.Array) -> jax.Array:
        """The mean over all devices' entries of x, float32[]."""
        return self.average(jnp.mean(x))

    def var(self, x: jax.Array) -> jax.Array:
        """The variance of all devices' entries of x, float32[]."""
        if self.axis is None:
            return jnp.var(x)
        return self.mean(jnp.square(x - self.mean(x)))

    def std(self, x: jax.Array) -> jax.Array:
        """The standard deviation of all devices' entries of x, float32[]."""
        return jnp.std(x) if self.axis is None else jnp.sqrt(self.var(x))

    def gather(self, tree: _Tree) -> _Tree:
        """All devices' entries: leaves [L, E / D, ...] as [L, E, ...], the same on all devices."""
        if self.axis is None:
            return tree
        return _LAX.all_gather(tree, self.axis, axis=1, tiled=True)


WHOLE = Spread()
"""All worlds on one device."""

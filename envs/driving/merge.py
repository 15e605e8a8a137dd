"""Merging: a ramp that ends beside a road with traffic, and a gap to be found in time.

The road, the traffic and the car are those of `highway`. Our car starts on an acceleration lane to
the right of the lanes, slower than the traffic. The lane ends after `RAMP` metres; a car that is
still on it then is off the road. A trip ends `BEYOND` metres after that, for a car that is on the
road, and the next one begins at the start of another acceleration lane. So an episode of any length
asks for one merge after the other, and its hazard does not depend on t.

The next ramp begins where the last trip ended. Our car is moved there sideways and slowed down, as
if it had left the road and come back to it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, cast

import jax
import jax.numpy as jnp
from flax import struct

from envs.core import State, dial
from envs.driving import vehicle
from envs.driving.highway import Highway, HighwayDials, HighwayState
from envs.driving.traffic import LANE

RAMP, BEYOND = 250.0, 100.0
"""Length of the acceleration lane, and of the road after it that belongs to a trip [m]."""
ENTRY_SPEED = 15.0
"""Mean speed at the start of the acceleration lane [m/s]."""


@struct.dataclass
class MergeDials(HighwayDials):
    """The dials of `Merge`: those of `Highway`, with two lanes and denser traffic."""

    lanes: float = dial(2.0, "number of lanes", unit="lanes", low=2, high=5, whole=True)
    density: float = dial(12.0, "cars per kilometre of each lane", unit="1/km", low=2, high=35)


class Merge(Highway):
    """A ramp that ends.

    Observation, action, costs, metrics and options are those of `Highway`. While the acceleration
    lane lasts, the distance to the right edge includes it. The observation has one more entry, at
    its end: the distance to the end of the acceleration lane [m], at most `RAMP`, or -`BEYOND`
    where there is none.
    """

    name = "merge"
    # A ramp is no part of a scenario.
    options: ClassVar = {k: v for k, v in Highway.options.items() if k not in Highway.files}
    files: ClassVar = {}
    # Those of `Highway`, said again for `--list`, which reads this file alone.
    modes: Mapping[str, Mapping[str, float]] = {
        "nominal": {},
        "recoverable": {"reacquisition": 0.25},
    }
    recovery_steps = 80
    latency = 15

    def __init__(self, cars: str = "20", drivers: str = "highway_env", observation: str = "lanes"):
        super().__init__(cars, drivers, observation)
        self.dials = MergeDials()

    @property
    def observation_size(self) -> int:
        """O, number of entries of an observation."""
        return super().observation_size + 1

    def right_edge(self, s: jax.Array, trip: jax.Array) -> jax.Array:
        """Returns the lateral position of the right edge [m], that of the acceleration lane while
        it lasts."""
        return jnp.where(s - trip < RAMP, -1.5 * LANE, -0.5 * LANE)

    def reset(self, rng: jax.Array) -> State:
        """Returns a start on an acceleration lane beside a new road; rng, uint32[2], is
        consumed."""
        highway_key, ramp_key = jax.random.split(rng)
        inner = cast(HighwayState, super().reset(highway_key).pipeline_state)
        return self._begun(self._on_ramp(inner, ramp_key))

    def _on_ramp(self, inner: HighwayState, key: jax.Array) -> HighwayState:
        """Returns the state with our car at the start of an acceleration lane."""
        z = jax.random.normal(key, (3,))
        zero = jnp.zeros(())
        car = vehicle.Car(
            s=inner.car.s,
            e_y=-LANE + 0.1 * z[0],
            e_psi=0.005 * z[1],
            v_x=ENTRY_SPEED + z[2],
            v_y=zero,
            r=zero,
            delta=zero,
        )
        return dataclasses.replace(
            inner,
            car=car,
            trip=car.s,
            off=zero,
            slow=zero,
            crashed=zero,
            felt=inner.felt._replace(known=zero),
        )

    def _next_trip(self, inner: HighwayState) -> HighwayState:
        """Returns the state after a step, at the beginning of the next trip if one has ended."""
        done = (inner.car.s - inner.trip > RAMP + BEYOND) & (inner.off == 0.0)
        anew = self._on_ramp(inner, jax.random.fold_in(inner.key, 2))
        return jax.tree.map(lambda a, b: jnp.where(done, a, b), anew, inner)

    def road_left(self, inner: HighwayState) -> jax.Array:
        """Returns how long the acceleration lane still is [m], or inf beyond its end."""
        left = RAMP - (inner.car.s - inner.trip)
        return jnp.where(left > 0.0, left, jnp.inf)

    def _noisy(self, inner: HighwayState, observation: jax.Array) -> jax.Array:
        """Returns an observation with the sensors' noise and the distance to the ramp's end."""
        left = self.road_left(inner)
        shown = jnp.where(left < RAMP + 1.0, left, -BEYOND)
        return jnp.concatenate([super()._noisy(inner, observation), shown[None]])

"""What is filmed: one episode, driven by several policies from the same start.

A scene is a number: the start and every random number of the world follow from it. So all drivers
meet the same road, and the same gusts as long as what they do does not change when the world draws.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs import drawing
from envs.core import State, World
from irl_bench.core.settings import BadInput
from irl_bench.loading import Loaded
from irl_bench.rollouts.scan import observation_of, scan

SCENES, LEAD = 64, 20
"""Number of scenes in which a failure is looked for, unless a scene is named, and the steps that a
film shows before it."""
NEVER = -1
"""The step of the first failure in an episode without one."""


@dataclasses.dataclass(frozen=True)
class Driver:
    """What chooses the actions of an episode."""

    name: str
    """As it is called in the film."""
    choose: Callable[[State, Any, jax.Array], tuple[jax.Array, Any]]
    """(state, memory, key) -> (action, memory)."""
    memory: Any = None
    """At the start."""


@dataclasses.dataclass(frozen=True)
class Footage:
    """An episode of H steps; row t is what step t led to."""

    name: str
    """The driver's."""
    observation: np.ndarray
    """float32[H, O]."""
    action: np.ndarray
    """float32[H, A] in [-1, 1], or int32[H]."""
    reward: np.ndarray
    """float32[H]."""
    cost: np.ndarray
    """float32[H] in {0, 1}."""
    picture: Mapping[str, np.ndarray] | None
    """Arrays [H, ...], as `envs.drawing.view` returns them; None: the world has no picture."""
    places: Mapping[str, np.ndarray] | None = None
    """{name with its unit: float32[H]}, as `World.whereabouts`; None: the world has none."""


def policy(name: str, loaded: Loaded) -> Driver:
    """Returns the driver that a learned policy is."""
    if loaded.carry is None:
        return Driver(name, lambda state, memory, key: (loaded.act(state.obs, key), memory))

    def choose(state: State, memory: Any, key: jax.Array) -> tuple[jax.Array, Any]:
        action, memory = loaded.act(memory, state.obs, key)
        return action, memory

    return Driver(name, choose, loaded.carry)


def expert(world: World) -> Driver:
    """Returns the driver that the world's expert is."""
    return Driver("expert", lambda state, memory, key: (world.expert(state, key), memory))


def uniform(world: World) -> Driver:
    """Returns a driver whose actions are uniformly random."""
    return Driver("random", lambda state, memory, key: (world.random_action(key), memory))


def _episode(
    world: World,
    driver: Driver,
    scene: jax.Array,
    steps: int,
    of: Callable[[State, jax.Array], Any],
) -> Any:
    """Rows of `of(the state that a step led to, the action)` along a scene."""
    reset_key, key = jax.random.split(jax.random.PRNGKey(scene))

    def act(state: State, memory: Any, key: jax.Array) -> tuple[jax.Array, Any]:
        action, memory = driver.choose(state, memory, key)
        return action, (action, memory)

    def record(before: State, after: State, _: Any, aside: Any) -> Any:
        action, memory = aside
        return after, memory, of(after, action)

    # Not split, whose keys may depend on their number: a film is the beginning of a longer one.
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(steps))
    return scan(world, act, record, world.begin(reset_key), keys, driver.memory)[1]


def episodes(
    world: World,
    driver: Driver,
    scenes: Sequence[int],
    steps: int,
    of: Callable[[State, jax.Array], Any],
    block: int = SCENES,
) -> Iterator[Any]:
    """Yields what is read along episodes, a block of scenes after the other.

    Args:
      world: with its dials bound.
      driver: who drives.
      scenes: their numbers. The last block is filled up with its last scene, whose rows are
        dropped.
      steps: length of an episode [steps].
      of: (the state that a step led to, the action) -> arrays; runs inside jit.
      block: scenes driven at once.

    Yields:
      The arrays [scenes of the block, steps, ...].
    """
    run = jax.jit(jax.vmap(lambda scene: _episode(world, driver, scene, steps, of)))
    block = min(block, len(scenes))
    padded = np.pad(np.asarray(scenes, np.uint32), (0, -len(scenes) % block), "edge")
    for first in range(0, len(scenes), block):
        rows = jax.device_get(run(jnp.asarray(padded[first : first + block])))
        kept = len(scenes) - first
        yield jax.tree.map(lambda x, kept=kept: x[:kept], rows)


def first_failures(world: World, driver: Driver, scenes: Sequence[int], steps: int) -> np.ndarray:
    """Looks for failures in several scenes.

    Args:
      world: with its dials bound.
      driver: who drives.
      scenes: their numbers.
      steps: length of an episode [steps].

    Returns:
      int[len(scenes)], the step of the first failure; NEVER without one.
    """
    blocks = episodes(
        world, driver, scenes, steps, lambda state, _: ~(state.metrics["cost"] == 0.0)
    )
    rows = np.concatenate(list(blocks))
    return np.where(rows.any(axis=1), rows.argmax(axis=1), NEVER)


@dataclasses.dataclass(frozen=True)
class Moment:
    """What a film of a driver shows."""

    scene: int
    """The first scene in which the driver fails; the first one if it fails in none."""
    start: int
    """The first step that is shown."""
    failing: tuple[int, ...]
    """The scenes in which the driver fails."""
    failure: int
    """Step of the first failure in the scene; NEVER without one."""


def moment(world: World, driver: Driver, scenes: Sequence[int], steps: int) -> Moment:
    """Looks for a driver's first failure, from LEAD steps before which a film of `steps` steps
    shows it.

    Args:
      world: with its dials bound.
      driver: who drives.
      scenes: numbers of scenes, in the order in which they are looked at.
      steps: length of the film.
    """
    firsts = first_failures(world, driver, scenes, world.horizon)
    failing = [i for i, step in enumerate(firsts) if step != NEVER]
    index = failing[0] if failing else 0
    failure = int(firsts[index])
    start = min(max(0, world.horizon - steps), max(0, failure - LEAD))
    return Moment(scenes[index], start, tuple(scenes[i] for i in failing), failure)


def place_names(world: World) -> list[str]:
    """Returns the names of the two numbers that tell where a state is; [] in a world that has none.

    Raises:
      BadInput: `World.whereabouts` returns something else; one line.
    """

    names: list[str] = []

    def found(key: jax.Array) -> Any:
        places = world.whereabouts(world.begin(key))
        names[:] = places or ()  # JAX returns a dictionary in another order
        return places

    given = jax.eval_shape(found, jax.random.PRNGKey(0))
    if given is None:
        return []
    sound = (
        isinstance(given, dict)
        and len(given) == 2
        and all(isinstance(name, str) and name.isprintable() for name in given)
        and all(getattr(value, "shape", None) == () for value in given.values())
    )
    if not sound:
        raise BadInput(
            f"{world.name}.whereabouts must return two numbers by name, not {given!r:.200}; "
            'nearest: {"curvature [1/m]": float32[], "offset [m]": float32[]}'
        )
    return names


def film(world: World, driver: Driver, scene: int, steps: int) -> Footage:
    """Films a driver in a scene.

    Args:
      world: with its dials bound.
      driver: who drives.
      scene: its number.
      steps: length of the episode [steps].
    """
    view, names = drawing.view(world), place_names(world)

    def seen(state: State, action: jax.Array) -> dict[str, Any]:
        return {
            "observation": observation_of(state),
            "action": action,
            "reward": state.reward,
            "cost": state.metrics["cost"],
            "picture": view(state),
            "places": world.whereabouts(state) if names else None,
        }

    run = jax.jit(lambda scene: _episode(world, driver, scene, steps, seen))
    return Footage(driver.name, **jax.device_get(run(jnp.uint32(scene))))

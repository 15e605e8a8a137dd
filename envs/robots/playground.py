"""MuJoCo Playground's worlds by name, such as `playground:CartpoleBalance`. They need the extra
`playground`.

They run on MJX in JAX, with Playground's own configuration. Cost per step, in {0, 1}:

* the suite (`dm_control_suite`), whose rewards lie in [0, 1]: 1 while the reward is below a half;
* all others: 1 while Playground says that the episode is done.

No demonstrator ships for them; `launch/expert.py --env=playground:NAME` trains one and keeps it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import io
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import struct

from envs import PLAYGROUND as PREFIX
from envs import demonstrators
from envs.core import State, dial, soundness
from envs.names import nearest


@struct.dataclass
class Dials:
    """The dials of every world of Playground's."""

    noise: float = dial(
        0.0, "standard deviation of Gaussian noise added to each executed action", low=0, high=1
    )


def kind(name: str) -> type[Playground]:
    """Returns the class of a world by its full name, playground:NAME.

    Raises:
      ValueError: the extra is not installed, Playground has no such world, or the model of its
        robot is not downloaded yet; one line.
    """
    task = name.removeprefix(PREFIX)
    try:
        registry, base = _modules()
    except ImportError as error:
        raise ValueError(
            f"{name} needs the extra playground ({error}); nearest: pip install "
            "'irl-bench[playground]'"
        ) from None
    if task not in registry.ALL_ENVS:
        near = nearest(task, registry.ALL_ENVS)
        raise ValueError(f"Playground has no world {task!r}; did you mean {PREFIX + near!r}?")
    suite = task in registry.dm_control_suite.ALL_ENVS
    if not suite and not base.MENAGERIE_PATH.exists():
        fetch = (
            'python -c "from mujoco_playground._src import mjx_env; '
            'mjx_env.ensure_menagerie_exists()"'
        )
        raise ValueError(
            f"{name} uses the model of a robot that is not downloaded yet; nearest: {fetch}"
        )
    return type(
        task,
        (Playground,),
        {"name": task, "suite": suite, "__doc__": f"MuJoCo Playground's {task}."},
    )


@functools.cache
def _modules() -> tuple[Any, Any]:
    """Imports Playground's registry and the module of its base class without their messages.

    Raises:
      ImportError: the extra is not installed.
    """
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        # The extra may not be installed.
        from mujoco_playground import registry  # pyright: ignore[reportMissingImports]
        from mujoco_playground._src import mjx_env  # pyright: ignore[reportMissingImports]
    return registry, mjx_env


@functools.cache
def _load(task: str) -> tuple[Any, Any]:
    """Returns Playground's environment, which callers must not change, and the shapes of its
    reset."""
    registry, _ = _modules()
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = registry.get_default_config(task)
        # The other implementation needs an NVIDIA GPU.
        overrides = {"impl": "jax"} if "impl" in config else None
        environment = registry.load(task, config_overrides=overrides)
        return environment, jax.eval_shape(environment.reset, jax.random.PRNGKey(0))


class Playground(demonstrators.Demonstrated):
    """One of MuJoCo Playground's worlds; subclasses name it.

    The observation is Playground's, the one for the policy; the action is float32[A] in [-1, 1].
    """

    options: ClassVar = {"demonstrator": demonstrators.QUALITIES}
    suite: ClassVar[bool]
    """Whether the world belongs to `dm_control_suite`, whose rewards lie in [0, 1]."""

    def __init__(self, demonstrator: str = "expert") -> None:
        self.chosen = {"demonstrator": demonstrator}
        self.dials = Dials()
        self._playground, self._start = _load(self.name)
        self.horizon = int(self._playground._config.episode_length)
        self.source = {"playground": importlib.metadata.version("playground")}
        self.choose(demonstrator)

    @property
    def backend(self) -> str:
        """Name of the physics, always "mjx"."""
        return "mjx"

    @property
    def observation_size(self) -> int:
        """O, number of entries of an observation."""
        return int(_policy_observation(self._start.obs).shape[-1])

    @property
    def action_size(self) -> int:
        """A, number of entries of an action."""
        return int(self._playground.action_size)

    def reset(self, rng: jax.Array) -> State:
        """Returns Playground's start; rng, uint32[2], is consumed."""
        start_key, key = jax.random.split(rng)
        zero = jnp.zeros(())
        start = self._playground.reset(start_key)
        return State(
            start,
            _policy_observation(start.obs),
            zero,
            zero,
            {"cost": zero, "graded_cost": zero},
            {"key": key},
        )

    def step(self, state: State, action: jax.Array) -> State:
        """Returns the next state; the action is float32[A], clipped to [-1, 1]."""
        key, noise_key = jax.random.split(state.info["key"])
        noise = self.dials.noise * jax.random.normal(noise_key, (self.action_size,))
        after = self._playground.step(
            state.pipeline_state, jnp.clip(jnp.clip(action, -1.0, 1.0) + noise, -1.0, 1.0)
        )
        observation, done = _policy_observation(after.obs), jnp.asarray(after.done, jnp.float32)
        cost, graded = done, done
        if self.suite:
            graded = jnp.maximum(done, 1.0 - jnp.clip(after.reward, 0.0, 1.0))
            cost = jnp.where(graded > 0.5, 1.0, 0.0)
        sound = soundness(observation, action)
        metrics = {"cost": cost + sound, "graded_cost": graded + sound}
        return State(after, observation, after.reward + sound, done, metrics, {"key": key})


def _policy_observation(observation: Any) -> jax.Array:
    """Returns the part of an observation that a policy sees. Some worlds add a part for critics
    alone."""
    return observation["state"] if isinstance(observation, Mapping) else observation

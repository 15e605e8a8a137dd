"""The worlds as Gymnasium environments, for code that steps them from the host.

    import gymnasium
    import envs.gym                                        # registers the names

    env = gymnasium.make("irl_bench/lane_keep-v0", friction=0.6, render_mode="rgb_array")
    many = gymnasium.make_vec("irl_bench/lane_keep-v0", num_envs=64)

`gymnasium.make("envs.gym:irl_bench/lane_keep-v0")` works without the import. A failure does not end
an episode unless `terminate=True`; an episode is truncated at the world's horizon. Stepping from
the host is slow; a sweep never does it.

`make_vec` returns a `VectorWorld`, which steps all its worlds in one compiled call.
`vectorization_mode="sync"` and "async" return Gymnasium's own vector environments. With "async" the
processes must be spawned, because a process that is forked after JAX has started its threads hangs:

    many = gymnasium.make_vec(
        "irl_bench/lane_keep-v0",
        num_envs=4,
        vectorization_mode="async",
        vector_kwargs={"context": "spawn"},
    )

A spawned process imports the main program again, so the program's own work belongs under
`if __name__ == "__main__":`.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode

from envs import WORLDS

__all__ = ["GymWorld", "VectorWorld"]

RENDER_MODES = ("rgb_array",)
"""Render modes of the environments, besides None."""
FPS = 10.0
"""Frames per second before a world is known."""


class GymWorld(gymnasium.Env):
    """One world behind Gymnasium's interface.

    Args:
      name: a registered world.
      terminate: whether the world's `done`, such as a robot's fall, ends an episode.
      horizon: steps after which an episode is truncated; by default the world's.
      render_mode: "rgb_array", or None for an environment that is not drawn. Through
        `gymnasium.make` "rgb_array_list" and, if pygame is installed, "human" work as well, since
        Gymnasium makes them from the frames.
      **values: dials and options of the world.

    Raises:
      ValueError: an unknown world, dial, option or render mode, or a value out of range; one line.

    Observations are float32[O]; actions are float32[A] in [-1, 1], or an integer in a discrete
    world. After an action that is not finite, cost and reward are NaN. `info` holds the metrics of
    the step: "cost", "graded_cost" and the world's own.
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": FPS}  # noqa: RUF012 as in gymnasium.Env

    def __init__(
        self,
        name: str,
        terminate: bool = False,
        horizon: int | None = None,
        render_mode: str | None = None,
        **values: float | str,
    ):
        import jax

        import envs
        from envs import drawing

        self.render_mode = _render_mode(render_mode)
        self.world = envs.make(name, **values)
        self.horizon = _horizon(self.world.horizon if horizon is None else horizon)
        self.terminate = terminate
        self.metadata = _metadata(self.world)
        self.observation_space, self.action_space = _spaces(self.world)
        self._reset, self._step, self._view = map(jax.jit, _programs(self.world))
        self._state: Any = None
        self._age = 0
        self._recent: deque[tuple[float, float]] = deque(
            maxlen=drawing.RECENT if render_mode else 0
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins an episode; the options are ignored.

        Returns:
          The observation float32[O], and `info` with the metrics of the first state.
        """
        super().reset(seed=seed)
        del options
        self._state = self._reset(np.int32(self.np_random.integers(2**31)))
        self._age = 0
        self._recent.clear()
        observation, _, _, metrics = _read(self._state)
        return observation, {name: float(value) for name, value in metrics.items()}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Takes one step.

        Returns:
          (observation float32[O], reward, terminated, truncated, info).

        Raises:
          ValueError: the action has a wrong shape, or is no action of a discrete world; one line.
          gymnasium.error.ResetNeeded: before the first `reset`.
        """
        if self._state is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        self._state = self._step(self._state, _checked(self.world, action, ()))
        self._age += 1
        observation, reward, done, metrics = _read(self._state)
        self._recent.append((float(reward), float(metrics["cost"])))
        ended = self.terminate and bool(done > 0)
        return (
            observation,
            float(reward),
            ended,
            self._age >= self.horizon,
            {name: float(value) for name, value in metrics.items()},
        )

    def render(self) -> np.ndarray | None:
        """Returns the state as uint8[H, W, 3], or None, with a warning, without a render mode.

        Raises:
          gymnasium.error.ResetNeeded: before the first `reset`.
        """
        if not _drawn(self._state, self.render_mode):
            return None
        import jax

        from envs import drawing

        picture, observation = jax.device_get((self._view(self._state), self._state.obs))
        return drawing.frame(self.world, observation, picture, list(self._recent), self._age)


class VectorWorld(gymnasium.vector.VectorEnv):
    """N copies of a world, each with its own episodes and randomness, stepped in one compiled call.

    After `reset(seed=[...])` world i follows the same trajectory as a `GymWorld` with the i-th
    seed, up to rounding.

    Args:
      name: a registered world.
      num_envs: N.
      terminate, horizon, render_mode: as of `GymWorld`.
      max_episode_steps: Gymnasium's name for a horizon; the lower of the two applies.
      autoreset_mode: what happens to a world whose episode has ended. NEXT_STEP: its next step
        ignores the action and begins a new episode with reward 0. SAME_STEP: the step that ends it
        returns the first observation of the next episode, and `info` holds the last one as
        "final_obs" and "final_info". DISABLED: the caller resets it with
        `options={"reset_mask": mask}`.
      **values: dials and options of the world, the same in all copies.

    Raises:
      ValueError: as `GymWorld`, or N below 1, or an unknown mode; one line.

    Observations are float32[N, O]; actions float32[N, A] in [-1, 1], or integers [N] in a discrete
    world. Rewards are float64[N], terminations and truncations bool[N]. `info` holds the
    metrics of the step, such as "cost", float64[N], and for each of them "_cost" and the like,
    bool[N], the worlds to which it applies. All are new NumPy arrays, which the caller may change.
    """

    metadata = {  # noqa: RUF012 as in gymnasium.vector.VectorEnv
        "render_modes": list(RENDER_MODES),
        "render_fps": FPS,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        name: str,
        num_envs: int = 1,
        terminate: bool = False,
        horizon: int | None = None,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        **values: float | str,
    ):
        import jax
        import jax.numpy as jnp

        import envs
        from envs import drawing

        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs} must be at least 1")
        try:
            mode = AutoresetMode(autoreset_mode)
        except ValueError:
            known = " | ".join(mode.value for mode in AutoresetMode)
            raise ValueError(f"autoreset_mode={autoreset_mode!r} must be one of {known}") from None
        self.render_mode = _render_mode(render_mode)
        self.world = world = envs.make(name, **values)
        self.num_envs = num_envs
        self.horizon = _horizon(world.horizon if horizon is None else horizon)
        if max_episode_steps is not None:
            self.horizon = min(self.horizon, _horizon(max_episode_steps))
        self.terminate = terminate
        self.metadata = _metadata(world) | {"autoreset_mode": mode}
        self.single_observation_space, self.single_action_space = _spaces(world)
        self.observation_space = gymnasium.vector.utils.batch_space(
            self.single_observation_space, num_envs
        )
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)

        def merge(mask: jax.Array, new: Any, old: Any) -> Any:
            choose = lambda a, b: jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - 1)), a, b)
            return jax.tree.map(choose, new, old)

        self._reset, self._step, self._view = (
            jax.jit(jax.vmap(program)) for program in _programs(world)
        )
        self._merge = jax.jit(merge)
        self._state: Any = None
        self._age = np.zeros(num_envs, int)
        self._ended = np.zeros(num_envs, bool)
        self._generators: list[tuple[np.random.Generator, int] | None] = [None] * num_envs
        self._recent: deque[tuple[np.ndarray, np.ndarray]] = deque(
            maxlen=drawing.RECENT if render_mode else 0
        )

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins an episode in every world, or in those that a mask selects.

        Args:
          seed: an integer s seeds the worlds with s, s + 1, ...; a list has a seed for each world.
            A world whose seed is None goes on with its own generator.
          options: {"reset_mask": bool[N]} to reset some worlds only; other options are ignored.

        Returns:
          The observations float32[N, O] of all worlds, and `info` of those that were reset.

        Raises:
          ValueError: a list of seeds or a mask of a wrong length; one line.
          gymnasium.error.ResetNeeded: a mask before all worlds have been reset once.
        """
        n = self.num_envs
        mask = (options or {}).get("reset_mask")
        if mask is None:
            mask = np.ones(n, bool)
        elif (
            not isinstance(mask, np.ndarray)
            or mask.dtype != bool
            or mask.shape != (n,)
            or not mask.any()
        ):
            raise ValueError(
                f"reset_mask must be a NumPy array bool[{n}] that selects at least one world"
            )
        elif self._state is None and not mask.all():
            raise gymnasium.error.ResetNeeded("the first reset() must reset all worlds")
        if seed is None:
            seeds: list[int | None] = [None] * n
        elif isinstance(seed, Sequence | np.ndarray):
            seeds = [None if value is None else operator.index(value) for value in seed]
        else:
            seeds = [operator.index(seed) + i for i in range(n)]
        if len(seeds) != n:
            raise ValueError(
                f"a list of seeds must hold one for each of the {n} worlds, not {len(seeds)}"
            )
        for i in np.flatnonzero(mask):
            if seeds[i] is not None or self._generators[i] is None:
                self._generators[i] = seeding.np_random(seeds[i])
        self._begin(mask)
        self._ended = self._ended & ~mask
        observation, _, _, info = self._read(mask)
        return observation, info

    def step(
        self, actions: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Takes one step in every world.

        Returns:
          (observations float32[N, O], rewards float64[N], terminations bool[N], truncations
          bool[N], info).

        Raises:
          ValueError: the actions have a wrong shape, or one is no action of a discrete world; one
            line.
          gymnasium.error.ResetNeeded: before the first `reset`, or, with DISABLED, while the
            episode of a world has ended.
        """
        if self._state is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        actions = _checked(self.world, actions, (self.num_envs,))
        mode = self.metadata["autoreset_mode"]
        if mode is AutoresetMode.DISABLED and self._ended.any():
            raise gymnasium.error.ResetNeeded(
                "an episode has ended: reset its world with a reset_mask"
            )
        begun = self._ended
        if not begun.all():
            self._state = self._step(self._state, actions)
        self._age += 1
        if begun.any():
            self._begin(begun)
        observation, reward, done, info = self._read()
        reward = np.where(begun, 0.0, reward)
        self._recent.append((reward.copy(), info["cost"].copy()))
        terminated = (done > 0) & ~begun if self.terminate else np.zeros(self.num_envs, bool)
        truncated = self._age >= self.horizon
        self._ended = ended = terminated | truncated
        if mode is AutoresetMode.SAME_STEP and ended.any():
            last = np.full(self.num_envs, None, object)
            for i in np.flatnonzero(ended):
                last[i] = observation[i]
            names = [name for name in info if not name.startswith("_")]
            final = {name: np.where(ended, info[name], 0.0) for name in names} | {
                f"_{name}": ended.copy() for name in names
            }
            self._begin(ended)
            self._ended = np.zeros(self.num_envs, bool)
            observation, _, _, info = self._read()
            info |= {
                "final_obs": last,
                "_final_obs": ended.copy(),
                "final_info": final,
                "_final_info": ended.copy(),
            }
        return observation, reward, terminated, truncated, info

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Returns the states as N frames uint8[H, W, 3]; otherwise as `GymWorld.render`."""
        if not _drawn(self._state, self.render_mode):
            return None
        import jax

        from envs import drawing

        pictures, observations = jax.device_get((self._view(self._state), self._state.obs))
        frames = []
        for i, age in enumerate(self._age):
            recent = [(reward[i], cost[i]) for reward, cost in self._recent][-age:] if age else []
            picture = jax.tree.map(operator.itemgetter(i), pictures)
            frames.append(drawing.frame(self.world, observations[i], picture, recent, int(age)))
        return tuple(frames)

    # As in Gymnasium's own vector environments, these two have an entry for each world. Its base
    # class annotates them as those of a single environment.
    @property
    def np_random(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
    ) -> tuple[np.random.Generator, ...]:
        """Each world's generator."""
        return tuple(generator for generator, _ in self._seeded())

    @property
    def np_random_seed(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
    ) -> tuple[int, ...]:
        """The seed of each world's generator."""
        return tuple(seed for _, seed in self._seeded())

    def _seeded(self) -> list[tuple[np.random.Generator, int]]:
        """Returns (generator, seed) of each world, after seeding those that have none."""
        pairs = [pair or seeding.np_random() for pair in self._generators]
        self._generators = list(pairs)
        return pairs

    def _begin(self, mask: np.ndarray) -> None:
        """Begins episodes in the worlds of the mask, bool[N]."""
        seeds = np.zeros(self.num_envs, np.int32)
        for i in np.flatnonzero(mask):
            pair = self._generators[i]
            assert pair is not None  # `reset` seeds every world before its first episode
            seeds[i] = pair[0].integers(2**31)
        new = self._reset(seeds)
        self._state = new if mask.all() else self._merge(mask, new, self._state)
        self._age[mask] = 0

    def _read(
        self, mask: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Returns (observation, reward, done, info of the worlds of the mask, or of all)."""
        mask = np.ones(self.num_envs, bool) if mask is None else mask
        observation, reward, done, metrics = _read(self._state)
        info = {name: np.where(mask, x, 0.0).astype(float) for name, x in metrics.items()}
        return (
            observation,
            reward.astype(float),
            done,
            info | {f"_{name}": mask.copy() for name in metrics},
        )


def _render_mode(mode: str | None) -> str | None:
    """Returns a valid render mode. Raises ValueError, one line, for any other."""
    if mode is not None and mode not in RENDER_MODES:
        raise ValueError(f"render_mode={mode!r} must be None or one of {' | '.join(RENDER_MODES)}")
    return mode


def _horizon(steps: int) -> int:
    """Returns a valid horizon [steps]. Raises ValueError, one line, for one below 1."""
    if steps < 1:
        raise ValueError(f"horizon={steps} must be at least 1 step")
    return steps


def _metadata(world: Any) -> dict[str, Any]:
    """Returns Gymnasium's metadata of a world: its render modes, and its frames per second."""
    from envs import drawing

    fps = round(1.0 / drawing.seconds(world), 3)
    return {"render_modes": list(RENDER_MODES), "render_fps": fps}


def _programs(world: Any) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """Returns three functions of one world, to be compiled: seed -> first state,
    (state, action) -> next state, and state -> arrays to draw it from."""
    import jax
    import jax.numpy as jnp

    from envs import drawing

    def strong(state: Any) -> Any:
        # Some worlds begin with weakly typed numbers and go on with strongly typed ones. `step`
        # would be compiled for both.
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), state)

    def reset(seed: Any) -> Any:
        return strong(world.reset(jax.random.PRNGKey(seed)))

    return reset, lambda state, action: strong(world.advance(state, action)), drawing.view(world)


def _spaces(world: Any) -> tuple[gymnasium.spaces.Box, gymnasium.Space]:
    """Returns the spaces of one observation and of one action."""
    observation = gymnasium.spaces.Box(-np.inf, np.inf, (int(world.observation_size),), np.float32)
    if world.n_actions:
        return observation, gymnasium.spaces.Discrete(world.n_actions)
    return observation, gymnasium.spaces.Box(-1.0, 1.0, (world.action_size,), np.float32)


def _checked(world: Any, action: Any, batch: tuple[int, ...]) -> np.ndarray:
    """Returns actions as the world takes them: float32[*batch, A], or int32[*batch] in a discrete
    world.

    Raises:
      ValueError: a wrong shape, or a number that is no action of a discrete world; one line.
    """
    actions = np.asarray(action)
    shape = batch if world.n_actions else (*batch, int(world.action_size))
    if actions.shape != shape:
        raise ValueError(f"{world.name} takes an action of shape {shape}, not {actions.shape}")
    if not world.n_actions:
        return actions.astype(np.float32)
    if not np.isin(actions, np.arange(world.n_actions)).all():
        raise ValueError(
            f"an action of {world.name} is a whole number from 0 to {world.n_actions - 1}, not "
            f"{action}"
        )
    return actions.astype(np.int32)


def _read(state: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Returns (observation, reward, done, metrics) of a state or a batch of states, on the host."""
    import jax

    observation, reward, done, metrics = jax.device_get(
        (state.obs, state.reward, state.done, dict(state.metrics))
    )
    # Copies, because JAX's own arrays are read-only.
    return (
        np.array(observation, np.float32),
        np.array(reward),
        np.array(done),
        {name: np.array(value) for name, value in metrics.items()},
    )


def _drawn(state: Any, render_mode: str | None) -> bool:
    """Whether `render` draws a frame. Warns if there is no render mode.

    Raises:
      gymnasium.error.ResetNeeded: there is no state yet.
    """
    if state is None:
        raise gymnasium.error.ResetNeeded("call reset() before render()")
    if render_mode is None:
        gymnasium.logger.warn(
            'render() returns frames only if the environment has render_mode="rgb_array"'
        )
    return render_mode is not None


for _name in WORLDS:
    if f"irl_bench/{_name}-v0" not in gymnasium.registry:
        gymnasium.register(
            f"irl_bench/{_name}-v0",
            "envs.gym:GymWorld",
            kwargs={"name": _name},
            disable_env_checker=True,
            vector_entry_point="envs.gym:VectorWorld",
        )

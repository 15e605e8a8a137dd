"""The worlds as Gymnasium environments, for code that steps one world at a time from the host.

import gymnasium
import envs.gym                                        # makes the names known

env = gymnasium.make("irl_bench/lane_keep-v0", friction=0.6)

(or `gymnasium.make("envs.gym:irl_bench/lane_keep-v0")`, which needs no import). Failure does not end an episode unless
`terminate=True`; an episode is cut at the world's horizon. Stepping from the host is slow: a sweep never does it.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from envs import WORLDS


class GymWorld(gymnasium.Env):
    """One world behind Gymnasium's interface.

    Args:
      name: a registered world.
      terminate: whether the world's `done`, such as a robot's fall, ends an episode.
      horizon: steps after which an episode is cut; by default the world's.
      **values: dials and options of the world.

    Observations are float32[O]; actions float32[A] in [-1, 1], or an integer in a discrete world. `info` holds "cost" and
    "graded_cost".
    """

    metadata = {"render_modes": []}  # noqa: RUF012 as in gymnasium.Env

    def __init__(self, name: str, terminate: bool = False, horizon: int | None = None, **values: float | str):
        import jax

        import envs

        self.world = envs.make(name, **values)
        self.horizon = self.world.horizon if horizon is None else horizon
        self.terminate = terminate
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (int(self.world.observation_size),), np.float32)  # type: ignore[arg-type]
        discrete = self.world.n_actions
        shape = (self.world.action_size,)
        self.action_space = (
            gymnasium.spaces.Discrete(discrete) if discrete else gymnasium.spaces.Box(-1.0, 1.0, shape, np.float32)
        )
        self._reset, self._step = jax.jit(self.world.reset), jax.jit(self.world.step)
        self._key = jax.random.PRNGKey
        self._state: Any = None
        self._age = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        del options
        self._state = self._reset(self._key(int(self.np_random.integers(2**31))))
        self._age = 0
        return np.asarray(self._state.obs), self._info()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self._state is None:
            raise gymnasium.error.ResetNeeded("reset() comes before step()")
        kind = np.int32 if self.world.n_actions else np.float32
        self._state = self._step(self._state, np.asarray(action, kind))
        self._age += 1
        ended = self.terminate and float(self._state.done) > 0
        return np.asarray(self._state.obs), float(self._state.reward), ended, self._age >= self.horizon, self._info()

    def _info(self) -> dict[str, Any]:
        return {name: float(self._state.metrics[name]) for name in ("cost", "graded_cost")}


for _name in WORLDS:
    if f"irl_bench/{_name}-v0" not in gymnasium.registry:
        gymnasium.register(f"irl_bench/{_name}-v0", "envs.gym:GymWorld", kwargs={"name": _name}, disable_env_checker=True)

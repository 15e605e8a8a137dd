"""Inverse RL as what RLHF begins with: AIRL's policy is start and reference, its g(s) the reward
before any comparison.

A learned reward is then g plus the ensemble, whose members begin as 0 and learn what the
comparisons say beyond it. g is put on the comparisons' scale: its sum over a segment has deviation
1 in the first pool.
"""

from __future__ import annotations

from typing import Any

import jax

from irl_bench.core.settings import BadInput
from irl_bench.core.types import Spec, Task
from irl_bench.nets.supervised import PolicyParams

PARTS = "policy+reward"
"""What of AIRL's run `Task.given` holds."""


class Start:
    """AIRL's policy and reward as they come with `--given=RUN`.

    Raises:
      BadInput: nothing is given, or something that RLHF cannot begin with.
    """

    def __init__(self, spec: Spec, hidden: tuple[int, ...]):
        from irl_bench.algos import stored

        given = spec.given
        if given is None or given.algo != "airl":
            raise BadInput(
                "init=airl begins with what AIRL has learned; nearest: --given=RUN, the folder of "
                "a run of airl"
            )
        if given.config["g"] != "state":
            raise BadInput(
                f"init=airl takes a reward of states, not g={given.config['g']}; nearest: "
                "--airl.g=state"
            )
        if tuple(given.config["hidden"]) != tuple(hidden):
            widths = ",".join(map(str, given.config["hidden"]))
            raise BadInput(
                f"hidden={','.join(map(str, hidden))} is not that of AIRL's policy; nearest: "
                f"hidden={widths}"
            )
        learner, task = stored.maker(spec, PARTS)
        assert learner.judge
        self._judge, self.consumes = learner.judge, learner.consumes
        self._policy, self._reward = (
            stored.structure(part, learner, task) for part in (learner.policy, learner.reward)
        )

    def policy(self, task: Task) -> PolicyParams:
        """AIRL's policy and its inputs."""
        return jax.tree.unflatten(self._policy, task.given[: self._policy.num_leaves])

    def reward(self, task: Task) -> Any:
        """The params of AIRL's reward."""
        return jax.tree.unflatten(self._reward, task.given[self._policy.num_leaves :])

    def judge(self, params: Any, observation: jax.Array, action: jax.Array) -> jax.Array:
        """g at the states that steps led to, float32[...]."""
        return self._judge(params, observation, action, observation)

"""A policy that an earlier run has learned, as it is: what becomes of it where the dials have
changed. It learns nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Spec, Task


def maker(spec: Spec, part: str) -> tuple[Learner, Task]:
    """The learner that made what is given, and a task with the shapes it was made for; `part`: what
    of it is wanted.

    Raises:
      BadInput: nothing is given, it was learned in a world of other shapes, or it cannot be used
        without a third run.
    """
    from irl_bench.core.types import Demonstrations
    from irl_bench.plan import registry

    given = spec.given
    if given is None:
        raise BadInput(
            "a learned policy or reward is needed; nearest: --given=RUN, the folder of a run of "
            "gail or airl"
        )
    world = registry.world(given.env).world
    shapes = (world.observation_size, world.action_size, world.n_actions)
    if shapes != (spec.observation_size, spec.action_size, spec.n_actions):
        raise BadInput(
            f"what {given.algo} learned on {given.env} does not fit {spec.world.name}; nearest: "
            f"--env={given.env}"
        )
    there = Spec(world, given.horizon, given.demos, given.demo_steps)
    rows = (given.demos, given.demo_steps)
    discrete = world.n_actions is not None
    action = jax.ShapeDtypeStruct(
        rows if discrete else (*rows, world.action_size), "int32" if discrete else "float32"
    )
    demos = Demonstrations(
        jax.ShapeDtypeStruct((*rows, there.observation_size), "float32"),  # type: ignore[arg-type]
        action,  # type: ignore[arg-type]
        jax.ShapeDtypeStruct(rows, "float32"),  # type: ignore[arg-type]
        jax.ShapeDtypeStruct(rows, "float32"),  # type: ignore[arg-type]
    )
    found = registry.algorithm(given.algo)
    unknown = given.config.keys() - found.settings.keys()
    if unknown:
        raise BadInput(
            f"what {given.algo} learned is of another version: it had a setting {min(unknown)!r}"
        )
    if "reward" in part and given.config.get("init") == "airl":
        raise BadInput(
            f"the reward of {given.algo} with init=airl rests on another run's; nearest: "
            f"--{given.algo}.init=bc"
        )
    # How a policy acts does not depend on the reward it was trained on, nor a reward's form on who
    # compared.
    usual = {"reward": ("learned", "true"), "teacher": ("human", "oracle"), "init": ("airl", "bc")}
    changed = {name: new for name, (old, new) in usual.items() if given.config.get(name) == old}
    return registry.learner(given.algo, there, {**given.config, **changed}), Task(
        demos, world.dials
    )


def structure(part: Callable[[Any], Any] | None, learner: Learner, task: Task) -> Any:
    """The tree whose leaves are stored."""
    key = jax.eval_shape(jax.random.PRNGKey, 0)
    return jax.tree.structure(jax.eval_shape(lambda k, t: part(learner.init(k, t)), key, task))  # type: ignore[misc]


def learned_reward(spec: Spec) -> tuple[Callable[..., jax.Array], Callable[[Any], Any]]:
    """(judge, leaves -> its params) of the reward that is given. Raises BadInput as `maker`
    does."""
    learner, task = maker(spec, "reward")
    tree = structure(learner.reward, learner, task)
    assert learner.judge
    return learner.judge, lambda leaves: jax.tree.unflatten(tree, leaves)


def takes(config: None) -> str:
    """What of an earlier run `Task.given` holds."""
    return "policy"


def make(spec: Spec, config: None = None) -> Learner:
    learner, task = maker(spec, "policy")
    tree = structure(learner.policy, learner, task)

    def init(key: jax.Array, task: Task) -> Any:
        return jax.tree.unflatten(tree, task.given)

    def update(state: Any, task: Task) -> tuple[Any, dict[str, jax.Array]]:
        return state, {}

    return Learner(
        init, update, lambda state: state, learner.act, 0, Consumes(), carry=learner.carry
    )

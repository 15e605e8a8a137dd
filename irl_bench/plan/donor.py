"""Policies, rewards and comparisons from earlier runs: how they are found and used.

`read` finds the artifact that `--given` names. `rebuild` makes the donor's learner again, so that
its policy can act and its reward can be computed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from irl_bench.core.handover import PEOPLE, Donor, Given, Part
from irl_bench.core.learner import Learner
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Demonstrations, Spec, Task
from irl_bench.plan import registry
from irl_bench.plan.registry import LoadedWorld
from irl_bench.preferences.reward_model import LEAST_LABELS
from irl_bench.storage import artifacts, comparisons
from irl_bench.storage.artifacts import Artifact

WITHOUT_DONOR = {
    "reward": ("learned", "true"),
    "teacher": (PEOPLE, "oracle"),
    "init": ("airl", "bc"),
}
"""Setting -> (a value that needs a further donor, a value that needs none). A donor is rebuilt with
the second value: how its policy acts does not depend on the reward it was trained on, and the form
of its reward does not depend on who compared."""


RETIRED: Mapping[str, Mapping[str, Any]] = {
    "airl": {"mixup": False},
    "rlhf": {"queries": "uniform"},
    "trex": {"init": "bc"},
    "drex": {"init": "bc"},
}
"""Algorithm -> the settings that it once had, with the value that means what it does today. A
donor that was stored with that value is rebuilt without the setting."""
IDLE: Mapping[str, str] = {"best_of_n": "rlhf"}
"""Algorithm -> another one whose settings it once had although they changed nothing in it."""


def _of_today(artifact: Artifact) -> Mapping[str, Any]:
    """The settings of an artifact without those that its algorithm no longer has.

    Raises:
      BadInput: one of these was not at the value that means what the algorithm does today.
    """
    known = registry.algorithm(artifact.algo).settings
    idle = registry.algorithm(IDLE[artifact.algo]).settings if artifact.algo in IDLE else {}
    retired = RETIRED.get(artifact.algo, {})
    for name in sorted(artifact.config.keys() - known.keys()):
        value = artifact.config[name]
        if name not in idle and not (name in retired and retired[name] == value):
            raise BadInput(
                f"what {artifact.algo} learned is of another version, which had a setting "
                f"{name}={value}; nearest: train it again"
            )
    return {name: value for name, value in artifact.config.items() if name in known}


@dataclasses.dataclass(frozen=True)
class Rebuilt:
    """A donor, and how its stored leaves become the params of its functions."""

    artifact: Artifact
    """The stored leaves."""
    donor: Donor
    """The functions."""
    trees: Mapping[Part, Any]
    """{part: the tree structure of its params}."""

    def given(self, seeds: range) -> Given:
        """Returns the arrays for some seeds, each with a leading axis of the seeds.

        Raises BadInput if the artifact lacks a seed.
        """
        leaves = {part: self.artifact.leaves(part, seeds) for part in self.trees}
        return Given(
            **{part: jax.tree.unflatten(tree, leaves[part]) for part, tree in self.trees.items()}
        )


def read(source: str, parts: Sequence[Part], loaded: LoadedWorld) -> Artifact:
    """Returns the artifact that `source` names.

    Args:
      source: a file or folder of an earlier run, or a folder of comparisons.
      parts: the parts that the algorithm takes.
      loaded: the algorithm's world.

    Raises:
      BadInput: there is no artifact with all `parts`, or the comparisons are of another world.
    """
    if "comparisons" not in parts:
        return artifacts.read(source, parts)
    artifact = comparisons.read(source, LEAST_LABELS)
    if artifact.env != loaded.ref:
        raise BadInput(
            f"the comparisons given are of {artifact.env}, not of {loaded.ref}; nearest: "
            f"--env={artifact.env}"
        )
    wanted, recorded = registry.values_of(loaded), artifact.config["world"]
    for name in wanted:
        if name in recorded and wanted[name] != recorded[name]:
            flag = f"--{loaded.name}.{name}"
            raise BadInput(
                f"the comparisons given were made with {flag}={recorded[name]}, not "
                f"{wanted[name]}; nearest: {flag}={recorded[name]}"
            )
    return artifact


def rebuild(artifact: Artifact, parts: Sequence[Part], spec: Spec) -> Rebuilt:
    """Rebuilds the donor of an artifact.

    Args:
      artifact: what `read` returned.
      parts: the parts that the algorithm takes.
      spec: of the algorithm that takes them.

    Raises:
      BadInput: it was learned in a world with other shapes, or by another version of its algorithm,
        or it cannot be used without a third run.
    """
    if "comparisons" in parts:
        return _people(artifact, spec)
    world = registry.world(artifact.env).world
    shapes = (world.observation_size, world.action_size, world.n_actions)
    if shapes != (spec.observation_size, spec.action_size, spec.n_actions):
        raise BadInput(
            f"what {artifact.algo} learned on {artifact.env} does not fit {spec.world.name}; "
            f"nearest: --env={artifact.env}"
        )
    config = _of_today(artifact)
    if "reward" in parts and config.get("init") == "airl":
        raise BadInput(
            f"the reward of {artifact.algo} with init=airl depends on the reward of another run, "
            f"which is not stored with it; nearest: --{artifact.algo}.init=bc"
        )
    changed = {
        name: other for name, (value, other) in WITHOUT_DONOR.items() if config.get(name) == value
    }
    its_spec = Spec(world, artifact.horizon, artifact.demos, artifact.demo_steps)
    learner = registry.learner(artifact.algo, its_spec, {**config, **changed})
    donor = Donor(
        algo=artifact.algo,
        env=artifact.env,
        config=config,
        consumes=learner.consumes,
        act=learner.act,
        carry=learner.carry,
        reward_fn=learner.reward_fn if "reward" in parts else None,
    )
    return Rebuilt(artifact, donor, {part: _structure(learner, its_spec, part) for part in parts})


def _people(artifact: Artifact, spec: Spec) -> Rebuilt:
    """People's comparisons as a donor. Raises BadInput if they are of another world."""
    leaves = artifact.arrays[0]["comparisons"]
    observation, action = leaves[:2]
    width = () if spec.n_actions is not None else (spec.action_size,)
    if observation.shape[2:] != (spec.observation_size,) or action.shape[2:] != width:
        raise BadInput(
            f"the comparisons given are of {artifact.env}, not of {spec.world.name}; nearest: "
            f"--env={artifact.env}"
        )
    donor = Donor(algo=artifact.algo, env=artifact.env, config=artifact.config)
    return Rebuilt(artifact, donor, {"comparisons": jax.tree.structure(tuple(leaves))})


def _structure(learner: Learner, spec: Spec, part: Part) -> Any:
    """The tree structure of a part's params, found without computing anything."""
    params_of = learner.policy if part == "policy" else learner.reward
    assert params_of is not None
    rows, size = (spec.demos, spec.demo_steps), spec.observation_size
    discrete = spec.n_actions is not None
    shape = rows if discrete else (*rows, spec.action_size)
    action = jax.ShapeDtypeStruct(shape, "int32" if discrete else "float32")
    scalar = jax.ShapeDtypeStruct(rows, "float32")
    observation = jax.ShapeDtypeStruct((*rows, size), "float32")
    demonstrations: Any = Demonstrations(observation, action, scalar, scalar)  # type: ignore[arg-type]
    key = jax.eval_shape(jax.random.PRNGKey, 0)
    params = jax.eval_shape(
        lambda key, task: params_of(learner.init(key, task)),
        key,
        Task(demonstrations, spec.world.dials),
    )
    return jax.tree.structure(params)

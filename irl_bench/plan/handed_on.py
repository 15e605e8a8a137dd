"""The arrays of a donor, checked: a file may hold other ones than its description says."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from irl_bench.core.handover import Given
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Spec
from irl_bench.plan.donor import Rebuilt


def given_of(rebuilt: Rebuilt, seeds: range, spec: Spec) -> Given:
    """Returns what `rebuilt.given` does, after its functions were traced with the arrays.

    Args:
      rebuilt: the donor.
      seeds: whose arrays are returned.
      spec: of the algorithm that takes them.

    Raises:
      BadInput: a seed is missing, or the arrays are not those of the donor's algorithm; one line.
    """
    try:
        given = rebuilt.given(seeds)
        _trace(rebuilt, jax.tree.map(lambda leaf: leaf[0], given), spec)
    except BadInput:
        raise
    except (ValueError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())[:120]
        raise BadInput(
            f"the file of what {rebuilt.artifact.algo} learned holds other arrays than that "
            f"algorithm learns ({reason}); nearest: copy it again"
        ) from None
    return given


def _trace(rebuilt: Rebuilt, given: Given, spec: Spec) -> None:
    """Traces the donor's functions with the arrays of one seed."""
    donor = rebuilt.donor
    observation: Any = jax.ShapeDtypeStruct((spec.observation_size,), np.float32)
    key = jax.eval_shape(jax.random.PRNGKey, 0)
    if "policy" in rebuilt.trees and donor.act is not None:
        carried = () if donor.carry is None else (donor.carry,)
        jax.eval_shape(donor.act, given.policy, *carried, observation, key)
    if "reward" in rebuilt.trees and donor.reward_fn is not None:
        discrete = spec.n_actions is not None
        shape = () if discrete else (spec.action_size,)
        action: Any = jax.ShapeDtypeStruct(shape, np.int32 if discrete else np.float32)
        jax.eval_shape(donor.reward_fn, given.reward, observation, action, observation)

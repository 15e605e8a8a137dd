"""External policies as learners with `rounds=0`, and the checks of a policy's actions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from envs.core import World
from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Spec
from irl_bench.plan.host import HostPolicy

__all__ = ["as_learner", "check_action", "shapes"]


def as_learner(
    act: Callable[..., Any] | HostPolicy, params: Any = None, carry: Any = None
) -> Callable[[Spec, Any], Learner]:
    """Returns the `make` of an external policy: its learner has `rounds=0` and fixed params.

    Args:
      act: (observation[O], key) -> action, jit-able; with `params` they come first; with `carry` it
        comes before the observation and the policy returns (action, carry). A policy without a
        carry may return (action, extras) as Brax's inference functions do. Or a `host_policy`.
      params: a pytree of arrays.
      carry: what a recurrent policy begins each episode with, a pytree of arrays.

    Raises:
      BadInput: `act` cannot be called like this or, when made for a world, cannot be traced by JAX
        or does not return an action of the world's shape.
    """
    # A model of stable-baselines3's kind, or a PyTorch module.
    on_host = hasattr(act, "predict") or hasattr(act, "state_dict")
    if not isinstance(act, HostPolicy) and (on_host or not callable(act)):
        hint = (
            "irl_bench.host_policy(policy)"
            if on_host
            else "a function (observation, key) -> action"
        )
        raise BadInput(
            f"the policy must be a function that JAX can trace, not {type(act).__name__}; nearest: "
            f"{hint}"
        )
    passed = [name for name, value in (("params", params), ("carry", carry)) if value is not None]
    if isinstance(act, HostPolicy):
        if passed:
            raise BadInput(
                f"a host policy takes no {passed[0]}: it keeps its own; nearest: leave {passed[0]} "
                "out"
            )
    else:
        _check_policy(act, [*passed, "observation", "key"])
    state = {"policy": params}
    carry = None if carry is None else _arrays("carry", carry)
    if params is not None:
        _arrays("params", params)

    def make(spec: Spec, config: Any) -> Learner:
        del config
        learner = Learner(
            init=lambda key, task: state,
            update=lambda state, task: (state, {}),
            policy=lambda state: state["policy"],
            act=_called(act.bind(spec), ("params",), None)
            if isinstance(act, HostPolicy)
            else _called(act, passed, carry),
            rounds=0,
            consumes=Consumes(),
            carry=carry,
        )
        check_action("the policy", learner, spec.world, params)
        return learner

    return make


def _arrays(name: str, tree: Any) -> Any:
    """A pytree with arrays of the types that JAX computes with. Raises BadInput for any other
    leaf."""

    def array(leaf: Any) -> np.ndarray:
        if getattr(leaf, "dtype", None) is not None and jnp.issubdtype(
            leaf.dtype, jax.dtypes.prng_key
        ):
            raise BadInput(f"{name} holds a typed key; nearest: jax.random.key_data(key)")
        values = np.asarray(leaf)
        if values.dtype.kind not in "biufcV" or values.dtype == object:
            raise BadInput(
                f"{name} holds {leaf!r:.60}, which is no array; nearest: functools.partial for "
                "what never changes"
            )
        return values.astype(jax.dtypes.canonicalize_dtype(values.dtype))

    return jax.tree.map(array, tree)


def _check_policy(act: Callable, names: Sequence[str]) -> None:
    """Raises BadInput unless the policy can be called with arguments of these names."""
    try:
        signature = inspect.signature(act)
    except (TypeError, ValueError):  # some callables have none
        return
    if "deterministic" in signature.parameters and "episode_start" in signature.parameters:
        raise BadInput(
            "the policy is stable-baselines3's `predict`; nearest: irl_bench.host_policy(model)"
        )
    try:
        signature.bind(*names)
    except TypeError:
        called, name = ", ".join(names), getattr(act, "__name__", type(act).__name__)
        wants = len(signature.parameters)
        hint = {3: "give its params=", 4: "give its params= and carry="}.get(
            wants, "irl_bench.host_policy for one on the host"
        )
        problem = f"the policy {name}{signature} cannot be called as {name}({called})"
        raise BadInput(
            f"{problem}; nearest: {hint if wants > len(names) else f'def {name}({called})'}"
        ) from None


def _called(act: Callable, passed: Sequence[str], carry: Any) -> Callable[..., Any]:
    """`act` in the form of `Learner.act`: always called with params, and without extras."""
    if carry is not None:
        return act if "params" in passed else lambda _, *rest: act(*rest)

    def called(params: Any, observation: jax.Array, key: jax.Array) -> Any:
        result = act(*((params,) if passed else ()), observation, key)
        pair = isinstance(result, tuple) and len(result) == 2
        return result[0] if pair else result

    return called


def check_action(who: str, learner: Learner, world: World, params: Any) -> None:
    """Raises BadInput unless the learner's policy can be traced and returns an action of the
    world's shape and type.

    Args:
      who: the policy's name, with which the message begins.
      learner: its policy is checked.
      world: the world of the policy.
      params: the policy's params, or their shapes.
    """
    if learner.act is None:
        return
    observation = jax.ShapeDtypeStruct((int(world.observation_size),), np.float32)  # type: ignore[arg-type]
    key = jax.eval_shape(jax.random.PRNGKey, 0)
    carried = () if learner.carry is None else (learner.carry,)
    try:
        result = jax.eval_shape(learner.act, params, *carried, observation, key)
    except Exception as error:
        # Other libraries, such as PyTorch, report JAX's tracers in errors of their own.
        if not isinstance(error, UNTRACEABLE) and "Tracer" not in str(error):
            raise
        raise BadInput(
            f"{who} cannot be traced by JAX ({type(error).__name__}): it must use jax.numpy and no "
            "Python branches on values; "
            "nearest: irl_bench.host_policy(policy), slower, for NumPy and PyTorch"
        ) from error
    shape = () if world.n_actions is not None else (world.action_size,)
    kind = np.integer if world.n_actions is not None else np.floating
    wanted = f"{kind.__name__}{list(shape)}"
    action = result
    if learner.carry is not None:
        if not (isinstance(result, tuple) and len(result) == 2):
            raise BadInput(
                f"{who} has a carry and must return (action, carry), not {shapes(result)}"
            )
        action = result[0]
        if not _alike(result[1], learner.carry):
            is_swapped = (
                _alike(action, learner.carry) and getattr(result[1], "shape", None) == shape
            )
            swapped = (
                "; nearest: return (action, carry), not (carry, action)"
                if is_swapped and action.shape != shape
                else ""
            )
            raise BadInput(
                f"{who} must return its carry as it was given, {shapes(learner.carry)}, not "
                f"{shapes(result[1])}{swapped}"
            )
    if getattr(action, "shape", None) != shape or not jnp.issubdtype(action.dtype, kind):
        raise BadInput(f"{who}'s action must be {wanted} in {world.name}, not {shapes(action)}")


UNTRACEABLE = (
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.ConcretizationTypeError,
)
"""JAX's errors where a function needs a value that is known only when the program runs."""


def _alike(tree: Any, other: Any) -> bool:
    """Whether two pytrees have one structure, with leaves of one shape and type, as a scan needs.
    A namedtuple is not like a tuple."""
    tree, other = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), (tree, other)
    )
    try:
        chex.assert_trees_all_equal_shapes_and_dtypes(tree, other)
    except AssertionError:
        return False
    return True


def shapes(tree: Any, axes: int = 0) -> str:
    """Returns the types and shapes of a pytree's leaves as text, and its type if it is a container.

    Args:
      tree: a pytree of arrays or of their shapes.
      axes: number of leading axes to leave out.
    """
    leaves = [
        f"{jnp.result_type(x)}{list(jnp.shape(x)[axes:])}"
        if hasattr(x, "shape")
        else type(x).__name__
        for x in jax.tree.leaves(tree)
    ]
    alone = len(leaves) == 1 and not isinstance(tree, tuple | list | dict)
    return leaves[0] if alone else f"{type(tree).__name__}({', '.join(leaves)})"

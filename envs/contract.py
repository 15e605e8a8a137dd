"""Checks whether a world keeps the contract of `envs.core.World` before anything learns in it.

    warnings = envs.contract.check(world)   # raises ContractError, one line, on the first mistake

The checks go from attributes to shapes and types (by abstract evaluation) to the numbers of a short
rollout. Exceptions that the world's own methods raise pass through with their traceback.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

from envs.core import State, World, dial_fields
from envs.names import is_file, nearest

__all__ = ["ContractError", "check", "check_shapes", "check_values"]

EPISODES, STEPS = 8, 64
"""Number of episodes per kind of action in the rollout, and their length [steps], at most the
world's horizon."""
EXPERT, RANDOM, BROKEN = 0, 1, 2
"""Kinds of episodes by the actions that are executed: the expert's, uniformly random, NaN."""
ACTION_SLACK, COST_SLACK, DIAL_SLACK = 1e-3, 1e-5, 1e-6
"""How far actions, graded costs and dials (relative) may lie outside their ranges, for rounding in
float32."""

ADDRESS = re.compile(r"0x[0-9a-f]+")
"""The address of a function in the text of a traced program."""
WORLD_NAME = re.compile(r"[A-Za-z0-9._-]+")
MODE_NAME = re.compile(r"[A-Za-z0-9._:-]+")

COUNTS = (
    ("horizon", 2, False, "horizon = 512, the longest horizon the world is meant for"),
    ("n_actions", 2, True, "the number of actions, or None in a continuous world"),
    ("observation_size", 1, False, "the length of the observation, which is one flat vector"),
    ("action_size", 1, False, "the length of an action"),
    (
        "recovery_steps",
        1,
        True,
        "the steps in which the expert undoes a failure, or None if it cannot",
    ),
    (
        "latency",
        1,
        False,
        "the steps from a wrong action to the failure it causes, 1 if the next state fails",
    ),
)
"""Attributes that hold a whole number: (name, lowest value, whether None is allowed, what to
write)."""

METHODS = {"reset": ("key",), "step": ("state", "action"), "expert": ("state", "key")}
"""Methods of a world, with the arguments that they are called with."""

UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
"""Errors that JAX raises where code needs a value that is known only when the program runs."""


class ContractError(ValueError):
    """A world breaks the contract. The message is one line: what is wrong, what is expected and how
    to fix it."""


def check(world: World) -> tuple[str, ...]:
    """Checks that `world` keeps the contract of `envs.core.World`.

    Args:
      world: with its default dials, or bound to other numbers.

    Returns:
      Warnings, one line each, about what is allowed but probably a mistake.

    Raises:
      ContractError: on the first violation.
    """
    check_shapes(world)
    return (*_frozen(world), *check_values(world))


def check_shapes(world: World) -> None:
    """Checks attributes, shapes and types without computing any number.

    Raises:
      ContractError: on the first violation.
    """
    if not isinstance(world, World):
        kind = world.__name__ if isinstance(world, type) else type(world).__name__
        hint = (
            f"{kind}(), an instance"
            if isinstance(world, type)
            else f"class {kind}(envs.core.World)"
        )
        _fail(f"{kind} is not an envs.core.World", hint)
    _check_name(world)
    _check_counts(world)
    _check_dials(world)
    _check_modes(world)
    _check_flags(world)
    _check_options(world)
    _check_methods(world)
    before = _traced(world, "reset", jax.eval_shape(jax.random.PRNGKey, 0))
    _check_state(world, before)
    after = _traced(world, "step", before, _action(world))
    _check_carried(world, before, after)
    if world.has_expert:
        _check_action(
            world, _traced(world, "expert", before, jax.eval_shape(jax.random.PRNGKey, 0))
        )


def check_values(world: World) -> tuple[str, ...]:
    """Checks the numbers of a short rollout of a world that `check_shapes` accepts.

    Returns:
      Warnings, as `check`.

    Raises:
      ContractError: on the first violation.
    """
    steps = min(STEPS, int(world.horizon))
    rollout = jax.device_get(
        jax.jit(lambda dials: _play(world.bind(dials), steps))(
            jax.tree.map(jnp.float32, world.dials)
        )
    )
    kinds = _kinds()
    expert = (kinds == EXPERT) & world.has_expert
    _check_finite(world, rollout, expert)
    _check_costs(world, rollout, kinds)
    if world.has_expert:
        _check_expert(world, rollout, kinds)
    return _warnings(world, rollout, kinds, expert)


def _fail(problem: str, fix: str) -> NoReturn:
    """Raises ContractError with a problem and what to write instead."""
    raise ContractError(f"{problem}; nearest: {fix}")


def _shown(value: Any) -> str:
    """Returns a value as text on one line, cut if it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_whole(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number of Python or NumPy."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check_name(world: World) -> None:
    """Raises ContractError unless the world's name can stand in flags and file names."""
    name, kind = getattr(world, "name", None), type(world).__name__
    if not isinstance(name, str) or not WORLD_NAME.fullmatch(name):
        what = (
            "is missing"
            if name is None
            else f"is {_shown(name)}, not letters, digits, '.', '_' and '-'"
        )
        _fail(f"{kind}.name {what}", f'name = "{kind.lower()}"')


def _check_counts(world: World) -> None:
    """Raises ContractError unless the attributes in `COUNTS` are whole numbers in range."""
    for attribute, least, optional, fix in COUNTS:
        value = getattr(world, attribute, None)
        if value is None and optional:
            continue
        if not _is_whole(value) or int(value) < least:
            actual = "missing" if value is None else _shown(value)
            none = " or None" if optional else ""
            _fail(f"{world.name}.{attribute} is {actual}, not a whole number >= {least}{none}", fix)


def _check_dials(world: World) -> None:
    """Raises ContractError unless the dials are a flax dataclass of numbers in their ranges."""
    name, dials = world.name, getattr(world, "dials", None)
    if (
        dials is None
        or isinstance(dials, type)
        or not dataclasses.is_dataclass(dials)
        or not hasattr(dials, "replace")
    ):
        actual = "missing" if dials is None else _shown(dials)
        _fail(
            f"{name}.dials is {actual}, not an instance of a flax dataclass",
            "@flax.struct.dataclass, and self.dials = Dials()",
        )
    for dial, field in dial_fields(dials).items():
        problem = _objection(getattr(dials, dial), field)
        if problem:
            _fail(
                f"{name}.dials.{dial} {problem}",
                f"{dial}: float = envs.core.dial(0.5, 'what it is', low=0.0, high=1.0)",
            )
        if not field.metadata.get("pytree_node", True):
            _fail(
                f"{name}.dials.{dial} is static, but a dial is data",
                f"envs.core.dial instead of flax.struct.field for {dial}",
            )


def _objection(value: Any, field: dataclasses.Field) -> str | None:
    """Returns what is wrong with the value of a dial, None if it is valid."""
    numeric = isinstance(value, bool | int | float | np.generic | np.ndarray | jax.Array)
    if not numeric or np.shape(value) != () or np.asarray(value).dtype.kind not in "biuf":
        return f"is {_shown(value)}, not a number"
    low, high = (
        float(field.metadata.get(end, edge))
        for end, edge in (("low", -math.inf), ("high", math.inf))
    )
    number = float(value)
    slack = DIAL_SLACK * abs(number)
    if not math.isfinite(number) or not low - slack <= number <= high + slack:
        return f"is {number:g}, not a finite number in [{low:g}, {high:g}]"
    return None


def _check_modes(world: World) -> None:
    """Raises ContractError unless the modes map names to valid changes of dials."""
    modes, fields, name = world.modes, dial_fields(world.dials), world.name
    if not isinstance(modes, Mapping) or not modes:
        _fail(
            f"{name}.modes is {_shown(modes)}, not a mapping of names to changed dials",
            'modes = {"nominal": {}}',
        )
    for mode, changes in modes.items():
        if not isinstance(mode, str) or not MODE_NAME.fullmatch(mode):
            _fail(
                f"{name}.modes has the name {_shown(mode)}, not letters, digits, '.', '_' and '-'",
                '"nominal"',
            )
        if not isinstance(changes, Mapping):
            _fail(
                f"{name}.modes[{mode!r}] is {_shown(changes)}, not a mapping of dials to values",
                "{} for a mode that changes no dial",
            )
        for dial, value in changes.items():
            if dial not in fields:
                near = nearest(dial, fields)
                _fail(
                    f"{name}.modes[{mode!r}] changes {_shown(dial)}, which is no dial",
                    repr(near) if near else "{}, as the world has no dials",
                )
            problem = _objection(value, fields[dial])
            if problem:
                _fail(
                    f"{name}.modes[{mode!r}][{dial!r}] {problem}",
                    _shown(getattr(world.dials, dial)),
                )


def _check_flags(world: World) -> None:
    """Raises ContractError unless the failure flags are indices of the observation."""
    flags, size = world.failure_flags, int(world.observation_size)
    if not isinstance(flags, Sequence) or isinstance(flags, str):
        _fail(
            f"{world.name}.failure_flags is {_shown(flags)}, not a tuple of indices of the "
            "observation",
            "failure_flags = ()",
        )
    for flag in flags:
        if not _is_whole(flag) or not 0 <= flag < size:
            last = "0" if size == 1 else f"0 .. {size - 1}"
            _fail(
                f"{world.name}.failure_flags holds {_shown(flag)}, not an index of the "
                f"observation, {last}",
                f"({size - 1},)",
            )


def _check_options(world: World) -> None:
    """Raises ContractError unless the options list their values and the chosen ones are valid."""
    name, options, chosen, files = world.name, world.options, world.chosen, world.files
    example = 'options = {"backend": ("spring", "mjx")}, and chosen = {"backend": "spring"}'
    for attribute, value in (("options", options), ("chosen", chosen)):
        if not isinstance(value, Mapping):
            _fail(f"{name}.{attribute} is {_shown(value)}, not a mapping", example)
    for option, valid in options.items():
        if (
            not isinstance(valid, tuple | list)
            or not valid
            or not all(isinstance(value, str) for value in valid)
        ):
            _fail(
                f"{name}.options[{option!r}] is {_shown(valid)}, not a tuple of strings, the "
                "default first",
                example,
            )
        if option in dial_fields(world.dials):
            _fail(
                f"{name}.options has {option!r}, which is a dial too",
                "another name for the option or the dial",
            )
        is_path = is_file(chosen.get(option), files.get(option, ""))
        if option in chosen and chosen[option] not in valid and not is_path:
            _fail(
                f"{name}.chosen[{option!r}] is {_shown(chosen[option])}, not one of its options",
                repr(valid[0]),
            )


def _check_methods(world: World) -> None:
    """Raises ContractError unless the methods accept the arguments of `METHODS`."""
    if world.has_expert and type(world).expert is World.expert:
        _fail(f"{world.name} has no expert", "def expert(self, state, key), or has_expert = False")
    for method, arguments in METHODS.items():
        try:
            signature = inspect.signature(getattr(world, method))
        except (TypeError, ValueError):  # some callables have no signature
            continue
        try:
            signature.bind(*arguments)
        except TypeError:
            accepted, expected = ", ".join(signature.parameters), ", ".join(arguments)
            _fail(
                f"{world.name}.{method}({accepted}) cannot be called as {method}({expected})",
                f"def {method}(self, {expected})",
            )


def _traced(world: World, method: str, *arguments: Any) -> Any:
    """Returns the shapes and types of `world.method(*arguments)` with dials that are traced
    float32 scalars."""

    def call(dials: Any, *arguments: Any) -> Any:
        bound = world.bind(dials)
        if not isinstance(bound, World):
            _fail(
                f"{world.name}.bind(dials) returns {_described(bound)}, not a world",
                "the bind of envs.core.World",
            )
        result = getattr(bound, method)(*arguments)
        _check_result(world, method, result)
        return result

    try:
        return jax.eval_shape(
            call,
            jax.tree.map(lambda _: jax.ShapeDtypeStruct((), jnp.float32), world.dials),
            *arguments,
        )
    except ContractError:
        raise
    except Exception as error:
        _explain(world, method, arguments, error)
        raise


def _check_result(world: World, method: str, result: Any) -> None:
    """Raises ContractError for a result whose type is wrong, whatever its shapes."""
    where = f"{world.name}.{method}"
    if method != "expert" and not isinstance(result, State):
        _fail(
            f"{where} returns {_described(result)}, not a brax.envs.base.State",
            "State(inner, obs, reward, done, metrics)",
        )
    for path, leaf in jax.tree_util.tree_flatten_with_path(result)[0]:
        array = isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind in "biufc"
        if not array and not isinstance(leaf, jax.Array | bool | int | float | complex):
            name = f"{'action' if method == 'expert' else 'state'}{jax.tree_util.keystr(path)}"
            _fail(
                f"{where}: {name} is {_shown(leaf)}, not an array",
                "an attribute of the world for a value that never changes",
            )
    if method == "step" and isinstance(result.reward, bool | int | float):
        _fail(
            f"{where}: reward is a Python {type(result.reward).__name__}, not an array",
            "jnp.float32(reward)",
        )


def _explain(world: World, method: str, arguments: Sequence[Any], error: Exception) -> None:
    """Raises ContractError if the method failed because JAX traces it; the caller raises any other
    error again."""
    where = f"{world.name}.{method}"
    kind, place = type(error).__name__, _place(getattr(world, method), error)
    untraced = _attempt(world, method, arguments)
    if untraced is None:
        dials = dial_fields(world.dials)
        culprit = next((dial for dial in dials if _attempt(world, method, arguments, dial)), None)
        what = f"dial {culprit!r}" if culprit else "a dial"
        raise ContractError(
            f"{where}: {what} is data, a float32 scalar that JAX traces, so Python cannot use it "
            f"as a number or in control flow ({kind}{place}); nearest: "
            f"jnp.where(self.dials.{culprit or 'x'} > 0.0, a, b)"
        ) from error
    if isinstance(untraced, UNTRACEABLE) or "Tracer" in str(untraced):
        raise ContractError(
            f"{where} cannot be traced by JAX ({kind}{place}): it uses a value as a Python number "
            "or in Python control flow; nearest: jax.numpy, with jnp.where or jax.lax.cond for a "
            "branch"
        ) from error


def _attempt(
    world: World, method: str, arguments: Sequence[Any], dial: str | None = None
) -> Exception | None:
    """Calls the method with `dial` as the only traced dial, or with none; returns what it raises,
    None if nothing."""

    def call(value: jax.Array, *arguments: Any) -> None:
        bound = world.bind(world.dials.replace(**{dial: value})) if dial else world
        getattr(bound, method)(*arguments)

    try:
        jax.eval_shape(call, jax.ShapeDtypeStruct((), jnp.float32), *arguments)
    except Exception as error:
        return error
    return None


def _place(method: Callable, error: Exception) -> str:
    """Returns " at FILE:LINE", the last line of the traceback in the method's own file; "" if there
    is no such line."""
    try:
        file = inspect.getfile(inspect.unwrap(method))
    except TypeError:  # a callable that is no Python function has no file
        return ""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == file
    ]
    return f" at {Path(file).name}:{lines[-1]}" if lines else ""


def _is_leaf(value: Any) -> bool:
    """Whether a value has a shape and a type, like an array."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _described(value: Any) -> str:
    """Describes a value in a few words: "float32[2]", "a dict (position, speed)", "None"."""
    if _is_leaf(value):
        return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
    if value is None:
        return "None"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} ({', '.join(map(str, value))})"
    size = f" of {len(value)}" if isinstance(value, list | tuple) else ""
    return f"a {type(value).__name__}{size}"


def _check_state(world: World, state: State) -> None:
    """Raises ContractError unless observation, reward, done and costs after reset have the types
    of the contract."""
    where = f"{world.name}.reset"
    _check_observation(world, state.obs)
    _check_scalar(where, "reward", state.reward)
    _check_scalar(where, "done", state.done, any_type=True)
    metrics = state.metrics
    for cost in ("cost", "graded_cost"):
        if not isinstance(metrics, Mapping) or cost not in metrics:
            content = _described(metrics) if metrics else "empty"
            entry = (
                '"cost": failed.astype(jnp.float32)' if cost == "cost" else '"graded_cost": cost'
            )
            _fail(
                f"{where}: metrics has no {cost!r}, it is {content}", f"metrics = {{{entry}, ...}}"
            )
        _check_scalar(where, cost, metrics[cost])


def _check_observation(world: World, obs: Any) -> None:
    """Raises ContractError unless the observation is float32[O]."""
    size = int(world.observation_size)
    if not _is_leaf(obs):
        parts = "obs.values()" if isinstance(obs, Mapping) else "obs"
        fix = f"jnp.concatenate([jnp.ravel(part) for part in {parts}])"
    elif obs.ndim == 0:
        fix = "obs[None]"
    elif obs.ndim > 1:
        fix = "obs.reshape(-1)"
    elif obs.dtype != jnp.float32:
        fix = "obs.astype(jnp.float32)"
    elif obs.shape != (size,):
        fix = f"observation_size = {obs.shape[0]}"
    else:
        return
    _fail(f"{world.name}.reset: obs is {_described(obs)}, not float32[{size}]", fix)


def _check_scalar(where: str, name: str, value: Any, any_type: bool = False) -> None:
    """Raises ContractError unless the value is float32[], or any scalar if `any_type`."""
    if not _is_leaf(value):
        fix = f"{name} = jnp.zeros(())"
    elif value.shape == (1,):
        fix = f"{name}[0]"
    elif value.shape:
        fix = f"one number per state, such as jnp.max({name})"
    elif not any_type and value.dtype != jnp.float32:
        fix = f"{name}.astype(jnp.float32)"
    else:
        return
    _fail(
        f"{where}: {name} is {_described(value)}, not {'a scalar' if any_type else 'float32[]'}",
        fix,
    )


def _check_carried(world: World, before: State, after: State) -> None:
    """Raises ContractError unless `step` returns the structure, shapes and types that `reset`
    returns, as a scan over the state needs."""
    old, new = (
        {
            f"state{jax.tree_util.keystr(path)}": leaf
            for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
        }
        for state in (before, after)
    )
    for path in [*old, *(path for path in new if path not in old)]:
        if path not in old or path not in new:
            has, lacks = ("reset", "step") if path in old else ("step", "reset")
            _fail(
                f"{world.name}.{lacks}: {path} is missing, but {has} returns it",
                f"the same fields in both, those of {has}",
            )
        if _carries(old[path], new[path]):
            continue
        if old[path].shape != new[path].shape:
            fix = (
                f"{_described(old[path])} in both"
                if new[path].shape != (1,)
                else f"{path.rpartition('.')[2]}[0]"
            )
        else:
            fix = f".astype(jnp.{old[path].dtype}) in step, or the type of step in reset"
        _fail(
            f"{world.name}.step: {path} is {_described(new[path])} after step but "
            f"{_described(old[path])} after reset",
            fix,
        )
    for field in dataclasses.fields(before):
        first, second = getattr(before, field.name), getattr(after, field.name)
        if jax.tree.structure(first) != jax.tree.structure(second):
            change = f"{_described(second)} after step but {_described(first)} after reset"
            _fail(
                f"{world.name}.step: the structure of state.{field.name} changes, {change}",
                "the same containers in both",
            )


def _carries(before: Any, after: Any) -> bool:
    """Whether a scan accepts `after` in the place of `before`; it promotes a weakly typed start."""
    if before.shape != after.shape:
        return False
    return before.dtype == after.dtype or (
        before.weak_type and jnp.result_type(before, after) == after.dtype
    )


def _action(world: World) -> jax.ShapeDtypeStruct:
    """Returns the shape and type of an action of the world."""
    if world.n_actions is not None:
        return jax.ShapeDtypeStruct((), jnp.int32)
    return jax.ShapeDtypeStruct((int(world.action_size),), jnp.float32)


def _check_action(world: World, action: Any) -> None:
    """Raises ContractError unless the expert's action has the world's shape and type."""
    expected, discrete = _action(world), world.n_actions is not None
    if not _is_leaf(action):
        fix = "the action alone, as an array"
    elif discrete and action.shape == (world.n_actions,):
        fix = "jnp.argmax(action).astype(jnp.int32)"
    elif discrete and action.shape:
        fix = "action[0]" if action.shape == (1,) else "the number of one action"
    elif action.ndim == 0 and not discrete:
        fix = (
            "action[None]"
            if expected.shape == (1,)
            else f"jnp.stack of {expected.shape[0]} components"
        )
    elif action.ndim > 1:
        fix = "action.reshape(-1)"
    elif action.dtype != expected.dtype:
        fix = f"action.astype(jnp.{expected.dtype.name})"
    elif action.shape != expected.shape:
        fix = f"action_size = {action.shape[0]}"
    else:
        return
    _fail(
        f"{world.name}.expert: the action is {_described(action)}, not {_described(expected)}",
        fix,
    )


def _kinds() -> np.ndarray:
    """Returns int[E], the kind of each episode of the rollout."""
    return np.repeat([EXPERT, RANDOM, BROKEN], [EPISODES, EPISODES, 1])


def _play(world: World, steps: int) -> dict[str, jax.Array]:
    """Rolls out E episodes of all kinds in one program, so that `step` is compiled once.

    Returns:
      A dictionary with
      obs: float32[E, T + 1, O]; reward, cost, graded_cost and done: [E, T + 1], from reset on;
      expert: the expert's actions at the first T of these states, [E, T] or [E, T, A]; absent
        in a world without an expert;
      alike: bool[], whether all episodes begin in exactly the same state.
    """

    def outputs(state: State) -> dict[str, Any]:
        costs = {name: state.metrics[name] for name in ("cost", "graded_cost")}
        return {"obs": state.obs, "reward": state.reward, "done": state.done, **costs}

    def episode(key: jax.Array, kind: jax.Array) -> Any:
        reset_key, key = jax.random.split(key)

        def step(state: State, key: jax.Array) -> Any:
            expert_key, draw = jax.random.split(key)
            action = random_action = _draw(world, draw)
            answers = {}
            if world.has_expert:
                answers["expert"] = world.expert(state, expert_key)
                action = jnp.where(kind == EXPERT, answers["expert"], random_action)
            if world.n_actions is None:
                action = jnp.where(kind == BROKEN, jnp.nan, action)
            after = world.step(state, action)
            return after, (outputs(after), answers)

        start = world.reset(reset_key)
        _, (later, answers) = jax.lax.scan(step, start, jax.random.split(key, steps))
        return start, outputs(start), later, answers

    kinds = jnp.asarray(_kinds())
    starts, first, later, answers = jax.vmap(episode)(
        jax.random.split(jax.random.PRNGKey(0), len(kinds)), kinds
    )
    values = jax.tree.map(lambda a, b: jnp.concatenate([a[:, None], b], 1), first, later)
    alike = jnp.stack([(leaf == leaf[:1]).all() for leaf in jax.tree.leaves(starts)]).all()
    return {**values, **answers, "alike": alike}


def _draw(world: World, key: jax.Array) -> jax.Array:
    """Draws a uniformly random action; `key` is consumed."""
    expected = _action(world)
    if world.n_actions is not None:
        return jax.random.randint(key, (), 0, world.n_actions, expected.dtype)
    return jax.random.uniform(key, expected.shape, expected.dtype, -1.0, 1.0)


def _unsound(values: np.ndarray) -> np.ndarray:
    """Returns bool[E, T], the steps at which some value is not finite."""
    return np.any(~np.isfinite(values.reshape(*values.shape[:2], -1)), axis=-1)


def _check_finite(world: World, rollout: Mapping[str, np.ndarray], expert: np.ndarray) -> None:
    """Raises ContractError for numbers that are not finite after any reset or in the expert's
    episodes."""
    numbers = {name: _unsound(rollout[name]) for name in ("obs", "reward", "cost", "graded_cost")}
    for name, unsound in numbers.items():
        if unsound[:, 0].any():
            _fail(
                f"{world.name}.reset: {name} is not finite",
                "a start that is finite for every key",
            )
    if world.has_expert and (_unsound(rollout["expert"]) & ~numbers["obs"][:, :-1])[expert].any():
        _fail(
            f"{world.name}.expert: an action is not finite in a state that is",
            "jnp.where around what divides by zero",
        )
    for name, unsound in numbers.items():
        if unsound[expert].any():
            step = int(np.argmax(unsound[expert].any(0)))
            _fail(
                f"{world.name}.step: {name} is not finite at step {step} of an episode of the "
                "expert's",
                "jnp.clip on the value that grows",
            )


def _check_costs(world: World, rollout: Mapping[str, np.ndarray], kinds: np.ndarray) -> None:
    """Raises ContractError for finite costs outside their ranges; `_check_finite` and `_warnings`
    report the others."""
    cost, graded = rollout["cost"][kinds != BROKEN], rollout["graded_cost"][kinds != BROKEN]
    odd = cost[np.isfinite(cost) & (cost != 0.0) & (cost != 1.0)]
    if odd.size:
        largest = odd[np.argmax(np.abs(odd))]
        fix = "1.0 if the state just reached is a failure, else 0.0; values between in graded_cost"
        _fail(f"{world.name}: cost is {largest:g}, not 0 or 1", fix)
    if (cost[:, 0] != 0.0).any():
        _fail(
            f"{world.name}.reset: cost is {cost[:, 0].max():g}, not 0",
            "jnp.zeros(()), as no action has been taken yet",
        )
    graded = graded[np.isfinite(graded)]
    largest = graded[np.argmax(np.abs(graded - 0.5))]
    if not -COST_SLACK <= largest <= 1.0 + COST_SLACK:
        _fail(
            f"{world.name}: graded_cost is {largest:g}, not in [0, 1]",
            "jnp.clip(graded_cost, 0.0, 1.0)",
        )


def _check_expert(world: World, rollout: Mapping[str, np.ndarray], kinds: np.ndarray) -> None:
    """Raises ContractError for actions of the expert outside their range, in its own states and
    in those that random actions reach."""
    where, actions = f"{world.name}.expert", rollout["expert"][kinds != BROKEN]
    actions = actions[np.isfinite(actions)]
    if world.n_actions is None:
        largest = actions[np.argmax(np.abs(actions))]
        if abs(largest) > 1.0 + ACTION_SLACK:
            _fail(
                f"{where}: an action is {largest:g}, not in [-1, 1]", "jnp.clip(action, -1.0, 1.0)"
            )
        return
    last = world.n_actions - 1
    largest = actions[np.argmax(np.abs(actions - last / 2))]
    if not 0 <= largest <= last:
        fix = f"n_actions = {largest + 1}" if largest > last else "0"
        _fail(f"{where}: an action is {largest}, not one of 0 .. {last}", fix)


def _frozen(world: World) -> tuple[str, ...]:
    """Returns a warning for each method that traces to a different program the second time, which
    means that it draws numbers outside JAX."""
    key, dials = jax.random.PRNGKey(0), jax.tree.map(jnp.float32, world.dials)
    state = jax.eval_shape(lambda dials: world.bind(dials).reset(key), dials)
    calls: dict[str, tuple[Any, tuple]] = {
        "reset": (lambda dials: world.bind(dials).reset(key), (dials,)),
        "step": (
            lambda dials, state, action: world.bind(dials).step(state, action),
            (dials, state, _action(world)),
        ),
    }
    if world.has_expert:
        calls["expert"] = (
            lambda dials, state: world.bind(dials).expert(state, key),
            (dials, state),
        )

    def program(method: str) -> tuple[str, list[bytes]]:
        function, arguments = calls[method]
        # JAX caches traces by function, so this is a new function each time.
        traced = jax.make_jaxpr(lambda *values: function(*values))(*arguments)
        keys = [
            jnp.issubdtype(jnp.result_type(const), jax.dtypes.prng_key) for const in traced.consts
        ]
        plain = [
            jax.random.key_data(x) if key else x for x, key in zip(traced.consts, keys, strict=True)
        ]
        return ADDRESS.sub("", str(traced.jaxpr)), [np.asarray(const).tobytes() for const in plain]

    return tuple(
        f"{world.name}.{method} traces to a different program each time, as if it drew numbers "
        "outside JAX, which compilation would freeze; nearest: jax.random with a key in the state"
        for method in calls
        if program(method) != program(method)
    )


def _warnings(
    world: World, rollout: Mapping[str, np.ndarray], kinds: np.ndarray, expert: np.ndarray
) -> tuple[str, ...]:
    """Returns warnings, one line each, about what is allowed but probably a mistake."""
    name, valid = world.name, kinds != BROKEN
    warnings = []
    if (rollout["done"][valid] != 0).any():
        warnings.append(
            f"{name} sets done, which is ignored: a failure never ends an episode here, its cost "
            "is paid until the horizon"
        )
    numbers = [
        field for field in ("obs", "reward", "cost", "graded_cost", "expert") if field in rollout
    ]
    unsound = [field for field in numbers if _unsound(rollout[field])[valid & ~expert].any()]
    if unsound:
        warnings.append(
            f"{name}: {', '.join(unsound)} not finite under random actions; a policy that gets "
            "there counts as failed"
        )
    if rollout["alike"]:
        warnings.append(
            f"{name}.reset ignores its key: all episodes begin in the same state, with the same "
            "random numbers to come"
        )
    if world.n_actions is None and (rollout["cost"][~valid, 1] == 0.0).any():
        warnings.append(
            f"{name}.step: cost is 0 after an action that is not a number, which a trainer may "
            "take for success; nearest: cost + envs.core.soundness(action)"
        )
    return tuple(warnings)

"""Whether a world keeps the contract of `envs.core.World`, found out before anything learns in it.

# raises ContractError, one line, on the first thing that is wrong
warnings = envs.contract.check(world)

The attributes are looked at first, then the shapes and types by abstract evaluation, then the
numbers of a short rollout. Whatever a world's own methods raise passes through: it is theirs, and
needs its traceback.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from envs.core import State, World, dial_fields
from envs.names import nearest

__all__ = ["ContractError", "check", "check_shapes", "check_values"]

EPISODES, STEPS = 8, 64
"""Episodes of each kind of action in the rollout, and their length [steps] in a world whose
horizon is not shorter."""
EXPERT, RANDOM, BROKEN = 0, 1, 2
"""Kinds of episodes, by whose actions are executed: the expert's, uniformly random ones, and
NaN."""
ACTION_SLACK, COST_SLACK, DIAL_SLACK = 1e-3, 1e-5, 1e-6
"""How far outside their ranges actions, graded costs and dials (relative) may lie: float32
rounds."""

ADDRESS = re.compile(r"0x[0-9a-f]+")
"""Of a function, where a program names one."""
WORLD_NAME = re.compile(r"[A-Za-z0-9._-]+")
MODE_NAME = re.compile(r"[A-Za-z0-9._:-]+")

COUNTS = (
    ("horizon", 2, False, "horizon = 512, the longest horizon that the world is meant for"),
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
"""Attributes that hold a whole number: name, least value, whether None is allowed, and what it
should be."""

METHODS = {"reset": ("key",), "step": ("state", "action"), "expert": ("state", "key")}
"""What a world is asked, and with which arguments."""

UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
"""What JAX raises where a value is needed that is only known when the program runs."""


class ContractError(ValueError):
    """Something in a world that does not keep the contract; one line that names it, what is
    expected and how to mend it."""


def check(world: World) -> tuple[str, ...]:
    """Whether `world` keeps the contract of `envs.core.World`.

    Args:
      world: with its dials as they are by default, or bound to numbers.

    Returns:
      What is allowed and probably not meant, one line each.

    Raises:
      ContractError: on the first thing that is wrong.
    """
    check_shapes(world)
    return (*_frozen(world), *check_values(world))


def check_shapes(world: World) -> None:
    """Checks attributes, shapes and types; nothing is computed. Raises ContractError as `check`."""
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
    """Checks the numbers of a short rollout of a world whose shapes are right. Returns and
    raises as `check`."""
    steps = min(STEPS, int(world.horizon))
    seen = jax.device_get(
        jax.jit(lambda dials: _play(world.bind(dials), steps))(
            jax.tree.map(jnp.float32, world.dials)
        )
    )
    kinds = _kinds()
    expert = (kinds == EXPERT) & world.has_expert
    _check_finite(world, seen, expert)
    _check_costs(world, seen, kinds)
    if world.has_expert:
        _check_expert(world, seen, kinds)
    return _warnings(world, seen, kinds, expert)


def _fail(problem: str, mend: str) -> NoReturn:
    raise ContractError(f"{problem}; nearest: {mend}")


def _shown(value: Any) -> str:
    """A value on one line, cut if it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check_name(world: World) -> None:
    name, kind = getattr(world, "name", None), type(world).__name__
    if not isinstance(name, str) or not WORLD_NAME.fullmatch(name):
        what = (
            "is missing"
            if name is None
            else f"is {_shown(name)}, not letters, digits, '.', '_' and '-'"
        )
        _fail(f"{kind}.name {what}", f'name = "{kind.lower()}"')


def _check_counts(world: World) -> None:
    for attribute, least, optional, mend in COUNTS:
        value = getattr(world, attribute, None)
        if value is None and optional:
            continue
        if not _is_whole(value) or int(value) < least:  # type: ignore[arg-type]
            found = "missing" if value is None else _shown(value)
            none = " or None" if optional else ""
            _fail(f"{world.name}.{attribute} is {found}, not a whole number >= {least}{none}", mend)


def _check_dials(world: World) -> None:
    name, dials = world.name, getattr(world, "dials", None)
    if (
        dials is None
        or isinstance(dials, type)
        or not dataclasses.is_dataclass(dials)
        or not hasattr(dials, "replace")
    ):
        found = "missing" if dials is None else _shown(dials)
        _fail(
            f"{name}.dials is {found}, not an instance of a dataclass of flax",
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
                f"envs.core.dial for flax.struct.field in {dial}",
            )


def _objection(value: Any, field: dataclasses.Field) -> str | None:
    """What is wrong with the value of a dial, None if nothing is."""
    number = isinstance(value, bool | int | float | np.generic | np.ndarray | jax.Array)
    if not number or np.shape(value) != () or np.asarray(value).dtype.kind not in "biuf":
        return f"is {_shown(value)}, not a number"
    low, high = (
        float(field.metadata.get(end, edge))
        for end, edge in (("low", -math.inf), ("high", math.inf))
    )
    found = float(value)
    slack = DIAL_SLACK * abs(found)
    if not math.isfinite(found) or not low - slack <= found <= high + slack:
        return f"is {found:g}, not a finite number in [{low:g}, {high:g}]"
    return None


def _check_modes(world: World) -> None:
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
                "{} for the world as it is",
            )
        for dial, value in changes.items():
            if dial not in fields:
                near = nearest(dial, fields)
                _fail(
                    f"{name}.modes[{mode!r}] changes {_shown(dial)}, which is no dial",
                    repr(near) if near else "{}: it has none",
                )
            problem = _objection(value, fields[dial])
            if problem:
                _fail(
                    f"{name}.modes[{mode!r}][{dial!r}] {problem}",
                    _shown(getattr(world.dials, dial)),
                )


def _check_flags(world: World) -> None:
    flags, size = world.failure_flags, int(world.observation_size)  # type: ignore[arg-type]
    if not isinstance(flags, Sequence) or isinstance(flags, str):
        _fail(
            f"{world.name}.failure_flags is {_shown(flags)}, not a tuple of entries of the "
            "observation",
            "failure_flags = ()",
        )
    for flag in flags:
        if not _is_whole(flag) or not 0 <= flag < size:
            last = "0" if size == 1 else f"0 .. {size - 1}"
            _fail(
                f"{world.name}.failure_flags holds {_shown(flag)}, not an entry of the "
                f"observation, {last}",
                f"({size - 1},)",
            )


def _check_options(world: World) -> None:
    name, options, chosen = world.name, world.options, world.chosen
    example = 'options = {"backend": ("spring", "mjx")}, and chosen = {"backend": "spring"}'
    for attribute, value in (("options", options), ("chosen", chosen)):
        if not isinstance(value, Mapping):
            _fail(f"{name}.{attribute} is {_shown(value)}, not a mapping", example)
    for option, valid in options.items():
        if (
            not isinstance(valid, tuple | list)
            or not valid
            or not all(isinstance(one, str) for one in valid)
        ):
            _fail(
                f"{name}.options[{option!r}] is {_shown(valid)}, not a tuple of strings, the "
                "default first",
                example,
            )
        if option in dial_fields(world.dials):
            _fail(
                f"{name}.options has {option!r}, which is a dial too",
                "another name for one of them",
            )
        if option in chosen and chosen[option] not in valid:
            _fail(
                f"{name}.chosen[{option!r}] is {_shown(chosen[option])}, not one of its options",
                repr(valid[0]),
            )


def _check_methods(world: World) -> None:
    """Raises ContractError unless the methods can be called as they will be."""
    if world.has_expert and type(world).expert is World.expert:
        _fail(f"{world.name} has no expert", "def expert(self, state, key), or has_expert = False")
    for method, arguments in METHODS.items():
        try:
            signature = inspect.signature(getattr(world, method))
        except (TypeError, ValueError):  # some callables have none
            continue
        try:
            signature.bind(*arguments)
        except TypeError:
            own, wanted = ", ".join(signature.parameters), ", ".join(arguments)
            _fail(
                f"{world.name}.{method}({own}) cannot be called as {method}({wanted})",
                f"def {method}(self, {wanted})",
            )


def _traced(world: World, method: str, *arguments: Any) -> Any:
    """The shapes and types of `world.method(*arguments)` when its dials are data, float32
    scalars."""

    def call(dials: Any, *arguments: Any) -> Any:
        bound = world.bind(dials)
        if not isinstance(bound, World):
            _fail(
                f"{world.name}.bind(dials) returns {_described(bound)}, not a world",
                "no bind of its own: World has one",
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
    """Raises ContractError for what a method cannot return, whatever the shapes."""
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
                "an attribute of the world for what never changes",
            )
    if method == "step" and isinstance(result.reward, bool | int | float):
        _fail(
            f"{where}: reward is a Python {type(result.reward).__name__}, not an array",
            "jnp.float32(reward)",
        )


def _explain(world: World, method: str, arguments: Sequence[Any], error: Exception) -> None:
    """Raises ContractError if the method failed because JAX traces it; what else it raised is
    its own affair."""
    where = f"{world.name}.{method}"
    kind, place = type(error).__name__, _place(getattr(world, method), error)
    own = _attempt(world, method, arguments)
    if own is None:
        dials = dial_fields(world.dials)
        culprit = next((dial for dial in dials if _attempt(world, method, arguments, dial)), None)
        what = f"dial {culprit!r}" if culprit else "a dial"
        raise ContractError(
            f"{where}: {what} is data, a float32 scalar that JAX traces, and cannot be used as a "
            "Python number or in Python "
            f"control flow ({kind}{place}); nearest: jnp.where(self.dials.{culprit or 'x'} > 0.0, "
            "a, b)"
        ) from error
    if isinstance(own, UNTRACEABLE) or "Tracer" in str(own):
        raise ContractError(
            f"{where} cannot be traced by JAX ({kind}{place}): it uses a value as a Python number "
            "or in Python control flow; "
            "nearest: jax.numpy, with jnp.where or jax.lax.cond for a branch"
        ) from error


def _attempt(
    world: World, method: str, arguments: Sequence[Any], dial: str | None = None
) -> Exception | None:
    """What the method raises when only `dial` is data, or none is; None if nothing."""

    def call(value: jax.Array, *arguments: Any) -> None:
        bound = world.bind(world.dials.replace(**{dial: value})) if dial else world
        getattr(bound, method)(*arguments)

    try:
        jax.eval_shape(call, jax.ShapeDtypeStruct((), jnp.float32), *arguments)
    except Exception as error:
        return error
    return None


def _place(method: Callable, error: Exception) -> str:
    """Where the error came from, the last line in the method's own file: " at FILE:LINE", or ""
    if no line is there."""
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
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _described(value: Any) -> str:
    """What a value is in a few words: "float32[2]", "a dict (position, speed)", "None"."""
    if _is_leaf(value):
        return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
    if value is None:
        return "None"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} ({', '.join(map(str, value))})"
    size = f" of {len(value)}" if isinstance(value, list | tuple) else ""
    return f"a {type(value).__name__}{size}"


def _check_state(world: World, state: State) -> None:
    """Raises ContractError unless the state after reset is as the contract has it."""
    where = f"{world.name}.reset"
    _check_observation(world, state.obs)
    _check_scalar(where, "reward", state.reward)
    _check_scalar(where, "done", state.done, any_type=True)
    metrics = state.metrics
    for cost in ("cost", "graded_cost"):
        if not isinstance(metrics, Mapping) or cost not in metrics:
            held = _described(metrics) if metrics else "empty"
            other = (
                '"cost": failed.astype(jnp.float32)' if cost == "cost" else '"graded_cost": cost'
            )
            _fail(f"{where}: metrics has no {cost!r}, it is {held}", f"metrics = {{{other}, ...}}")
        _check_scalar(where, cost, metrics[cost])


def _check_observation(world: World, obs: Any) -> None:
    size = int(world.observation_size)  # type: ignore[arg-type]
    if not _is_leaf(obs):
        parts = "obs.values()" if isinstance(obs, Mapping) else "obs"
        mend = f"jnp.concatenate([jnp.ravel(part) for part in {parts}])"
    elif obs.ndim == 0:
        mend = "obs[None]"
    elif obs.ndim > 1:
        mend = "obs.reshape(-1)"
    elif obs.dtype != jnp.float32:
        mend = "obs.astype(jnp.float32)"
    elif obs.shape != (size,):
        mend = f"observation_size = {obs.shape[0]}"
    else:
        return
    _fail(f"{world.name}.reset: obs is {_described(obs)}, not float32[{size}]", mend)


def _check_scalar(where: str, name: str, value: Any, any_type: bool = False) -> None:
    if not _is_leaf(value):
        mend = f"{name} = jnp.zeros(())"
    elif value.shape == (1,):
        mend = f"{name}[0]"
    elif value.shape:
        mend = f"one number per state, such as jnp.max({name})"
    elif not any_type and value.dtype != jnp.float32:
        mend = f"{name}.astype(jnp.float32)"
    else:
        return
    _fail(
        f"{where}: {name} is {_described(value)}, not {'a scalar' if any_type else 'float32[]'}",
        mend,
    )


def _check_carried(world: World, before: State, after: State) -> None:
    """Raises ContractError unless `step` returns what it was given: a scan carries the state."""
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
                f"the same fields in both, as {has} has them",
            )
        if _carries(old[path], new[path]):
            continue
        if old[path].shape != new[path].shape:
            mend = (
                f"{_described(old[path])} in both"
                if new[path].shape != (1,)
                else f"{path.rpartition('.')[2]}[0]"
            )
        else:
            mend = f".astype(jnp.{old[path].dtype}) in step, or another start in reset"
        _fail(
            f"{world.name}.step: {path} is {_described(new[path])} after step but "
            f"{_described(old[path])} after reset",
            mend,
        )
    for field in dataclasses.fields(before):
        one, other = getattr(before, field.name), getattr(after, field.name)
        if jax.tree.structure(one) != jax.tree.structure(other):
            found = f"{_described(other)} after step but {_described(one)} after reset"
            _fail(
                f"{world.name}.step: the structure of state.{field.name} changes, {found}",
                "the same containers in both",
            )


def _carries(before: Any, after: Any) -> bool:
    """Whether a scan takes `after` in the place of `before`; it promotes a start without a type
    of its own."""
    if before.shape != after.shape:
        return False
    return before.dtype == after.dtype or (
        before.weak_type and jnp.result_type(before, after) == after.dtype
    )


def _action(world: World) -> jax.ShapeDtypeStruct:
    """The shape and type of an action of the world."""
    if world.n_actions is not None:
        return jax.ShapeDtypeStruct((), jnp.int32)
    return jax.ShapeDtypeStruct((int(world.action_size),), jnp.float32)


def _check_action(world: World, action: Any) -> None:
    """Raises ContractError unless the expert's action has the world's shape and type."""
    wanted, discrete = _action(world), world.n_actions is not None
    if not _is_leaf(action):
        mend = "the action alone, as an array"
    elif discrete and action.shape == (world.n_actions,):
        mend = "jnp.argmax(action).astype(jnp.int32)"
    elif discrete and action.shape:
        mend = "action[0]" if action.shape == (1,) else "the number of one action"
    elif action.ndim == 0 and not discrete:
        mend = (
            "action[None]" if wanted.shape == (1,) else f"jnp.stack of {wanted.shape[0]} components"
        )
    elif action.ndim > 1:
        mend = "action.reshape(-1)"
    elif action.dtype != wanted.dtype:
        mend = f"action.astype(jnp.{wanted.dtype.name})"
    elif action.shape != wanted.shape:
        mend = f"action_size = {action.shape[0]}"
    else:
        return
    _fail(
        f"{world.name}.expert: the action is {_described(action)}, not {_described(wanted)}", mend
    )


def _kinds() -> np.ndarray:
    """int[E]: the kind of each episode of the rollout."""
    return np.repeat([EXPERT, RANDOM, BROKEN], [EPISODES, EPISODES, 1])


def _play(world: World, steps: int) -> dict[str, jax.Array]:
    """A rollout of E episodes, one program: the step is compiled once for all kinds of actions.

    Returns:
      obs: float32[E, T + 1, O]; reward, cost, graded_cost and done: [E, T + 1], from reset on.
      expert: the expert's actions at the first T of these states, [E, T] or [E, T, A]; absent
        without an expert.
      alike: bool[], whether all episodes begin in exactly the same state.
    """

    def look(state: State) -> dict[str, Any]:
        costs = {name: state.metrics[name] for name in ("cost", "graded_cost")}
        return {"obs": state.obs, "reward": state.reward, "done": state.done, **costs}

    def episode(key: jax.Array, kind: jax.Array) -> Any:
        reset_key, key = jax.random.split(key)

        def step(state: State, key: jax.Array) -> Any:
            expert_key, draw = jax.random.split(key)
            action = drawn = _draw(world, draw)
            asked = {}
            if world.has_expert:
                asked["expert"] = world.expert(state, expert_key)
                action = jnp.where(kind == EXPERT, asked["expert"], drawn)
            if world.n_actions is None:
                action = jnp.where(kind == BROKEN, jnp.nan, action)
            after = world.step(state, action)
            return after, (look(after), asked)

        start = world.reset(reset_key)
        _, (seen, asked) = jax.lax.scan(step, start, jax.random.split(key, steps))
        return start, look(start), seen, asked

    kinds = jnp.asarray(_kinds())
    starts, first, seen, asked = jax.vmap(episode)(
        jax.random.split(jax.random.PRNGKey(0), len(kinds)), kinds
    )
    seen = jax.tree.map(lambda one, rest: jnp.concatenate([one[:, None], rest], 1), first, seen)
    alike = jnp.stack([(leaf == leaf[:1]).all() for leaf in jax.tree.leaves(starts)]).all()
    return {**seen, **asked, "alike": alike}


def _draw(world: World, key: jax.Array) -> jax.Array:
    """A uniformly random action; `key` is consumed."""
    wanted = _action(world)
    if world.n_actions is not None:
        return jax.random.randint(key, (), 0, world.n_actions, wanted.dtype)
    return jax.random.uniform(key, wanted.shape, wanted.dtype, -1.0, 1.0)


def _unsound(values: np.ndarray) -> np.ndarray:
    """bool[E, T]: the steps of which a value is not finite."""
    return np.any(~np.isfinite(values.reshape(*values.shape[:2], -1)), axis=-1)


def _check_finite(world: World, seen: Mapping[str, np.ndarray], expert: np.ndarray) -> None:
    """Raises ContractError for numbers that are not finite after reset, whoever acts later, or
    in the expert's episodes."""
    numbers = {name: _unsound(seen[name]) for name in ("obs", "reward", "cost", "graded_cost")}
    for name, unsound in numbers.items():
        if unsound[:, 0].any():
            _fail(
                f"{world.name}.reset: {name} is not finite",
                "a start that can be computed from any key",
            )
    if world.has_expert and (_unsound(seen["expert"]) & ~numbers["obs"][:, :-1])[expert].any():
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
                "jnp.clip on what grows",
            )


def _check_costs(world: World, seen: Mapping[str, np.ndarray], kinds: np.ndarray) -> None:
    """Raises ContractError for costs outside their ranges; those that are not finite are told of
    elsewhere."""
    cost, graded = seen["cost"][kinds != BROKEN], seen["graded_cost"][kinds != BROKEN]
    odd = cost[np.isfinite(cost) & (cost != 0.0) & (cost != 1.0)]
    if odd.size:
        largest = odd[np.argmax(np.abs(odd))]
        mend = (
            "1.0 if the state just reached is a failure, else 0.0, and shades of it in graded_cost"
        )
        _fail(f"{world.name}: cost is {largest:g}, not 0 or 1", mend)
    if (cost[:, 0] != 0.0).any():
        _fail(
            f"{world.name}.reset: cost is {cost[:, 0].max():g}, not 0",
            "jnp.zeros(()), as no action has led there",
        )
    graded = graded[np.isfinite(graded)]
    largest = graded[np.argmax(np.abs(graded - 0.5))]
    if not -COST_SLACK <= largest <= 1.0 + COST_SLACK:
        _fail(
            f"{world.name}: graded_cost is {largest:g}, not in [0, 1]",
            "jnp.clip(graded_cost, 0.0, 1.0)",
        )


def _check_expert(world: World, seen: Mapping[str, np.ndarray], kinds: np.ndarray) -> None:
    """Raises ContractError for actions of the expert outside their range, at its own states and
    at those of random actions."""
    where, actions = f"{world.name}.expert", seen["expert"][kinds != BROKEN]
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
        mend = f"n_actions = {largest + 1}" if largest > last else "0"
        _fail(f"{where}: an action is {largest}, not one of 0 .. {last}", mend)


def _frozen(world: World) -> tuple[str, ...]:
    """A warning for each method that is another program when it is traced again: what differs
    was drawn outside JAX."""
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
        # A new function each time, else JAX would show what it traced before.
        traced = jax.make_jaxpr(lambda *given: function(*given))(*arguments)
        keys = [
            jnp.issubdtype(jnp.result_type(const), jax.dtypes.prng_key) for const in traced.consts
        ]
        plain = [
            jax.random.key_data(x) if key else x for x, key in zip(traced.consts, keys, strict=True)
        ]
        return ADDRESS.sub("", str(traced.jaxpr)), [np.asarray(const).tobytes() for const in plain]

    return tuple(
        f"{world.name}.{method} is another program each time it is traced, as if it drew numbers "
        "outside JAX: they are "
        "frozen into a compiled program; nearest: jax.random with a key in the state"
        for method in calls
        if program(method) != program(method)
    )


def _warnings(
    world: World, seen: Mapping[str, np.ndarray], kinds: np.ndarray, expert: np.ndarray
) -> tuple[str, ...]:
    """What is allowed and probably not meant, one line each."""
    name, judged = world.name, kinds != BROKEN
    found = []
    if (seen["done"][judged] != 0).any():
        found.append(
            f"{name} sets done; it is ignored: failure never ends an episode here, the cost is "
            "paid until the horizon"
        )
    numbers = [
        field for field in ("obs", "reward", "cost", "graded_cost", "expert") if field in seen
    ]
    unsound = [field for field in numbers if _unsound(seen[field])[judged & ~expert].any()]
    if unsound:
        found.append(
            f"{name}: {', '.join(unsound)} not finite under random actions; a policy that gets "
            "there counts as failed"
        )
    if seen["alike"]:
        found.append(
            f"{name}.reset ignores its key: all episodes begin in one state, with the same random "
            "numbers to come"
        )
    if world.n_actions is None and (seen["cost"][~judged, 1] == 0.0).any():
        found.append(
            f"{name}.step: cost is 0 after an action that is not a number, which a trainer may "
            "take for success; "
            "nearest: cost + envs.core.soundness(action)"
        )
    return tuple(found)

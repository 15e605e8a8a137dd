"""Finds algorithms, worlds and policies by name or, from outside the repository, as
`package.module:attribute`.

The SHA-256 of an outside file becomes part of every cell that uses it. After an edit its old
results are therefore not reused.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import jax
import numpy as np

import envs
from envs import contract, demonstrators
from envs.core import World, dial_fields
from envs.names import did_you_mean
from irl_bench import algos
from irl_bench.core.handover import Part
from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.settings import BadInput, Setting, settings_of, whole
from irl_bench.core.types import Spec
from irl_bench.plan import policies
from irl_bench.plan.host import HostPolicy
from irl_bench.plan.references import NAME, POLICY, REFERENCE, problem_with


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """An algorithm as the sweep sees it.

    Attributes:
      ref: its name in cells and plans: a registered name, `package.module:make` or
        `policy:package.module:act`.
      name: the prefix of its flags.
      make: (Spec, config) -> Learner.
      config: its `Config` class, None without settings.
      help: the first line of its documentation.
      source: {file name: SHA-256} of what an outside algorithm or policy consists of; {} for a
        registered one.
      takes: config -> the parts of `irl_bench.core.handover.Given` that it takes from an earlier
        run.
    """

    ref: str
    name: str
    make: Callable[[Spec, Any], Learner]
    config: type | None
    help: str
    source: Mapping[str, str] = dataclasses.field(default_factory=dict)
    takes: Callable[[Any], Sequence[Part]] = lambda config: ()

    @property
    def settings(self) -> dict[str, Setting]:
        """The fields of `config` as settings."""
        return settings_of(self.config)


@dataclasses.dataclass(frozen=True)
class LoadedWorld:
    """A world as the sweep sees it.

    Attributes:
      ref: its name in cells and plans: a registered name or `package.module:factory`.
      world: the world with its dials and options.
      help: the first line of its documentation.
      source: {file name: SHA-256} of what an outside world and a demonstrator consist of.
      warnings: one line for each probable mistake in an outside world.
    """

    ref: str
    world: World
    help: str
    source: Mapping[str, str] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The prefix of the flags of its dials and options."""
        return self.world.name

    @property
    def dials(self) -> dict[str, Setting]:
        """The dials as settings; a dial's default is its value in this world."""
        return {
            name: Setting.make(name, float(getattr(self.world.dials, name)), field.metadata)
            for name, field in dial_fields(self.world.dials).items()
        }

    @property
    def options(self) -> dict[str, Setting]:
        """The options as settings; an option's default is this world's choice."""
        return {
            name: Setting.make(
                name,
                self.world.chosen.get(name, valid[0]),
                {
                    "help": f"the world's {name}",
                    "choices": valid,
                    "ending": self.world.files.get(name, ""),
                },
            )
            for name, valid in self.world.options.items()
        }

    @property
    def settings(self) -> dict[str, Setting]:
        """Options and dials together."""
        return {**self.options, **self.dials}


def algorithm(ref: str) -> Algorithm:
    """Returns the algorithm that `ref` names.

    Raises:
      BadInput: the name, module or attribute does not exist, or a policy cannot be used; one line.
    """
    if ref.startswith(POLICY):
        return _policy(ref)
    problem = problem_with(ref, algos.ALGORITHMS, "algorithm")
    if problem:
        raise BadInput(problem)
    if ref in algos.ALGORITHMS:
        module = importlib.import_module(algos.ALGORITHMS[ref])
        config = getattr(module, "Config", None)
        return Algorithm(ref, ref, module.make, config, _summary(module), takes=_takes_of(module))
    module, make = _outside(ref)
    _check_call(ref, make, "spec", "config")
    config: Any = getattr(module, "Config", None)
    if config is not None and not dataclasses.is_dataclass(config):
        raise BadInput(
            f"{ref}: its Config must be a dataclass; nearest: @dataclasses.dataclass(frozen=True)"
        )
    try:
        settings_of(cast("Any", config))
    except BadInput as error:
        raise BadInput(f"{ref}: its Config: {error}") from None
    return Algorithm(
        ref,
        _short(ref),
        make,
        cast("Any", config),
        _summary(module),
        _source(module),
        _takes_of(module),
    )


def is_outside(ref: str) -> bool:
    """Whether a name of an algorithm or a world means code from outside this package."""
    return ":" in ref and not ref.startswith(envs.PLAYGROUND)


def _takes_of(module: ModuleType) -> Callable[[Any], Sequence[Part]]:
    """The module's `takes`; without one a function that names no parts."""
    return getattr(module, "takes", lambda config: ())


def world(ref: str, values: Mapping[str, float | str] | None = None) -> LoadedWorld:
    """Returns the world that `ref` names, with some dials and options changed.

    Args:
      ref: the world's name.
      values: {dial or option: value}.

    Raises:
      BadInput: there is no such world, a dial or option is unknown or out of range, a
        demonstrator's file is damaged, a factory makes no world, or a world breaks the contract
        (`envs.contract`); one line.
    """
    problem = problem_with(ref, envs.WORLDS, "world")
    if problem:
        raise BadInput(problem)
    is_registered = ref in envs.WORLDS or ref.startswith(envs.PLAYGROUND)
    if is_registered:
        factory, source = envs.kind(ref), {}
    else:
        module, factory = _outside(ref)
        _check_call(ref, factory)
        source = _source(module)
    dials: dict[str, Any] = dict(values or {})
    options = {name: dials.pop(name) for name in getattr(factory, "options", {}) if name in dials}
    try:
        built = envs.build(factory, ref, **options)
    except ValueError as error:
        raise BadInput(str(error)) from None
    if not is_registered:
        if not isinstance(built, World) or not dataclasses.is_dataclass(
            getattr(built, "dials", None)
        ):
            raise BadInput(
                f"{ref} must return an envs.World with dials, not {type(built).__name__}; nearest: "
                "docs/tutorials/your-world.md"
            )
        if not NAME.fullmatch(getattr(built, "name", "")) or built.name in envs.WORLDS:
            raise BadInput(
                f"{ref}: the world's name must be letters, digits, '.', '_', '-' and not one of "
                f"{envs.names()}"
            )
    warnings = (
        ()
        if is_registered
        else _contract_warnings(
            factory, ref, tuple(sorted(source.items())), tuple(sorted(options.items()))
        )
    )
    return LoadedWorld(
        ref, dialled(built, dials), _help(type(built)), {**source, **built.source}, warnings
    )


@functools.cache
def _contract_warnings(
    factory: Callable[..., World], ref: str, source: tuple, options: tuple
) -> tuple[str, ...]:
    """`keeps_contract` of an outside world, computed once for each source."""
    del source
    return keeps_contract(envs.build(factory, ref, **dict(options)))


def keeps_contract(world: World) -> tuple[str, ...]:
    """Returns one line for each probable mistake in a world.

    Raises BadInput if the world breaks the contract (`envs.contract`).
    """
    try:
        return contract.check(world)
    except contract.ContractError as error:
        raise BadInput(str(error)) from None


def need_expert(loaded: LoadedWorld) -> None:
    """Raises BadInput, with alternatives, if a world has no demonstrator for its options."""
    if loaded.world.has_expert:
        return
    world, chosen = loaded.world, loaded.world.chosen
    backend, quality = chosen.get("backend"), chosen.get("demonstrator", "expert")
    backends = getattr(world, "options", {}).get("backend", ())
    hints = [
        f"--{loaded.name}.backend={other}"
        for other in backends
        if demonstrators.find(world.name, other, quality)
    ][:1]
    if quality != "expert" and backend and demonstrators.find(world.name, backend):
        hints.append(f"--{loaded.name}.demonstrator=expert")
    hints.append(
        f"irl-bench demonstrator --env={loaded.ref}"
        + (f" --world=backend={backend}" if backend else "")
        + " to train one"
    )
    wanted = " and ".join(f"{name}={value}" for name, value in chosen.items())
    what = f"{loaded.name} has no demonstrator" + (f" for {wanted}" if wanted else "")
    raise BadInput(f"{what}; nearest: {', or '.join(hints)}")


def summary(ref: str) -> tuple[str, tuple[str, ...]]:
    """Returns (first line of documentation, modes) of a registered world, without making it."""
    kind = envs.kind(ref)
    return _help(kind), tuple(kind.modes)


def dialled(world: World, dials: Mapping[str, float]) -> World:
    """Returns the world with some dials changed. Raises BadInput for a dial that is unknown or out
    of range."""
    try:
        return envs.with_dials(world, **dials)
    except ValueError as error:
        raise BadInput(str(error)) from None


def values_of(loaded: LoadedWorld) -> dict[str, Any]:
    """Returns the values of a world's dials and options by name; JSON values."""
    return {name: setting.default for name, setting in loaded.settings.items()}


def config_of(chosen: Algorithm, values: Mapping[str, Any]) -> Any:
    """Returns the algorithm's `Config` with some values; None for an algorithm without settings."""
    return None if chosen.config is None else chosen.config(**values)


def learner(ref: str, spec: Spec, values: Mapping[str, Any]) -> Learner:
    """Returns the learner of the algorithm that `ref` names.

    Args:
      ref: the algorithm's name.
      spec: shapes and the world.
      values: {setting: value}; the others keep their defaults.

    Raises:
      BadInput: as `algorithm`, for a value out of range, or if `make` returns no Learner.
    """
    chosen = algorithm(ref)
    settings = chosen.settings
    checked = {name: settings[name].check(value) for name, value in values.items()}
    result: Any = chosen.make(spec, config_of(chosen, checked))
    if not isinstance(result, Learner):
        raise BadInput(
            f"{ref} must return an irl_bench.Learner, not {type(result).__name__}; nearest: "
            "docs/tutorials/your-algorithm.md"
        )
    _check_learner(ref, result)
    return result


def _check_learner(ref: str, learner: Learner) -> None:
    """Raises BadInput unless the attributes of a learner are of their types."""
    for name in ("init", "update", "policy"):
        if not callable(getattr(learner, name)):
            raise BadInput(
                f"{ref}: {name} of its Learner must be a function, not "
                f"{type(getattr(learner, name)).__name__}; nearest: def {name}(...)"
            )
    if learner.act is not None:
        if not callable(learner.act):
            raise BadInput(
                f"{ref}: act of its Learner must be a function or None, not "
                f"{type(learner.act).__name__}; nearest: def act(params, observation, key)"
            )
        carried = () if learner.carry is None else ("carry",)
        _check_call(f"{ref}:act", learner.act, "params", *carried, "observation", "key")
    if not isinstance(learner.consumes, Consumes):
        raise BadInput(
            f"{ref}: consumes of its Learner must be irl_bench.Consumes(...), not "
            f"{type(learner.consumes).__name__}; nearest: irl_bench.Consumes()"
        )
    whole(f"{ref}: rounds of its Learner", learner.rounds, 0)


FORMS = ((), ("params",), ("carry",), ("params", "carry"))
"""The possible arguments of a policy before the observation and the key."""


def _policy(ref: str) -> Algorithm:
    """The algorithm of `policy:package.module:act`. Raises BadInput if the policy cannot be
    used."""
    target = ref.removeprefix(POLICY)
    if not REFERENCE.fullmatch(target):
        raise BadInput(f"{target!r} is not of the form package.module:attribute")
    module, act = _outside(target)
    source = _source(module)
    if isinstance(act, HostPolicy):
        return Algorithm(
            ref,
            _short(target),
            policies.as_learner(act),
            None,
            _summary(module),
            {**source, **act.source},
        )
    counts = _counts(act)
    more = bool({3, 4} & counts)  # otherwise the module's own `params` mean something else
    params = _of_module(module, "params", "load") if more else None
    carry = _of_module(module, "carry", "initial_carry") if more else None
    stored = {name for name, tree in (("params", params), ("carry", carry)) if tree is not None}
    forms = [form for form in FORMS if len(form) + 2 in counts and stored.issuperset(form)]
    if len(forms) != 1:
        known = " or ".join(f"act({', '.join((*form, 'observation', 'key'))})" for form in FORMS)
        neither = "neither params (or load()) nor carry (or initial_carry())"
        content = f"its module holds {' and '.join(sorted(stored)) or neither}"
        raise BadInput(
            f"{target}{inspect.signature(act)}: {content}, so it cannot be told how to call it; "
            f"nearest: {known}"
        )
    params, carry = (
        tree if name in forms[0] else None for name, tree in (("params", params), ("carry", carry))
    )
    for name, tree in (("params", params), ("carry", carry)):
        if tree is not None:
            source[f"{name} of {target}"] = _digest(tree)
    return Algorithm(
        ref,
        _short(target),
        policies.as_learner(act, params, carry),
        None,
        _summary(module),
        source,
    )


def _counts(act: Callable) -> set[int]:
    """The numbers of positional arguments, from 2 to 4, with which a policy can be called."""
    signature, counts = inspect.signature(act), set()
    for count in (2, 3, 4):
        try:
            signature.bind(*[None] * count)
            counts.add(count)
        except TypeError:
            continue
    return counts


def _of_module(module: ModuleType, name: str, function: str) -> Any:
    """The pytree that a policy's module returns from `function()` or holds as `name`, as NumPy
    arrays; None without either."""
    if hasattr(module, function):
        tree = getattr(module, function)()
    else:
        tree = getattr(module, name, None)
    return jax.tree.map(np.asarray, tree)


def _digest(tree: Any) -> str:
    """SHA-256 of a pytree of NumPy arrays."""
    digest = hashlib.sha256(str(jax.tree.structure(tree)).encode())
    for leaf in jax.tree.leaves(tree):
        digest.update(f"{leaf.dtype}{leaf.shape}".encode() + leaf.tobytes())
    return digest.hexdigest()


def _outside(ref: str) -> tuple[ModuleType, Callable]:
    """The module and the attribute of `package.module:attribute`. The current directory is
    searched last."""
    name, attribute = ref.split(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(name)
    except BadInput as error:  # a setting that breaks its own range
        raise BadInput(f"{ref}: {name} cannot be imported: {error}") from None
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            # The file exists, and one of its own imports fails: its author needs the traceback.
            raise
        raise BadInput(
            f"{ref}: no module {error.name!r} among the installed ones or in the current directory"
        ) from None
    if not hasattr(module, attribute):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise BadInput(f"{ref}: {name} has no {attribute!r}; {did_you_mean(attribute, public)}")
    target = getattr(module, attribute)
    if not callable(target):
        raise BadInput(
            f"{ref} is {type(target).__name__}, not a function or class; nearest: def {attribute}()"
        )
    return module, target


def _check_call(ref: str, function: Callable, *arguments: str) -> None:
    """Raises BadInput unless `function` can be called with these arguments."""
    try:
        inspect.signature(function).bind(*arguments)
    except (TypeError, ValueError):
        name = ref.split(":")[-1]
        called = f"{name}({', '.join(arguments)})"
        raise BadInput(f"{ref} cannot be called as {called}; nearest: def {called}") from None


def _source(module: ModuleType) -> dict[str, str]:
    """{file name: SHA-256} of the module's file, or of every Python file of its package.

    Raises BadInput if the module has no file.
    """
    if not getattr(module, "__file__", None):
        raise BadInput(
            f"{module.__name__} has no source file, so its results could not be told apart"
        )
    file = Path(str(module.__file__))
    files = {file.name: file}
    if "." in module.__name__ or hasattr(module, "__path__"):
        root = file.parents[module.__name__.count(".") - (file.name != "__init__.py")]
        files = {path.relative_to(root.parent).as_posix(): path for path in root.rglob("*.py")}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sorted(files.items())
    }


def _help(kind: type) -> str:
    """The summary of a world's class, or of its module if the class has no docstring."""
    return (
        _summary(kind) if kind.__dict__.get("__doc__") else _summary(sys.modules[kind.__module__])
    )


def _short(ref: str) -> str:
    """The last part of the module's name."""
    return ref.split(":")[0].rsplit(".", 1)[-1]


def _summary(documented: Any) -> str:
    """The first paragraph of a docstring, as one line."""
    return " ".join((inspect.getdoc(documented) or "").partition("\n\n")[0].split())

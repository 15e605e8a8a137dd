"""Finds algorithms, worlds and policies by name or, from outside the repository, as
`package.module:attribute`.

An outside file is identified by the SHA-256 of its source, which becomes part of every cell it
takes part in: edit the file and its old results are not taken for new ones.
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
from typing import Any

import jax
import numpy as np

import envs
from envs import contract, demonstrators
from envs.core import World, dial_fields
from irl_bench import algos
from irl_bench.core.handover import Part
from irl_bench.core.learner import Learner
from irl_bench.core.settings import BadInput, Setting, nearest, settings_of
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
      takes: config -> the parts of `irl_bench.core.handover.Given` that it needs of an earlier run.
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
        return settings_of(self.config)


@dataclasses.dataclass(frozen=True)
class LoadedWorld:
    """A world as the sweep sees it: `ref` as in cells and plans, `world.name` the prefix of its
    dials, `source` as above.

    `warnings` are lines on what an outside world does and probably does not mean.
    """

    ref: str
    world: World
    help: str
    source: Mapping[str, str] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
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
        """The options as settings; an option's default is what is chosen in this world."""
        return {
            name: Setting.make(
                name,
                self.world.chosen.get(name, valid[0]),
                {"help": f"the world's {name}", "choices": valid},
            )
            for name, valid in self.world.options.items()
        }

    @property
    def settings(self) -> dict[str, Setting]:
        return {**self.options, **self.dials}


def algorithm(ref: str) -> Algorithm:
    """The algorithm that `ref` names.

    Raises:
      BadInput: nothing of that name, a module or attribute that does not exist, or a policy that is
        not one; one line.
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
    config = getattr(module, "Config", None)
    if config is not None and not dataclasses.is_dataclass(config):
        raise BadInput(f"{ref}: its Config must be a dataclass")
    return Algorithm(
        ref, _short(ref), make, config, _summary(module), _source(module), _takes_of(module)
    )


def _takes_of(module: ModuleType) -> Callable[[Any], Sequence[Part]]:
    return getattr(module, "takes", lambda config: ())


def world(ref: str, values: Mapping[str, float | str] | None = None) -> LoadedWorld:
    """The world that `ref` names, with some dials and options changed.

    Raises:
      BadInput: nothing of that name, a dial or option that is unknown or out of range, a
        demonstrator's file that is damaged, a factory that makes no world, or a world that does not
        keep the contract (`envs.contract`); one line.
    """
    problem = problem_with(ref, envs.WORLDS, "world")
    if problem:
        raise BadInput(problem)
    ours = ref in envs.WORLDS or ref.startswith(envs.PLAYGROUND)
    if ours:
        factory, source = envs.kind(ref), {}
    else:
        module, factory = _outside(ref)
        _check_call(ref, factory)
        source = _source(module)
    values = dict(values or {})
    options = {name: values.pop(name) for name in getattr(factory, "options", {}) if name in values}
    try:
        made = envs.build(factory, ref, **options)
    except ValueError as error:
        raise BadInput(str(error)) from None
    if not ours:
        if not isinstance(made, World) or not dataclasses.is_dataclass(
            getattr(made, "dials", None)
        ):
            raise BadInput(
                f"{ref} must return an envs.core.World with dials, not {type(made).__name__}"
            )
        if not NAME.fullmatch(getattr(made, "name", "")) or made.name in envs.WORLDS:
            raise BadInput(
                f"{ref}: the world's name must be letters, digits, '.', '_', '-' and not one of "
                f"{envs.names()}"
            )
    warnings = (
        ()
        if ours
        else _kept(factory, ref, tuple(sorted(source.items())), tuple(sorted(options.items())))
    )
    return LoadedWorld(
        ref, dialled(made, values), _help(type(made)), {**source, **made.source}, warnings
    )


@functools.cache
def _kept(
    factory: Callable[..., World], ref: str, source: tuple, options: tuple
) -> tuple[str, ...]:
    """The warnings of an outside world's contract, once for each source; raises BadInput if it
    is not kept."""
    del source
    return keeps_contract(envs.build(factory, ref, **dict(options)))


def keeps_contract(made: World) -> tuple[str, ...]:
    """The warnings of a world's contract; raises BadInput if it is not kept."""
    try:
        return contract.check(made)
    except contract.ContractError as error:
        raise BadInput(str(error)) from None


def need_expert(loaded: LoadedWorld) -> None:
    """Raises BadInput, with what to choose instead, for a world that has no demonstrator with
    its options."""
    if loaded.world.has_expert:
        return
    world, chosen = loaded.world, loaded.world.chosen
    backend, quality = chosen.get("backend"), chosen.get("demonstrator", "expert")
    backends = getattr(world, "options", {}).get("backend", ())
    hints = [
        f"--{loaded.name}.backend={one}"
        for one in backends
        if demonstrators.find(world.name, one, quality)
    ][:1]
    if quality != "expert" and backend and demonstrators.find(world.name, backend):
        hints.append(f"--{loaded.name}.demonstrator=expert")
    hints.append(
        f"launch/expert.py --env={loaded.ref}"
        + (f" --world=backend={backend}" if backend else "")
        + " to train one"
    )
    wanted = " and ".join(f"{name}={value}" for name, value in chosen.items())
    what = f"{loaded.name} has no demonstrator" + (f" for {wanted}" if wanted else "")
    raise BadInput(f"{what}; nearest: {', or '.join(hints)}")


def summary(ref: str) -> tuple[str, tuple[str, ...]]:
    """(first line of documentation, modes) of a registered world, without making it."""
    kind = envs.kind(ref)
    return _help(kind), tuple(kind.modes)


def dialled(made: World, dials: Mapping[str, float]) -> World:
    """`made` with some dials changed; raises BadInput for one that is unknown or out of range."""
    try:
        return envs.with_dials(made, **dials)
    except ValueError as error:
        raise BadInput(str(error)) from None


def values_of(loaded: LoadedWorld) -> dict[str, Any]:
    """The values of a world's dials and options, which JSON can hold."""
    return {name: setting.default for name, setting in loaded.settings.items()}


def config_of(found: Algorithm, values: Mapping[str, Any]) -> Any:
    """The algorithm's config with `values` put in; None for an algorithm without settings."""
    return None if found.config is None else found.config(**values)


def learner(ref: str, spec: Spec, values: Mapping[str, Any]) -> Learner:
    """The learner of the algorithm that `ref` names; raises BadInput as `algorithm` does."""
    found = algorithm(ref)
    settings = found.settings
    made = found.make(
        spec,
        config_of(found, {name: settings[name].check(value) for name, value in values.items()}),
    )
    if not isinstance(made, Learner):
        raise BadInput(
            f"{ref} must return an irl_bench.core.learner.Learner, not {type(made).__name__}"
        )
    return made


FORMS = ((), ("params",), ("carry",), ("params", "carry"))
"""What a policy takes before the observation and the key."""


def _policy(ref: str) -> Algorithm:
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
    more = bool({3, 4} & counts)  # else whatever its module calls params is its own affair
    params = _of_module(module, "params", "load") if more else None
    carry = _of_module(module, "carry", "initial_carry") if more else None
    there = {name for name, tree in (("params", params), ("carry", carry)) if tree is not None}
    forms = [form for form in FORMS if len(form) + 2 in counts and there.issuperset(form)]
    if len(forms) != 1:
        known = " or ".join(f"act({', '.join((*form, 'observation', 'key'))})" for form in FORMS)
        neither = "neither params (or load()) nor carry (or initial_carry())"
        held = f"its module holds {' and '.join(sorted(there)) or neither}"
        raise BadInput(
            f"{target}{inspect.signature(act)}: {held}, so it cannot be told how to call it; "
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
    """With how many positional arguments, from 2 to 4, a policy can be called."""
    signature, found = inspect.signature(act), set()
    for count in (2, 3, 4):
        try:
            signature.bind(*[None] * count)
            found.add(count)
        except TypeError:
            continue
    return found


def _of_module(module: ModuleType, name: str, function: str) -> Any:
    """The pytree that a policy's module holds as `name` or returns from `function()`, as NumPy
    arrays; None without either."""
    if hasattr(module, function):
        tree = getattr(module, function)()
    else:
        tree = getattr(module, name, None)
    return jax.tree.map(np.asarray, tree)


def _digest(tree: Any) -> str:
    digest = hashlib.sha256(str(jax.tree.structure(tree)).encode())
    for leaf in jax.tree.leaves(tree):
        digest.update(f"{leaf.dtype}{leaf.shape}".encode() + leaf.tobytes())
    return digest.hexdigest()


def _outside(ref: str) -> tuple[ModuleType, Callable]:
    """The module and the attribute of `package.module:attribute`; the current directory is
    searched last."""
    name, attribute = ref.split(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            # the file is there and one of its own imports fails: its author needs the traceback
            raise
        raise BadInput(
            f"{ref}: no module {error.name!r} among the installed ones or in the current directory"
        ) from None
    if not hasattr(module, attribute):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise BadInput(
            f"{ref}: {name} has no {attribute!r}; did you mean {nearest(attribute, public)!r}?"
        )
    found = getattr(module, attribute)
    if not callable(found):
        raise BadInput(f"{ref} is {type(found).__name__}, not a function or class")
    return module, found


def _check_call(ref: str, function: Callable, *arguments: str) -> None:
    """Raises BadInput unless `function` can be called with as many arguments."""
    try:
        inspect.signature(function).bind(*arguments)
    except (TypeError, ValueError):
        name = ref.split(":")[1]
        raise BadInput(f"{ref} cannot be called as {name}({', '.join(arguments)})") from None


def _source(module: ModuleType) -> dict[str, str]:
    """{file name: SHA-256} of the module's file, or of every Python file of the package that it
    is in."""
    if not getattr(module, "__file__", None):
        raise BadInput(
            f"{module.__name__} has no source file, so its results could not be told apart"
        )
    own = Path(str(module.__file__))
    files = {own.name: own}
    if "." in module.__name__ or hasattr(module, "__path__"):
        root = own.parents[module.__name__.count(".") - (own.name != "__init__.py")]
        files = {path.relative_to(root.parent).as_posix(): path for path in root.rglob("*.py")}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sorted(files.items())
    }


def _help(kind: type) -> str:
    """The first line of a world's class, of its module where the class has no text of its own."""
    return (
        _summary(kind) if kind.__dict__.get("__doc__") else _summary(sys.modules[kind.__module__])
    )


def _short(ref: str) -> str:
    return ref.split(":")[0].rsplit(".", 1)[-1]


def _summary(documented: Any) -> str:
    """The first paragraph of a docstring, as one line."""
    return " ".join((inspect.getdoc(documented) or "").partition("\n\n")[0].split())

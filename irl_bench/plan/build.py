"""Turns a request into the list of cells that answers it.

Nothing here runs a cell. A value comes from the default of the setting, from the presets of the
world and the budget (`irl_bench.plan.presets`), or from the request; the later source wins.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from envs.core import World
from envs.names import did_you_mean
from irl_bench import algos
from irl_bench.core.cell import CellSpec
from irl_bench.core.handover import Part
from irl_bench.core.learner import Learner
from irl_bench.core.quantities import REFERENCES
from irl_bench.core.settings import BadInput, NeedsActions, nearest
from irl_bench.core.spread import Spread
from irl_bench.core.types import Demonstrations, Spec, Task
from irl_bench.plan import donor, handed_on, presets, registry
from irl_bench.plan.donor import Rebuilt
from irl_bench.plan.presets import Budget
from irl_bench.plan.references import POLICY
from irl_bench.plan.registry import Algorithm, LoadedWorld
from irl_bench.plan.request import Request, check_first_seed, check_horizons, checked
from irl_bench.rl.ppo import TrainingConfig
from irl_bench.storage import demonstrations
from irl_bench.storage.artifacts import Artifact
from irl_bench.storage.demonstrations import Recorded
from irl_bench.storage.plans import WorldRecord

__all__ = ["Entry", "Input", "Plan", "build"]

Input = Recorded | Artifact
"""What a cell reads from a file: demonstrations, or what an earlier run learned."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One curve of the report: an algorithm in a world and mode, over one or more groups of
    seeds."""

    cells: tuple[CellSpec, ...]
    """One cell per group of seeds."""
    seeds: int
    """Number of seeds that the analysis uses, from the first one. The groups may hold more."""
    rounds: int
    """Rounds of training."""
    consumes: Mapping[str, Any]
    """The fields of `irl_bench.core.learner.Consumes`."""

    @property
    def id(self) -> tuple[str, str, str]:
        """(env, algo, mode)."""
        return self.cells[0].env, self.cells[0].algo, self.cells[0].mode


@dataclasses.dataclass(frozen=True)
class Plan:
    """The cells that answer a request, and what the analysis needs beside them."""

    entries: tuple[Entry, ...]
    """The entries, in the order in which they run."""
    worlds: Mapping[str, WorldRecord]
    """{world: what plan.json records of it}."""
    horizons: tuple[int, ...] | str
    """Horizons [steps] of the analysis, or "auto"."""
    budget: str
    """The budget's name."""
    notes: tuple[str, ...] = ()
    """Lines for the user."""
    inputs: Mapping[str, Input] = dataclasses.field(default_factory=dict)
    """{SHA-256: content} of the files that cells name in `recorded` and `given`."""

    @property
    def cells(self) -> tuple[CellSpec, ...]:
        """All cells, in the order in which they run."""
        return tuple(cell for entry in self.entries for cell in entry.cells)


def build(request: Request, piloting: bool = False) -> Plan:
    """Returns the plan of a request.

    Args:
      request: what to run.
      piloting: whether the request is a pilot's, which has seeds of its own.

    Raises:
      BadInput: something in the request is unknown, out of range or contradictory; one line that
        names it and the nearest valid name or value.
    """
    request = checked(request)
    if not request.algo:
        raise BadInput(f"no algorithm is given ({', '.join(algos.ALGORITHMS)}); nearest: bc")
    refs = dict.fromkeys((*request.algo, *REFERENCES))
    algorithms = {ref: registry.algorithm(ref) for ref in refs}
    worlds = {ref: registry.world(ref) for ref in dict.fromkeys(request.env)}
    _check_owners(request, algorithms, worlds)
    _check_modes(request, worlds)

    entries: list[Entry] = []
    records: dict[str, WorldRecord] = {}
    notes: list[str] = []
    inputs: dict[str, Input] = {}
    for env, loaded in worlds.items():
        resolved_world = _resolve_world(request, env, loaded, piloting)
        notes += resolved_world.notes
        if resolved_world.file:
            inputs[resolved_world.file.sha256] = resolved_world.file
        for algo, mode in _pairs(request, env, loaded):
            entry, artifact = _entry(request, resolved_world, algorithms[algo], mode)
            entries.append(entry)
            if artifact:
                inputs[artifact.sha256] = artifact
        records[env] = _record(request, resolved_world)
    if request.given is not None and not any(isinstance(x, Artifact) for x in inputs.values()):
        raise BadInput(
            f"{request.given} is given, but {', '.join(request.algo)} takes nothing from an "
            f"earlier run; nearest: --algo=ppo --reward={request.given}"
        )
    if request.worlds_over_devices and jax.device_count() == 1:
        notes.append("there is one device, so --worlds_over_devices changes nothing")
    horizons = request.horizons if isinstance(request.horizons, str) else tuple(request.horizons)
    return Plan(
        tuple(entries), records, horizons, request.budget, tuple(dict.fromkeys(notes)), inputs
    )


@dataclasses.dataclass(frozen=True)
class _World:
    """A world of the request with its dials, budget and demonstrations settled."""

    env: str
    """The world's name in the request."""
    loaded: LoadedWorld
    budget: Budget
    horizon: int
    """T_max [steps]."""
    file: Recorded | None
    """Demonstrations from a file; None if the world's expert makes them."""
    blind: bool
    """Whether the demonstrations have no actions."""
    notes: tuple[str, ...]
    """Lines for the user."""

    @property
    def world(self) -> World:
        """The world itself."""
        return self.loaded.world

    @property
    def groups(self) -> int:
        """Number of groups of `budget.width` seeds."""
        return math.ceil(self.budget.seeds / self.budget.width)


def _resolve_world(request: Request, env: str, loaded: LoadedWorld, piloting: bool) -> _World:
    """Settles a world's dials, options, budget and demonstrations."""
    values = _checked(loaded, request.settings.get(loaded.name, {}))
    loaded = registry.world(env, values)
    registry.need_expert(loaded)
    budget = presets.budget_of(env, request.budget)
    if not presets.imitates(request.algo):
        budget = dataclasses.replace(budget, burn_in=0)
    file = _demonstrations(request, loaded)
    asked = {
        name: value
        for name in (
            "seeds",
            "demos",
            "demo_steps",
            "episodes",
            "reference_episodes",
            "burn_in",
        )
        if (value := getattr(request, name)) is not None
    }
    if env in request.pilots:
        asked["demos"] = request.pilots[env].demos
    if request.seeds_at_once is not None:
        asked["width"] = request.seeds_at_once
    if request.demonstrations is not None:
        asked["clean"] = request.demonstrations == "clean"
    if file:
        if request.demonstrations is not None:
            raise BadInput(
                f"--demonstrations={request.demonstrations} is for those of the world's expert, "
                "not for a file's; nearest: leave it out"
            )
        if request.demo_noise:
            raise BadInput(
                f"--demo_noise={request.demo_noise:g} is for demonstrations of the world's expert, "
                "not for a file's; nearest: leave it out"
            )
        asked |= {"clean": False, "demos": len(file.mask), "demo_steps": file.mask.shape[1]}
    budget = dataclasses.replace(budget, **asked)
    if request.demo_noise and loaded.world.n_actions is not None:
        raise BadInput(
            f"--demo_noise={request.demo_noise:g} needs continuous actions, which {env} has not; "
            "nearest: leave it out"
        )
    loaded = dataclasses.replace(loaded, world=loaded.world.with_burn_in(budget.burn_in))
    horizon = loaded.world.horizon if request.T_max is None else request.T_max
    check_horizons(request.horizons, env, horizon)
    budget = dataclasses.replace(budget, block=_block(budget.episodes, budget.block, env))
    asked_of, used = request.reference_episodes, _reference_episodes(budget)
    if asked_of is not None and asked_of != used:
        raise BadInput(
            f"--reference_episodes={asked_of} on {env} must be a multiple of {budget.block}, at "
            f"most the {budget.episodes} of --episodes; nearest: {used}"
        )
    notes = list(loaded.warnings)
    if budget.burn_in and request.burn_in is None:
        notes.append(
            f"episodes on {env} begin after {budget.burn_in} steps of the expert; with --burn_in=0 "
            "they begin at its start"
        )
    for _, mode in _pairs(request, env, loaded):
        fixed = sorted(set(loaded.world.modes[mode]) & set(values))
        if fixed:
            notes.append(
                f"mode {mode} of {loaded.name} sets {', '.join(fixed)} itself; the flag does not "
                "apply there"
            )
    if budget.seeds % budget.width:
        computed = -(-budget.seeds // budget.width) * budget.width
        notes.append(
            f"{budget.seeds} seeds take as long as {computed}, since {budget.width} are computed "
            "at once (--seeds_at_once)"
        )
    blind = request.observation_only or (file is not None and file.action is None)
    resolved_world = _World(env, loaded, budget, horizon, file, blind, tuple(notes))
    check_first_seed(request.first_seed, resolved_world.groups * budget.width, piloting)
    return resolved_world


def _entry(
    request: Request, setup: _World, algorithm: Algorithm, mode: str
) -> tuple[Entry, Artifact | None]:
    """The entry of an algorithm in a world and mode, and what it takes from an earlier run."""
    algo, budget, file = algorithm.ref, setup.budget, setup.file
    reference = algo in REFERENCES
    config = resolved(algorithm, request, setup.env)
    with _flags_of(algorithm):
        parts = algorithm.takes(registry.config_of(algorithm, config))
    artifact = _artifact(algorithm, parts, request, setup.loaded) if parts else None
    lengths = file.lengths if file else ()
    spec = Spec(
        setup.world,
        setup.horizon,
        budget.demos,
        budget.demo_steps,
        lengths=lengths,
        clean=budget.clean,
        spread=Spread(jax.device_count() if request.worlds_over_devices else 1),
    )
    rebuilt = donor.rebuild(artifact, parts, spec) if artifact else None
    if rebuilt:
        spec = dataclasses.replace(spec, donor=rebuilt.donor)
    with _flags_of(algorithm):
        learner = registry.learner(algo, spec, config)
    if request.worlds_over_devices and learner.per_world is None:
        _check_spreads(algo)
    starts = [request.first_seed + group * budget.width for group in range(setup.groups)]
    if rebuilt:  # before anything is written: the donor must have learned every seed
        for start in starts:
            handed_on.given_of(rebuilt, range(start, start + budget.width), spec)
    blind = setup.blind and not reference
    if learner.rounds and (file or blind):
        has_rewards = file is not None and file.reward is not None
        with _flags_of(algorithm):
            _check_begins(learner, spec, algo, blind, has_rewards, rebuilt, starts[0])
    fields = {
        "algo": algo,
        "env": setup.env,
        "mode": mode,
        "config": config,
        "dials": _dials(setup.loaded, mode),
        "options": dict(setup.world.chosen),
        "demos": budget.demos,
        "demo_steps": budget.demo_steps,
        "horizon": setup.horizon,
        "episodes": _reference_episodes(budget) if reference else budget.episodes,
        "block": budget.block,
        "eps_episodes": budget.eps_episodes,
        # Errors are counted over as many steps as are shown, so the rollouts have to be as long.
        "eps_steps": setup.horizon if request.shown_steps else min(budget.eps_steps, setup.horizon),
        "eval_every": 0 if reference else budget.eval_every,
        "width": budget.width,
        "observation_only": blind,
        "clean": budget.clean and not reference,
        "burn_in": budget.burn_in,
        "demo_noise": 0.0 if reference else float(request.demo_noise),
        "shown_steps": 0 if reference else request.shown_steps,
        "recorded": file.sha256 if file and not reference else "",
        "given": artifact.sha256 if artifact else "",
        "world_devices": spec.spread.devices if spec.spread.axis and learner.per_world else 0,
        "plugin": {**algorithm.source, **setup.loaded.source},
    }
    if algo == "untrained":
        fields |= {name: min(fields[name], most) for name, most in presets.UNTRAINED.items()}
        fields["episodes"] = fields["episodes"] // fields["block"] * fields["block"]
    cells = tuple(CellSpec(**fields, first_seed=start) for start in starts)
    consumes = cells[0].used(learner.consumes)
    return Entry(cells, budget.seeds, learner.rounds, dataclasses.asdict(consumes)), artifact


@contextlib.contextmanager
def _flags_of(algorithm: Algorithm) -> Generator[None]:
    """Spells an algorithm's settings as flags in its BadInput: an algorithm knows its settings, not
    its name in the sweep."""
    try:
        yield
    except BadInput as error:
        names = "|".join(map(re.escape, algorithm.settings))
        if names:
            owner = re.escape(algorithm.name)
            spelt = re.compile(rf"(?<![\w./=-])(?:{owner}\.({names})\b|({names})(?==))")
            text = spelt.sub(lambda m: f"--{algorithm.name}.{m[1] or m[2]}", str(error))
            error.args = (text,)
        raise


def _check_spreads(algo: str) -> None:
    """Raises BadInput for an algorithm whose worlds cannot be spread over devices. References and
    external policies train nothing, and are computed as ever."""
    if algo in REFERENCES or algo.startswith(POLICY):
        return
    able = [
        name
        for name in algos.ALGORITHMS
        if issubclass(registry.algorithm(name).config or object, TrainingConfig)
    ]
    raise BadInput(
        f"--worlds_over_devices is for algorithms that train with PPO ({', '.join(able)}), and "
        f"{algo} does not; nearest: leave it out"
    )


def _record(request: Request, setup: _World) -> WorldRecord:
    """What plan.json records of a world."""
    world, file = setup.world, setup.file
    record: WorldRecord = {
        "u": world.recovery_steps,
        "latency": world.latency,
        "horizon": setup.horizon,
        "nominal": next(iter(world.modes)),
        "dials": {name: setting.default for name, setting in setup.loaded.dials.items()},
        "options": dict(world.chosen),
        "demos": setup.budget.demos,
        "demo_steps": setup.budget.demo_steps,
        "clean": setup.budget.clean,
        "burn_in": setup.budget.burn_in,
        "demo_noise": float(request.demo_noise),
        "recorded": file.sha256 if file else "",
        "first_seed": request.first_seed,
        "seeds": setup.budget.seeds,
        "source": dict(setup.loaded.source),
        "probe": _probe(world),
    }
    if setup.env in request.pilots:
        record["pilot"] = [list(row) for row in request.pilots[setup.env].tried]
    return record


def _pairs(request: Request, env: str, loaded: LoadedWorld) -> list[tuple[str, str]]:
    """The pairs (algorithm, mode) in the order in which they run. References come first, since the
    others are compared with them."""
    names = tuple(loaded.world.modes)
    asked = [algo for algo in dict.fromkeys(request.algo) if algo not in REFERENCES]
    chosen = tuple(name for name in names if name in request.mode) if request.mode else None
    pairs = [(algo, mode) for algo in asked for mode in (chosen or presets.modes(env, algo, names))]
    used = {mode for _, mode in pairs} or set(chosen or names[:1])
    experts = [("expert", mode) for mode in names if mode in used]
    return [*experts, ("untrained", names[0]), *pairs]


def _reference_episodes(budget: Budget) -> int:
    """Evaluation episodes of a reference, a whole number of blocks."""
    episodes = min(budget.reference_episodes, budget.episodes) // budget.block * budget.block
    return max(budget.block, episodes)


def _check_owners(
    request: Request, algorithms: Mapping[str, Algorithm], worlds: Mapping[str, LoadedWorld]
) -> None:
    """Raises BadInput if two algorithms or worlds share a name, or if settings name none of
    them."""
    names = [owner.name for owner in (*algorithms.values(), *worlds.values())]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(
            f"two algorithms or worlds of the sweep are called {twice[0]!r}; nearest: rename the "
            "module of one"
        )
    for name in request.settings:
        if name not in names:
            raise BadInput(
                f"settings of {name!r} are given, which is not in the sweep ({', '.join(names)}); "
                f"{did_you_mean(name, names)}"
            )


def _check_modes(request: Request, worlds: Mapping[str, LoadedWorld]) -> None:
    """Raises BadInput for an unknown mode, or for a world that has none of the modes."""
    known = list(dict.fromkeys(mode for loaded in worlds.values() for mode in loaded.world.modes))
    for mode in request.mode or ():
        if mode not in known:
            guess = nearest(mode, known)
            raise BadInput(f"unknown mode {mode!r} ({' | '.join(known)}); did you mean {guess!r}?")
    for env, loaded in worlds.items():
        if request.mode and not set(request.mode) & set(loaded.world.modes):
            modes = " | ".join(loaded.world.modes)
            raise BadInput(
                f"{env} has none of the modes {', '.join(request.mode)}; it has {modes}; nearest: "
                f"leave {env} out"
            )


def _checked(owner: Algorithm | LoadedWorld, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` after checks against the owner's settings. Raises BadInput that names the
    setting."""
    settings = owner.settings
    checked_values = {}
    for name, value in values.items():
        if name not in settings:
            hint = did_you_mean(name, settings, lambda known: f"{owner.name}.{known}")
            raise BadInput(f"{owner.name} has no setting {name!r}; {hint}")
        try:
            checked_values[name] = settings[name].check(value)
        except ValueError as error:
            raise BadInput(f"{owner.name}.{name} {error}") from None
    return checked_values


def resolved(algorithm: Algorithm, request: Request, env: str) -> dict[str, Any]:
    """Returns every setting of the algorithm with its final value.

    Raises BadInput for a setting that is unknown or out of range.
    """
    defaults = {name: setting.default for name, setting in algorithm.settings.items()}
    asked = request.settings.get(algorithm.name, {})
    preset = presets.config_differences(env, algorithm.ref, request.budget, asked.get("init"))
    return {**defaults, **_checked(algorithm, preset), **_checked(algorithm, asked)}


def _dials(loaded: LoadedWorld, mode: str) -> dict[str, float]:
    """Every dial with its final value in a mode."""
    defaults = {name: setting.default for name, setting in loaded.dials.items()}
    of_mode = {name: float(value) for name, value in loaded.world.modes[mode].items()}
    return {**defaults, **_checked(loaded, of_mode)}


def _demonstrations(request: Request, loaded: LoadedWorld) -> Recorded | None:
    """The first `request.demos` demonstrations of `request.demos_from`; None without a file."""
    if request.demos_from is None:
        return None
    assert not isinstance(request.demos, str)  # `checked` refuses "auto"
    recorded = demonstrations.read(request.demos_from, loaded.world, loaded.ref)
    count = len(recorded.mask) if request.demos is None else request.demos
    if not 1 <= count <= len(recorded.mask):
        raise BadInput(
            f"{request.demos_from} holds {len(recorded.mask)} demonstrations, not {count}; "
            f"nearest: --demos={len(recorded.mask)}"
        )
    if request.demo_steps is not None:
        raise BadInput(
            "--demo_steps is not for demonstrations from a file, which have their own; nearest: "
            "leave it out"
        )
    return recorded.first(count)


def _artifact(
    algorithm: Algorithm, parts: Sequence[Part], request: Request, loaded: LoadedWorld
) -> Artifact:
    """What the algorithm takes from an earlier run.

    Raises BadInput if nothing suitable is given, or if it was learned with code that the request
    does not name: the names in a file may be a stranger's.
    """
    if request.given is not None:
        artifact = donor.read(request.given, parts, loaded)
        for name, asked, flag in (
            (artifact.env, request.env, "env"),
            (artifact.algo, request.algo, "algo"),
        ):
            if registry.is_outside(name) and name not in asked:
                raise BadInput(
                    f"{request.given} was learned with {name}, code that this command does not "
                    f"name, so it is not run; nearest: --{flag}={','.join([*asked, name])}"
                )
        return artifact
    if "comparisons" in parts:
        raise BadInput(
            f"{algorithm.name} takes people's comparisons; nearest: --given=FOLDER of "
            "irl-bench label"
        )
    raise BadInput(
        f"{algorithm.name} takes a learned {' and '.join(parts)}; nearest: --given=RUN, the folder "
        "of a run of gail or airl"
    )


def _check_begins(
    learner: Learner,
    spec: Spec,
    algo: str,
    blind: bool,
    has_rewards: bool,
    rebuilt: Rebuilt | None,
    seed: int,
) -> None:
    """Raises BadInput if the algorithm cannot be initialised with a file's demonstrations.

    Args:
      blind: whether the demonstrations have no actions.
      has_rewards: whether the demonstrations have rewards.
      rebuilt: the donor, if the algorithm takes something from an earlier run.
      seed: the first seed.
    """
    shape = lambda *size: jax.ShapeDtypeStruct(size, np.float32)
    rows = (spec.demos, spec.demo_steps)
    size = () if spec.n_actions is not None else (spec.action_size,)
    dtype = np.float32 if size else np.int32
    action = None if blind else jax.ShapeDtypeStruct((*rows, *size), dtype)
    reward = shape(*rows) if has_rewards else None
    demos: Any = Demonstrations(shape(*rows, spec.observation_size), action, shape(*rows), reward)  # type: ignore[arg-type]
    donated = rebuilt and jax.tree.map(lambda x: x[0], rebuilt.given(range(seed, seed + 1)))
    key = jax.eval_shape(jax.random.PRNGKey, 0)
    try:
        jax.eval_shape(
            lambda key, demos: learner.init(key, Task(demos, spec.world.dials, donated)), key, demos
        )
    except (AttributeError, TypeError):  # an outside algorithm that needs actions
        if not blind:
            raise
        raise NeedsActions(algo) from None


def _probe(world: World) -> dict[str, Any] | None:
    """Where a learned reward is evaluated, without the observations; JSON values or None."""
    probe = world.probe()
    if probe is None:
        return None
    return {
        name: value if isinstance(value, str) else np.asarray(value).round(6).tolist()
        for name, value in probe.items()
        if name != "observation"
    }


def _block(episodes: int, block: int, env: str) -> int:
    """Episodes per jitted call: the largest divisor of `episodes` that does not exceed `block`.

    Raises BadInput if that divisor is tiny.
    """
    largest = max(size for size in range(1, min(block, episodes) + 1) if episodes % size == 0)
    if largest < min(block, episodes) / 8:
        near = max(block, round(episodes / block) * block)
        raise BadInput(
            f"episodes={episodes} cannot be cut into equal blocks of about {block} on {env}; "
            f"nearest: {near}"
        )
    return largest

"""From what is asked for to the list of cells that answers it, and the record of it in
`<out>/plan.json`.

Nothing here runs a cell. A value is taken from, the later one winning: the default beside the
setting, the world's table and the budget's (`irl_bench.plan.presets`), the request.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from envs.core import World
from irl_bench import algos
from irl_bench.core.cell import CellSpec, canonical, cell_key
from irl_bench.core.learner import Learner
from irl_bench.core.settings import BadInput, nearest, whole
from irl_bench.core.types import Demonstrations, Spec, Task
from irl_bench.labelling import clips
from irl_bench.plan import presets as table
from irl_bench.plan import registry
from irl_bench.storage import artifacts
from irl_bench.storage.demonstrations import Recorded, hold, read

__all__ = ["Entry", "Plan", "Request", "build", "check_horizons", "displaced", "document", "merge"]

VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What a sweep is asked for; `None` is "as the table has it". One field per flag of
    `launch/sweep.py`."""

    algo: Sequence[str] = ("bc", "dagger")
    env: Sequence[str] = ("chain", "lane_keep")
    mode: Sequence[str] | None = None
    seeds: int | None = None
    first_seed: int = 0
    budget: str = "default"
    horizons: Sequence[int] | str = "auto"
    demos: int | None = None
    demo_steps: int | None = None
    episodes: int | None = None
    T_max: int | None = None
    """Longest horizon [steps]; by default the world's."""
    given: str | None = None
    """File or folder of an earlier run whose learned policy or reward an algorithm takes."""
    demos_from: str | None = None
    """File or folder of demonstrations that are used instead of the world's expert's."""
    observation_only: bool = False
    """Whether the demonstrations' actions are withheld."""
    settings: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """{algorithm or world: {setting or dial: value}}, by the short names that prefix their
    flags."""
    out: str = "runs/sweep"
    tensorboard: bool = False


@dataclasses.dataclass(frozen=True)
class Entry:
    """One curve of the report: an algorithm in a world and mode, over one or more groups of
    seeds."""

    cells: tuple[CellSpec, ...]
    seeds: int
    """How many seeds the analysis uses, from the first; the groups may hold more."""
    rounds: int
    consumes: Mapping[str, Any]

    @property
    def id(self) -> tuple[str, str, str]:
        return self.cells[0].env, self.cells[0].algo, self.cells[0].mode


@dataclasses.dataclass(frozen=True)
class Plan:
    """All entries of a request, what the analysis must know of each world, and notes for whoever
    asked."""

    entries: tuple[Entry, ...]
    worlds: Mapping[str, Mapping[str, Any]]
    horizons: tuple[int, ...] | str
    budget: str
    notes: tuple[str, ...] = ()

    @property
    def cells(self) -> tuple[CellSpec, ...]:
        return tuple(cell for entry in self.entries for cell in entry.cells)


def build(request: Request) -> Plan:
    """The plan of a request.

    Raises:
      BadInput: anything in the request that is unknown, out of range or contradictory; one line
        that names it and the nearest valid name or value.
    """
    request = _with_integers(request)
    if request.budget not in table.BUDGETS:
        guess = nearest(request.budget, table.BUDGETS)
        raise BadInput(
            f"unknown budget {request.budget!r} ({' | '.join(table.BUDGETS)}); did you mean "
            f"{guess!r}?"
        )
    if not request.algo:
        raise BadInput(f"no algorithm is given; known are {', '.join(algos.ALGORITHMS)}")
    if not request.env:
        raise BadInput("no world is given")
    found = {
        ref: registry.algorithm(ref) for ref in dict.fromkeys((*request.algo, *algos.REFERENCES))
    }
    worlds = {ref: registry.world(ref) for ref in dict.fromkeys(request.env)}
    _check_owners(request, [found[ref] for ref in found], list(worlds.values()))
    _check_modes(request, worlds)

    entries: list[Entry] = []
    records: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    taken = request.given is None
    for env, loaded in worlds.items():
        dials = _checked(loaded, request.settings.get(loaded.name, {}))
        loaded = registry.world(env, dials)
        registry.need_expert(loaded)
        notes += loaded.warnings
        row = table.budget_of(env, request.budget)
        file = _recorded(request, loaded.world, row)
        for name in ("seeds", "demos", "demo_steps", "episodes"):
            if getattr(request, name) is not None and not (
                file and name in ("demos", "demo_steps")
            ):
                row[name] = getattr(request, name)
        horizon = (
            row.get("horizon", loaded.world.horizon) if request.T_max is None else request.T_max
        )
        check_horizons(request.horizons, env, horizon)
        block = _block(row["episodes"], row["block"], env)
        blind = request.observation_only or (file is not None and file.action is None)
        groups = math.ceil(row["seeds"] / row["width"])
        first_seed(request.first_seed, groups * row["width"])
        references = max(
            block,
            min(row.get("reference_episodes", row["episodes"]), row["episodes"]) // block * block,
        )
        for algo, mode in _pairs(request, env, loaded):
            changed = set(loaded.world.modes[mode]) & set(dials)
            if changed:
                notes.append(
                    f"mode {mode} of {loaded.name} sets {', '.join(sorted(changed))} itself; the "
                    "flag does not apply there"
                )
            config = resolved(found[algo], request, env)
            given = _given(found[algo], config, request, loaded)
            common = {
                "algo": algo,
                "env": env,
                "mode": mode,
                "config": config,
                "dials": _dials(loaded, mode),
                "options": dict(loaded.world.chosen),
                "demos": row["demos"],
                "demo_steps": row["demo_steps"],
                "horizon": horizon,
                "episodes": references if algo in algos.REFERENCES else row["episodes"],
                "block": block,
                "eps_episodes": row["eps_episodes"],
                "eps_steps": min(row["eps_steps"], horizon),
                "eval_every": 0 if algo in algos.REFERENCES else row["eval_every"],
                "width": row["width"],
                "observation_only": blind and algo not in algos.REFERENCES,
                "recorded": hold(file) if file and algo not in algos.REFERENCES else "",
                "given": "" if given is None else artifacts.hold(given),
                "plugin": {**found[algo].source, **loaded.source},
            }
            if algo == "untrained":
                common |= {name: min(common[name], most) for name, most in table.UNTRAINED.items()}
                common["episodes"] = common["episodes"] // common["block"] * common["block"]
            lengths = file.lengths if file else ()
            spec = Spec(loaded.world, horizon, row["demos"], row["demo_steps"], given, lengths)
            learner = registry.learner(algo, spec, config)
            starts = [request.first_seed + group * row["width"] for group in range(groups)]
            if (
                given is not None
            ):  # before anything is written: every seed must have been learned there
                taken = True
                for start in starts:
                    given.of(_part(found[algo], config) or "", range(start, start + row["width"]))
            if learner.rounds and (file or common["observation_only"]):
                handed = given and [
                    leaf[0]
                    for leaf in given.of(
                        _part(found[algo], config) or "", range(starts[0], starts[0] + 1)
                    )
                ]
                paid = file is not None and file.reward is not None
                _check_begins(learner, spec, algo, common["observation_only"], paid, handed)
            group = tuple(CellSpec(**common, first_seed=start) for start in starts)
            entries.append(
                Entry(group, row["seeds"], learner.rounds, dataclasses.asdict(learner.consumes))
            )
        records[env] = {
            "u": loaded.world.recovery_steps,
            "latency": loaded.world.latency,
            "horizon": horizon,
            "nominal": next(iter(loaded.world.modes)),
            "closed_form": env == "chain",
            "dials": {name: setting.default for name, setting in loaded.dials.items()},
            "options": dict(loaded.world.chosen),
            "demos": row["demos"],
            "demo_steps": row["demo_steps"],
            "recorded": file.sha256 if file else "",
            "first_seed": request.first_seed,
            "seeds": row["seeds"],
            "source": dict(loaded.source),
            "probe": _probe(loaded.world),
        }
    if not taken:
        asked = ", ".join(request.algo)
        raise BadInput(
            f"{request.given} is given, but {asked} takes nothing; nearest: --algo=ppo "
            f"--reward={request.given}"
        )
    horizons = request.horizons if isinstance(request.horizons, str) else tuple(request.horizons)
    return Plan(tuple(entries), records, horizons, request.budget, tuple(dict.fromkeys(notes)))


def document(plan: Plan, command: str, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """The content of plan.json for a plan that stands alone; `fingerprint` as
    `cells.fingerprint()` returns it."""
    digest = hashlib.sha256(canonical(dict(fingerprint)).encode()).hexdigest()[:20]
    entries = []
    for entry in plan.entries:
        first = entry.cells[0]
        shared = {
            k: v
            for k, v in first.to_dict().items()
            if k not in ("first_seed", "env", "algo", "mode")
        }
        entries.append(
            {
                "env": first.env,
                "algo": first.algo,
                "mode": first.mode,
                "cells": [cell_key(cell, fingerprint) for cell in entry.cells],
                "seeds": [first.first_seed, entry.seeds],
                "settings": shared,
                "rounds": entry.rounds,
                "consumes": dict(entry.consumes),
            }
        )
    return {
        "version": VERSION,
        "entries": entries,
        "analysis": {
            "horizons": plan.horizons if isinstance(plan.horizons, str) else list(plan.horizons)
        },
        "worlds": {env: {**record, "fingerprint": digest} for env, record in plan.worlds.items()},
        "command": command,
        "budget": plan.budget,
    }


def merge(
    earlier: Mapping[str, Any] | None, new: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """`new` together with what can stay of an earlier plan in the same folder, and one line for
    each entry that cannot.

    Another (env, algo, mode) stays if its world is not in `new`, or is there with the same dials,
    demonstrations, horizon, seeds, sources and versions: figures under different conditions never
    stand in one table. Cells are never deleted.
    """
    if not earlier:
        return dict(new), []
    replacing = {(entry["env"], entry["algo"], entry["mode"]): entry for entry in new["entries"]}
    kept, dropped = [], []
    for entry in earlier["entries"]:
        env, other = entry["env"], replacing.get((entry["env"], entry["algo"], entry["mode"]))
        if other is not None:
            alike = [(one["settings"], one["seeds"][0]) for one in (entry, other)]
            if (
                alike[0] != alike[1]
            ):  # else it is the same again, with more seeds or another version
                dropped.append(
                    f"left out of the report: {_called(entry)}, an earlier run with other "
                    "settings; its cells are kept"
                )
            continue
        before, now = earlier["worlds"].get(env, {}), new["worlds"].get(env)
        changed = (
            []
            if now is None
            else sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
        )
        if changed:
            what = ", ".join(changed)
            dropped.append(
                f"left out of the report: {_called(entry)}, an earlier run with other {what}; its "
                "cells are kept"
            )
        else:
            kept.append(entry)
    used = {entry["env"] for entry in kept}
    worlds = {
        **{env: record for env, record in earlier["worlds"].items() if env in used},
        **new["worlds"],
    }
    return {**new, "entries": [*kept, *new["entries"]], "worlds": worlds}, dropped


def displaced(plan: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """One line for each entry of `own` that a sweep started since has put out of the folder's
    plan."""
    there = {(entry["env"], entry["algo"], entry["mode"]): entry for entry in plan["entries"]}
    lines = []
    for entry in own["entries"]:
        other = there.get((entry["env"], entry["algo"], entry["mode"]))
        if (
            other is None
            or other["settings"] != entry["settings"]
            or other["seeds"][0] != entry["seeds"][0]
        ):
            lines.append(
                f"not in the report: {_called(entry)}, as a sweep with other settings or seeds has "
                "been started in this folder "
                "since; its cells are kept"
            )
    return lines


def _called(entry: Mapping[str, Any]) -> str:
    return f"{entry['algo']} on {entry['env']} ({entry['mode']})"


def _pairs(request: Request, env: str, loaded: registry.LoadedWorld) -> list[tuple[str, str]]:
    """(algorithm, mode) in the order they are run: the references first, since the others are
    judged against them."""
    names = tuple(loaded.world.modes)
    asked = [algo for algo in dict.fromkeys(request.algo) if algo not in algos.REFERENCES]
    chosen = tuple(name for name in names if name in request.mode) if request.mode else None
    pairs = [(algo, mode) for algo in asked for mode in (chosen or table.modes(env, algo, names))]
    used = {mode for _, mode in pairs} or set(chosen or names[:1])
    experts = [("expert", mode) for mode in names if mode in used]
    return [*experts, ("untrained", names[0]), *pairs]


LEAST = {"seeds": 1, "first_seed": 0, "demos": 1, "demo_steps": 1, "episodes": 1, "T_max": 2}
"""The least value of each number of a request."""


def _with_integers(request: Request) -> Request:
    """The request with numbers that may be NumPy's as Python's; raises BadInput for one that is
    no integer or too small."""
    asked = {name: getattr(request, name) for name in LEAST}
    whole_ = {
        name: whole(name, value, LEAST[name]) for name, value in asked.items() if value is not None
    }
    return dataclasses.replace(request, **whole_, horizons=whole_horizons(request.horizons))


def whole_horizons(horizons: Any) -> tuple[int, ...] | str:
    """Horizons as a tuple of integers, or the word as it is; raises BadInput for anything else."""
    if isinstance(horizons, str):
        return horizons
    try:
        values = list(horizons)
    except TypeError:
        raise BadInput(
            f"horizons={horizons!r} must be 'auto' or increasing integers; nearest: 'auto'"
        ) from None
    return tuple(whole("horizons", value, 1) for value in values)


def first_seed(value: int, seeds: int) -> int:
    """`value` if it and the `seeds` from it on are seeds; raises BadInput else."""
    top = 2**31 - seeds
    if not 0 <= value <= top:
        raise BadInput(
            f"first_seed={value} must be in [0, {top}]; nearest: {0 if value < 0 else top}"
        )
    return value


def _check_owners(
    request: Request, found: list[registry.Algorithm], worlds: list[registry.LoadedWorld]
) -> None:
    """Raises BadInput if two share a name, or settings are given for what is not in the sweep."""
    names = [owner.name for owner in (*found, *worlds)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(
            f"two algorithms or worlds of the sweep are called {twice[0]!r}; rename one's module"
        )
    for name in request.settings:
        if name not in names:
            raise BadInput(
                f"settings of {name!r} are given, which is not in the sweep ({', '.join(names)})"
            )


def _check_modes(request: Request, worlds: Mapping[str, registry.LoadedWorld]) -> None:
    known = list(dict.fromkeys(mode for loaded in worlds.values() for mode in loaded.world.modes))
    for mode in request.mode or ():
        if mode not in known:
            raise BadInput(
                f"unknown mode {mode!r} ({' | '.join(known)}); did you mean "
                f"{nearest(mode, known)!r}?"
            )
    for env, loaded in worlds.items():
        if request.mode and not set(request.mode) & set(loaded.world.modes):
            own = " | ".join(loaded.world.modes)
            raise BadInput(
                f"{env} has none of the modes {', '.join(request.mode)}; it has {own}; nearest: "
                f"leave {env} out"
            )


def check_horizons(horizons: Sequence[int] | str, env: str, top: int) -> None:
    """Raises BadInput unless `horizons` is "auto" or at least two increasing integers in 1..top."""
    if isinstance(horizons, str):
        if horizons != "auto":
            raise BadInput(
                f"horizons={horizons!r} must be 'auto' or increasing integers; nearest: 'auto'"
            )
        return
    values = list(horizons)
    sane = sorted({min(max(int(value), 1), top) for value in values})
    text = ",".join(map(str, values[:12]))
    if len(sane) < 2:
        raise BadInput(
            f"horizons={text}: at least two different horizons in 1..{top} are needed for a slope; "
            "nearest: 'auto'"
        )
    if values != sane:
        limit = f"in 1..{top} ({env}'s longest)"
        raise BadInput(
            f"horizons={text} must be increasing and {limit}; nearest: "
            f"{','.join(map(str, sane[:12]))}"
        )


def _checked(
    owner: registry.Algorithm | registry.LoadedWorld, values: Mapping[str, Any]
) -> dict[str, Any]:
    """`values` checked against the owner's settings; raises BadInput naming the setting."""
    settings = owner.settings
    checked = {}
    for name, value in values.items():
        if name not in settings:
            guess = nearest(name, settings)
            hint = f"did you mean {owner.name}.{guess}?" if guess else "it has none"
            raise BadInput(f"{owner.name} has no setting {name!r}; {hint}")
        try:
            checked[name] = settings[name].check(value)
        except ValueError as error:
            raise BadInput(f"{owner.name}.{name} {error}") from None
    return checked


def resolved(found: registry.Algorithm, request: Request, env: str) -> dict[str, Any]:
    """Every setting of the algorithm with its final value."""
    defaults = {name: setting.default for name, setting in found.settings.items()}
    differences = _checked(found, table.config_differences(env, found.ref, request.budget))
    return {**defaults, **differences, **_checked(found, request.settings.get(found.name, {}))}


def _dials(loaded: registry.LoadedWorld, mode: str) -> dict[str, float]:
    """Every dial with its final value in a mode."""
    values = {name: setting.default for name, setting in loaded.dials.items()}
    return {
        **values,
        **_checked(
            loaded, {name: float(value) for name, value in loaded.world.modes[mode].items()}
        ),
    }


def _recorded(request: Request, world: World, row: dict[str, int]) -> Recorded | None:
    """The demonstrations of `request.demos_from`, if any; puts their number and length into the
    row of budgets."""
    if request.demos_from is None:
        return None
    found = read(request.demos_from, world)
    count = len(found.mask) if request.demos is None else request.demos
    if not 1 <= count <= len(found.mask):
        raise BadInput(
            f"{request.demos_from} holds {len(found.mask)} demonstrations, not {count}; nearest: "
            f"--demos={len(found.mask)}"
        )
    if request.demo_steps is not None:
        raise BadInput(
            "--demo_steps is not for demonstrations from a file, which have their own; nearest: "
            "leave it out"
        )
    found = found.first(count)
    row |= {"demos": count, "demo_steps": found.mask.shape[1]}
    return found


def _part(found: registry.Algorithm, config: Mapping[str, Any]) -> str | None:
    """What the algorithm takes of an earlier run."""
    return found.takes(registry.config_of(found, config))


def _given(
    found: registry.Algorithm,
    config: Mapping[str, Any],
    request: Request,
    loaded: registry.LoadedWorld,
) -> artifacts.Learned | None:
    """What the algorithm takes of an earlier run. Raises BadInput if it takes something and
    nothing fit is given."""
    part = _part(found, config)
    if part is None:
        return None
    if request.given is None and part == clips.PART:
        raise BadInput(
            f"{found.name} takes people's comparisons; nearest: --given=FOLDER of launch/label.py"
        )
    if request.given is None:
        raise BadInput(
            f"{found.name} takes a learned {part}; nearest: --given=RUN, the folder of a run of "
            "gail or airl"
        )
    held = artifacts.read(request.given, part)
    if part == clips.PART:
        clips.check_world(held, loaded)
    return held


def _check_begins(
    learner: Learner, spec: Spec, algo: str, blind: bool, paid: bool, given: Any
) -> None:
    """Raises BadInput if the algorithm cannot begin on a file's demonstrations.

    Args:
      blind: whether they are without actions.
      paid: whether they hold rewards.
      given: what the first seed is handed of an earlier run.
    """
    shape = lambda *size: jax.ShapeDtypeStruct(size, np.float32)
    rows = (spec.demos, spec.demo_steps)
    size = () if spec.n_actions is not None else (spec.action_size,)
    action = (
        None if blind else jax.ShapeDtypeStruct((*rows, *size), np.float32 if size else np.int32)
    )
    reward = shape(*rows) if paid else None
    demos = Demonstrations(shape(*rows, spec.observation_size), action, shape(*rows), reward)  # type: ignore[arg-type]
    key = jax.eval_shape(jax.random.PRNGKey, 0)
    try:
        jax.eval_shape(
            lambda key, demos: learner.init(key, Task(demos, spec.world.dials, given)), key, demos
        )
    except (AttributeError, TypeError):  # an outside algorithm that takes actions for granted
        if not blind:
            raise
        raise BadInput(
            f"{algo} cannot do without the demonstrations' actions; nearest: leave out "
            "--observation_only"
        ) from None


def _probe(world: World) -> dict[str, Any] | None:
    """Where a learned reward is looked at, without the observations; JSON values."""
    probe = world.probe()
    if probe is None:
        return None
    return {
        k: v if isinstance(v, str) else np.asarray(v).round(6).tolist()
        for k, v in probe.items()
        if k != "observation"
    }


def _block(episodes: int, block: int, env: str) -> int:
    """Episodes per jitted call: the largest divisor of `episodes` that is not above `block`.
    Raises BadInput if it is tiny."""
    largest = max(size for size in range(1, min(block, episodes) + 1) if episodes % size == 0)
    if largest < min(block, episodes) / 8:
        near = max(block, round(episodes / block) * block)
        raise BadInput(
            f"episodes={episodes} cannot be cut into equal blocks of about {block} on {env}; "
            f"nearest: {near}"
        )
    return largest

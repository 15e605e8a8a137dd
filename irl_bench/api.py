"""The functions for Python: `run` makes a sweep, `score` measures one policy that was trained
elsewhere."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.core import World
from irl_bench import sweep
from irl_bench.core.learner import Learner
from irl_bench.core.quantities import TOLERANCES
from irl_bench.core.settings import BadInput, nearest, whole
from irl_bench.core.types import Spec
from irl_bench.horizon import analyse
from irl_bench.plan import policies, registry
from irl_bench.plan.host import HostPolicy
from irl_bench.plan.request import Request, check_first_seed, check_horizons, whole_horizons
from irl_bench.report import curves
from irl_bench.rollouts.evaluation import evaluate, expected_cost, expert_errors
from irl_bench.running import runner
from irl_bench.running.programs import EVALUATION, HELD_OUT
from irl_bench.running.progress import costs_are_finite, quantities
from irl_bench.storage import remote

__all__ = ["run", "score"]

SEEDS_AT_ONCE = 5
"""Seeds that `score` evaluates side by side, which bounds the memory."""


def run(
    algo: str | Sequence[str] = Request.algo,
    env: str | Sequence[str] = Request.env,
    *,
    policy: str | Sequence[str] = (),
    mode: str | Sequence[str] | None = None,
    seeds: int | None = None,
    first_seed: int = 0,
    seeds_at_once: int | None = None,
    budget: str = "default",
    horizons: Sequence[int] | str = "auto",
    demos: int | str | None = None,
    demo_steps: int | None = None,
    T_max: int | None = None,
    episodes: int | None = None,
    reference_episodes: int | None = None,
    demonstrations: str | None = None,
    burn_in: int | None = None,
    demo_noise: float = 0.0,
    given: str | None = None,
    demos_from: str | None = None,
    observation_only: bool = False,
    worlds_over_devices: bool = False,
    out: str = Request.out,
    tensorboard: bool = False,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Runs a sweep as `launch/sweep.py` does and returns its verdicts.

        irl_bench.run("bc", "lane_keep", seeds=20, lane_keep={"friction": 0.6})
        irl_bench.run(["bc", "my_package.mine:make"], "my_package.my_world:make", out="runs/mine")

    Finished cells in `out` are reused, so a second call with the same arguments returns at once.

    Args:
      algo: names of algorithms, or `package.module:make`.
      env: names of worlds, or `package.module:factory`.
      policy: external policies, `package.module:act`.
      mode: only these modes of the worlds; None: those that each algorithm runs in by default.
      seeds: number of seeds per algorithm, world and mode; None: that of the budget.
      first_seed: the first of them; it shifts every random stream.
      seeds_at_once: seeds that a device computes side by side; None: that of the budget.
      budget: "smoke", "default" or "full".
      horizons: "auto" or increasing T [steps].
      demos: demonstration episodes per seed; "auto": as many as give the world a window, found
        by a pilot; None: those of the budget.
      demo_steps: length of a demonstration [steps]; None: that of the budget.
      T_max: the longest horizon of the evaluation [steps]; None: the world's.
      episodes: evaluation episodes per seed; None: those of the budget.
      reference_episodes: those of the expert, at most `episodes`; None: those of the budget.
      demonstrations: "clean": only episodes of the expert without a failure are demonstrated;
        "all": any; None: as the budget says.
      burn_in: steps that the expert acts before every episode begins; None: that of the budget for
        an algorithm that imitates, else 0.
      demo_noise: standard deviation of noise on the actions that the expert executes in every
        second demonstration; labels are without it.
      given: file or folder of an earlier run, or its URL, that provides a learned policy, a learned
        reward or people's comparisons to an algorithm.
      demos_from: a file of demonstrations that replace those of the world's expert (npz, HDF5), or
        the folder of a dataset (Minari, LeRobot, imitation).
      observation_only: withhold the demonstrations' actions.
      worlds_over_devices: spread the training worlds of one learner over all devices; for
        algorithms that train with PPO.
      out: folder of the run, which also gets verdicts.json and report.html.
      tensorboard: also write TensorBoard files.
      **settings: settings of an algorithm or dials of a world by its name: a dict, or
        `**{"bc.learning_rate": 1e-3}`.

    Returns:
      The content of verdicts.json: one dict per algorithm, world and mode in the folder.

    Raises:
      ValueError: an argument is unknown or out of range, or a file in `out` is damaged; one line
        that names it.
      SystemExit: status 75 if SIGTERM or SIGINT arrived; the same call then resumes the run.
    """
    runner.configure()
    if not isinstance(out, str | os.PathLike):
        raise BadInput(f"out={out!r} must be a folder's name; nearest: {Request.out!r}")
    for name, value in (
        ("observation_only", observation_only),
        ("worlds_over_devices", worlds_over_devices),
        ("tensorboard", tensorboard),
    ):
        if not isinstance(value, bool):
            raise BadInput(f"{name}={value!r:.60} must be True or False; nearest: {name}=False")
    policies = [registry.POLICY + ref for ref in _list("policy", policy)]
    algos = _list("algo", algo)
    if policies and algos == list(Request.algo):
        algos = []
    request = Request(
        algo=(*algos, *policies),
        env=tuple(_list("env", env)),
        mode=None if mode is None else tuple(_list("mode", mode)),
        seeds=seeds,
        first_seed=first_seed,
        seeds_at_once=seeds_at_once,
        budget=budget,
        horizons=whole_horizons(horizons),
        demos=demos,
        demo_steps=demo_steps,
        T_max=T_max,
        episodes=episodes,
        reference_episodes=reference_episodes,
        demonstrations=demonstrations,
        burn_in=burn_in,
        demo_noise=demo_noise,
        given=given,
        demos_from=None if demos_from is None else str(demos_from),
        observation_only=observation_only,
        worlds_over_devices=worlds_over_devices,
        settings=_nested(settings, [*algos, *_list("env", env)]),
        out=str(out),
        tensorboard=tensorboard,
    )
    line = f"irl_bench.run(**{_arguments(request)})"
    folder = remote.folder(request.out, writing=True)
    return sweep.sweep(dataclasses.replace(request, out=str(folder)), line)


def score(
    policy: str | Callable[..., Any] | HostPolicy,
    world: str | World,
    *,
    params: Any = None,
    carry: Any = None,
    mode: str | None = None,
    seeds: int = 20,
    first_seed: int = 0,
    episodes: int = 256,
    eps_episodes: int = 128,
    eps_steps: int = 256,
    horizons: Sequence[int] | str = "auto",
    **dials: float,
) -> dict[str, Any]:
    """Measures one policy by the protocol: its verdict, slope, hazard, recovery, errors and regret.

    No files are written.

        irl_bench.score(lambda observation, key: jnp.zeros(2), "lane_keep", seeds=10, friction=0.6)
        # apply(params, observation, key)
        irl_bench.score(apply, "lane_keep", params=params)
        # step(params, carry, observation, key)
        irl_bench.score(step, "hopper", params=params, carry=jnp.zeros(64))
        # stable-baselines3, PyTorch, NumPy
        irl_bench.score(irl_bench.host_policy(model), "hopper")
        irl_bench.score("my_package.my_policy:act", "chain")

    `seeds` are seeds of the evaluation: each has its own start states. The intervals therefore
    cover the evaluation of this one policy; they do not say how another training would turn out.

    Args:
      policy: a jit-able act(observation[O], key) -> action, or act(params, observation[O], key)
        with `params`; `package.module:act`; or the result of `host_policy`. An action is int32[] in
        a discrete world, else float32[A] in [-1, 1]. A policy may also return (action, extras), as
        Brax's inference functions do; the extras are ignored.
      world: a name, `package.module:factory`, or a World.
      params: a pytree of arrays.
      carry: what a recurrent policy begins each episode with, a pytree of arrays. The policy is
        then act(params, carry, observation, key) -> (action, carry), or without params act(carry,
        observation, key).
      mode: one of the world's modes; None: the first.
      seeds: number of independent blocks of episodes.
      first_seed: the first of them.
      episodes: evaluation episodes per seed, each of the world's T_max steps.
      eps_episodes: expert episodes per seed on which the policy's errors are counted.
      eps_steps: their length [steps], at most T_max.
      horizons: "auto" or increasing T [steps].
      **dials: dials of the world.

    Returns:
      One verdict, as in verdicts.json.

    Raises:
      ValueError: an argument is unknown, out of range or of the wrong shape; one line that names
        it.
    """
    runner.configure()
    for name in dials.keys() & {"seed", *(run.__kwdefaults__ or ())}:
        hint = "seeds or first_seed" if name == "seed" else "run, which trains algorithms"
        raise BadInput(f"score() has no argument {name!r}; did you mean {hint}?")
    world, env = _world(world, dials)
    modes = tuple(world.modes)
    mode = modes[0] if mode is None else mode
    if mode not in modes:
        raise BadInput(
            f"unknown mode {mode!r} ({' | '.join(modes)}); did you mean {nearest(mode, modes)!r}?"
        )
    seeds, episodes = whole("seeds", seeds, 1), whole("episodes", episodes, 1)
    eps_episodes, eps_steps = (
        whole("eps_episodes", eps_episodes, 1),
        whole("eps_steps", eps_steps, 1),
    )
    first_seed = check_first_seed(whole("first_seed", first_seed, 0), seeds)
    horizons = whole_horizons(horizons)
    check_horizons(horizons, env, world.horizon)
    if isinstance(policy, str):
        if params is not None or carry is not None:
            raise BadInput(
                "a policy named as package.module:act has params and carry in its module; nearest: "
                "leave them out"
            )
        name = registry.POLICY + policy
        make = registry.algorithm(name).make
    else:
        name = getattr(policy, "__name__", "policy")
        make = policies.as_learner(policy, params, carry)
    spec = Spec(world=world, horizon=world.horizon, demos=1, demo_steps=1)
    learner = make(spec, None)
    # An external policy's `init` reads no task.
    learned = learner.policy(learner.init(jax.random.PRNGKey(0), None))  # pyright: ignore[reportArgumentType]
    bound = world.bind(world.dials_for(mode))
    span = np.arange(first_seed, first_seed + seeds)
    measured = _measure(
        bound, learner, learned, span, episodes, eps_episodes, min(eps_steps, world.horizon)
    )
    expert = _measure(bound, None, None, span, episodes, 0, 0)
    of_expert = quantities(expert, world.horizon)
    all_curves = [
        curves.assemble(
            quantities(sums, world.horizon),
            of_expert,
            env=env,
            algo=algo,
            mode=mode,
            seeds=span,
            T=np.arange(1, world.horizon + 1),
            failed=~costs_are_finite(sums),
            interactive=False,
            episodes=episodes,
            consumes=(0, 0),
        )
        for algo, sums in (("expert", expert), (name, measured))
    ]
    facts = {
        "u": world.recovery_steps,
        "latency": world.latency,
        "horizon": world.horizon,
        "nominal": modes[0],
    }
    verdicts = analyse(all_curves, {env: facts}, horizons=horizons)
    return next(verdict for verdict in verdicts if verdict["algo"] == name)


def _measure(
    world: World,
    learner: Learner | None,
    params: Any,
    seeds: np.ndarray,
    episodes: int,
    eps_episodes: int,
    eps_steps: int,
) -> dict[str, np.ndarray]:
    """Evaluates a policy with the random streams of a sweep, in one block.

    Args:
      world: with its dials bound.
      learner: whose `act` is the policy; None: the world's expert.
      params: of the policy.
      seeds: int[S].
      episodes: evaluation episodes per seed.
      eps_episodes: expert episodes per seed on which errors are counted; 0: none.
      eps_steps: their length [steps].

    Returns:
      The sums of `Evaluation` and of `expert_errors` by name, and the cost in closed form where
      there is one; float64[S, ...] each.
    """
    act, carry = (learner.act, learner.carry) if learner else (None, None)

    def of_seed(seed: jax.Array) -> dict[str, jax.Array]:
        seed_key = jax.random.fold_in(jax.random.PRNGKey(0), seed)
        key = jax.random.fold_in(jax.random.fold_in(seed_key, EVALUATION), 0)
        sums = evaluate(world, act, params, key, episodes, world.horizon, carry)
        errors, steps = jnp.zeros(len(TOLERANCES)), jnp.zeros(())
        key = jax.random.fold_in(jax.random.fold_in(seed_key, HELD_OUT), 0)
        if eps_episodes:
            errors, steps = expert_errors(world, act, params, key, eps_episodes, eps_steps, carry)
        exact = expected_cost(world, act, params, key, world.horizon, carry)
        measured = {**vars(sums), "expert_errors": errors, "expert_steps": steps}
        return measured if exact is None else {**measured, "expected_cost": exact}

    # Groups of seeds bound the memory. The last group is filled up, so that all have one shape.
    width = min(SEEDS_AT_ONCE, len(seeds))
    measured = jax.jit(jax.vmap(of_seed))
    parts = []
    for start in range(0, len(seeds), width):
        group = seeds[start : start + width]
        filled = np.resize(group, width).astype(np.uint32)
        parts.append(
            {
                k: np.asarray(v, np.float64)[: len(group)]
                for k, v in jax.device_get(measured(filled)).items()
            }
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _world(world: str | World, dials: Mapping[str, float]) -> tuple[World, str]:
    """The world with its dials, and its name.

    Warns of what the world's contract leaves open.

    Raises:
      BadInput: an unknown world or dial, or a world that breaks the contract.
    """
    if isinstance(world, str):
        loaded = registry.world(world, dials)
        result, name, notes = loaded.world, world, loaded.warnings
    elif isinstance(world, World):
        notes = () if type(world).__module__.startswith("envs.") else registry.keeps_contract(world)
        result, name = registry.dialled(world, dials), world.name
    else:
        is_class = isinstance(world, type) and issubclass(world, World)
        hint = f"{world.__name__}()" if is_class else "irl_bench.score(policy, 'lane_keep')"
        what = f"the class {world.__name__}" if is_class else type(world).__name__
        raise BadInput(f"world must be a name or an envs.World, not {what}; nearest: {hint}")
    for line in notes:
        warnings.warn(line, stacklevel=3)
    return result, name


def _list(argument: str, names: Any) -> list[str]:
    """Names as a list; raises BadInput for what is neither a name nor a sequence of names."""
    if isinstance(names, str):
        return [name.strip() for name in names.split(",")]
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise BadInput(
            f"{argument}={names!r} must be a name or a list of names; nearest: "
            f"{argument}={str(names)!r}"
        )
    return list(names)


def _nested(settings: Mapping[str, Any], refs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """{"bc": {"x": 1}, "bc.y": 2} -> {"bc": {"x": 1, "y": 2}}

    Raises BadInput for anything else; `refs` are the call's algorithms and worlds.
    """
    nested: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        owner, dot, field = name.rpartition(".")
        if dot:
            nested.setdefault(owner, {})[field] = value
        elif isinstance(value, Mapping):
            nested.setdefault(name, {}).update(value)
        else:
            raise BadInput(f"run() has no argument {name!r}; {_meant(name, value, refs)}")
    return nested


def _meant(name: str, value: Any, refs: Sequence[str]) -> str:
    """What a call with an unknown argument probably meant, in words."""
    if name == "seed":
        return "did you mean seeds or first_seed?"
    for ref in refs:
        for find in (registry.algorithm, registry.world):
            with contextlib.suppress(BadInput):
                owner = find(ref)
                if name in owner.settings:
                    return f"did you mean {owner.name}={{{name!r}: {value!r:.40}}}?"
                if name == owner.name:
                    known = next(iter(owner.settings), "setting")
                    return f"settings are a dict; nearest: {name}={{{known!r}: ...}}"
    near = nearest(name, [*(run.__kwdefaults__ or ()), "algo", "env"])
    return f"did you mean {near}? (Settings are given as NAME={{{name!r}: ...}})"


def _arguments(request: Request) -> dict[str, Any]:
    """The arguments that differ from the defaults, for the report's "how to reproduce"."""
    default = Request()
    return {name: value for name, value in vars(request).items() if value != getattr(default, name)}

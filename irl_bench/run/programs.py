"""The compiled functions of an algorithm on a world: one compilation each, whatever the modes,
dials, seeds and horizons.

Seeds are vmapped inside a group; groups are spread over the devices with `shard_map`, one whole
group each, so a group's numbers do not depend on how many run beside it. All that varies between
cells enters as data:

    seeds uint32[G, W], dials float32[G] each, k int32[G], stream and block uint32[G]

with G devices and W seeds per group. Every random number comes from `fold_in(PRNGKey(0), seed)` and
one of the streams below.
"""

from __future__ import annotations

import dataclasses
import gc
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from irl_bench.core.cell import CellSpec, canonical, fingerprint
from irl_bench.core.types import Demonstrations, Spec, Task
from irl_bench.plan import policies, registry
from irl_bench.rollouts.evaluation import collect, evaluate, expected_cost, expert_errors
from irl_bench.storage import artifacts
from irl_bench.storage.demonstrations import held

DEMONSTRATIONS, INIT, EVALUATION, HELD_OUT, LEVEL = range(5)
"""Streams of random numbers of a seed. They never depend on algorithm or mode, so cells share
random numbers."""

CAPACITY = 1024
"""Most rounds in one call of `chunk`: the length of its buffer of metrics."""

SHOWN = (
    "env",
    "mode",
    "dials",
    "options",
    "plugin",
    "demos",
    "demo_steps",
    "observation_only",
    "first_seed",
    "width",
)
"""Fields of a cell that its expert's demonstrations follow from."""
HELD = 2**30
"""Bytes of demonstrations that are kept for further cells, at most, those in use aside."""

FINITE = "params"
"""Name of the column of `chunk`'s buffer that holds 0 while all of the policy's params are
finite, else NaN."""


class Program:
    """One algorithm on one world at fixed shapes, compiled ahead of time for this process's
    devices.

    Attributes:
      learner: what the algorithm's `make` returned.
      metrics: names of the columns of the metrics buffer, those of `Learner.update` and FINITE at
        last.
      groups: G, the number of groups computed at once.
      compilations: {function: how often it was compiled}.
      compile_seconds: summed over them.
    """

    def __init__(self, cell: CellSpec):
        self.world = registry.world(cell.env, cell.options).world
        self._learned = artifacts.held(cell.given) if cell.given else None
        self._recorded = held(cell.recorded) if cell.recorded else None
        found = registry.algorithm(cell.algo)
        self._takes = found.takes(registry.config_of(found, cell.config))
        lengths = self._recorded.lengths if self._recorded else ()
        spec = Spec(self.world, cell.horizon, cell.demos, cell.demo_steps, self._learned, lengths)
        self.learner = registry.learner(cell.algo, spec, cell.config)
        self.probe = self.world.probe() if self.learner.judge else None
        self.compilations: dict[str, int] = {}
        self.compile_seconds = 0.0
        self.groups = jax.local_device_count()
        mesh = jax.make_mesh(
            (self.groups,), ("group",), axis_types=(AxisType.Auto,), devices=jax.local_devices()
        )
        self._mesh, self._sharding = mesh, NamedSharding(mesh, P("group"))
        self._cell, self._lock = cell, threading.Lock()
        self._functions: dict[str, Future] = {}
        self._pool: ThreadPoolExecutor | None = None

        # Shapes of everything, found without computing anything.
        seeds = self._shape((cell.width,), np.uint32)
        scalar = self._shape((), np.uint32)
        dials = jax.tree.map(lambda _: self._shape((), np.float32), self.world.dials)
        shown = (
            self._shown_shapes(seeds, dials) if self.learner.rounds else None
        )  # else no demonstrations are needed
        given = jax.tree.map(lambda x: self._shape(x.shape, x.dtype), self._given(cell.seeds))
        state = self._result(self._init, seeds, shown, dials, given)
        self.state_shape = state
        # Of one seed: without the axes of groups and seeds.
        params = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), self._result(self._policy, state)
        )
        policies.check_action(cell.algo, self.learner, self.world, params)
        if any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(state)):
            raise ValueError(
                f"{cell.algo} keeps a typed key in its state; keep jax.random.key_data(key), which "
                "can be stored"
            )
        self.metrics = (*self._metric_names(state, shown, dials, given), FINITE)
        self._arguments: dict[str, tuple[Callable, tuple, tuple[int, ...]]] = {
            "demonstrate": (self._demonstrate, (seeds, dials), ()),
            "init": (self._init, (seeds, shown, dials, given), ()),
            "chunk": (self._chunk, (state, shown, dials, given, self._shape((), np.int32)), (0,)),
            "evaluate": (self._evaluate, (state, dials, seeds, scalar, scalar), ()),
            "expert_errors": (self._expert_errors, (state, dials, seeds, scalar), ()),
            "keep": (self._keep, (state,), ()),
        }

    # The functions of one group. Leaves have a leading axis W where they belong to a seed; dials,
    # k, stream and block do not.

    def _key(self, seed: jax.Array, stream: Any) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.PRNGKey(0), seed), stream)

    def _demonstrate(self, seeds: jax.Array, dials: Any) -> Any:
        world, cell = self.world.bind(dials), self._cell
        made = jax.vmap(
            lambda s: collect(world, self._key(s, DEMONSTRATIONS), cell.demos, cell.demo_steps)
        )(seeds)
        return made.replace(action=None) if cell.observation_only else made

    def _init(self, seeds: jax.Array, demos: Any, dials: Any, given: Any) -> Any:
        return jax.vmap(lambda s, d, g: self.learner.init(self._key(s, INIT), Task(d, dials, g)))(
            seeds, demos, given
        )

    def _chunk(
        self, state: Any, demos: Any, dials: Any, given: Any, k: jax.Array
    ) -> tuple[Any, jax.Array]:
        """k rounds. Returns the state and the metrics float32[CAPACITY, W, M], the first k rows
        of it filled."""

        def update(state: Any, demos: Any, given: Any) -> tuple[Any, jax.Array]:
            state, metrics = self.learner.update(state, Task(demos, dials, given))
            row = [jnp.asarray(metrics[name], jnp.float32) for name in self.metrics[:-1]]
            finite = jnp.where(_finite(self.learner.policy(state)), 0.0, jnp.nan)
            return state, jnp.stack([*row, finite])

        def round_(i: jax.Array, carry: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
            state, rows = jax.vmap(update)(carry[0], demos, given)
            return state, carry[1].at[i].set(rows)

        length = max(1, min(CAPACITY, self.learner.rounds))
        rows = jnp.zeros((length, self._cell.width, len(self.metrics)), jnp.float32)
        return jax.lax.fori_loop(0, k, round_, (state, rows))

    def _evaluate(
        self, state: Any, dials: Any, seeds: jax.Array, stream: jax.Array, block: jax.Array
    ) -> dict[str, jax.Array]:
        """Sums over `cell.block` episodes (the fields of `rollout.Evaluation`) and whether the
        params are finite."""
        world, cell = self.world.bind(dials), self._cell

        def one(state: Any, seed: jax.Array) -> dict[str, jax.Array]:
            params, key = (
                self.learner.policy(state),
                jax.random.fold_in(self._key(seed, stream), block),
            )
            sums = evaluate(
                world, self.learner.act, params, key, cell.block, cell.horizon, self.learner.carry
            )
            fields = {
                field.name: jnp.asarray(getattr(sums, field.name))
                for field in dataclasses.fields(sums)
            }
            return {**fields, "broken": jnp.where(_finite(params), 0.0, 1.0)}

        return jax.vmap(one)(state, seeds)

    def _expert_errors(
        self, state: Any, dials: Any, seeds: jax.Array, block: jax.Array
    ) -> dict[str, jax.Array]:
        """Errors on `cell.eps_block` held-out expert episodes at each tolerance, the steps, and
        J(T) in closed form."""
        world, cell = self.world.bind(dials), self._cell

        def one(state: Any, seed: jax.Array) -> dict[str, jax.Array]:
            params, key = (
                self.learner.policy(state),
                jax.random.fold_in(self._key(seed, HELD_OUT), block),
            )
            act, carry = self.learner.act, self.learner.carry
            errors, steps = expert_errors(
                world, act, params, key, cell.eps_block, cell.eps_steps, carry
            )
            sums = {"expert_errors": jnp.asarray(errors), "expert_steps": jnp.asarray(steps)}
            exact = expected_cost(world, act, params, key, cell.horizon, carry)
            # Given once, with the first block, as the host adds blocks up.
            once = {} if exact is None else {"expected_cost": exact}
            if self.probe is not None:
                once["reward_map"] = self._reward_map(state, key)
            return {
                **sums,
                **{name: jnp.where(block == 0, value, 0.0) for name, value in once.items()},
            }

        return jax.vmap(one)(state, seeds)

    def _reward_map(self, state: Any, key: jax.Array) -> jax.Array:
        """The learned reward of standing at each of the world's probe observations and acting as
        the policy does there."""
        assert (
            self.probe is not None
            and self.learner.judge
            and self.learner.reward
            and self.learner.act
        )
        observation, params = jnp.asarray(self.probe["observation"]), self.learner.policy(state)
        action = jax.vmap(self.learner.act, (None, 0, None))(params, observation, key)
        return self.learner.judge(self.learner.reward(state), observation, action, observation)

    def _policy(self, state: Any) -> Any:
        return jax.vmap(self.learner.policy, axis_size=self._cell.width)(state)

    def _keep(self, state: Any) -> dict[str, Any]:
        """What is stored of a finished cell beside its figures; leaves have the seeds' axis."""
        parts = {"policy": self._policy(state)}
        if self.learner.reward is not None:
            parts["reward"] = jax.vmap(self.learner.reward)(state)
        return parts

    # Compilation.

    def _shape(self, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.groups, *shape), dtype, sharding=self._sharding)

    def _result(self, function: Callable, *arguments: Any) -> Any:
        """The shapes, with the group axis, of what `function` returns."""
        return jax.tree.map(
            lambda x: self._shape(x.shape[1:], x.dtype),
            jax.eval_shape(self._sharded(function), *arguments),
        )

    def _shown_shapes(self, seeds: Any, dials: Any) -> Any:
        """The shapes of the demonstrations: a file's are those of the file, with rewards and
        actions only if it has them."""
        if self._recorded is None:
            return self._result(self._demonstrate, seeds, dials)
        return jax.tree.map(lambda x: self._shape(x.shape, x.dtype), self._from_file())

    def _from_file(self) -> Demonstrations:
        """The file's demonstrations, the same for every seed of a group."""
        assert self._recorded is not None
        shown = self._recorded.tiled(self._cell.width)
        return shown.replace(action=None) if self._cell.observation_only else shown

    def _metric_names(self, state: Any, demos: Any, dials: Any, given: Any) -> tuple[str, ...]:
        def update(state: Any, demos: Any, dials: Any, given: Any) -> dict[str, jax.Array]:
            return jax.vmap(lambda s, d, g: self.learner.update(s, Task(d, dials, g))[1])(
                state, demos, given
            )

        metrics = self._result(update, state, demos, dials, given) if self.learner.rounds else {}
        for name, leaf in metrics.items():
            if leaf.shape != (self.groups, self._cell.width) or name == FINITE:
                raise ValueError(
                    f"metric {name!r} of {self._cell.algo} must be a scalar and not be called "
                    f"{FINITE!r}"
                )
        return tuple(sorted(metrics))

    def _sharded(self, function: Callable) -> Callable:
        """`function` of one group, over the group axis: each device computes one group and none
        waits for another."""

        def group(*arguments: Any) -> Any:
            result = function(*jax.tree.map(lambda leaf: leaf[0], arguments))
            return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], result)

        return jax.shard_map(
            group, mesh=self._mesh, in_specs=P("group"), out_specs=P("group"), check_vma=False
        )

    def _compile(self, name: str) -> Callable:
        function, shapes, donated = self._arguments[name]
        start = time.monotonic()
        jitted = jax.jit(
            self._sharded(function), donate_argnums=donated, out_shardings=self._sharding
        )
        compiled = jitted.lower(*shapes).compile()
        with self._lock:
            self.compilations[name] = self.compilations.get(name, 0) + 1
            self.compile_seconds += time.monotonic() - start
        return compiled

    def prepare(self) -> None:
        """Starts compiling every function that a cell needs, two at a time, in the order of
        their use."""
        names = [name for name in self._arguments if name not in self._functions]
        names = [
            name
            for name in names
            if self.learner.rounds or name not in ("demonstrate", "chunk", "keep")
        ]
        names = [name for name in names if name != "demonstrate" or self._recorded is None]
        if names:
            self._pool = ThreadPoolExecutor(2)
            self._functions |= {name: self._pool.submit(self._compile, name) for name in names}

    def settle(self) -> None:
        """Waits for the compilations under way and forgets those that have not begun, so that
        the process can end."""
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        self._functions = {
            name: future for name, future in self._functions.items() if not future.cancelled()
        }

    def __call__(self, name: str, *arguments: Any) -> Any:
        """Runs a compiled function once `prepare` has compiled it."""
        return self._functions[name].result()(*arguments)

    # Data on the devices.

    def _given(self, seeds: range) -> Any:
        """What an earlier run has learned, for these seeds."""
        return None if self._learned is None else self._learned.of(self._takes or "", seeds)

    def given(self, cells: Sequence[CellSpec]) -> Any:
        """`_given` of G cells on the devices."""
        return self.put([self._given(cell.seeds) for cell in cells])

    def demonstrations(self, cells: Sequence[CellSpec], seeds: Any, dials: Any) -> Any:
        """Of all groups: those that the cells' file holds, the same for every seed, or made by the
        world's expert.

        What the expert made is kept for the next cells that want the same: on robots it takes
        longer than cloning it.
        """
        if self._recorded is None:
            key = canonical(
                [fingerprint(), *({name: cell.to_dict()[name] for name in SHOWN} for cell in cells)]
            )
            if key not in _made:
                made = self("demonstrate", seeds, dials)
                while _made and sum(map(_size, (made, *_made.values()))) > HELD:
                    del _made[next(iter(_made))]
                _made[key] = made
            return _made[key]
        return self.put([self._from_file()] * self.groups)

    def put(self, groups: Sequence[Any]) -> Any:
        """G equal pytrees of arrays, one per group, as one pytree with a leading axis on the
        devices."""
        return jax.tree.map(
            lambda *leaves: jax.device_put(np.stack(leaves), self._sharding), *groups
        )

    def dials(self, cell: CellSpec) -> Any:
        """The dials of a cell: its mode's, with those that the cell names replaced. Raises
        ValueError for an unknown mode."""
        if cell.mode not in self.world.modes:
            raise ValueError(
                f"world {cell.env} has no mode {cell.mode!r}, only {', '.join(self.world.modes)}"
            )
        # As `World.dials_for`, but in NumPy: turning a number into a device's array would be a
        # compilation of its own.
        dials = self.world.dials.replace(**{**self.world.modes[cell.mode], **cell.dials})
        return jax.tree.map(np.float32, dials)


def _finite(tree: Any) -> jax.Array:
    """bool[]: whether no leaf holds a NaN or an infinity."""
    checks = [
        jnp.isfinite(leaf).all()
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    ]
    return jnp.stack(checks).all() if checks else jnp.asarray(True)


KEPT = 4
"""A program on a robot takes thousands of memory maps. Linux gives a process 65,530; without one
the compiler crashes."""
_programs: dict[str, Program] = {}
"""By fingerprint and static key, the least recently used first."""
_made: dict[str, Any] = {}
"""Demonstrations by all that they follow from, the oldest first."""


def _size(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def program_for(cell: CellSpec) -> Program:
    """The program of a cell, made once for all cells that can share it; those last used are
    kept, KEPT of them."""
    key = canonical(
        [fingerprint(), cell.static_key()]
    )  # in one process an option of JAX may change between two runs
    found = _programs.pop(key, None) or Program(cell)
    _programs[key] = found
    if len(_programs) > KEPT:
        del _programs[next(iter(_programs))]
        gc.collect()  # a program is part of reference cycles
    return found

"""The compiled functions of an algorithm on a world. Each is compiled once for all modes, dials,
seeds and horizons.

Seeds are vmapped inside a group. `shard_map` gives each device one whole group, so a group's
numbers do not depend on how many groups run beside it. All that varies between cells is data:

    seeds uint32[G, W], dials float32[G] each, k int32[G], stream and block uint32[G]

with G devices and W seeds per group. Every random number derives from `fold_in(PRNGKey(0), seed)`
and one of the streams below.

Where a cell's worlds are spread over devices (`CellSpec.world_devices`), all devices compute one
group: G is 1, each device holds its share of the training worlds, and everything else is on all of
them alike.
"""

from __future__ import annotations

import dataclasses
import gc
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar, cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from irl_bench.core.cell import CellSpec, canonical, fingerprint
from irl_bench.core.settings import BadInput
from irl_bench.core.spread import AXIS, Spread
from irl_bench.core.types import Demonstrations, Spec, Task
from irl_bench.plan import donor, policies, registry
from irl_bench.plan.build import Input
from irl_bench.plan.donor import Rebuilt
from irl_bench.rollouts.evaluation import (
    TRIES,
    collect,
    evaluate,
    expected_cost,
    expert_errors,
)
from irl_bench.running import threefry
from irl_bench.running.processes import on_devices
from irl_bench.storage.artifacts import Artifact
from irl_bench.storage.demonstrations import Recorded

DEMONSTRATIONS, INIT, EVALUATION, HELD_OUT, LEVEL = range(5)
"""Streams of random numbers of a seed. They do not depend on algorithm or mode, so cells share
random numbers."""

CAPACITY = 1024
"""Most rounds in one call of `chunk`, the length of its buffer of metrics."""

DEMONSTRATIONS_OF = (
    "env", "mode", "dials", "options", "plugin", "demos", "demo_steps", "observation_only",
    "clean", "burn_in", "demo_noise", "first_seed", "width",
)  # fmt: skip
"""Fields of a cell that determine its expert's demonstrations."""
CACHED_BYTES = 2**30
"""At most this many bytes of demonstrations are cached for further cells."""

GROUP = P("group")
"""The leading axis is that of groups; the rest is on every device of a group alike."""

_Value = TypeVar("_Value")

FINITE = "params"
"""Name of the column of `chunk`'s buffer that holds 0 while all of the policy's params are
finite, else NaN."""


class Program:
    """One algorithm on one world at fixed shapes, compiled ahead of time for this process's
    devices.

    Its six functions take and return pytrees with a leading axis of G groups:
    `demonstrate`, `init`, `chunk`, `evaluate`, `expert_errors` and `keep`.

    Attributes:
      world: the world with the cell's options.
      learner: what the algorithm's `make` returned.
      metrics: names of the columns of the metrics buffer: those of `Learner.update`, then FINITE.
      groups: G, the number of groups computed at once.
      processes: number of processes whose devices compute it.
      compilations: {function: how often it was compiled}.
      probe: where a learned reward is evaluated; None without one.
      state_shape: shapes of the learner's states, leaves [G, W, ...].
      compile_seconds: time of all compilations [s].
    """

    def __init__(self, cell: CellSpec, inputs: Mapping[str, Input]):
        threefry.write_out()
        self.world = registry.world(cell.env, cell.options).world.with_burn_in(cell.burn_in)
        self.world = self.world.traced_once()
        self._recorded = _recorded(cell, inputs)
        lengths = self._recorded.lengths if self._recorded else ()
        spec = Spec(
            self.world,
            cell.horizon,
            cell.demos,
            cell.demo_steps,
            lengths=lengths,
            clean=cell.clean,
            spread=Spread(cell.world_devices or 1),
        )
        self._rebuilt = _rebuilt(cell, inputs, spec)
        if self._rebuilt:
            spec = dataclasses.replace(spec, donor=self._rebuilt.donor)
        self.learner = registry.learner(cell.algo, spec, cell.config)
        self.probe = self.world.probe() if self.learner.reward_fn else None
        self.compilations: dict[str, int] = {}
        self.compile_seconds = 0.0
        self.groups = groups_at_once(cell)
        self._mesh = _mesh(cell)
        self.processes = jax.process_count() if cell.world_devices else 1
        self._sharding = NamedSharding(self._mesh, P("group"))
        self._cell, self._lock = cell, threading.Lock()
        self._state_specs: Any = GROUP
        self._functions: dict[str, Future[Any]] = {}
        self._traced: dict[str, Any] = {}
        # Traced once, though both the names of the metrics and `chunk` need it.
        self._update = jax.jit(
            lambda state, demos, dials, given: self.learner.update(
                state, Task(demos, dials, given)
            ),
            inline=True,
        )
        self._pool: ThreadPoolExecutor | None = None

        # The shapes of all data, without computing any.
        seeds = self._shape((cell.width,), np.uint32)
        scalar = self._shape((), np.uint32)
        dials = jax.tree.map(lambda _: self._shape((), np.float32), self.world.dials)
        self._arguments: dict[str, tuple[Callable, tuple, tuple[int, ...]]] = {
            "demonstrate": (self._demonstrate, (seeds, dials), ())
        }
        # A learner of no rounds gets no demonstrations.
        demos = self._demonstration_shapes() if self.learner.rounds else None
        donated = jax.tree.map(lambda x: self._shape(x.shape, x.dtype), self._given(cell.seeds))
        self._arguments["init"] = (self._init, (seeds, demos, dials, donated), ())
        self._state_specs = self._specs()
        state = self._returned("init")
        self.state_shape = state
        # Of one seed: without the axes of groups and seeds.
        params = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), self._result(self._policy, state)
        )
        policies.check_action(cell.algo, self.learner, self.world, params)
        if any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(state)):
            raise BadInput(
                f"{cell.algo} keeps a typed key in its state, which cannot be stored; nearest: "
                "jax.random.key_data(key)"
            )
        self.metrics = (*self._metric_names(state, demos, dials, donated), FINITE)
        self._arguments |= {
            "chunk": (self._chunk, (state, demos, dials, donated, self._shape((), np.int32)), (0,)),
            "evaluate": (self._evaluate, (state, dials, seeds, scalar, scalar), ()),
            "expert_errors": (self._expert_errors, (state, dials, seeds, scalar, scalar), ()),
            "keep": (self._keep, (state,), ()),
        }

    # The functions of one group. Leaves of a seed have a leading axis W; dials, k, stream and block
    # have none.

    def _key(self, seed: jax.Array, stream: Any) -> jax.Array:
        """The key of a stream of a seed."""
        return jax.random.fold_in(jax.random.fold_in(jax.random.PRNGKey(0), seed), stream)

    def _demonstrate(self, seeds: jax.Array, dials: Any) -> Any:
        """The expert's demonstrations, leaves [W, N, T, ...]."""
        world, cell = self.world.bind(dials), self._cell
        demos = jax.vmap(
            lambda s: collect(
                world,
                self._key(s, DEMONSTRATIONS),
                cell.demos,
                cell.demo_steps,
                cell.clean,
                cell.demo_noise,
            )
        )(seeds)
        return dataclasses.replace(demos, action=None) if cell.observation_only else demos

    def _init(self, seeds: jax.Array, demos: Any, dials: Any, given: Any) -> Any:
        """The learner's states before the first round, leaves [W, ...]."""
        return jax.vmap(lambda s, d, g: self.learner.init(self._key(s, INIT), Task(d, dials, g)))(
            seeds, demos, given
        )

    def _chunk(
        self, state: Any, demos: Any, dials: Any, given: Any, k: jax.Array
    ) -> tuple[Any, jax.Array]:
        """Runs k rounds. Returns the states and the metrics float32[CAPACITY, W, M], of which the
        first k rows are filled."""

        def update(state: Any, demos: Any, given: Any) -> tuple[Any, jax.Array]:
            state, metrics = self._update(state, demos, dials, given)
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
        """Sums over `cell.block` episodes: the fields of `Evaluation`, and `broken`, which is 1 if
        params are not finite."""
        world, cell = self.world.bind(dials), self._cell

        def of_seed(state: Any, seed: jax.Array) -> dict[str, jax.Array]:
            params = self.learner.policy(state)
            key = jax.random.fold_in(self._key(seed, stream), block)
            sums = evaluate(
                world, self.learner.act, params, key, cell.block, cell.horizon, self.learner.carry
            )
            fields = {
                field.name: jnp.asarray(getattr(sums, field.name))
                for field in dataclasses.fields(sums)
            }
            return {**fields, "broken": jnp.where(_finite(params), 0.0, 1.0)}

        return jax.vmap(of_seed)(state, seeds)

    def _expert_errors(
        self, state: Any, dials: Any, seeds: jax.Array, block: jax.Array, counted: jax.Array
    ) -> dict[str, jax.Array]:
        """Errors in the first `counted` steps of `cell.eps_block` held-out expert episodes at each
        tolerance, the number of these steps, and the exact J(T) and the reward map where there are
        any."""
        world, cell = self.world.bind(dials), self._cell

        def of_seed(state: Any, seed: jax.Array) -> dict[str, jax.Array]:
            params = self.learner.policy(state)
            key = jax.random.fold_in(self._key(seed, HELD_OUT), block)
            act, carry = self.learner.act, self.learner.carry
            errors, steps = expert_errors(
                world, act, params, key, cell.eps_block, cell.eps_steps, carry, counted
            )
            sums = {"expert_errors": jnp.asarray(errors), "expert_steps": jnp.asarray(steps)}
            exact = expected_cost(world, act, params, key, cell.horizon, carry)
            # These come with the first block alone, since the host adds blocks up.
            once = {} if exact is None else {"expected_cost": exact}
            if self.probe is not None:
                once["reward_map"] = self._reward_map(state, key)
            return {
                **sums,
                **{name: jnp.where(block == 0, value, 0.0) for name, value in once.items()},
            }

        return jax.vmap(of_seed)(state, seeds)

    def _reward_map(self, state: Any, key: jax.Array) -> jax.Array:
        """The learned reward at each of the world's probe observations under the policy's action
        there."""
        learner = self.learner
        assert self.probe is not None and learner.reward_fn and learner.reward and learner.act
        observation, params = jnp.asarray(self.probe["observation"]), learner.policy(state)
        action = jax.vmap(learner.act, (None, 0, None))(params, observation, key)
        return learner.reward_fn(learner.reward(state), observation, action, observation)

    def _policy(self, state: Any) -> Any:
        """The policies' params, leaves [W, ...]."""
        return jax.vmap(self.learner.policy, axis_size=self._cell.width)(state)

    def _keep(self, state: Any) -> dict[str, Any]:
        """The params that a finished cell stores beside its quantities, leaves [W, ...]."""
        parts = {"policy": self._policy(state)}
        if self.learner.reward is not None:
            parts["reward"] = jax.vmap(self.learner.reward)(state)
        return parts

    # Compilation.

    def _shape(self, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        """A shape with the group axis in front."""
        return jax.ShapeDtypeStruct((self.groups, *shape), dtype, sharding=self._sharding)

    def _result(self, function: Callable, *arguments: Any, out_specs: Any = GROUP) -> Any:
        """The shapes, with the group axis, of what `function` returns."""
        result = jax.eval_shape(self._sharded(function, arguments, out_specs), *arguments)
        return self._placed(result, out_specs)

    def _returned(self, name: str) -> Any:
        """The shapes, with the group axis, of what one of the functions returns."""
        return self._placed(self._trace(name).out_info, self._out_specs(name))

    def _placed(self, result: Any, out_specs: Any) -> Any:
        """Shapes with the place of each leaf."""
        specs = jax.tree.broadcast(out_specs, result, is_leaf=_is_spec)
        return jax.tree.map(
            lambda x, spec: jax.ShapeDtypeStruct(
                x.shape, x.dtype, sharding=NamedSharding(self._mesh, spec)
            ),
            result,
            specs,
        )

    def _specs(self) -> Any:
        """Where the leaves of a state lie: those of the training worlds have the axis of worlds
        after those of groups and seeds."""
        if not self._cell.world_devices:
            return GROUP
        assert self.learner.per_world is not None  # `plan` has refused other algorithms
        function, arguments, _ = self._arguments["init"]
        state = self._result(function, *arguments)
        per_world = self.learner.per_world(state)
        return jax.tree.map(lambda own: P("group", None, AXIS) if own else GROUP, per_world)

    def _demonstration_shapes(self) -> Any:
        """The shapes of the demonstrations. Those of a file have rewards and actions only if the
        file does."""
        if self._recorded is None:
            return self._returned("demonstrate")
        return jax.tree.map(lambda x: self._shape(x.shape, x.dtype), self._from_file())

    def _from_file(self) -> Demonstrations:
        """The file's demonstrations, the same for every seed of a group."""
        assert self._recorded is not None
        demos = self._recorded.tiled(self._cell.width)
        return dataclasses.replace(demos, action=None) if self._cell.observation_only else demos

    def _metric_names(self, state: Any, demos: Any, dials: Any, given: Any) -> tuple[str, ...]:
        """The sorted names of the metrics of `update`.

        Raises:
          BadInput: `update` does not return a state like its own and a dict of scalars.
        """
        if not self.learner.rounds:
            return ()
        algo = self._cell.algo

        def update(state: Any, demos: Any, dials: Any, given: Any) -> Any:
            def one(state: Any, demos: Any, given: Any) -> Any:
                result: Any = self._update(state, demos, dials, given)
                if not isinstance(result, tuple) or len(cast("tuple[Any, ...]", result)) != 2:
                    raise BadInput(
                        f"{algo}: update must return (state, metrics), not a "
                        f"{type(result).__name__}; nearest: return state, {{}}"
                    )
                return result

            return jax.vmap(one)(state, demos, given)

        after, metrics = self._result(
            update, state, demos, dials, given, out_specs=self._out_specs("chunk")
        )
        try:
            chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
        except AssertionError:
            raise BadInput(
                f"{algo}: update must return a state of the shapes and types that init gave it: "
                f"{policies.shapes(state, axes=2)}, not {policies.shapes(after, axes=2)}; nearest: "
                "x.astype(jnp.float32)"
            ) from None
        if not isinstance(metrics, Mapping) or any(
            not hasattr(x, "shape") for x in metrics.values()
        ):
            raise BadInput(
                f"{algo}: metrics must be a flat dict of scalars, not "
                f"{policies.shapes(metrics, axes=2)}; nearest: {{'loss': loss}}"
            )
        for name, leaf in metrics.items():
            if leaf.shape != (self.groups, self._cell.width) or name == FINITE:
                raise BadInput(
                    f"{algo}: the metric {name!r} must be a scalar with a name other than "
                    f"{FINITE!r}, not {policies.shapes(leaf, axes=2)}; nearest: jnp.mean of it"
                )
        return tuple(sorted(metrics))

    def _out_specs(self, name: str) -> Any:
        """Where what a function returns lies."""
        return {"init": self._state_specs, "chunk": (self._state_specs, GROUP)}.get(name, GROUP)

    def _sharded(self, function: Callable, arguments: tuple, out_specs: Any) -> Callable:
        """`function` of one group, mapped over the group axis: each device computes one group, and
        none waits for another; or all devices compute one group, if its worlds are spread."""
        in_specs = jax.tree.map(lambda x: x.sharding.spec, arguments)

        def group(*arguments: Any) -> Any:
            result = function(*jax.tree.map(lambda leaf: leaf[0], arguments))
            return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], result)

        return jax.shard_map(
            group, mesh=self._mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
        )

    def _trace(self, name: str) -> Any:
        """A function as JAX has traced it (`jax.stages.Traced`). Tracing a robot takes seconds, so
        the shapes of what it returns and its compilation share one trace."""
        if name in self._traced:
            return self._traced[name]
        function, shapes, donated = self._arguments[name]
        out_specs = self._out_specs(name)
        jitted = jax.jit(
            self._sharded(function, shapes, out_specs),
            donate_argnums=donated,
            out_shardings=jax.tree.map(
                lambda spec: NamedSharding(self._mesh, spec), out_specs, is_leaf=_is_spec
            ),
        )
        self._traced[name] = jitted.trace(*shapes)
        return self._traced[name]

    def _compile(self, name: str) -> Callable[..., Any]:
        """Compiles a function and counts the compilation."""
        start = time.monotonic()
        compiled = self._trace(name).lower().compile()
        del self._traced[name]
        with self._lock:
            self.compilations[name] = self.compilations.get(name, 0) + 1
            self.compile_seconds += time.monotonic() - start
        return compiled

    def prepare(self, only: Collection[str] = ()) -> None:
        """Starts compiling all functions that the cells need, or those named, two at a time, in
        order of use."""
        names = [name for name in only or self._arguments if name not in self._functions]
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
        """Waits for running compilations and cancels the others, so that the process can end."""
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        self._functions = {
            name: future for name, future in self._functions.items() if not future.cancelled()
        }

    def compiled(self, name: str) -> Any:
        """Returns a function as soon as it is compiled (`jax.stages.Compiled`)."""
        return self._functions[name].result()

    def _call(self, name: str, *arguments: Any) -> Any:
        """Calls a function as soon as it is compiled."""
        return self.compiled(name)(*arguments)

    # The compiled functions, of all groups.

    def demonstrate(self, seeds: jax.Array, dials: Any) -> Demonstrations:
        """Returns demonstrations of the world's expert, leaves [G, W, N, T, ...]."""
        return self._call("demonstrate", seeds, dials)

    def init(self, seeds: jax.Array, demos: Any, dials: Any, given: Any) -> Any:
        """Returns the learner's states before the first round, leaves [G, W, ...]."""
        return self._call("init", seeds, demos, dials, given)

    def chunk(
        self, state: Any, demos: Any, dials: Any, given: Any, k: jax.Array
    ) -> tuple[Any, jax.Array]:
        """Runs k int32[G] rounds. Returns the states and the metrics float32[G, CAPACITY, W, M].
        `state` is donated and cannot be used afterwards."""
        return self._call("chunk", state, demos, dials, given, k)

    def evaluate(
        self, state: Any, dials: Any, seeds: jax.Array, stream: jax.Array, block: jax.Array
    ) -> dict[str, jax.Array]:
        """Returns sums over one block of episodes, leaves [G, W, ...]: the fields of `Evaluation`,
        and `broken`, which is 1 if params are not finite."""
        return self._call("evaluate", state, dials, seeds, stream, block)

    def expert_errors(
        self, state: Any, dials: Any, seeds: jax.Array, block: jax.Array, counted: jax.Array
    ) -> dict[str, jax.Array]:
        """Returns the errors in the first `counted` steps of one block of held-out expert episodes,
        leaves [G, W, ...]."""
        return self._call("expert_errors", state, dials, seeds, block, counted)

    def shown(self, cells: Sequence[CellSpec]) -> jax.Array:
        """Returns how many steps of a demonstration or a held-out episode count in each cell,
        uint32[G] on the devices."""
        every = max(cells[0].demo_steps, cells[0].eps_steps)
        counts = [np.uint32(cell.shown_steps or every) for cell in cells]
        return self.put([*counts, *counts[-1:] * (self.groups - len(counts))])

    def keep(self, state: Any) -> dict[str, Any]:
        """Returns the params of policy and reward to be stored, leaves [G, W, ...]."""
        return self._call("keep", state)

    # Data on the devices.

    def _given(self, seeds: range) -> Any:
        """The donor's arrays for some seeds; None if nothing is taken from an earlier run."""
        return None if self._rebuilt is None else self._rebuilt.given(seeds)

    def given(self, cells: Sequence[CellSpec]) -> Any:
        """Returns the donor's arrays for G cells on the devices, leaves [G, W, ...]; None without a
        donor."""
        return self.put([self._given(cell.seeds) for cell in cells])

    def demonstrations(self, cells: Sequence[CellSpec], seeds: Any, dials: Any) -> Any:
        """Returns the demonstrations of all groups, leaves [G, W, N, T, ...].

        They come from the cells' file, the same for every seed, or from the world's expert. The
        expert's are cached for further cells: on robots making them takes longer than cloning them.
        """
        if self._recorded is not None:
            return self.put([self._from_file()] * self.groups)
        demos = self._of_expert(cells, seeds, dials)
        if not any(cell.shown_steps for cell in cells):
            return demos
        early = jnp.arange(self._cell.demo_steps) < self.shown(cells)[:, None, None, None]
        return dataclasses.replace(demos, mask=jax.device_put(demos.mask * early, self._sharding))

    def _of_expert(self, cells: Sequence[CellSpec], seeds: Any, dials: Any) -> Any:
        """The expert's demonstrations of all groups, at their full length."""
        facts = [{name: cell.to_dict()[name] for name in DEMONSTRATIONS_OF} for cell in cells]
        demos = _demonstrations.get(
            canonical([fingerprint(), *facts]), lambda: self.demonstrate(seeds, dials)
        )
        if self._cell.clean:
            _check_clean(self._cell, np.asarray(demos.mask))
        return demos

    def put(self, groups: Sequence[Any]) -> Any:
        """Returns one pytree on the devices, leaves [G, ...], from one pytree per group."""
        return jax.tree.map(lambda *leaves: on_devices(np.stack(leaves), self._sharding), *groups)

    def put_state(self, groups: Sequence[Sequence[np.ndarray]]) -> Any:
        """Returns the learner's states on the devices from the leaves of each group's state."""
        shapes, structure = jax.tree.flatten(self.state_shape)
        leaves = [
            on_devices(np.stack(leaf), shape.sharding)
            for leaf, shape in zip(zip(*groups, strict=True), shapes, strict=True)
        ]
        return jax.tree.unflatten(structure, leaves)

    def dials(self, cell: CellSpec) -> Any:
        """Returns the dials of a cell: those of its mode, replaced by those that the cell names.

        Raises ValueError for an unknown mode.
        """
        if cell.mode not in self.world.modes:
            raise ValueError(
                f"world {cell.env} has no mode {cell.mode!r}, only {', '.join(self.world.modes)}"
            )
        # As `World.dials_for`, but in NumPy: making a device's array of a number would compile
        # another function.
        dials = self.world.dials.replace(**{**self.world.modes[cell.mode], **cell.dials})
        return jax.tree.map(np.float32, dials)


def groups_at_once(cell: CellSpec) -> int:
    """Returns how many groups of seeds this process computes at once: one per device, or one on
    all devices if its worlds are spread."""
    return 1 if cell.world_devices else jax.local_device_count()


def _mesh(cell: CellSpec) -> jax.sharding.Mesh:
    """The devices of a program: one per group, or all of them for the worlds of one group."""
    axes = {"group": groups_at_once(cell)}
    if cell.world_devices:
        axes[AXIS] = cell.world_devices
    types = (AxisType.Auto,) * len(axes)
    return jax.make_mesh(
        tuple(axes.values()),
        tuple(axes),
        axis_types=types,
        devices=jax.devices() if cell.world_devices else jax.local_devices(),
    )


def _is_spec(x: Any) -> bool:
    return isinstance(x, P)


def _check_clean(cell: CellSpec, mask: np.ndarray) -> None:
    """Raises BadInput if an episode without a failure was not found for every demonstration.

    Args:
      cell: one of the cells.
      mask: float[G, W, N, T], 0 in an episode that has a failure after all tries.
    """
    dirty = int((mask[..., 0] == 0).sum())
    if dirty:
        raise BadInput(
            f"{dirty} of {mask[..., 0].size} demonstrations of {cell.env} ({cell.mode}) hold a "
            f"failure in each of {TRIES} tries; nearest: --demonstrations=all, or a smaller "
            "--demo_steps"
        )


def _finite(tree: Any) -> jax.Array:
    """bool[]: whether no leaf holds a NaN or an infinity."""
    checks = [
        jnp.isfinite(leaf).all()
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    ]
    return jnp.stack(checks).all() if checks else jnp.asarray(True)


def _recorded(cell: CellSpec, inputs: Mapping[str, Input]) -> Recorded | None:
    """The demonstrations that the cell takes from a file."""
    if not cell.recorded:
        return None
    recorded = inputs[cell.recorded]
    assert isinstance(recorded, Recorded)
    return recorded


def _rebuilt(cell: CellSpec, inputs: Mapping[str, Input], spec: Spec) -> Rebuilt | None:
    """The cell's donor; None if it takes nothing from an earlier run."""
    if not cell.given:
        return None
    artifact, algorithm = inputs[cell.given], registry.algorithm(cell.algo)
    assert isinstance(artifact, Artifact)
    parts = algorithm.takes(registry.config_of(algorithm, cell.config))
    return donor.rebuild(artifact, parts, spec)


class _Cache(Generic[_Value]):
    """A cache of values that are expensive to make. The least recently used value goes first. The
    cache changes no result.

    Args:
      full: whether the cache holds too much. The last value always stays.
    """

    def __init__(self, full: Callable[[Sequence[_Value]], bool]):
        self._full = full
        self._values: dict[str, _Value] = {}

    def get(self, key: str, make: Callable[[], _Value]) -> _Value:
        """Returns the value of a key, and calls `make` if it is not cached."""
        value = self._values.pop(key) if key in self._values else make()
        self._values[key] = value
        while len(self._values) > 1 and self._full(tuple(self._values.values())):
            del self._values[next(iter(self._values))]
            gc.collect()  # a program is part of reference cycles
        return value

    def values(self) -> list[_Value]:
        """Returns the cached values; the most recently used one is the last."""
        return list(self._values.values())

    def clear(self) -> None:
        """Removes all values."""
        self._values.clear()


CACHED_PROGRAMS = 4
"""Number of cached programs. A program on a robot takes thousands of memory maps; Linux grants a
process 65,530, and beyond that the compiler crashes."""
_programs: _Cache[Program] = _Cache(lambda programs: len(programs) > CACHED_PROGRAMS)
_demonstrations: _Cache[Any] = _Cache(lambda demos: sum(map(_size, demos)) > CACHED_BYTES)


def _size(tree: Any) -> int:
    """Size of a pytree's arrays [bytes]."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def program_for(cell: CellSpec, inputs: Mapping[str, Input]) -> Program:
    """Returns the program of a cell, made once for all cells that can share it.

    Args:
      cell: the cell.
      inputs: `Plan.inputs`, which holds what the cell names in `recorded` and `given`.
    """
    # The fingerprint is part of the key: an option of JAX may change between two runs.
    key = canonical([fingerprint(), cell.static_key()])
    return _programs.get(key, lambda: Program(cell, inputs))

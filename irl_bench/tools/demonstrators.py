"""Trains the demonstrators that ship with the worlds by PPO or SAC; what is good enough is kept
with a card.

    OUT/curve.jsonl          a line per evaluation: steps, return of the policy's mode, cost
    OUT/policies/*.safetensors   the policy at each evaluation
    OUT/checkpoints          where a stopped training goes on
    OUT/machine.json         versions and device with which it last ran

The reward is the world's own. Episodes end at a fall and after 1000 steps. The robots' settings
stand in `settings.CONFIGS` under ppo and sac.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load, save

import envs
from envs import demonstrators
from envs.core import World
from irl_bench.core.cell import machine
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Spec, Task
from irl_bench.plan import presets as table
from irl_bench.plan import registry
from irl_bench.rl import ppo, sac
from irl_bench.rollouts.evaluation import evaluate
from irl_bench.storage import checkpoints
from irl_bench.storage.cells import write_atomic
from irl_bench.studies.study import mean

EPISODES, STEPS = 128, 1000
"""Episodes of a card, and their length [steps]."""
QUICK = 32
"""Episodes of an evaluation while training."""
ALGORITHMS = ("ppo", "sac")
FROM_NOTHING = {"ppo": {"init": "random", "statistics": "running", "linger": 1_000_000}, "sac": {}}
"""There is nothing to imitate, and where falls do not end episodes, getting up is to be learned."""
CHUNK = 200_000
"""Environment steps between two evaluations with their checkpoints, about."""

Act = Callable[[Any, jax.Array, jax.Array], jax.Array]
"""(weights, observation[O], key) -> action[A]"""


Measure = Callable[[Any, jax.Array], tuple[np.ndarray, np.ndarray]]
"""(weights, key) -> (return float[E], share of failed steps float[E])"""


def returns(world: World, act: Act, episodes: int) -> Measure:
    """Measures policies on fresh episodes of STEPS steps; compiled once, whatever the weights
    and key, which is consumed."""

    @jax.jit
    def run(weights: Any, key: jax.Array, dials: Any) -> tuple[jax.Array, jax.Array]:
        bound = world.bind(dials)
        start_key, step_key = jax.random.split(key)
        states = jax.vmap(bound.reset)(jax.random.split(start_key, episodes))

        def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
            states, total, cost = carry
            action = jax.vmap(act, (None, 0, 0))(
                weights, states.obs, jax.random.split(key, episodes)
            )
            states = jax.vmap(bound.step)(states, action)
            return (states, total + states.reward, cost + states.metrics["cost"]), None

        start = (states, jnp.zeros(episodes), jnp.zeros(episodes))
        (_, total, cost), _ = jax.lax.scan(step, start, jax.random.split(step_key, STEPS))
        return total, cost / STEPS

    dials = jax.tree.map(jnp.float32, world.dials)

    def measure(weights: Any, key: jax.Array) -> tuple[np.ndarray, np.ndarray]:
        total, cost = run(weights, key, dials)
        return np.asarray(total, np.float64), np.asarray(cost, np.float64)

    return measure


def at_random(world: World) -> Act:
    """Uniformly random actions."""
    return lambda weights, observation, key: jax.random.uniform(
        key, (world.action_size,), minval=-1.0, maxval=1.0
    )


def mode_of(weights: Any, observation: jax.Array, key: jax.Array) -> jax.Array:
    """A stored network's action."""
    del key
    return demonstrators.act(weights, observation)


@dataclasses.dataclass(frozen=True)
class Training:
    """What a training is; equal ones continue each other."""

    env: str
    seed: int
    values: Mapping[str, Any]
    """Dials and options of the world."""
    settings: Mapping[str, Any]
    """Settings of the algorithm that differ from the world's."""
    terminate: bool = True
    algo: str = "ppo"
    penalty: float = 0.0
    """Of PPO: what it maximises is lowered by this in failed steps."""

    @property
    def world(self) -> World:
        return registry.world(self.env, self.values).world

    @property
    def config(self) -> Any:
        merged = {
            **table.config_differences(self.env, self.algo, "default"),
            **FROM_NOTHING[self.algo],
            **self.settings,
        }
        return registry.config_of(registry.algorithm(self.algo), merged)

    def trainer(
        self,
    ) -> tuple[ppo.PPO | sac.SAC, Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]]]:
        """What trains, and (state, dials) -> (state, metrics), one round of it."""
        spec = Spec(self.world, STEPS, 1, 1)
        if self.algo == "sac":
            soft = sac.SAC(spec, self.config, terminate=self.terminate)
            return soft, soft.update
        inner = ppo.PPO(spec, self.config, terminate=self.terminate)

        def one(state: ppo.State, dials: Any) -> tuple[ppo.State, dict[str, jax.Array]]:
            state, batch = inner.collect(state, dials)
            return inner.improve(state, batch, batch.reward - self.penalty * batch.cost)

        return inner, one

    def facts(self) -> dict[str, Any]:
        """JSON values."""
        chosen = {**self.values, **self.world.chosen}
        found = {
            "env": self.env,
            "seed": self.seed,
            "world": chosen,
            self.algo: dataclasses.asdict(self.config),
            "terminate": self.terminate,
            **({"penalty": self.penalty} if self.penalty else {}),
        }
        return json.loads(json.dumps(found))


def train(
    training: Training, out: Path, say: Callable[[str], None] = print, every: int = CHUNK
) -> list[dict[str, Any]]:
    """Trains to the end, or goes on with what `out` holds; returns the evaluations, as in
    curve.jsonl.

    Args:
      training: what is trained.
      out: its folder.
      say: told each evaluation.
      every: environment steps between two evaluations, about; they do not change the training.

    Raises:
      BadInput: `out` holds another training.
    """
    world, config = training.world, training.config
    learner, one_round = training.trainer()
    dials = jax.tree.map(jnp.float32, world.dials)
    facts = training.facts()
    record = out / "training.json"
    if record.exists() and json.loads(record.read_text()) != facts:
        raise BadInput(f"{out} holds another training; nearest: --out={out}-2")
    write_atomic(record, json.dumps(facts, indent=1).encode())
    rounds = max(1, every // learner.steps_per_round)

    def chunk(state: Any, count: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        def one(_: jax.Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            return one_round(carry[0], dials)

        shape = jax.eval_shape(lambda s: one(jnp.int32(0), (s, None))[1], state)
        return jax.lax.fori_loop(
            0, count, one, (state, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape))
        )

    run, measure = jax.jit(chunk, donate_argnums=0), returns(world, mode_of, QUICK)
    # Without demonstrations: nothing here is imitated.
    state = jax.jit(lambda key: learner.init(key, Task(None, dials)))(
        jax.random.PRNGKey(training.seed)
    )  # type: ignore[arg-type]
    leaves, treedef = jax.tree.flatten(state)
    kept = checkpoints.restore(out / "checkpoints", say)
    done = 0
    if kept:
        arrays, more = kept
        state = jax.tree.unflatten(
            treedef, [jnp.asarray(arrays[f"{i:03d}"]) for i in range(len(leaves))]
        )
        done = int(more["round"])
    if done < config.rounds or not (out / "machine.json").exists():
        write_atomic(out / "machine.json", json.dumps(machine(), indent=1).encode())
    path = out / "curve.jsonl"
    curve = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    curve = [line for line in curve if line["round"] <= done]
    while done < config.rounds:
        count = min(rounds, config.rounds - done)
        state, metrics = run(state, jnp.int32(count))
        done += count
        arrays = {f"{i:03d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
        weights = exported(learner, state)
        own, cost = measure(weights, jax.random.PRNGKey(1_000_000 + training.seed))
        line = {
            "round": done,
            "steps": done * learner.steps_per_round,
            "return": own.mean(),
            "worst": own.min(),
            "cost": cost.mean(),
            "std": float(metrics.get("std", 0.0)),
            "kl": float(metrics.get("kl", 0.0)),
        }
        curve.append(
            {
                name: value if isinstance(value, int) else round(float(value), 5)
                for name, value in line.items()
            }
        )
        write_atomic(out / "policies" / f"{done:06d}.safetensors", save(weights))
        write_atomic(path, "".join(json.dumps(one) + "\n" for one in curve).encode())
        say(f"{line['steps'] / 1e6:.2f}M steps: return {own.mean():.0f} (worst {own.min():.0f}), "
            f"cost {cost.mean():.3f}, "
            f"std {line['std']:.2f}, kl {line['kl']:.4f}")  # fmt: skip
        checkpoints.save(out / "checkpoints", done, arrays, {"round": done})
    return curve


def of_its_law(world: World, key: jax.Array) -> float:
    """Mean return of a world's own expert, which may be no network, over EPISODES episodes;
    `key` is consumed."""
    sums = jax.jit(lambda key, dials: evaluate(world.bind(dials), None, None, key, EPISODES, STEPS))
    return float(sums(key, jax.tree.map(jnp.float32, world.dials)).reward) / EPISODES


def exported(learner: ppo.PPO | sac.SAC, state: Any) -> dict[str, np.ndarray]:
    """The policy's mode as a demonstrator's file holds it (`envs.demonstrators`)."""
    params = jax.device_get(learner.params(state))
    net, size = params.weights.get("net", params.weights), learner.spec.action_size
    weights = {"mean": params.inputs.mean, "scale": params.inputs.scale}
    for index in range(len(net)):
        layer = net[f"Dense_{index}"]
        kept = (
            size if index == len(net) - 1 else None
        )  # SAC's last layer holds the log-deviations too
        weights |= {
            f"kernel_{index}": layer["kernel"][:, :kept],
            f"bias_{index}": layer["bias"][:kept],
        }
    return {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()}


def ship(
    training: Training,
    out: Path,
    qualities: tuple[str, ...],
    command: str,
    folder: Path = demonstrators.FOLDER,
) -> list[dict]:
    """Puts the best policy of `out` and, for each other quality, the one nearest to it into
    `folder`; returns their cards.

    A quality is a share of the normalised score of the best policy, if that is shipped too, or else
    of the expert that ships; where the world's expert is no network, of that expert's.

    Policies are compared by the evaluations made while training; a card's figures come from fresh
    episodes.
    """
    world = training.world
    if not ((out / "curve.jsonl").exists() and (out / "machine.json").exists()):
        raise BadInput(
            f"{out} holds no policies yet, or not what they were made on; run the same without "
            "--ship first"
        )
    if json.loads((out / "training.json").read_text()) != training.facts():
        raise BadInput(
            f"{out} holds another training, as its training.json says; nearest: its own flags, or "
            "another --out"
        )
    curve = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    curve = [
        line for line in curve if math.isfinite(line["return"])
    ]  # of no other can it be said how good it is
    if not curve:
        raise BadInput(
            f"{out} holds no policy whose return is finite; nearest: another --world=backend=..."
        )
    key = jax.random.PRNGKey(2_000_000 + training.seed)
    measure = returns(world, mode_of, EPISODES)
    random, _ = returns(world, at_random(world), EPISODES)(None, key)
    if broken := int(np.isnan(random).sum()):
        raise BadInput(f"the physics of {world.name} on {world.backend} became NaN in {broken} of "
                       f"{len(random)} episodes of "
                       "random actions, so that no score has a zero; nearest: another "
                       "--world=backend=...")  # fmt: skip
    best, network = (
        max(line["return"] for line in curve),
        demonstrators.find(world.name, world.backend),
    )
    if network and "expert" not in qualities:
        best = network.card["return"][0]
    elif world.has_expert and network is None:  # a law of its own, which sets the scale
        best = of_its_law(world, key)
    span = best - random.mean()
    cards, made = [], json.loads((out / "machine.json").read_text())
    for quality in qualities:
        wanted = 1.0 if quality == "expert" else float(quality) / 100.0
        # Of equals the last: its own actions vary least.
        line = min(
            reversed(curve), key=lambda one: abs((one["return"] - random.mean()) / span - wanted)
        )
        content = (out / "policies" / f"{int(line['round']):06d}.safetensors").read_bytes()
        own, cost = measure(load(content), key)
        if not np.isfinite(own).all():
            raise BadInput(f"the physics of {world.name} on {world.backend} became NaN under the "
                           f"policy of {quality} itself; "
                           "nearest: another --world=backend=...")  # fmt: skip
        name = demonstrators.name_of(world.name, world.backend, quality)
        card = {
            "world": training.env,
            "backend": world.backend,
            "quality": quality,
            "return": [round(x, 1) for x in mean(own)],
            "worst_return": round(float(own.min()), 1),
            "cost": round(float(cost.mean()), 5),
            "random_return": round(float(random.mean()), 1),
            "episodes": EPISODES,
            "steps": STEPS,
            "env_steps": int(line["steps"]),
            "seed": training.seed,
            "command": command,
            "training": training.facts(),
            **made,
            "sha256": hashlib.sha256(content).hexdigest(),
            "licence": "Apache-2.0",
        }
        write_atomic(folder / f"{name}.safetensors", content)
        write_atomic(folder / f"{name}.json", (json.dumps(card, indent=1) + "\n").encode())
        cards.append(card)
    return cards


def measured(seed: int = 0, say: Callable[[str], None] = lambda _: None) -> list[dict[str, Any]]:
    """Every shipped demonstrator measured again: its card's return beside that of fresh
    episodes; `say` is told each world."""
    rows, key = [], jax.random.PRNGKey(3_000_000 + seed)
    grouped: dict[tuple[str, str], list[str]] = {}
    try:
        found = {
            name: demonstrators.read(demonstrators.FOLDER / f"{name}.safetensors")
            for name in demonstrators.shipped()
        }
    except ValueError as error:
        raise BadInput(str(error)) from None
    for name, one in found.items():
        grouped.setdefault((one.card["world"], one.card["backend"]), []).append(name)
    for i, ((env, backend), names) in enumerate(grouped.items()):
        say(f"{i + 1}/{len(grouped)} {env} on {backend}")
        world = envs.make(
            env, **({"backend": backend} if "backend" in envs.kind(env).options else {})
        )
        random, _ = returns(world, at_random(world), EPISODES)(None, key)
        measure = returns(world, mode_of, EPISODES)
        zero, taken = (
            float(random.mean()),
            {name: measure(dict(found[name].weights), key) for name in names},
        )
        best = next(
            (taken[n][0].mean() for n in names if found[n].card["quality"] == "expert"), None
        )
        best = of_its_law(world, key) if best is None else float(best)
        for name in names:
            (own, cost), card = taken[name], found[name].card
            rows.append(
                {
                    "demonstrator": name,
                    "return": mean(own),
                    "worst": float(own.min()),
                    "random": zero,
                    "cost": float(cost.mean()),
                    "score": float((own.mean() - zero) / (best - zero)),
                    "card": card["return"],
                    "env steps": card["env_steps"],
                }
            )
    return rows

"""Trains the demonstrators that ship with the worlds, by PPO or SAC, and writes their cards.

    OUT/curve.jsonl              a line per evaluation: steps, return of the policy's mode, cost
    OUT/policies/*.safetensors   the policy at each evaluation
    OUT/checkpoints              from which an interrupted training continues
    OUT/machine.json             versions and device of the last run

The reward is the world's own. Episodes end at a fall and after 1000 steps. The robots' settings are
those of ppo and sac in `irl_bench.plan.presets.CONFIGS`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load, save

import envs
from envs import demonstrators
from envs.core import State, World
from irl_bench.core.cell import machine
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Spec, Task
from irl_bench.plan import registry
from irl_bench.plan.presets import config_differences
from irl_bench.rl import ppo, sac
from irl_bench.rollouts.evaluation import evaluate
from irl_bench.rollouts.scan import observation_of, scan
from irl_bench.storage import checkpoints
from irl_bench.storage.files import write_atomic
from irl_bench.studies.measures import interval

EPISODES, STEPS = 128, 1000
"""Number of episodes behind a card's figures, and their length [steps]."""
QUICK = 32
"""Number of episodes of an evaluation while training."""
ALGORITHMS = ("ppo", "sac")
"""The algorithms that train demonstrators."""
FROM_SCRATCH = {"ppo": {"init": "random", "statistics": "running", "linger": 1_000_000}, "sac": {}}
"""Settings of a training without demonstrations. A long `linger` lets a robot learn to get up where
falls do not end episodes."""
CHUNK = 200_000
"""Environment steps between two evaluations with their checkpoints, about."""

Act = Callable[[Any, jax.Array, jax.Array], jax.Array]
"""(weights, observation[O], key) -> action[A]"""

Measure = Callable[[Any, jax.Array], tuple[np.ndarray, np.ndarray]]
"""(weights, key) -> (return float[E], share of failed steps float[E])"""


def returns(world: World, act: Act, episodes: int) -> Measure:
    """Returns a function that measures policies on fresh episodes of STEPS steps.

    Args:
      world: with its default dials.
      act: how the weights act.
      episodes: E.

    Returns:
      (weights, key) -> (return float64[E], share of failed steps float64[E]). It is compiled once
      for all weights, and consumes the key.
    """

    @jax.jit
    def run(weights: Any, key: jax.Array, dials: Any) -> tuple[jax.Array, jax.Array]:
        bound = world.bind(dials)
        start_key, step_key = jax.random.split(key)
        states = jax.vmap(bound.reset)(jax.random.split(start_key, episodes))

        def acting(before: State, memory: Any, key: jax.Array) -> tuple[jax.Array, None]:
            keys = jax.random.split(key, episodes)
            return jax.vmap(act, (None, 0, 0))(weights, observation_of(before), keys), None

        def summed(before: State, after: State, sums: Any, aside: None) -> tuple[State, Any, None]:
            total, cost = sums
            return after, (total + after.reward, cost + after.metrics["cost"]), None

        (_, (total, cost)), _ = scan(
            bound,
            acting,
            summed,
            states,
            jax.random.split(step_key, STEPS),
            memory=(jnp.zeros(episodes), jnp.zeros(episodes)),
            worlds=True,
        )
        return total, cost / STEPS

    dials = jax.tree.map(jnp.float32, world.dials)

    def measure(weights: Any, key: jax.Array) -> tuple[np.ndarray, np.ndarray]:
        total, cost = run(weights, key, dials)
        return np.asarray(total, np.float64), np.asarray(cost, np.float64)

    return measure


def random_policy(world: World) -> Act:
    """Returns a policy of uniformly random actions in [-1, 1]."""
    return lambda weights, observation, key: world.random_action(key)


def network_policy(weights: Any, observation: jax.Array, key: jax.Array) -> jax.Array:
    """Returns the action float32[A] of a stored network; the key is not used."""
    del key
    return demonstrators.act(weights, observation)


@dataclasses.dataclass(frozen=True)
class Training:
    """Everything that determines a training. A training resumes from the checkpoint of an equal
    one."""

    env: str
    """The world's name."""
    seed: int
    """Seed of the training."""
    values: Mapping[str, Any]
    """Dials and options of the world."""
    settings: Mapping[str, Any]
    """Settings of the algorithm that differ from those for this world."""
    terminate: bool = True
    """Whether a fall ends an episode."""
    algo: str = "ppo"
    """One of `ALGORITHMS`."""
    penalty: float = 0.0
    """Subtracted from PPO's reward in failed steps."""

    @property
    def world(self) -> World:
        """The world with its dials and options. Raises BadInput if one is unknown."""
        return registry.world(self.env, self.values).world

    @property
    def config(self) -> Any:
        """The algorithm's `Config` with the settings of this training."""
        merged = {
            **config_differences(self.env, self.algo, "default"),
            **FROM_SCRATCH[self.algo],
            **self.settings,
        }
        return registry.config_of(registry.algorithm(self.algo), merged)

    def trainer(
        self,
    ) -> tuple[ppo.PPO | sac.SAC, Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]]]:
        """Returns the trainer, and a function (state, dials) -> (state, metrics) that takes one
        round of the training."""
        spec = Spec(self.world, STEPS, 1, 1)
        if self.algo == "sac":
            soft = sac.SAC(spec, self.config, terminate=self.terminate)
            return soft, soft.update
        inner = ppo.PPO(spec, self.config, terminate=self.terminate, init="random")

        def one_round(state: ppo.State, dials: Any) -> tuple[ppo.State, dict[str, jax.Array]]:
            state, batch = inner.collect(state, dials)
            return inner.improve(state, batch, batch.reward - self.penalty * batch.cost)

        return inner, one_round

    def facts(self) -> dict[str, Any]:
        """Returns what identifies the training, as JSON values."""
        chosen = {**self.values, **self.world.chosen}
        facts = {
            "env": self.env,
            "seed": self.seed,
            "world": chosen,
            self.algo: dataclasses.asdict(self.config),
            "terminate": self.terminate,
            **({"penalty": self.penalty} if self.penalty else {}),
        }
        return json.loads(json.dumps(facts))


def train(
    training: Training, out: Path, say: Callable[[str], None] = print, every: int = CHUNK
) -> list[dict[str, Any]]:
    """Trains to the end, from the last checkpoint in `out` if there is one.

    Args:
      training: what is trained.
      out: its folder.
      say: receives a line for each evaluation.
      every: environment steps between two evaluations, about; it does not change the training.

    Returns:
      The evaluations, as in curve.jsonl.

    Raises:
      BadInput: `out` holds another training; one line.
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
        def body(_: jax.Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            return one_round(carry[0], dials)

        shape = jax.eval_shape(lambda s: body(jnp.int32(0), (s, None))[1], state)
        return jax.lax.fori_loop(
            0, count, body, (state, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape))
        )

    run, measure = jax.jit(chunk, donate_argnums=0), returns(world, network_policy, QUICK)
    task = Task(cast(Any, None), dials)  # no demonstrations, as nothing is imitated
    state = jax.jit(lambda key: learner.init(key, task))(jax.random.PRNGKey(training.seed))
    leaves, treedef = jax.tree.flatten(state)
    checkpoint = checkpoints.restore(out / "checkpoints", say)
    done = 0
    if checkpoint:
        arrays, progress = checkpoint
        state = jax.tree.unflatten(
            treedef, [jnp.asarray(arrays[f"{i:03d}"]) for i in range(len(leaves))]
        )
        done = int(progress["round"])
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
        total, cost = measure(weights, jax.random.PRNGKey(1_000_000 + training.seed))
        line = {
            "round": done,
            "steps": done * learner.steps_per_round,
            "return": total.mean(),
            "worst": total.min(),
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
        write_atomic(path, "".join(json.dumps(entry) + "\n" for entry in curve).encode())
        say(
            f"{line['steps'] / 1e6:.2f}M steps: return {total.mean():.0f} (worst "
            f"{total.min():.0f}), cost {cost.mean():.3f}, std {line['std']:.2f}, kl "
            f"{line['kl']:.4f}"
        )
        checkpoints.save(out / "checkpoints", done, arrays, {"round": done})
    return curve


def expert_return(world: World, key: jax.Array) -> float:
    """Returns the mean return of a world's own expert, such as a control law, over EPISODES
    episodes; `key` is consumed."""
    sums = jax.jit(lambda key, dials: evaluate(world.bind(dials), None, None, key, EPISODES, STEPS))
    return float(sums(key, jax.tree.map(jnp.float32, world.dials)).reward) / EPISODES


def exported(learner: ppo.PPO | sac.SAC, state: Any) -> dict[str, np.ndarray]:
    """Returns the policy's mode as the arrays of a demonstrator's file (`envs.demonstrators`)."""
    params = jax.device_get(learner.params(state))
    net, size = params.weights.get("net", params.weights), learner.spec.action_size
    weights = {"mean": params.inputs.mean, "scale": params.inputs.scale}
    for index in range(len(net)):
        layer = net[f"Dense_{index}"]
        # SAC's last layer holds the log standard deviations, too.
        columns = size if index == len(net) - 1 else None
        weights |= {
            f"kernel_{index}": layer["kernel"][:, :columns],
            f"bias_{index}": layer["bias"][:columns],
        }
    return {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()}


def ship(
    training: Training,
    out: Path,
    qualities: tuple[str, ...],
    command: str,
    folder: Path = demonstrators.FOLDER,
) -> list[dict]:
    """Writes policies of a training, with their cards, into the folder of the demonstrators.

    The quality "expert" is the best policy of `out`. Any other quality is a percentage of a
    normalised score: of the best policy's if "expert" is among the qualities, else of the shipped
    expert's or of the world's own expert if that is no network. The policy nearest to that score is
    shipped. Policies are compared by their evaluations while training; a card's figures come from
    fresh episodes.

    Args:
      training: the training that `out` holds.
      out: its folder.
      qualities: of `envs.demonstrators.QUALITIES`.
      command: the command line, for the card.
      folder: where the files are written.

    Returns:
      The cards.

    Raises:
      BadInput: `out` holds no policies, those of another training, or none with a finite return, or
        the physics became NaN; one line.
    """
    world = training.world
    if not ((out / "curve.jsonl").exists() and (out / "machine.json").exists()):
        raise BadInput(
            f"{out} holds no policies yet, or no machine.json; run the same command without --ship "
            "first"
        )
    if json.loads((out / "training.json").read_text()) != training.facts():
        raise BadInput(
            f"{out} holds another training, see its training.json; nearest: the flags of that "
            "training, or another --out"
        )
    curve = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    curve = [line for line in curve if math.isfinite(line["return"])]
    if not curve:
        raise BadInput(
            f"{out} holds no policy whose return is finite; nearest: another --world=backend=..."
        )
    key = jax.random.PRNGKey(2_000_000 + training.seed)
    measure = returns(world, network_policy, EPISODES)
    random, _ = returns(world, random_policy(world), EPISODES)(None, key)
    if broken := int(np.isnan(random).sum()):
        raise BadInput(
            f"the physics of {world.name} on {world.backend} became NaN in {broken} of "
            f"{len(random)} episodes of random actions, so a score of 0 is not defined; nearest: "
            "another --world=backend=..."
        )
    best = max(line["return"] for line in curve)
    network = demonstrators.find(world.name, world.backend)
    if network and "expert" not in qualities:
        best = network.card["return"][0]
    elif world.has_expert and network is None:
        best = expert_return(world, key)
    span = best - random.mean()
    cards, run_on = [], json.loads((out / "machine.json").read_text())
    for quality in qualities:
        target = 1.0 if quality == "expert" else float(quality) / 100.0
        # Among equals the last one, because its own actions vary least.
        line = min(
            reversed(curve),
            key=lambda entry: abs((entry["return"] - random.mean()) / span - target),
        )
        content = (out / "policies" / f"{int(line['round']):06d}.safetensors").read_bytes()
        total, cost = measure(load(content), key)
        if not np.isfinite(total).all():
            raise BadInput(
                f"the physics of {world.name} on {world.backend} became NaN under the policy of "
                f"quality {quality}; nearest: another --world=backend=..."
            )
        name = demonstrators.name_of(world.name, world.backend, quality)
        card = {
            "world": training.env,
            "backend": world.backend,
            "quality": quality,
            "return": [round(x, 1) for x in interval(total)],
            "worst_return": round(float(total.min()), 1),
            "cost": round(float(cost.mean()), 5),
            "random_return": round(float(random.mean()), 1),
            "episodes": EPISODES,
            "steps": STEPS,
            "env_steps": int(line["steps"]),
            "seed": training.seed,
            "command": command,
            "training": training.facts(),
            **run_on,
            "sha256": hashlib.sha256(content).hexdigest(),
            "licence": "Apache-2.0",
        }
        write_atomic(folder / f"{name}.safetensors", content)
        write_atomic(folder / f"{name}.json", (json.dumps(card, indent=1) + "\n").encode())
        cards.append(card)
    return cards


def measured(seed: int = 0, say: Callable[[str], None] = lambda _: None) -> list[dict[str, Any]]:
    """Measures every shipped demonstrator again on fresh episodes.

    Args:
      seed: of the episodes.
      say: receives a line for each world.

    Returns:
      A row per demonstrator with its return, beside the one on its card, and its normalised score.

    Raises:
      BadInput: a demonstrator's file or card is damaged; one line.
    """
    rows, key = [], jax.random.PRNGKey(3_000_000 + seed)
    grouped: dict[tuple[str, str], list[str]] = {}
    try:
        networks = {
            name: demonstrators.read(demonstrators.FOLDER / f"{name}.safetensors")
            for name in demonstrators.shipped()
        }
    except ValueError as error:
        raise BadInput(str(error)) from None
    for name, network in networks.items():
        grouped.setdefault((network.card["world"], network.card["backend"]), []).append(name)
    for i, ((env, backend), names) in enumerate(grouped.items()):
        say(f"{i + 1}/{len(grouped)} {env} on {backend}")
        world = envs.make(
            env, **({"backend": backend} if "backend" in envs.kind(env).options else {})
        )
        random, _ = returns(world, random_policy(world), EPISODES)(None, key)
        measure = returns(world, network_policy, EPISODES)
        zero = float(random.mean())
        measurements = {name: measure(dict(networks[name].weights), key) for name in names}
        best = next(
            (measurements[n][0].mean() for n in names if networks[n].card["quality"] == "expert"),
            None,
        )
        best = expert_return(world, key) if best is None else float(best)
        for name in names:
            (total, cost), card = measurements[name], networks[name].card
            rows.append(
                {
                    "demonstrator": name,
                    "return": interval(total),
                    "worst": float(total.min()),
                    "random": zero,
                    "cost": float(cost.mean()),
                    "score": float((total.mean() - zero) / (best - zero)),
                    "card": card["return"],
                    "env steps": card["env_steps"],
                }
            )
    return rows

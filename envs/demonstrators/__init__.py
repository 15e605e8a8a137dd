"""Trained demonstrators: small networks, each a safetensors file with a JSON card beside it.

    hopper-spring.safetensors, hopper-spring.json        the expert of hopper on the backend spring
    hopper-spring-50.safetensors, ...                    a policy of about half its normalised score

The network is a multilayer perceptron on standardised observations; tanh follows every layer, the
last one included. A file holds these arrays:

    mean, scale float32[O]; kernel_0, bias_0, kernel_1, ... of the layers

A card holds the SHA-256 of its weights file; `read` verifies it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from envs.core import State, World

FOLDER = Path(__file__).parent
"""The folder of the demonstrators that ship with the package."""
QUALITIES = ("expert", "75", "50", "25")
"""Demonstrators that a world may have: its expert, and policies of about that percentage of the
expert's normalised score."""
OBSERVATION_LIMIT = 10.0
"""Standardised observations are clipped to this magnitude."""


@dataclasses.dataclass(frozen=True)
class Demonstrator:
    """A demonstrator's network and its card."""

    weights: Mapping[str, np.ndarray]
    """The arrays of its file, by name."""
    card: Mapping[str, Any]
    """How it was trained and how good it is; JSON values."""

    @property
    def sha256(self) -> str:
        """The SHA-256 of its weights file."""
        return str(self.card["sha256"])

    def act(self, observation: jax.Array) -> jax.Array:
        """Returns the action float32[A] in [-1, 1] at observation float32[O]."""
        return act({name: jnp.asarray(value) for name, value in self.weights.items()}, observation)


def act(weights: Mapping[str, Any], observation: jax.Array) -> jax.Array:
    """Evaluates a demonstrator's network.

    Args:
      weights: the arrays of its file, by name.
      observation: float32[O].

    Returns:
      The action, float32[A] in [-1, 1].
    """
    x = jnp.clip(
        (observation - weights["mean"]) * weights["scale"], -OBSERVATION_LIMIT, OBSERVATION_LIMIT
    )
    layers = sum(name.startswith("kernel_") for name in weights)
    for index in range(layers):
        x = jnp.tanh(x @ weights[f"kernel_{index}"] + weights[f"bias_{index}"])
    return x


def name_of(robot: str, backend: str, quality: str = "expert") -> str:
    """Returns the name of a demonstrator's file, without the suffix."""
    return f"{robot}-{backend}" + ("" if quality == "expert" else f"-{quality}")


def shipped(folder: Path = FOLDER) -> tuple[str, ...]:
    """Returns the names, sorted, of all demonstrators in a folder."""
    return tuple(sorted(path.stem for path in folder.glob("*.safetensors")))


def find(robot: str, backend: str, quality: str = "expert") -> Demonstrator | None:
    """Returns the demonstrator that ships for a robot on a backend, None if there is none.

    Raises:
      ValueError: its file or card is damaged; one line.
    """
    path = FOLDER / f"{name_of(robot, backend, quality)}.safetensors"
    return read(path) if path.exists() else None


@functools.cache
def read(path: Path) -> Demonstrator:
    """Reads a demonstrator from its weights file and the card beside it.

    Raises:
      ValueError: the file or its card is missing or damaged, or the card's SHA-256 is not the
        file's; one line that names the file.
    """
    card_path = path.with_suffix(".json")
    try:
        content, card = path.read_bytes(), json.loads(card_path.read_text())
    except FileNotFoundError as error:
        raise ValueError(
            f"{error.filename} is missing; a demonstrator is a .safetensors file with its .json "
            "card beside it"
        ) from None
    except ValueError:
        raise ValueError(f"{card_path} is damaged: it is not JSON") from None
    if not isinstance(card, dict):
        raise ValueError(f"{card_path} is damaged: it is not a JSON object")
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.get("sha256"):
        raise ValueError(
            f"{path} is damaged: its SHA-256 is {digest[:12]}..., its card says "
            f"{str(card.get('sha256'))[:12]}..."
        )
    try:
        return Demonstrator(load(content), card)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from None


class Demonstrated(World):
    """A world whose demonstrators are networks of this folder. It may have none."""

    _expert: Demonstrator | None = None

    def choose(self, quality: str) -> None:
        """Makes the network of that quality the world's expert, and adds its hash to `source`.

        Without such a network the world has no expert.

        Raises:
          ValueError: the network's file or card is damaged; one line.
        """
        self._expert = find(self.name, self.backend, quality)
        if self._expert:
            file = f"{name_of(self.name, self.backend, quality)}.safetensors"
            self.source = {**self.source, file: self._expert.sha256}

    @property
    def has_expert(self) -> bool:
        """Whether a network ships for the world's name, backend and chosen quality."""
        return self._expert is not None

    def expert(self, state: State, key: jax.Array) -> jax.Array:
        """Returns the network's action float32[A] at the state's observation; deterministic, `key`
        is not used.

        Raises:
          ValueError: the world has no expert; one line.
        """
        del key
        return self._network().act(cast(jax.Array, state.obs))

    @property
    def expert_reads_observations(self) -> bool:
        """True: a network reads the observation."""
        return True

    def expert_at(self, observation: jax.Array) -> jax.Array:
        """Returns the network's action float32[A] at observation float32[O].

        Raises:
          ValueError: the world has no expert; one line.
        """
        return self._network().act(observation)

    def _network(self) -> Demonstrator:
        if self._expert is None:
            raise ValueError(f"{self.name} has no demonstrator for {dict(self.chosen)}")
        return self._expert

"""Trained demonstrators: small networks, each a safetensors file with a card of JSON beside it.

    hopper-spring.safetensors, hopper-spring.json        the expert of hopper on the backend spring
    hopper-spring-50.safetensors, ...                    one of about half its normalised score

The network is a tanh perceptron on standardised observations, action = tanh(output):

    mean, scale float32[O]; kernel_0, bias_0, kernel_1, ... the layers

A card holds the SHA-256 of its weights, which is verified whenever they are read.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from envs.core import State, World

FOLDER = Path(__file__).parent
QUALITIES = ("expert", "75", "50", "25")
"""Demonstrators a world may have: its expert, and others of about that percentage of the
expert's normalised score."""
OBSERVATION_LIMIT = 10.0
"""Standardised observations are cut here."""


@dataclasses.dataclass(frozen=True)
class Demonstrator:
    """A demonstrator's network and what its card says of it."""

    weights: Mapping[str, np.ndarray]
    card: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        return str(self.card["sha256"])

    def act(self, observation: jax.Array) -> jax.Array:
        """float32[A] in [-1, 1] at observation float32[O]."""
        return act({name: jnp.asarray(value) for name, value in self.weights.items()}, observation)


def act(weights: Mapping[str, Any], observation: jax.Array) -> jax.Array:
    """The action float32[A] of such a network at observation float32[O]."""
    x = jnp.clip(
        (observation - weights["mean"]) * weights["scale"], -OBSERVATION_LIMIT, OBSERVATION_LIMIT
    )
    layers = sum(name.startswith("kernel_") for name in weights)
    for index in range(layers):
        x = jnp.tanh(x @ weights[f"kernel_{index}"] + weights[f"bias_{index}"])
    return x


def name_of(robot: str, backend: str, quality: str = "expert") -> str:
    """The file's name without suffix."""
    return f"{robot}-{backend}" + ("" if quality == "expert" else f"-{quality}")


def shipped(folder: Path = FOLDER) -> tuple[str, ...]:
    """Names of all demonstrators there are."""
    return tuple(sorted(path.stem for path in folder.glob("*.safetensors")))


def find(robot: str, backend: str, quality: str = "expert") -> Demonstrator | None:
    """The demonstrator of a robot; None if none is shipped. Raises ValueError as `read` does."""
    path = FOLDER / f"{name_of(robot, backend, quality)}.safetensors"
    return read(path) if path.exists() else None


@functools.cache
def read(path: Path) -> Demonstrator:
    """The demonstrator in a file.

    Raises:
      ValueError: the file or its card is missing, damaged, or they do not belong together; one line
        that names the file.
    """
    card_path = path.with_suffix(".json")
    try:
        content, card = path.read_bytes(), json.loads(card_path.read_text())
    except FileNotFoundError as error:
        raise ValueError(
            f"{error.filename} is missing; a demonstrator is a .safetensors file and its card "
            "beside it"
        ) from None
    except ValueError:
        raise ValueError(f"{card_path} is damaged: no JSON") from None
    if not isinstance(card, dict):
        raise ValueError(f"{card_path} is damaged: no card")
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.get("sha256"):
        raise ValueError(
            f"{path} is damaged: its SHA-256 is {digest[:12]}..., its card says "
            f"{str(card.get('sha256'))[:12]}..."
        )
    try:
        return Demonstrator(load(content), card)
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from None


class Demonstrated(World):
    """A world whose demonstrators are networks kept here, if any is."""

    _expert: Demonstrator | None = None

    def choose(self, quality: str) -> None:
        """Takes the network of that quality for the world's name and backend; `ValueError` as
        `read`."""
        self._expert = find(self.name, self.backend, quality)
        if self._expert:
            file = f"{name_of(self.name, self.backend, quality)}.safetensors"
            self.source = {**self.source, file: self._expert.sha256}

    @property
    def has_expert(self) -> bool:
        return self._expert is not None

    def expert(self, state: State, key: jax.Array) -> jax.Array:
        """The network's action at the state's observation; deterministic, `key` is not used."""
        del key
        if self._expert is None:
            raise ValueError(f"{self.name} has no demonstrator for {dict(self.chosen)}")
        return self._expert.act(state.obs)

"""What one cell of an experiment is, and the name its result is stored under.

A cell is an algorithm, a world, a mode, all settings and one group of seeds of fixed width. Its key
is a hash of that description and of whatever else determines the numbers, so a result can never be
reused for something it does not describe.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import jax

from irl_bench.core import jax_options
from irl_bench.core.learner import Consumes

_JAX: Any = cast("Any", jax)
"""JAX where its own annotations leave a type open."""

NAME = re.compile(r"[A-Za-z0-9._:-]+")
"""The form of the names of algorithms, worlds and modes. One from outside the repository is
written `package.module:attribute`."""

PACKAGES = ("brax", "flax", "jax", "jaxlib", "mujoco", "mujoco-mjx", "numpy", "optax")
"""The packages whose versions may change a result."""

NUMERICAL = (
    "core", "nets", "rollouts", "rl", "adversarial", "preferences", "algos",
    "storage/artifacts.py", "plan/donor.py", "plan/host.py", "plan/policies.py", "running/batch.py",
    "running/programs.py", "running/progress.py", "running/runner.py", "running/saving.py",
    "running/threefry.py", "running/work.py",
)  # fmt: skip
"""Folders and files of `irl_bench` that compute what a cell stores. All others choose, name or
show cells."""

NOT_NUMERICAL = ("folders.py", "jax_options.py")
"""Files in those folders that compute nothing."""

NUMERICAL_ENVIRONMENT = ("LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")
"""Environment variables that change what an accelerator computes, beside XLA_FLAGS and JAX's own
options."""

HARMLESS_XLA_FLAGS = ("--xla_dump", "--xla_force_host_platform_device_count")
"""Prefixes of XLA flags that change no result. The number of CPU devices that XLA is asked for is
recorded as `devices` instead."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellSpec:
    """Describes a cell completely.

    Raises ValueError, in one line, for a value that cannot be run. Two cells that differ only in
    mode, dials, seeds, `episodes`, `eval_every` or `shown_steps` share their compiled functions.
    """

    algo: str
    """A registered algorithm, or `package.module:make`."""
    env: str
    """A registered world, or `package.module:factory`."""
    mode: str
    """One of the world's modes."""
    horizon: int
    """T_max [steps] of the evaluation rollouts."""
    demos: int
    """Demonstration episodes per seed."""
    demo_steps: int
    """Length of a demonstration [steps]."""
    episodes: int
    """Evaluation episodes per seed."""
    block: int
    """Evaluation episodes per jitted call; divides `episodes`."""
    eps_episodes: int
    """Held-out expert episodes per seed on which eps is measured."""
    eps_steps: int
    """Length of these episodes [steps]."""
    first_seed: int
    """First seed of the group."""
    width: int
    """Number of seeds: first_seed .. first_seed + width - 1 make up the group."""
    eval_every: int = 0
    """Rounds between evaluations while training; 0: none."""
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    """Every setting of the algorithm; JSON values."""
    dials: Mapping[str, float] = dataclasses.field(default_factory=dict[str, float])
    """Final values of the world's dials. An absent dial has its mode's value."""
    options: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    """The world's options in use, such as its backend."""
    plugin: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    """SHA-256 of each outside source file the cell depends on, by name."""
    observation_only: bool = False
    """Whether the demonstrations' actions are withheld from the algorithm."""
    clean: bool = False
    """Whether only episodes without a failure are demonstrated."""
    burn_in: int = 0
    """Steps that the expert acts before every episode begins."""
    demo_noise: float = 0.0
    """Standard deviation of the noise on executed actions in every second demonstration."""
    shown_steps: int = 0
    """First steps of each demonstration that are shown, and of each held-out expert episode that
    are counted; 0: all."""
    recorded: str = ""
    """SHA-256 of the demonstrations that were read from a file; empty if the world's expert makes
    them."""
    given: str = ""
    """SHA-256 of what the algorithm takes from an earlier run: a policy, a reward or comparisons;
    empty if it takes nothing."""
    world_devices: int = 0
    """Devices over which the training worlds of each seed are spread; 0: they are on one."""

    def __post_init__(self) -> None:
        for field in ("algo", "env", "mode"):
            if not NAME.fullmatch(getattr(self, field)):
                raise ValueError(
                    f"{field} {getattr(self, field)!r} is not a name of letters, digits and . _ : -"
                )
        for field in (
            "horizon",
            "demos",
            "demo_steps",
            "episodes",
            "block",
            "eps_episodes",
            "eps_steps",
            "width",
        ):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} = {getattr(self, field)} must be at least 1")
        if self.episodes % self.block:
            raise ValueError(f"block = {self.block} does not divide episodes = {self.episodes}")
        for field in ("eval_every", "burn_in", "shown_steps", "world_devices"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field} = {getattr(self, field)} must not be negative")
        if self.first_seed < 0 or self.first_seed + self.width > 2**31:
            raise ValueError(
                f"seeds {self.first_seed} .. +{self.width} do not lie in 0 .. 2^31 - 1"
            )
        if not (math.isfinite(self.demo_noise) and self.demo_noise >= 0):
            raise ValueError(f"demo_noise = {self.demo_noise} must be at least 0")
        for name, value in self.dials.items():
            if not math.isfinite(value):
                raise ValueError(f"dial {name} = {value} is not finite")
        # -0.0 and 1 hash as 0.0 and 1.0: they are the same dial.
        object.__setattr__(
            self, "dials", {name: float(value) + 0.0 for name, value in sorted(self.dials.items())}
        )
        object.__setattr__(self, "config", json.loads(canonical(dict(self.config))))
        object.__setattr__(self, "options", dict(self.options))
        object.__setattr__(self, "plugin", dict(self.plugin))

    @property
    def seeds(self) -> range:
        """The seeds of the group."""
        return range(self.first_seed, self.first_seed + self.width)

    @property
    def eps_block(self) -> int:
        """Held-out expert episodes per jitted call: the largest divisor of `eps_episodes` that
        does not exceed `block`."""
        return max(
            n
            for n in range(1, min(self.block, self.eps_episodes) + 1)
            if self.eps_episodes % n == 0
        )

    def used(self, consumes: Consumes) -> Consumes:
        """What one seed uses of what the algorithm would use if all steps were shown."""
        if not self.shown_steps:
            return consumes
        shown = min(self.shown_steps, self.demo_steps) * self.demos
        return dataclasses.replace(consumes, expert_queries=min(consumes.expert_queries, shown))

    @property
    def label(self) -> str:
        """The cell's name in messages: algorithm, world, mode and seeds."""
        return (
            f"{self.algo} {self.env} {self.mode} seeds "
            f"{self.first_seed}-{self.first_seed + self.width - 1}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON values; the input of the cell's key.

        `world_devices` is there only if worlds are spread, so all other cells keep their keys.
        """
        fields = dataclasses.asdict(self)
        if not self.world_devices:
            del fields["world_devices"]
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> CellSpec:
        """The inverse of `to_dict`. Ignores the field `experiment` of files of version 0.1.

        Raises:
          TypeError: a field is unknown or missing.
          ValueError: a value cannot be run.
        """
        return cls(**{name: value for name, value in fields.items() if name != "experiment"})

    def static_key(self) -> str:
        """The fields that are not data of the compiled functions, as text. Cells with equal text
        can share compiled functions."""
        data = {"mode", "dials", "first_seed", "episodes", "eval_every", "shown_steps"}
        return canonical(
            {name: value for name, value in self.to_dict().items() if name not in data}
        )


def canonical(value: Any) -> str:
    """Returns JSON with sorted keys and no spaces, so that equal values give equal text.

    Raises ValueError, in one line, for NaN, infinities and values that JSON cannot hold.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a setting cannot be written down as JSON: {error}") from None


def cell_key(spec: CellSpec, fingerprint: Mapping[str, Any]) -> str:
    """Returns the 20 hexadecimal digits that name the cell's result.

    Args:
      spec: the cell.
      fingerprint: as `fingerprint` returns it.
    """
    text = canonical({"spec": spec.to_dict(), "fingerprint": dict(fingerprint)})
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def numerical_sources() -> list[Path]:
    """Returns the source files that may change a result, in a fixed order."""
    import envs

    package = Path(__file__).parents[1]
    roots = [*(package / name for name in NUMERICAL), Path(envs.__file__).parent]
    files = [path for root in roots for path in (root.rglob("*.py") if root.is_dir() else [root])]
    return sorted(path for path in files if path.name not in NOT_NUMERICAL)


@functools.cache
def _source_hash() -> str:
    import envs

    roots = (Path(__file__).parents[2], Path(envs.__file__).parent.parent)
    digest = hashlib.sha256()
    for path in numerical_sources():
        root = next(root for root in roots if path.is_relative_to(root))
        text = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.relative_to(root).as_posix()} {len(text)}\n".encode() + text)
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def fingerprint() -> dict[str, Any]:
    """Returns what determines the numbers of a cell beside its spec, as JSON values: sources,
    versions, backend, devices, options and flags. Starts JAX's backend."""
    backend = jax.default_backend()
    flags = sorted(
        f for f in os.environ.get("XLA_FLAGS", "").split() if not f.startswith(HARMLESS_XLA_FLAGS)
    )
    return {
        "sources": _source_hash(),
        "versions": {package: _version(package) for package in PACKAGES},
        "backend": backend,
        # The kind of an accelerator selects its kernels. CPU results are compared on one machine
        # only.
        "device": "" if backend == "cpu" else _JAX.devices()[0].device_kind,
        # XLA fuses a program for one device differently from one for several: training losses
        # differ in the last bits.
        "devices": _JAX.local_device_count(),
        # Sums over devices of several processes are taken in another order.
        **({"processes": _JAX.process_count()} if _JAX.process_count() > 1 else {}),
        "jax": jax_options.numerical(),
        "matmul_precision": str(_JAX.config.jax_default_matmul_precision),
        "xla_flags": flags,
        "environment": {
            name: os.environ[name] for name in NUMERICAL_ENVIRONMENT if name in os.environ
        },
    }


def machine() -> dict[str, Any]:
    """Returns the part of the fingerprint that readers need: {"device", "matmul_precision",
    "xla_flags", "versions"}."""
    facts = fingerprint()
    shown = {name: facts[name] for name in ("matmul_precision", "xla_flags", "versions")}
    return {"device": facts["device"] or facts["backend"], **shown}

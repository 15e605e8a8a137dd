"""Runs tasks on a Ray cluster, or on a cluster of this machine alone that it starts.

Ray runs a task again whose worker or node has died. The cells that it had stored stay, and the one
that it was computing goes on from its checkpoint.
"""

from __future__ import annotations

import importlib
import os
import socket
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from irl_bench.core.settings import BadInput
from irl_bench.launchers import work
from irl_bench.launchers.options import RAY
from irl_bench.launchers.tasks import Ended
from irl_bench.launchers.work import PATIENCE, Task

CONNECT = 5.0
"""How long a cluster has to answer [s]."""
CLIENT_PORT = 10001
"""The port of ray:// addresses without one."""
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""The variable that, if it is 0, has Ray listen on loopback alone, on Linux too."""


class Ray:
    """Tasks of Ray.

    Args:
      options: as `parse_options` returns them.
      devices: the number of devices of a task on a CPU.

    Raises:
      BadInput: Ray is not installed, or the cluster does not answer.
    """

    every = 0.5

    def __init__(self, options: Mapping[str, Any], devices: int):
        self.options, self.devices = options, devices
        self.address: str | None = options.get("address")
        # Ray reads both when it is imported. It would send figures about its use over the network,
        # and a cluster of this machine would take commands of anybody on the network.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        if self.address is None:
            os.environ[LOOPBACK] = "0"
        try:
            self.ray: Any = importlib.import_module("ray")
        except ImportError:
            raise BadInput(
                "--launcher=ray needs the extra `ray`; nearest: pip install 'irl-bench[ray]'"
            ) from None
        if self.address is not None:
            check_address(self.address)
        self.tasks: dict[Any, int] = {}

    def start(self, tasks: Sequence[Task]) -> str:
        """Connects to the cluster, or starts one, and submits tasks."""
        self._connect()
        self.ray.cloudpickle.register_pickle_by_value(work)
        largest = max(
            (node["Resources"].get("CPU", 0.0) for node in self.ray.nodes() if node["Alive"]),
            default=0.0,
        )
        cpus = self.options.get("num_cpus", min(float(self.devices), max(largest, 1.0)))
        remote = self.ray.remote(
            num_cpus=cpus,
            num_gpus=self.options.get("num_gpus", 0.0),
            max_retries=self.options.get("retries", RAY["retries"].default),
        )(work.run)
        self.tasks = {remote.remote(task): task.number for task in tasks}
        where = self.address or "this machine"
        waiting = f"; no node has {cpus:g} cores yet, and they wait for one"
        return (
            f"{len(tasks)} tasks of Ray on {where}, {cpus:g} cores each"
            f"{waiting if cpus > largest else ''}"
        )

    def ended(self) -> list[Ended]:
        """Returns the tasks that have ended since the last call."""
        if not self.tasks:
            return []
        ready, _ = self.ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=0)
        found = []
        for reference in ready:
            try:
                code, text = self.ray.get(reference)
            except self.ray.exceptions.RayError as error:
                code, text = 1, " ".join(str(error).split())
            found.append(Ended(self.tasks.pop(reference), code, text))
        return found

    def stop(self) -> str:
        """Stops the tasks at their next checkpoints."""
        for reference in self.tasks:
            self.ray.cancel(reference, force=False)  # raises KeyboardInterrupt in the task
        if self.tasks:
            self.ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=PATIENCE)
        self.ray.shutdown()
        return "the tasks stop at their next checkpoints; to go on: the same command"

    def _connect(self) -> None:
        """Connects to the cluster, or starts one. Raises BadInput if that fails."""
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        try:
            if self.address is None:
                self.ray.init(address="local", include_dashboard=False, **quiet)
            else:
                self.ray.init(address=self.address, **quiet)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            reason = " ".join(str(error).split())[:200]
            if self.address is None:
                raise BadInput(
                    f"--launcher=ray: no cluster starts on this machine ({reason}); nearest: "
                    "--launcher=local"
                ) from None
            raise BadInput(
                f"--ray_address={self.address}: Ray does not connect ({reason}); nearest: leave "
                "it out for a cluster on this machine"
            ) from None


def check_address(address: str) -> None:
    """Checks that something answers at an address. Ray itself would try for minutes.

    Raises:
      BadInput: the address is none, or nothing answers within CONNECT seconds.
    """
    if address == "auto":
        return
    try:
        parts = urllib.parse.urlsplit(address if "://" in address else f"gcs://{address}")
        port = parts.port or (CLIENT_PORT if parts.scheme == "ray" else None)
    except ValueError:
        parts, port = None, None
    if parts is None or parts.scheme not in ("gcs", "ray") or not parts.hostname or port is None:
        raise BadInput(
            f"--ray_address={address} must be auto, HOST:PORT or ray://HOST:PORT; nearest: auto"
        )
    try:
        with socket.create_connection((parts.hostname, port), CONNECT):
            pass
    except OSError as error:
        raise BadInput(
            f"--ray_address={address}: no cluster answers there ({error.strerror or error}); "
            "nearest: leave it out for a cluster on this machine"
        ) from None

"""What is computed for a batch of cells on the devices: one method per step.

If the devices belong to several processes, the first one tells the others of each step, and they
take the same step (`follow`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from irl_bench.core.cell import CellSpec
from irl_bench.core.settings import BadInput
from irl_bench.plan.build import Input
from irl_bench.running import processes
from irl_bench.running.process import Interrupted
from irl_bench.running.programs import Program, program_for

Leaves = Sequence[np.ndarray]
"""The leaves of one group's state on the host."""


class Work:
    """The arrays of a batch on the devices, and the steps that change them.

    Args:
      program: the compiled functions.
      cells: up to G cells, one per group. Devices without a cell repeat the last one; their results
        are ignored.
    """

    def __init__(self, program: Program, cells: Sequence[CellSpec]):
        self.program = program
        self.specs = [*cells, *[cells[-1]] * (program.groups - len(cells))]
        self._tells = program.processes > 1 and processes.leads()
        self._tell("begin", [spec.to_dict() for spec in cells])
        self.seeds = program.put([np.asarray(spec.seeds, np.uint32) for spec in self.specs])
        self.dials = program.put([program.dials(spec) for spec in self.specs])
        self.given = program.given(self.specs)
        self.demos: Any = None
        self.state: Any = None

    def _tell(self, name: str, *arguments: Any, content: bytes = b"") -> None:
        """Tells the other processes, if there are any, of a step."""
        if self._tells:
            processes.tell(name, *arguments, content=content)

    def demonstrate(self) -> None:
        """Makes the demonstrations, or takes them from a file."""
        self._tell("demonstrate")
        self.demos = self.program.demonstrations(self.specs, self.seeds, self.dials)

    def init(self) -> None:
        """Initialises the learner's state."""
        self._tell("init")
        self.state = self.program.init(self.seeds, self.demos, self.dials, self.given)
        if self.program.processes > 1:  # collectives of two programs must not overlap
            jax.block_until_ready(self.state)

    def restore(self, groups: Sequence[Leaves]) -> None:
        """Takes each group's state from its leaves."""
        if self._tells:
            content = b"".join(leaf.tobytes() for leaf in groups[0])
            self._tell("restore_bytes", content=content)
        groups = [*groups, *[groups[-1]] * (self.program.groups - len(groups))]
        self.state = self.program.put_state(groups)

    def restore_bytes(self, content: bytes) -> None:
        """As `restore`, from the bytes of the one group's leaves."""
        leaves, start = [], 0
        for shape in jax.tree.leaves(self.program.state_shape):
            size = shape.size * shape.dtype.itemsize
            flat = np.frombuffer(content[start : start + size], shape.dtype)
            leaves.append(flat.reshape(shape.shape[1:]))
            start += size
        self.restore([leaves])

    def train(self, counts: Sequence[int]) -> np.ndarray:
        """Trains each group for a number of rounds. Returns the metrics float32[G, CAPACITY, W,
        M]."""
        self._tell("train", list(counts))
        k = self.program.put([np.int32(count) for count in self._pad(counts, 0)])
        self.state, buffer = self.program.chunk(self.state, self.demos, self.dials, self.given, k)
        return np.asarray(processes.on_host(buffer))

    def evaluate(self, stream: int, blocks: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """One block of evaluation episodes of each group."""
        self._tell("evaluate", stream, list(blocks))
        streams = self.program.put([np.uint32(stream)] * self.program.groups)
        return self._groups(
            self.program.evaluate(
                self.state, self.dials, self.seeds, streams, self._numbers(blocks)
            )
        )

    def expert_errors(self, blocks: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """Errors on one block of held-out expert episodes of each group."""
        self._tell("expert_errors", list(blocks))
        return self._groups(
            self.program.expert_errors(
                self.state,
                self.dials,
                self.seeds,
                self._numbers(blocks),
                self.program.shown(self.specs),
            )
        )

    def keep(self) -> dict[str, Any]:
        """The params of policy and reward to be stored, leaves [G, W, ...] on the host."""
        self._tell("keep")
        return processes.on_host(self.program.keep(self.state))

    def leaves(self) -> list[list[np.ndarray]]:
        """The leaves of each group's state on the host."""
        self._tell("leaves")
        leaves = processes.on_host(jax.tree.leaves(self.state))
        return [[leaf[g] for leaf in leaves] for g in range(self.program.groups)]

    def _numbers(self, values: Sequence[int]) -> jax.Array:
        """Numbers of the cells on the devices, uint32[G]."""
        return self.program.put([np.uint32(value) for value in self._pad(values, values[-1])])

    def _pad(self, values: Sequence[int], filler: int) -> list[int]:
        """The values, filled up to one per group."""
        return [*values, *[filler] * (self.program.groups - len(values))]

    def _groups(self, tree: dict[str, jax.Array]) -> list[dict[str, np.ndarray]]:
        """Arrays with a leading axis of groups as one dict of host arrays per group."""
        host = processes.on_host(tree)
        return [{name: leaf[g] for name, leaf in host.items()} for g in range(self.program.groups)]


STEPS = ("demonstrate", "init", "train", "evaluate", "expert_errors", "keep", "leaves")
"""Methods of `Work` of which the first process tells the others."""


def follow(inputs: Mapping[str, Input]) -> None:
    """Takes part in what the first process computes, until it ends its run.

    Args:
      inputs: `Plan.inputs` of the same plan.

    Raises:
      Interrupted: the first process was interrupted.
    """
    work: Work | None = None
    while True:
        name, arguments, content = processes.hear()
        if name == processes.END:
            if arguments[0]:
                raise Interrupted
            return
        with contextlib.suppress(BadInput):  # the first process raises it too, and ends
            if name == "begin":
                cells = [CellSpec.from_dict(fields) for fields in arguments[0]]
                program = program_for(cells[0], inputs)
                program.prepare()
                work = Work(program, cells)
                continue
            assert work is not None
            if name == "restore_bytes":
                work.restore_bytes(content)
            else:
                assert name in STEPS
                getattr(work, name)(*arguments)

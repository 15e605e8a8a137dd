"""What a fault counted."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Count:
    """How often a fault was made, and what came of it."""

    fault: str
    """The fault's name, a key of `irl_bench.tools.chaos.suite.FAULTS`."""
    tried: int = 0
    """How often it was made."""
    resumed: int = 0
    """How often work went on from a checkpoint, or from an earlier one in place of a damaged
    one."""
    refused: int = 0
    """How often it was answered by one line that names the file or folder."""
    harmless: int = 0
    """How often what was read afterwards is what was written before."""
    lost: int = 0
    """Results that were stored or should be, and are not there at the end."""
    doubled: int = 0
    """Cells that were stored more than once."""
    wrong: int = 0
    """Results with other bytes than those of an undisturbed run, and errors that are not one
    line."""
    after_checkpoint: int = 0
    """Kills that met a run with a checkpoint."""
    seconds: float = 0.0
    """Time from the first to the last [s]."""
    notes: list[str] = dataclasses.field(default_factory=list)
    """What was lost, doubled or wrong, one line each; for people."""

    @property
    def sound(self) -> bool:
        """Whether something was tried and nothing was lost, doubled or wrong."""
        return self.tried > 0 and not (self.lost or self.doubled or self.wrong)

    def bad(self, kind: str, text: str) -> None:
        """Counts one result as `lost`, `doubled` or `wrong`, and notes why."""
        setattr(self, kind, getattr(self, kind) + 1)
        self.notes.append(f"{kind}: {' '.join(text.split())[:300]}")

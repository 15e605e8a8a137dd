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
    kinds: dict[str, int] = dataclasses.field(default_factory=dict)
    """How often it was made in each of its kinds, if it has several."""
    resumed: int = 0
    """How often work went on from a checkpoint, or from an earlier one in place of a damaged
    one."""
    refused: int = 0
    """How often it was answered by one line that names the file or folder."""
    harmless: int = 0
    """How often what was read afterwards is what was written before."""
    ignored: int = 0
    """How often a damaged file that holds no results raised nothing. What is read of it may
    differ."""
    repeated: int = 0
    """How often a cell was computed once more where that is allowed."""
    lost: int | None = 0
    """Results that were stored or should be, and are not there at the end. None: not counted."""
    doubled: int | None = 0
    """Cells that were stored more than once. None: not counted."""
    wrong: int = 0
    """Results with other bytes than those of an undisturbed run, and errors that are not one
    line."""
    unmet: int = 0
    """What the fault's bar asks for besides, and was not counted."""
    after_checkpoint: int = 0
    """Kills that met a run with a checkpoint."""
    workers: list[int] = dataclasses.field(default_factory=list)
    """How many processes stored cells, for each run that several shared."""
    seconds: float = 0.0
    """Time from the first to the last [s]."""
    notes: list[str] = dataclasses.field(default_factory=list)
    """What was lost, doubled, wrong or unmet, one line each; for people."""

    @property
    def sound(self) -> bool:
        """Whether something was tried and nothing was lost, doubled, wrong or unmet."""
        return self.tried > 0 and not (self.lost or self.doubled or self.wrong or self.unmet)

    def made(self, kind: str = "") -> None:
        """Counts one fault, of a kind if there are several."""
        self.tried += 1
        if kind:
            self.kinds[kind] = self.kinds.get(kind, 0) + 1

    def bad(self, what: str, text: str) -> None:
        """Counts one thing as `lost`, `doubled`, `wrong` or `unmet`, and notes why."""
        setattr(self, what, (getattr(self, what) or 0) + 1)
        self.notes.append(f"{what}: {' '.join(text.split())[:300]}")

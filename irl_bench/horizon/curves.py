"""What one learner did in one mode of one world, over all its seeds: the analysis' only input."""

from __future__ import annotations

import dataclasses

import numpy as np

TOLERANCES = (0.05, 0.1, 0.2)
"""tau, on actions in [-1, 1]: an action is an error if any of its components is further than tau
from the expert's."""
TAU = TOLERANCES.index(0.1)
"""Column of the tolerance that defines eps; the other two show how sensitive it is."""


@dataclasses.dataclass(frozen=True, eq=False)
class Curves:
    """S seeds, K horizons. Failed seeds keep their rows (NaN allowed); they are left out of every
    figure and counted.

    Raises:
      ValueError: on construction, if shapes disagree or the horizons do not increase from 1 or
        more.
    """

    env: str
    algo: str
    mode: str
    seeds: np.ndarray
    """int[S]."""
    T: np.ndarray
    """int[K], increasing: the horizons [steps] at which cost is stored, usually 1..T_max."""
    cost: np.ndarray
    """float[S, K]: J(T), mean over episodes of the number of failures among the states reached
    by steps 1..T."""
    graded: np.ndarray
    """float[S, K]: the same for the graded cost in [0, 1]."""
    expert_cost: np.ndarray | None
    """float[S', K]: J(T) of the expert on the same random numbers. Paired seed by seed if S' = S,
    else its mean is subtracted;
    None: the expert is taken to fail never."""
    on_steps: np.ndarray
    """float[S]: steps taken from a state without failure, summed over episodes."""
    on_to_off: np.ndarray
    """float[S]: how many of `on_steps` reached a failure."""
    off_steps: np.ndarray
    """float[S]: steps taken from a failure."""
    off_to_on: np.ndarray
    """float[S]: how many of `off_steps` came back."""
    eps_expert: np.ndarray
    """float[S, 3]: error rate on held-out expert rollouts at each of `TOLERANCES`."""
    eps_own: np.ndarray
    """float[S, 3]: error rate on the learner's own states."""
    departures: np.ndarray | None
    """float[S]: on->off transitions seen while training (interactive learners), None if not
    recorded."""
    failed: np.ndarray
    """bool[S]: training or evaluation gave a number that is not finite."""
    interactive: bool
    """Whether the expert is asked about states that the learner visits."""
    episodes: int
    """Evaluation episodes per seed."""
    consumes: tuple[int, int]
    """(expert queries, environment steps) per seed."""
    labels: int = 0
    """Pairwise comparisons per seed."""
    expert_graded: np.ndarray | None = None
    """float[S', K]: the expert's graded cost, subtracted like `expert_cost`; None: nothing is
    subtracted."""

    expected: np.ndarray | None = None
    """float[S, K]: J(T) of each seed's policy in closed form; NaN for one that draws its
    actions. None: the world has none."""

    returns: np.ndarray | None = None
    """float[S]: mean over episodes of the sum of all T_max rewards. None: not recorded."""

    def __post_init__(self) -> None:
        seeds, horizons = len(self.seeds), len(self.T)
        if horizons == 0 or self.T[0] < 1 or np.any(np.diff(self.T) <= 0):
            raise ValueError(f"{self._title}: horizons must increase, from 1 or more")
        shapes = dict.fromkeys(("cost", "graded"), (seeds, horizons))
        shapes |= dict.fromkeys(
            ("on_steps", "on_to_off", "off_steps", "off_to_on", "failed"), (seeds,)
        )
        shapes |= {name: (seeds, len(TOLERANCES)) for name in ("eps_expert", "eps_own")}
        if self.departures is not None:
            shapes["departures"] = (seeds,)
        if self.expected is not None:
            shapes["expected"] = (seeds, horizons)
        if self.returns is not None:
            shapes["returns"] = (seeds,)
        for name in ("expert_cost", "expert_graded"):
            expert = getattr(self, name)
            if expert is not None:
                shapes[name] = (len(expert), horizons)
        for name, shape in shapes.items():
            if np.shape(getattr(self, name)) != shape:
                raise ValueError(
                    f"{self._title}: {name} has shape {np.shape(getattr(self, name))}, not {shape}"
                )

    @property
    def _title(self) -> str:
        return f"{self.algo} in {self.env}/{self.mode}"

    @property
    def usable(self) -> np.ndarray:
        """bool[S]: seeds that did not fail and whose costs and transition counts are all finite."""
        counts = np.stack([self.on_steps, self.on_to_off, self.off_steps, self.off_to_on], axis=1)
        finite = np.isfinite(self.cost).all(axis=1) & np.isfinite(counts).all(axis=1)
        return finite & ~np.asarray(self.failed, bool)

    def rates(self) -> tuple[float | None, float | None]:
        """(h, rho) [1/step], pooled over usable seeds: leaving per step on, coming back per step
        off. None: no such step."""
        use = self.usable
        return _rate(self.on_to_off[use], self.on_steps[use]), _rate(
            self.off_to_on[use], self.off_steps[use]
        )

    def regret(self, horizons: np.ndarray) -> np.ndarray:
        """float[S_usable, len(horizons)]: cost minus the expert's at horizons that are all in
        `T`. Zero for `expert` itself."""
        if self.algo == "expert":
            return np.zeros((int(self.usable.sum()), len(horizons)))
        return self._less_expert(self.cost, self.expert_cost, horizons)

    def graded_regret(self, horizons: np.ndarray) -> np.ndarray:
        """As `regret`, for the graded cost; NaN where that was not finite."""
        return self._less_expert(self.graded, self.expert_graded, horizons)

    def exact_regret(self, horizons: np.ndarray) -> np.ndarray | None:
        """As `regret`, for the closed form; None without one."""
        return (
            None
            if self.expected is None
            else self._less_expert(self.expected, self.expert_cost, horizons)
        )

    def _less_expert(
        self, cost: np.ndarray, expert: np.ndarray | None, horizons: np.ndarray
    ) -> np.ndarray:
        columns = np.searchsorted(self.T, horizons)
        own = np.asarray(cost, float)[np.ix_(self.usable, columns)]
        if expert is None:
            return own
        theirs = np.asarray(expert, float)[:, columns]
        finite = np.isfinite(theirs).all(axis=1)
        if not finite.any():
            return own
        mean = theirs[finite].mean(axis=0)
        if len(theirs) != len(self.seeds):
            return own - mean
        return own - np.where(finite[:, None], theirs, mean)[self.usable]


def _rate(events: np.ndarray, steps: np.ndarray) -> float | None:
    total = float(np.sum(steps))
    return float(np.sum(events)) / total if total > 0 else None

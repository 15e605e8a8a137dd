"""The cost curves of one learner in one mode of one world, over all its seeds.

`Curves` is the only input of the analysis.
"""

from __future__ import annotations

import dataclasses
from typing import cast

import numpy as np

from irl_bench.core.quantities import TOLERANCES
from irl_bench.horizon import chain_model
from irl_bench.horizon.arrays import Booleans, Floats, Integers
from irl_bench.horizon.slopes import slope


@dataclasses.dataclass(frozen=True, eq=False)
class Curves:
    """What S seeds of one learner cost at K horizons, and the counts behind its rates.

    Failed seeds keep their rows, which may be NaN. Every figure leaves them out and counts them.

    Raises:
      ValueError: on construction, if shapes disagree or the horizons do not increase from 1 or
        more.
    """

    env: str
    """Name of the world."""
    algo: str
    """Name of the algorithm; `expert` and `untrained` are references."""
    mode: str
    """Name of the world's mode."""
    seeds: Integers
    """int[S]."""
    T: Integers
    """int[K], increasing: the horizons [steps] at which costs are stored, usually 1..T_max."""
    cost: Floats
    """float[S, K]: J(T), the number of failures among the states that steps 1..T reach, averaged
    over episodes."""
    graded: Floats
    """float[S, K]: the same for the graded cost, which is in [0, 1] per step."""
    expert_cost: Floats | None
    """float[S', K]: the expert's J(T) on the same random numbers. If S' = S it is subtracted seed
    by seed, else its mean is. None: the expert never fails."""
    on_steps: Floats
    """float[S]: steps taken from a state without failure, summed over episodes."""
    on_to_off: Floats
    """float[S]: how many of `on_steps` reached a failure."""
    off_steps: Floats
    """float[S]: steps taken from a failure, summed over episodes."""
    off_to_on: Floats
    """float[S]: how many of `off_steps` left the failure."""
    eps_expert: Floats
    """float[S, 3]: error rate on held-out expert rollouts, at each of `TOLERANCES`."""
    eps_own: Floats
    """float[S, 3]: error rate on the learner's own states, at each of `TOLERANCES`."""
    departures: Floats | None
    """float[S]: on->off transitions during training, of interactive learners. None: not
    recorded."""
    failed: Booleans
    """bool[S]: training or evaluation gave a number that is not finite."""
    interactive: bool
    """Whether the learner asks the expert about states that it visits itself."""
    episodes: int
    """Evaluation episodes per seed."""
    consumes: tuple[int, int]
    """(expert queries, environment steps) per seed."""
    labels: int = 0
    """Pairwise comparisons per seed."""
    expert_graded: Floats | None = None
    """float[S', K]: the expert's graded cost, subtracted like `expert_cost`. None: nothing is
    subtracted."""

    expected: Floats | None = None
    """float[S, K]: J(T) of each seed's policy in closed form; NaN for a policy that samples its
    actions. None: the world has no closed form."""

    departed: Floats | None = None
    """float[S, K]: transitions into failure in steps 1..T, averaged over episodes. None: not
    recorded."""

    returns: Floats | None = None
    """float[S]: sum of all T_max rewards, averaged over episodes. None: not recorded."""

    def __post_init__(self) -> None:
        seeds, horizons = len(self.seeds), len(self.T)
        if horizons == 0 or self.T[0] < 1 or np.any(np.diff(self.T) <= 0):
            raise ValueError(f"{self._title}: horizons must increase, from 1 or more")
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("cost", "graded"), (seeds, horizons))
        shapes |= dict.fromkeys(
            ("on_steps", "on_to_off", "off_steps", "off_to_on", "failed"), (seeds,)
        )
        shapes |= {name: (seeds, len(TOLERANCES)) for name in ("eps_expert", "eps_own")}
        if self.departures is not None:
            shapes["departures"] = (seeds,)
        if self.expected is not None:
            shapes["expected"] = (seeds, horizons)
        if self.departed is not None:
            shapes["departed"] = (seeds, horizons)
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
    def usable(self) -> Booleans:
        """bool[S]: seeds that did not fail and whose costs and transition counts are all finite."""
        counts = np.stack([self.on_steps, self.on_to_off, self.off_steps, self.off_to_on], axis=1)
        finite = np.isfinite(self.cost).all(axis=1) & np.isfinite(counts).all(axis=1)
        return finite & ~np.asarray(self.failed, bool)

    def rates(self) -> tuple[float | None, float | None]:
        """The rates of the two-state chain, pooled over usable seeds.

        Returns:
          (h, rho) [1/step]: rate of leaving per step on, rate of coming back per step off. None
          for a rate without such a step.
        """
        use = self.usable
        return _rate(self.on_to_off[use], self.on_steps[use]), _rate(
            self.off_to_on[use], self.off_steps[use]
        )

    def chain_slope(self, horizons: Integers) -> float | None:
        """The slope of log J over log T of a two-state chain with the measured rates.

        Args:
          horizons: int[H] [steps].

        Returns:
          None without horizons, without a rate, or if h is 0.
        """
        h, rho = self.rates()
        if not h or rho is None or not len(horizons):
            return None
        return float(slope(horizons, chain_model.cost(horizons, h, rho)))

    def hazard_over_time(self, edges: Integers) -> tuple[Floats, Floats]:
        """How often the learner leaves the distribution in each part of an episode.

        Args:
          edges: int[B + 1] [steps], increasing from 0 on: part b holds the steps edges[b] + 1 to
            edges[b + 1].

        Returns:
          Departures and steps on, float64[usable seeds, B] each, averaged over episodes. Their
          ratio is h_t [1/step].

        Raises:
          ValueError: departures are not recorded, or costs are not stored at every step up to the
            last edge.
        """
        last = int(edges[-1])
        if self.departed is None:
            raise ValueError(f"{self._title}: departures are not recorded")
        if len(self.T) < last or not np.array_equal(self.T[:last], np.arange(1, last + 1)):
            raise ValueError(f"{self._title}: no cost is stored at every step to {last}")
        left, off = (
            np.concatenate([np.zeros((int(self.usable.sum()), 1)), total[self.usable]], axis=1)
            for total in (np.asarray(self.departed, float), np.asarray(self.cost, float))
        )
        # A step is taken on if the state before it is no failure; every episode starts on.
        before = np.concatenate([np.zeros((len(off), 1)), off[:, :-1]], axis=1)
        return np.diff(left[:, edges], axis=1), np.diff(edges) - np.diff(before[:, edges], axis=1)

    def regret(self, horizons: Integers) -> Floats:
        """Cost minus the expert's cost; zero for `expert` itself.

        Args:
          horizons: int[H] [steps], all of them in `T`.

        Returns:
          float64[usable seeds, H].
        """
        if self.algo == "expert":
            return np.zeros((int(self.usable.sum()), len(horizons)))
        return self._less_expert(self.cost, self.expert_cost, horizons)

    def graded_regret(self, horizons: Integers) -> Floats:
        """As `regret`, for the graded cost; NaN where the graded cost is not finite."""
        return self._less_expert(self.graded, self.expert_graded, horizons)

    def exact_regret(self, horizons: Integers) -> Floats | None:
        """As `regret`, for the cost in closed form; None if there is no closed form."""
        if self.expected is None:
            return None
        return self._less_expert(self.expected, self.expert_cost, horizons)

    def _less_expert(self, cost: Floats, expert: Floats | None, horizons: Integers) -> Floats:
        columns = np.searchsorted(self.T, horizons)
        learner_cost = np.asarray(cost, float)[np.ix_(self.usable, columns)]
        if expert is None:
            return learner_cost
        expert_cost = np.asarray(expert, float)[:, columns]
        finite = cast(Booleans, np.isfinite(expert_cost).all(axis=1))
        if not finite.any():
            return learner_cost
        mean = expert_cost[finite].mean(axis=0)
        if len(expert_cost) != len(self.seeds):
            return learner_cost - mean
        return learner_cost - np.where(finite[:, None], expert_cost, mean)[self.usable]


def _rate(events: Floats, steps: Floats) -> float | None:
    total = float(np.sum(steps))
    return float(np.sum(events)) / total if total > 0 else None

"""How regret grows with the horizon: cost curves in; windows, slopes, model fits and verdicts out.

This package uses NumPy and SciPy alone and draws no random number that is not seeded.
"""

from irl_bench.horizon.curves import Curves
from irl_bench.horizon.sentences import sentences
from irl_bench.horizon.verdicts import (
    VERDICTS,
    Verdict,
    analyse,
    growth_figures,
    outgrows_powers,
)

__all__ = [
    "VERDICTS",
    "Curves",
    "Verdict",
    "analyse",
    "growth_figures",
    "outgrows_powers",
    "sentences",
]

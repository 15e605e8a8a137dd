"""How regret grows with the horizon: from cost curves to windows, slopes, model fits and
verdicts. Pure NumPy and SciPy."""

from irl_bench.horizon.curves import Curves
from irl_bench.horizon.sentences import sentences
from irl_bench.horizon.verdicts import VERDICTS, analyse

__all__ = ["VERDICTS", "Curves", "analyse", "sentences"]

"""Names for the array types of this package."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
"""float64 array; shapes stand beside each use."""
Integers: TypeAlias = NDArray[np.int64]
"""int64 array."""
Booleans: TypeAlias = NDArray[np.bool_]
"""bool array."""

"""Arrow and Parquet. pyarrow ships no types, so this module offers it once as `Any`."""

from __future__ import annotations

from typing import Any, TypeAlias, cast

import pyarrow  # pyright: ignore[reportMissingTypeStubs] - the package has none
import pyarrow.compute as arrow_compute  # pyright: ignore[reportMissingTypeStubs]
import pyarrow.parquet as arrow_parquet  # pyright: ignore[reportMissingTypeStubs]

__all__ = ["Table", "pa", "pc", "pq"]

Table: TypeAlias = Any
"""A `pyarrow.Table`."""
pa: Any = cast("Any", pyarrow)
"""The module `pyarrow`."""
pc: Any = cast("Any", arrow_compute)
"""The module `pyarrow.compute`."""
pq: Any = cast("Any", arrow_parquet)
"""The module `pyarrow.parquet`."""

"""The flags of `launch/bench.py`, parsed without the program."""

import pytest
from absl import flags

from irl_bench.cli import bench


def values(*words):
    """The values of the flags after these words."""
    known = flags.FlagValues()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("enum", "list", "integer", "float", "string"):
            usual = getattr(flags, f"DEFINE_{name}")
            patch.setattr(
                flags,
                f"DEFINE_{name}",
                lambda *a, usual=usual, **k: usual(*a, flag_values=known, **k),
            )
        bench.define()
    known(["bench", *words])
    return known

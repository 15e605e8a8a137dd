"""Threefry-2x32, the hash behind JAX's random numbers, written out for CPUs.

JAX gives XLA a loop of five iterations there. XLA compiles every such loop on its own and fuses
nothing with it, and a world's step holds several. Written out, functions compile faster, and the
bits are the same.

    five times: four rounds of   x0 += x1;  x1 = rotate(x1) ^ x0
                then             x0 += k[i + 1];  x1 += k[i + 2] + i + 1        (k modulo three)
                                             Salmon et al. 2011 (doi 10.1145/2063384.2063405), 3.3
"""

from __future__ import annotations

import functools

import jax
import numpy as np

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
"""Bits by which a word is rotated in each round of even and of odd iterations."""
PARITY = 0x1BD11BDA
"""The third word of the key is the parity of the other two and of this constant."""


def hashed(key0: jax.Array, key1: jax.Array, x0: jax.Array, x1: jax.Array) -> list[jax.Array]:
    """Returns the two words of the hash.

    Args:
      key0, key1: the words of the key, uint32[...].
      x0, x1: the words that are hashed, uint32[...]; all four are broadcast.
    """
    keys = (key0, key1, key0 ^ key1 ^ np.uint32(PARITY))
    x0, x1 = x0 + keys[0], x1 + keys[1]
    for i in range(5):
        for bits in ROTATIONS[i % 2]:
            x0 = x0 + x1
            x1 = ((x1 << np.uint32(bits)) | (x1 >> np.uint32(32 - bits))) ^ x0
        x0 = x0 + keys[(i + 1) % 3]
        x1 = x1 + keys[(i + 2) % 3] + np.uint32(i + 1)
    return [x0, x1]


@functools.cache
def write_out() -> bool:
    """Lets every function that is compiled for a CPU from now on use `hashed`.

    Returns:
      Whether this JAX can be told so; if not, it keeps its loop.
    """
    try:
        from jax.extend.random import threefry2x32_p
        from jax.interpreters.mlir import lower_fun, register_lowering

        rule = lower_fun(hashed, multiple_results=True)
        register_lowering(threefry2x32_p, rule, platform="cpu", inline=False)
    except (ImportError, TypeError):  # jax.extend promises no stability
        return False
    return True

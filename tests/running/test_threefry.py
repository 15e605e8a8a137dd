"""The hash behind random numbers, written out."""

import jax
import jax.numpy as jnp
import numpy as np

from irl_bench.running import threefry

STORED = [1157442405, 1638813999, 2779204494]
"""The XOR of all words that JAX 0.10 draws with its loop in `draw` below."""


def rotated(word, bits):
    """A word of 32 bits turned to the left, in Python's integers."""
    return ((word << bits) | (word >> (32 - bits))) & 0xFFFFFFFF


def by_hand(key, words):
    """Threefry-2x32 of 20 rounds in Python's integers, by the paper's definition."""
    keys = [*key, key[0] ^ key[1] ^ 0x1BD11BDA]
    x, y = ((word + k) % 2**32 for word, k in zip(words, key, strict=True))
    for r in range(20):
        x = (x + y) % 2**32
        y = rotated(y, (13, 15, 26, 6, 17, 29, 16, 24)[r % 8]) ^ x
        if r % 4 == 3:
            s = r // 4 + 1
            x, y = (x + keys[s % 3]) % 2**32, (y + keys[(s + 1) % 3] + s) % 2**32
    return x, y


def test_the_hash_is_that_of_the_paper():
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**32, (64, 4), dtype=np.uint32)
    words[0], words[1] = 0, 2**32 - 1
    found = np.stack(threefry.hashed(*map(jnp.asarray, words.T)), axis=1)
    assert found.tolist() == [list(by_hand(row[:2], row[2:])) for row in words.tolist()]
    # The first known answer that comes with the authors' code: everything zero.
    assert found[0].tolist() == [0x6B200159, 0x99BA4EFE]


def test_random_numbers_keep_their_bits_and_their_loop_is_gone():
    def draw(key):
        keys = jax.random.split(key, 3)
        folded = jax.random.fold_in(key, 7)
        return keys, folded, jax.vmap(lambda k: jax.random.bits(k, (2, 7)))(keys)

    assert threefry.write_out()
    lowered = jax.jit(draw).lower(jax.random.PRNGKey(3))
    assert "stablehlo.while" not in lowered.as_text()
    found = lowered.compile()(jax.random.PRNGKey(3))
    assert [int(np.bitwise_xor.reduce(np.ravel(part))) for part in found] == STORED

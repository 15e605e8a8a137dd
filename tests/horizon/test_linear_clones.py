"""Loops of clones that answer a part of the state, on the two plants."""

import numpy as np
import pytest

from envs import plant
from envs.plant import PlantDials
from irl_bench.horizon.linear_clones import chunked_loop, cloned_loop


@pytest.mark.parametrize("length", [1, 2, 5, 32])
@pytest.mark.parametrize("system", tuple(plant.COUPLING))
def test_chunks_lose_a_deviation_on_the_stable_plant_alone(system, length):
    """The map of a chunk against a linear simulation of plan and plant."""
    A, M, K = plant.open_loop(system), plant.closed_loop(system), plant.gain()
    B, seen = plant.INPUT, np.array([1.0, 1.0, 0.0])
    start = np.random.default_rng(6).normal(size=3)
    x, planned = start.copy(), start * seen
    for _ in range(length):
        x, planned = A @ x + (B @ K @ planned), M @ planned
    chunk = chunked_loop(A, B, K, seen, length)
    np.testing.assert_allclose(chunk @ start, x, atol=1e-9)
    radius = np.abs(np.linalg.eigvals(chunk)).max()
    if length == 1:
        np.testing.assert_allclose(chunk, cloned_loop(A, B, K, seen), atol=1e-15)
    if system == "unstable" or length == 1:
        assert radius == pytest.approx(PlantDials.pole**length)
    else:
        assert radius < 1 and abs(chunk[2, 2]) < 0.9 ** (length / 4)

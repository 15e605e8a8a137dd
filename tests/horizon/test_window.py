"""The window of a world, and every reason for having none."""

import numpy as np
import pytest

from irl_bench.horizon.window import find_window, settled_horizons


@pytest.fixture
def cloned(make_curves, grow):
    def make(h=1e-3, **changes):
        return make_curves(grow(lambda T: T**2, h=h), **changes)

    return make


def test_the_upper_end_comes_from_bc_in_the_nominal_mode(cloned, world):
    others = [cloned(h=1e-2, algo="dagger"), cloned(h=1e-2, mode="recoverable")]
    world["w"]["u"] = 2
    window = find_window([*others, cloned(h=1e-3)], world["w"])
    assert (window.low, window.high, window.reason) == (20, 300, None)
    assert window.source == "0.3 / h with h = 0.001 of bc in mode nominal"
    assert window.horizons[0] == 20 and window.horizons[-1] == 300 and len(window.horizons) == 7


def test_the_latency_counts_as_the_recovery_time_does(cloned, world):
    world["w"]["latency"] = 10
    assert find_window([cloned(h=1e-4)], world["w"]).low == 100


def test_an_error_that_cannot_be_undone_leaves_the_latency(cloned, world):
    world["w"] |= {"u": None, "latency": 3}
    assert find_window([cloned(h=1e-4)], world["w"]).low == 30


def test_settled_horizons_begin_with_the_window_and_end_at_T_max():
    grid = settled_horizons(8, 1, 1024)
    assert (grid[0], grid[-1], len(grid)) == (80, 1024, 7)
    assert settled_horizons(None, 3, 1024)[0] == 30
    short = settled_horizons(60, 12, 512)  # the window would begin at 600
    assert (short[0], short[-1]) == (64, 512)
    assert settled_horizons(8, 1, 4).tolist() == [1, 2, 3, 4]


def test_hazard_is_pooled_over_seeds_without_the_failed(cloned, world):
    world["w"]["u"] = 1
    steps = np.full(20, 1e6)
    rates = np.full(20, 1e-3)
    rates[0] = 1.0
    failed = np.arange(20) == 0
    window = find_window([cloned(on_to_off=rates * steps, failed=failed)], world["w"])
    assert window.high == 300


def test_a_small_hazard_leaves_the_longest_horizon(cloned, world):
    window = find_window([cloned(h=1e-6)], world["w"])
    assert window.high == 1024 and window.source.startswith("T_max: h = 1e-06")
    assert find_window([cloned(h=0.0)], world["w"]).high == 1024


@pytest.mark.parametrize("failed", [True, False])
def test_without_bc_the_longest_horizon_is_taken_and_said(cloned, world, failed):
    curves = cloned(failed=np.ones(20, bool)) if failed else cloned(algo="dagger")
    window = find_window([curves], world["w"])
    assert window.high == 1024 and window.source.startswith("T_max: ") and "bc" in window.source


def test_empty_and_narrow_windows_say_why(cloned, world):
    empty = find_window([cloned(h=0.01)], world["w"])
    assert empty.horizons == () and "= 80 <= T <= 30 holds no horizon" in empty.reason
    narrow = find_window([cloned(h=1e-3)], world["w"])
    assert narrow.horizons == () and "spans 3.75x, less than 8x" in narrow.reason


def test_horizons_asked_for_are_held_to_the_window(cloned, world):
    asked = [64, 80, 128, 192, 256, 384, 512, 768, 1024, 2048]
    window = find_window([cloned(h=2e-4)], world["w"], asked)
    assert window.horizons == (80, 128, 192, 256, 384, 512, 768, 1024) and window.dropped == (
        64,
        2048,
    )
    few = find_window([cloned(h=2e-4)], world["w"], [40, 50, 60, 80, 128, 512, 1024])
    assert few.horizons == () and few.reason.startswith(
        "4 horizons, fewer than 7 (3 of those asked for"
    )
    short = find_window([cloned(h=2e-4)], world["w"], [128, 160, 200, 256, 300, 400, 512])
    assert short.horizons == () and "128 to 512 span 4x" in short.reason

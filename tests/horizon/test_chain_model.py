"""The chain's closed forms against recurrences, exact rationals, limits and simulation."""

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from irl_bench.horizon import chain_model
from irl_bench.horizon.slopes import slope


def recurrence(T, h, rho):
    """P(off) of the states 0..T, one step at a time."""
    off = [Fraction(0)]
    for _ in range(T):
        off.append(off[-1] * (1 - Fraction(rho)) + (1 - off[-1]) * Fraction(h))
    return off


@pytest.mark.parametrize(
    "h, rho",
    [
        (0.25, 0.0),
        (1e-9, 0.0),
        (1e-9, 1e-9),
        (0.001, 0.02),
        (0.5, 0.5),
        (0.9, 0.8),
        (0.0, 0.3),
        (0.0, 0.0),
    ],
)
def test_cost_equals_the_recurrence_in_both_conventions(h, rho):
    off = recurrence(60, h, rho)
    for T in (0, 1, 2, 7, 60):
        before, after = float(sum(off[:T])), float(sum(off[1 : T + 1]))
        np.testing.assert_allclose(
            chain_model.cost(T, h, rho, after=False), before, rtol=1e-12, atol=0
        )
        np.testing.assert_allclose(chain_model.cost(T, h, rho), after, rtol=1e-12, atol=0)
        np.testing.assert_allclose(
            chain_model.off_probability(T, h, rho), float(off[T]), rtol=1e-12, atol=0
        )


def test_the_conventions_differ_by_the_last_state():
    T = np.arange(1, 2000)
    gap = chain_model.cost(T, 3e-3, 1e-2) - chain_model.cost(T, 3e-3, 1e-2, after=False)
    np.testing.assert_allclose(gap, chain_model.off_probability(T, 3e-3, 1e-2), rtol=1e-9)


def test_series_and_quotient_meet():
    k = np.array([1 - 1e-12, 1 + 1e-12]) / 1000
    low, high = chain_model.unit_cost(1000, k)
    assert abs(low / high - 1) < 1e-11


def test_local_exponent_limits_and_derivative():
    small = np.array([0.0, 1e-12, 1e-3])
    np.testing.assert_allclose(chain_model.local_exponent(small), 2 - small / 3, atol=1e-7)
    np.testing.assert_allclose(
        chain_model.local_exponent([1e3, 1e5]), [1 + 1 / 999, 1 + 1 / 99999], rtol=1e-12
    )
    x = np.array([0.01, 0.5, 0.999999, 1.000001, 3.0, 20.0])
    k, step = 1e-7, 1e-3  # a k this small is continuous time
    J = chain_model.unit_cost(np.stack([x * np.exp(-step), x * np.exp(step)]) / k, k)
    np.testing.assert_allclose(
        chain_model.local_exponent(x), np.diff(np.log(J), axis=0)[0] / (2 * step), atol=1e-5
    )


def test_an_iid_cliff_saturates_as_a_prototype_saw():
    T = 2.0 ** np.arange(4, 11)
    assert slope(T, chain_model.cost(T, 3e-3, 0.0, after=False)) == pytest.approx(1.84, abs=0.005)
    assert slope(T, chain_model.cost(T, 3e-2, 0.0, after=False)) == pytest.approx(1.37, abs=0.005)


def test_front_loaded():
    T = np.arange(1, 50)
    np.testing.assert_allclose(chain_model.front_loaded_cost(T, 0.1), 0.1 * T)
    np.testing.assert_allclose(chain_model.front_loaded_cost(T, 0.1, after=False), 0.1 * (T - 1))
    explicit = np.cumsum(0.1 * 0.7 ** (T - 1))
    np.testing.assert_allclose(chain_model.front_loaded_cost(T, 0.1, 0.3), explicit, rtol=1e-12)
    # Errors that average eps per step: p = eps T attains the bound eps T².
    assert slope(T, chain_model.front_loaded_cost(T, 1e-3 * T)) == pytest.approx(2.0, abs=1e-12)


@pytest.mark.parametrize("h, rho", [(2.5e-4, 0.0), (2.5e-4, 6e-4), (2e-3, 0.1)])
def test_simulation_agrees_with_the_closed_form(chain, h, rho):
    seeds, T = 40, 512
    run = chain(np.random.default_rng(1), np.full(seeds, h), np.full(seeds, rho), 500, T)
    at = np.array([32, 64, 128, 256, 512])
    cost = run.cost[:, at - 1]
    z = (cost.mean(axis=0) - chain_model.cost(at, h, rho)) / (
        cost.std(axis=0, ddof=1) / np.sqrt(seeds)
    )
    assert np.abs(z).max() < 3
    assert run.on_to_off.sum() / run.on_steps.sum() == pytest.approx(h, rel=0.05)
    assert run.off_to_on.sum() / run.off_steps.sum() == pytest.approx(rho, rel=0.1, abs=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.02])
def test_hazard_over_time_is_that_of_the_chain_and_follows_its_changes(chain, make_curves, rho):
    rng = np.random.default_rng(3)
    curves = make_curves(chain(rng, np.full(8, 1e-3), np.full(8, rho), 4000, 600))
    left, on = curves.hazard_over_time(np.array([0, 100, 300, 600]))
    rate = left.sum(axis=0) / on.sum(axis=0)
    error = np.sqrt(1e-3 / (4000 * on.sum(axis=0)))
    assert (np.abs(rate - 1e-3) < 4 * error).all()
    # A hazard that doubles halfway; half of those who leave come back in the very next step, the
    # others never do, which is no rate of coming back.
    h = np.where(np.arange(1, 401) <= 200, 1e-3, 2e-3)
    gone, off, left = 0.0, [0.0], []
    for rate in h:
        left.append(rate * (1.0 - off[-1]))
        gone, returned = gone + 0.5 * left[-1], 0.5 * left[-1]
        off.append(gone + returned)
    off = np.array(off[1:])
    steps = np.array([1000.0])
    run = SimpleNamespace(
        cost=np.cumsum(off)[None],
        departed=np.cumsum(left)[None],
        on_steps=steps,
        on_to_off=steps * 0,
        off_steps=steps,
        off_to_on=steps * 0,
    )
    left, on = make_curves(run).hazard_over_time(np.array([0, 200, 400]))
    np.testing.assert_allclose(left / on, [[1e-3, 2e-3]], rtol=1e-9)


def test_hazard_over_time_needs_every_step(make_curves):
    run = SimpleNamespace(
        cost=np.ones((1, 5)),
        departed=np.ones((1, 5)),
        on_steps=np.ones(1),
        on_to_off=np.ones(1),
        off_steps=np.ones(1),
        off_to_on=np.ones(1),
    )
    sparse = make_curves(run, T=np.array([1, 2, 3, 4, 9]))
    with pytest.raises(ValueError, match="no cost is stored at every step to 9"):
        sparse.hazard_over_time(np.array([0, 9]))


def test_the_page_on_regimes_shows_this_chains_slopes():
    page = Path(__file__).parents[2].joinpath("docs", "regimes.md").read_text()
    table = page.split("| h | ρ = 0 |")[1].split("\n\n")[0].splitlines()
    rates = [0.0, *(float(Fraction(cell)) for cell in table[0].split("|") if "/" in cell)]
    grid = np.unique(np.geomspace(128, 1024, 12).round().astype(int))
    for row in table[2:]:
        h, *shown = (float(cell) for cell in row.split("|")[1:-1])
        slopes = [slope(grid, chain_model.cost(grid, h, rho)) for rho in rates]
        np.testing.assert_allclose(shown, slopes, atol=0.0051)

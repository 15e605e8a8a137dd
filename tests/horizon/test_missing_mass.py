"""The missing mass against draws and its limit, and the cost of tables that are trained anew."""

import numpy as np
import pytest
from scipy import special

from envs import chain
from envs.chain import RECOVER, SITUATIONS, TAILS, ChainDials
from irl_bench.horizon.missing_mass import missing_mass, retrained_cost, retrained_slope

NEW = tuple(name for name in TAILS if name != "zipf")
LONG = np.unique(np.round(np.geomspace(64, 4096, 13)).astype(int))


def test_missing_mass_matches_draws():
    draws = np.random.default_rng(0).choice(SITUATIONS, size=(200, 20000), p=chain.PROBABILITY)
    absent = np.array([np.bincount(row, minlength=SITUATIONS) == 0 for row in draws])
    mass, number = missing_mass(chain.PROBABILITY, 20000)
    for sample, expected in ((absent @ chain.PROBABILITY, mass), (absent.sum(1), number)):
        assert abs(sample.mean() - expected) < 3 * sample.std() / np.sqrt(200)


def test_the_missing_mass_has_the_numbers_it_always_had():
    for labels, (mass, number) in {
        1: ("0x1.45ec159ce100bp-6", "0x1.f800000000000p+5"),
        100: ("0x1.318932c7e7ffdp-7", "0x1.f04647180dc93p+5"),
        12800: ("0x1.6e04ca9d65456p-10", "0x1.795fe68a6ba9cp+4"),
    }.items():
        # To the last bits, which a CPU's own powers may change.
        expected = float.fromhex(mass), float.fromhex(number)
        np.testing.assert_allclose(missing_mass(chain.PROBABILITY, labels), expected, rtol=1e-14)


@pytest.mark.parametrize("demos", [8, 16, 64])
@pytest.mark.parametrize("tail", NEW)
def test_missing_mass_follows_the_power_law(tail, demos):
    exponent = -1.0 if tail == "geometric" else -1.0 + 1.0 / float(tail)
    mass = [missing_mass(TAILS[tail].probability, demos * int(T))[0] for T in LONG]
    assert np.polyfit(np.log(LONG), np.log(mass), 1)[0] == pytest.approx(exponent, abs=0.03)


def test_missing_mass_of_the_infinite_law():
    """Karlin: M(N) = Gamma(1 - 1/s) / (s zeta(s)^(1/s)) N^(-1 + 1/s) for the law without its cut,
    of which a share RARE of the labels tells."""
    for s in (1.5, 2.0, 3.0):
        N = 65536
        rare = N * chain.RARE
        level = special.gamma(1 - 1 / s) / (s * special.zeta(s) ** (1 / s))
        expected = chain.RARE * level * rare ** (-1 + 1 / s)
        assert missing_mass(TAILS[f"{s:g}"].probability, N)[0] == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("tail", "exponent"), [("1.5", 5 / 3), ("2", 1.5), ("3", 4 / 3), ("geometric", 1.0)]
)
def test_retrained_slopes(tail, exponent):
    law = TAILS[tail]
    for demos in (8, 16, 64):
        slope = retrained_slope(law.probability, LONG, demos, hazard=1e-4)
        assert slope == pytest.approx(exponent, abs=0.02)
    shorter = LONG[LONG <= 2048]
    usual = retrained_slope(law.probability, shorter, 16, law.hazard)
    assert usual == pytest.approx(exponent, abs=0.03)
    # The hazard keeps h T below 0.3 at T = 2048.
    indexed = retrained_slope(law.probability, shorter, 16, hazard=0.015, time_indexed=True)
    assert indexed == pytest.approx(2.0, abs=0.03)
    # The law has room at the default hazard.
    J = retrained_cost(law.probability, np.array([64, 2048]), 16, law.hazard)
    assert J[0] > 0.5 and J[1] < 0.15 * 2048


def test_retrained_cost_is_the_mean_over_drawn_tables():
    """Tables from drawn labels, each with its own exact rate, against the expected missing mass."""
    tail, T, demos, hazard = TAILS["2"], 64, 4, 0.1
    rng, costs = np.random.default_rng(1), []
    for _ in range(400):
        seen = rng.choice(tail.situations, demos * T, p=tail.probability)
        actions = np.append(tail.correct, 0)
        actions[~np.isin(np.arange(tail.situations + 1), [*seen, tail.situations])] = RECOVER
        h, rho = chain.exact_rates(actions, ChainDials(hazard=hazard, recovery=0.0), "2")
        costs.append(chain.closed_form(h, rho, np.array([T]))[0])
    expected = retrained_cost(tail.probability, np.array([T]), demos, hazard)[0]
    assert abs(np.mean(costs) - expected) < 3 * np.std(costs) / np.sqrt(len(costs))
    indexed = retrained_cost(tail.probability, np.array([[T]]), demos, hazard, time_indexed=True)
    assert indexed.shape == (1, 1) and indexed[0, 0] > expected

"""Every row of the verdict table, the order of the rows, and figures that are finite and
reproducible."""

import json
import math

import numpy as np
import pytest

from irl_bench.horizon import VERDICTS, analyse, chain_model
from irl_bench.horizon.verdicts import verdict_of


@pytest.fixture
def verdict(make_curves, grow, world):
    """The verdict on curves that grow like `shape`, alone in their world."""

    def make(shape=lambda T: T**2, horizons="auto", **changes):
        settings = {
            key: changes.pop(key)
            for key in ("seeds", "h", "rho", "spread", "level")
            if key in changes
        }
        changes.setdefault("algo", "learner")
        return analyse([make_curves(grow(shape, **settings), **changes)], world, horizons)[0]

    return make


def linear(T):
    return T


def test_no_window(verdict, world):
    world["w"]["u"] = 1000
    figures = verdict()
    assert figures["verdict"] == "NO-WINDOW" and figures["reason"] == figures["window"]["reason"]
    assert figures["slope"] is None and figures["horizons"] == [] and figures["level"] > 0


def test_no_window_if_regret_is_seen_at_some_horizons_alone(verdict):
    figures = verdict(lambda T: np.maximum(T - 100, 0.0))
    assert figures["verdict"] == "NO-WINDOW" and figures["slope"] is None
    assert "no regret is seen at T = 80, but" in figures["reason"]
    assert "failed steps are at T = 1024" in figures["reason"]


def test_no_window_for_who_fails_less_than_its_demonstrator_at_long_horizons_alone(verdict):
    figures = verdict(lambda T: 500.0 - T)
    assert figures["verdict"] == "NO-WINDOW" and figures["slope"] is None
    first, last = figures["regret"][0], figures["regret"][-1]
    assert last < 0 < first
    assert figures["reason"] == (
        f"regret changes its sign: {first:.3g} failed steps more than the demonstrator at T = 80, "
        f"but {last:.3g} at T = 1024"
    )


def test_no_regret_if_there_is_none_at_any_horizon(verdict):
    figures = verdict(lambda T: 0.0 * T)
    assert figures["verdict"] == "NO-REGRET" and "every horizon" in figures["reason"]


@pytest.mark.parametrize(("factor", "expected"), [(1e-6, "INCONCLUSIVE"), (1.0, "LINEAR")])
def test_an_exponent_of_hardly_any_regret_is_none(factor, expected, verdict):
    figures = verdict(lambda T: factor * T)
    assert figures["verdict"] == expected
    assert ("too little regret" in figures["reason"]) == (expected == "INCONCLUSIVE")
    assert figures["regret"][-1] < 0.1 or expected == "LINEAR"


def test_no_regret_if_better_than_the_expert(verdict):
    expert = np.tile(2e-4 * np.arange(1, 1025) ** 2.2, (3, 1))
    assert verdict(expert_cost=expert)["verdict"] == "NO-REGRET"


def test_undercovered_is_for_interactive_learners(verdict, grow):
    back = np.full(20, 10.0)
    back[3] = 0
    figures = verdict(off_to_on=back, interactive=True)
    assert figures["verdict"] == "UNDERCOVERED" and figures["unrecovered_seeds"] == 1
    assert verdict(off_to_on=back)["verdict"] == "QUADRATIC"
    # A few steps off, the last of an episode, are no evidence.
    off = np.full(20, 1e5)
    off[3] = 79
    assert verdict(off_to_on=back, off_steps=off, interactive=True)["verdict"] == "QUADRATIC"


def test_never_coming_back_is_no_lack_of_coverage_where_the_expert_cannot(verdict, world):
    world["w"] |= {"u": None, "latency": 8}
    assert verdict(off_to_on=np.zeros(20), interactive=True)["verdict"] == "QUADRATIC"


def test_saturated_comes_before_linear(verdict):
    assert verdict(linear, h=0.1, rho=0.01)["verdict"] == "SATURATED"
    # The same slope, with everybody back at once, is not.
    assert verdict(linear, h=0.1, rho=0.2)["verdict"] == "LINEAR"


def test_super_poly(verdict):
    figures = verdict(lambda T: np.expm1(0.006 * T))
    assert (
        figures["verdict"] == "SUPER-POLY"
        and figures["best_model"] == "exponential"
        and figures["slope_rise_ci"][0] > 0
    )


def test_quadratic(verdict):
    figures = verdict()
    assert (
        figures["verdict"] == "QUADRATIC"
        and figures["slope"] == pytest.approx(2, abs=0.02)
        and figures["mechanism"] is None
    )
    np.testing.assert_allclose(figures["local_slopes"], 2, atol=0.02)


MECHANISMS = [
    (1e-3, 0.2, "recovering"),
    (1e-3, 0.1, "rare"),
    (1e-4, 1e-3, "rare"),
    (1e-5, 0.0, "rare"),
]


@pytest.mark.parametrize("h, rho, mechanism", MECHANISMS)
def test_linear_and_its_mechanism(verdict, h, rho, mechanism):
    figures = verdict(linear, h=h, rho=rho)
    assert (figures["verdict"], figures["mechanism"]) == ("LINEAR", mechanism)


def test_recoverable_crossover_and_inconclusive(verdict):
    def between(T):
        return T**1.4

    assert verdict(between, h=1e-3, rho=0.2)["verdict"] == "RECOVERABLE"
    assert verdict(between, h=1e-3, rho=0.05)["verdict"] == "CROSSOVER"
    assert verdict(between, h=1e-4, rho=0.001)["verdict"] == "INCONCLUSIVE"
    little = verdict(lambda T: 1e-5 * between(T), h=1e-3, rho=0.05)
    assert little["verdict"] == "INCONCLUSIVE" and "would read CROSSOVER" in little["reason"]


def test_a_wide_interval_passes_nothing(make_curves, grow, world):
    run = grow(lambda T: T**2)
    exponents = np.linspace(1.0, 3.0, 20)[:, None]
    run.cost = 1e-6 * (np.arange(1, 1025) / 1024.0) ** exponents
    assert analyse([make_curves(run, "learner")], world)[0]["verdict"] not in (
        "QUADRATIC",
        "LINEAR",
    )


@pytest.mark.parametrize("shape, name", [(lambda T: T**2, "QUADRATIC"), (linear, "LINEAR")])
def test_fewer_than_ten_usable_seeds_never_pass(verdict, shape, name):
    failed = np.arange(12) < 3
    figures = verdict(shape, seeds=12, rho=0.2, failed=failed)
    assert (
        figures["verdict"] == "INCONCLUSIVE"
        and "fewer than 10 seeds (9)" in figures["reason"]
        and name in figures["reason"]
    )
    assert (figures["seeds"], figures["usable_seeds"], figures["failed_seeds"]) == (12, 9, 3)
    assert verdict(shape, seeds=12, rho=0.2, failed=np.arange(12) < 2)["verdict"] == name


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_or_two_seeds(verdict, seeds):
    figures = verdict(seeds=seeds)
    assert figures["verdict"] == "INCONCLUSIVE" and figures["slope"] == pytest.approx(2, abs=0.1)


def test_failed_seeds_are_left_out_but_counted(make_curves, grow, world):
    run = grow(lambda T: T**2)
    run.cost[4] = np.nan
    run.on_steps[7] = np.nan
    figures = analyse([make_curves(run, failed=np.arange(20) == 9)], world)[0]
    assert (figures["seeds"], figures["usable_seeds"], figures["failed_seeds"]) == (20, 17, 3)
    keep = np.delete(np.arange(20), [4, 7, 9])
    assert figures["regret"][0] == pytest.approx(
        run.cost[keep, figures["horizons"][0] - 1].mean(), rel=1e-8
    )
    assert figures["verdict"] == "QUADRATIC"


def test_nothing_usable(verdict):
    figures = verdict(failed=np.ones(20, bool))
    assert (
        figures["verdict"] == "INCONCLUSIVE"
        and figures["reason"] == "no usable seed"
        and figures["hazard"] is None
    )


def test_a_negative_mean_without_certainty_has_no_slope(make_curves, grow, world):
    run = grow(linear)
    run.cost = run.cost - 2e-2 * (np.arange(1, 1025) < 100) * np.linspace(-10, 12, 20)[:, None]
    figures = analyse([make_curves(run, "learner")], world)[0]
    assert (
        figures["verdict"] == "INCONCLUSIVE"
        and figures["slope"] is None
        and "T = 80 is negative" in figures["reason"]
    )
    assert figures["models"] == {}


def test_mixed_seeds(verdict):
    def mixed(absorbed):
        return verdict(off_to_on=np.where(np.arange(20) < absorbed, 10.0, 1e4))

    assert (mixed(4)["absorbed_seeds"], mixed(4)["recovering_seeds"], mixed(4)["mixed"]) == (
        4,
        16,
        True,
    )
    assert not mixed(3)["mixed"] and not mixed(0)["mixed"]


def test_regret_subtracts_the_expert_seed_by_seed_or_in_the_mean(make_curves, grow, world):
    run = grow(lambda T: T**2)
    expert = 2e-3 * np.arange(1, 1025) * np.arange(20)[:, None]
    T = np.array([100, 1024])
    paired = make_curves(run, expert_cost=expert).regret(T)
    np.testing.assert_allclose(paired, run.cost[:, T - 1] - expert[:, T - 1])
    unpaired = make_curves(run, expert_cost=expert[:5]).regret(T)
    np.testing.assert_allclose(unpaired, run.cost[:, T - 1] - expert[:5, T - 1].mean(axis=0))
    expert[2] = np.nan
    holed = make_curves(run, expert_cost=expert).regret(T)
    np.testing.assert_allclose(holed[2], run.cost[2, T - 1] - np.nanmean(expert[:, T - 1], axis=0))
    assert not make_curves(run, "expert", expert_cost=None).regret(T).any()


def test_error_rates_and_their_ratio(verdict):
    figures = verdict()
    assert (figures["eps_expert"], figures["eps_own"]) == (0.02, 0.05)
    assert figures["eps_ratio"] == pytest.approx(2.5) and figures["exc_acc_err"] == pytest.approx(
        150
    )
    assert figures["eps_expert_by_tau"] == {"0.05": 0.03, "0.1": 0.02, "0.2": 0.01}
    for rate in (0.2, 0.0, np.nan):
        figures = verdict(eps_expert=np.full((20, 3), rate))
        assert figures["eps_ratio"] is None and figures["exc_acc_err"] is None


def test_rates_levels_and_the_chains_prediction(make_curves, grow, world):
    curves = [make_curves(grow(linear, level=1.0), "untrained"), make_curves(grow(lambda T: T**2))]
    untrained, bc = analyse(curves, world)
    assert bc["hazard"] == pytest.approx(2.5e-4) and bc["recovery"] == pytest.approx(1e-5)
    assert bc["stationary"] == pytest.approx(2.5e-4 / 2.6e-4)
    assert bc["level_horizon"] == 1024 and bc["level"] == pytest.approx(
        bc["regret"][-1] / 1024, rel=1e-6
    )
    assert bc["untrained_level"] == untrained["level"] == pytest.approx(1.0, rel=0.05)
    T = np.array(bc["horizons"])
    exact = np.polyfit(np.log(T), np.log(chain_model.cost(T, 2.5e-4, 1e-5)), 1)[0]
    assert bc["chain_slope"] == pytest.approx(exact, rel=1e-7)
    assert untrained["reference"] and not bc["reference"]


def test_one_window_serves_every_learner_and_mode(make_curves, grow, world):
    world["w"]["u"] = 2
    curves = [
        make_curves(grow(lambda T: T**2, h=1e-3)),
        make_curves(grow(linear, h=1e-2, rho=0.3), "dagger"),
        make_curves(grow(linear, h=1e-4, rho=0.3), mode="recoverable"),
    ]
    figures = analyse(curves, world)
    assert {tuple(entry["horizons"]) for entry in figures} == {tuple(figures[0]["horizons"])}
    assert figures[0]["horizons"][-1] == 300 and [entry["algo"] for entry in figures] == [
        "bc",
        "dagger",
        "bc",
    ]


def test_departures(verdict):
    figures = verdict(departures=np.arange(5.0, 25.0))
    assert (figures["departures_min"], figures["sparse_departure_seeds"]) == (5, 5)
    assert verdict()["departures_min"] is None


def finite(value):
    if isinstance(value, dict):
        return all(finite(item) for item in value.values())
    if isinstance(value, list):
        return all(finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def test_output_is_finite_json_and_the_same_twice(chain, make_curves, world):
    rng = np.random.default_rng(1)
    seeds = np.ones(20)
    curves = [
        make_curves(chain(rng, 2.5e-4 * seeds, 0 * seeds, 64, 1024)),
        make_curves(
            chain(rng, 1e-3 * seeds, 0.1 * seeds, 64, 1024),
            "dagger",
            interactive=True,
            graded=np.full((20, 1024), np.nan),
        ),
        make_curves(chain(rng, 0 * seeds, 0 * seeds, 64, 1024), "expert"),
        make_curves(chain(rng, seeds, 0 * seeds, 64, 1024), "untrained", failed=seeds > 0),
    ]
    texts = [json.dumps(analyse(curves, world), allow_nan=False) for _ in range(2)]
    assert texts[0] == texts[1]
    assert finite(json.loads(texts[0]))
    assert {entry["verdict"] for entry in json.loads(texts[0])} <= set(VERDICTS)


def test_bad_input_is_refused(make_curves, grow, world):
    curves = make_curves(grow(linear))
    for horizons in ([64, 64], [128, 64], [0, 64], [1.5, 2], "all"):
        with pytest.raises(ValueError, match="horizons"):
            analyse([curves], world, horizons)
    with pytest.raises(ValueError, match="no description of world w"):
        analyse([curves], {})
    with pytest.raises(
        ValueError, match=r"bc in w/nominal: on_steps has shape \(3,\), not \(20,\)"
    ):
        make_curves(grow(linear), on_steps=np.ones(3))
    with pytest.raises(ValueError, match="horizons must increase"):
        make_curves(grow(linear), T=np.zeros(1024, int))


def test_the_first_row_that_applies_decides():
    """A figure set to which every row but NO-WINDOW applies, stripped of the first one time
    after time."""
    figures = {
        "window": {"reason": None},
        "usable_seeds": 20,
        "horizons": [80],
        "regret": [0.0],
        "regret_ci": [[0.0, 0.0]],
        "interactive": True,
        "unrecovered_seeds": 1,
        "hazard_T_max": 1.0,
        "stationary": 0.9,
        "recovery_T_min": 20.0,
        "slope": 2.0,
        "ci_low": 1.9,
        "ci_high": 2.1,
        "best_model": "exponential",
        "slope_rise": 1.0,
        "slope_rise_ci": [0.5, 1.5],
        "upper_slope": 3.0,
        "upper_slope_ci": [2.5, 3.5],
    }
    changes = [
        {},
        {"regret": [1.0], "regret_ci": [[0.5, 1.5]]},
        {"unrecovered_seeds": 0},
        {"stationary": 0.1},
        {"best_model": "quadratic"},
        {"slope": 1.0, "ci_low": 0.9, "ci_high": 1.1},
        {"ci_high": 1.2},
        {"recovery_T_min": 5.0},
        {"recovery_T_min": 0.5},
    ]
    reached = []
    for change in changes:
        figures |= change
        reached.append(verdict_of(figures)[0])
    assert tuple(reached) == VERDICTS[1:]

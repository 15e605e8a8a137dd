"""Correlations over seeds, of which some have none."""

import dataclasses

import numpy as np

from irl_bench.studies import extrapolation, iqm, qualities
from irl_bench.studies.measures import spread
from tests.studies.test_studies import report

SEEDS = 8


def test_a_seed_without_a_correlation_is_left_out():
    values = np.random.default_rng(0).uniform(0.2, 0.9, 12)
    holes = values.copy()
    holes[[2, 7]] = np.nan
    assert extrapolation.correlated(values) == iqm.interval(values)
    assert extrapolation.correlated(holes) == iqm.interval(np.delete(values, [2, 7]))
    assert np.isnan(extrapolation.correlated(np.full(5, np.nan))).all()


def test_seeds_without_a_correlation_are_counted(monkeypatch):
    """The rollouts of two seeds are all worse than the best rollout, and the reward of a third says
    nothing."""
    monkeypatch.setattr(
        qualities, "shown", lambda env, quality, *_: (8.0, 5.0 if quality == "50" else 8.0)
    )
    rng = np.random.default_rng(0)
    true = np.tile(np.linspace(0, 8, 60), (SEEDS, 1))
    true[:2] /= 2
    learned = true + rng.normal(0, 0.3, true.shape)
    learned[2] = 1.0
    known = {
        "judged_true": (np.arange(60), true),
        "judged_learned": (np.arange(60), learned),
    }
    monkeypatch.setattr(extrapolation.training, "metric", lambda data, curve, name: known.get(name))
    common = {"expert": [0.5] * SEEDS, "untrained": [0.9] * SEEDS}
    learnt = report(trex=0.5 + np.linspace(-0.01, 0.01, SEEDS), **common)
    data = dict.fromkeys(("w/learn", "w/learn_flag_seen", "w/learn_shuffled"), learnt)
    data["w/trex-75"] = report(judged=[0.0] * SEEDS, **common)
    read = extrapolation.read(data)
    (hidden, seen, control) = next(iter(read["tables"].values()))
    assert control["algorithm"] == "trex (random ranking)"
    pairs = zip(true, learned, strict=True)
    above = np.array([extrapolation.ranking(*pair, 5.0) for pair in pairs])
    assert np.isnan(above[:3]).all() and not np.isnan(above[3:]).any()
    column = extrapolation.ABOVE
    assert hidden[column] == spread(iqm.interval(above[3:])) and "[" in hidden[column]
    assert hidden["lowest seed"] == above[3:].min() and hidden["seeds without"] == "3 / 1"
    assert seen[column] == spread((np.nan,) * 3) and seen["seeds without"] not in ("0 / 0", "3 / 1")
    stored = [(p["place"], p["algo"], "true" in p, len(p["returns"])) for p in read["points"]]
    assert stored == [
        ("learn", "trex", True, SEEDS),
        ("learn_flag_seen", "trex", False, SEEDS),
        ("learn_shuffled", "trex", False, SEEDS),
    ]
    assert len(extrapolation.draw(read).axes) == 1  # what is not judged has no panel
    assert any("rows `(flag seen)` have no Spearman" in line for line in read["text"])
    assert iqm.TEXT in " ".join(read["text"])


def test_a_wrong_order_of_two_drivers_may_be_the_right_one_of_each(monkeypatch):
    """The reward ranks the rollouts of each driver rightly and prefers the worse driver's."""
    monkeypatch.setattr(qualities, "shown", lambda *_: (4.0, 5.0))
    true = {"75": np.linspace(5.5, 6.5, 20), "100": np.linspace(7.0, 8.0, 20)}

    def metric(data, curve, name):
        if not name.startswith("judged_"):
            return None
        own = true[data.plan["driver"]]
        values = own if name == "judged_true" else own - 5.0 * (data.plan["driver"] == "100")
        return np.arange(20), np.tile(values, (SEEDS, 1))

    monkeypatch.setattr(extrapolation.training, "metric", metric)
    common = {"expert": [0.5] * SEEDS, "untrained": [0.9] * SEEDS}
    part = lambda driver, **levels: dataclasses.replace(
        one := report(**levels, **common), plan={**one.plan, "driver": driver}
    )
    data = {"w/learn": part("50", trex=[0.5] * SEEDS)}
    data |= {f"w/trex-{driver}": part(driver, judged=[0.0] * SEEDS) for driver in true}
    ((row,),) = extrapolation.read(data)["tables"].values()
    for driver in true:
        assert row[f"of the driver of {driver} %"] == spread((1.0, 1.0, 1.0))
    assert row[extrapolation.ABOVE].startswith("-0.") and row["such rollouts"] == 40

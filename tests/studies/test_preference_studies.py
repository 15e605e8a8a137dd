"""The studies of preferences: their rules on constructed cells, their parts, and fits of known
curves."""

import dataclasses
import pathlib

import numpy as np
import pytest

from irl_bench.algos import rlhf
from irl_bench.cli import sweep
from irl_bench.plan import build
from irl_bench.studies import decomposition, extrapolation, overoptimization, qualities, seed_table
from irl_bench.studies.demo_efficiency import spread
from tests.studies.test_studies import report


def parsed(line):
    command = sweep.parse(["sweep.py", *line.split()])
    assert command.study
    return command, command.study.parts(
        command.request, command.demos, pathlib.Path(command.request.out)
    )


# The seed table.


@pytest.mark.parametrize(
    ("verdict", "fallen", "p", "expected"),
    [
        ("LINEAR", None, None, "Yes"),
        ("NO-REGRET", [0.0, -0.1, 0.1], 0.5, "Yes"),
        ("QUADRATIC", [0.4, 0.2, 0.6], 0.01, "Yes"),
        ("QUADRATIC", [0.4, 0.2, 0.6], 0.03, "No"),  # not after Holm's correction
        ("QUADRATIC", [0.4, -0.1, 0.9], 0.01, "No"),
        ("QUADRATIC", [0.2, 0.1, 0.3], 0.01, "No"),  # an interval above 0, but less than 30 %
        ("SATURATED", None, None, "No"),
        ("INCONCLUSIVE", [0.31, 0.01, 0.6], 0.01, "Yes"),
        ("INCONCLUSIVE", [0.2, 0.1, 0.3], 0.01, "Undetermined"),
        ("NO-WINDOW", None, None, "Undetermined"),
    ],
)
def test_rule_on_exposure_bias(verdict, fallen, p, expected):
    assert seed_table.corrects(verdict, fallen, p) == expected


@pytest.mark.parametrize(
    ("gain", "p", "expected"),
    [
        ([0.1, 0.05, 0.15], 0.01, "Yes"),
        (
            [0.1, 0.05, 0.15],
            0.03,
            "Undetermined",
        ),  # not after Holm's correction: one side of a 95 % interval is 2.5 %
        ([-0.1, -0.2, 0.02], 1.0, "No"),
        ([0.0, -0.1, 0.1], 0.5, "Undetermined"),
    ],
)
def test_rule_on_the_data(gain, p, expected):
    assert seed_table.outperforms(gain, p) == expected


def test_holm_is_the_definition():
    p = [0.01, 0.04, 0.03, 0.005]
    np.testing.assert_allclose(seed_table.holm(p), [0.03, 0.06, 0.06, 0.02])
    assert seed_table.holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_fall_is_paired_by_seed():
    bc = np.exp(np.random.default_rng(0).normal(size=10))
    estimate, low, high = qualities.fall(0.25 * bc, bc)
    assert (
        estimate == pytest.approx(0.75)
        and low == pytest.approx(0.75)
        and high == pytest.approx(0.75)
    )
    assert qualities.fall(bc, -bc) is None and qualities.fall(bc[:0], bc[:0]) is None
    assert qualities.fall(-bc, bc)[0] == pytest.approx(2.0)  # less failures than the demonstrator
    # A clone as bad as its demonstrator has nothing to correct, whatever the sign of its mean.
    assert qualities.fall(np.zeros(4) - 100, np.array([-1.0, 1.1, -0.9, 1.2])) is None


def test_parts_hold_every_quality_and_control():
    command, parts = parsed("--experiment=seed_table --rlhf.labels=500 --out=runs/x")
    named = {part.name: part.request for part in parts}
    assert {name.split("/")[1] for name in named} == set(
        qualities.QUALITIES
    ) and command.request.seeds == 20
    assert named["lane_keep/100/compared"].settings["lane_keep"] == {"demonstrator": "expert"}
    half = named["lane_keep/50/compared"]
    assert half.settings == {"lane_keep": {"demonstrator": "50"}, "rlhf": {"labels": 500}}
    assert half.algo == seed_table.COMPARED
    # A control is its treatment with another reward, and nothing else.
    for control, algo in (("constant_reward", "rlhf"), ("true_reward", "rlhf"),
                          ("constant_reward_gail", "gail")):  # fmt: skip
        request = named[f"lane_keep/50/{control}"]
        changed = {**half.settings.get(algo, {}), "control": control.removesuffix("_gail")}
        assert request.algo == (algo,) and request.settings[algo] == changed
    seen = named["lane_keep/50/flag_seen"]
    assert seen.algo == seed_table.LEARN_REWARDS
    assert all(seen.settings[algo]["mask_failure"] is False for algo in seen.algo)
    assert seen.settings["rlhf"]["labels"] == 500
    assert named["lane_keep/50/shuffled_labels"].settings["rlhf"] == {
        "labels": 500,
        "shuffled": True,
    }
    assert named["lane_keep/50/more_demos"].demos == 96 + -(-500 * 25 // 512) and named[
        "lane_keep/50/more_demos"
    ].algo == ("bc",)
    assert len(parsed("--experiment=seed_table --budget=smoke")[1]) == 2
    _, parts = parsed("--experiment=seed_table --env=hopper")
    assert {part.name.split("/")[1] for part in parts} == {"50", "100"}
    assert not any("flag_seen" in part.name for part in parts)  # a robot's world marks no failure
    assert qualities.qualities_of("hopper", "full") == ("25", "50", "75", "100")
    assert qualities.qualities_of("walker2d", "full") == ("100",)  # no lesser one ships
    _, parts = parsed("--experiment=seed_table --env=hopper --budget=full")
    assert {part.name.split("/")[1] for part in parts} == {"25", "50", "75", "100"}
    _, parts = parsed("--experiment=seed_table --lane_keep.demonstrator=75")
    assert {part.name.split("/")[1] for part in parts} == {"75"} and len(parts) == 8


def test_the_table_reads_levels_against_the_demonstrator(monkeypatch):
    monkeypatch.setattr(
        qualities,
        "shown",
        lambda env, quality, steps, _: (8.0, 8 * (0.8 if quality == "50" else 1.0)),
    )
    jitter = np.linspace(-0.01, 0.01, 6)
    common = {"untrained": [0.9] * 6}
    found = {
        "w/50/flag_seen": report(expert=[0.3] * 6, rlhf=0.2 + jitter, **common),
        "w/50/compared": report(
            expert=[0.3] * 6,
            bc=0.5 + jitter,
            gail=0.31 + jitter,
            dagger=0.32 - jitter,
            rlhf=0.1 + jitter,
            **common,
        ),
        "w/100/compared": report(
            expert=[0.0] * 6, bc=0.2 + jitter, rlhf=0.01 + jitter / 10, **common
        ),
    }
    read = seed_table.read(found)
    points = {(p["quality"], p["algo"]): p for p in read["points"] if p["place"] == "compared"}
    (row,) = (
        row
        for row in read["tables"]["w: Yes, No or Undetermined"]
        if (row["quality"], row["algorithm"]) == ("50 %", "rlhf")
    )
    assert row["score, flag hidden"].startswith("0.889 ["), row
    assert row["flag seen"].startswith("0.778 [") and row["lost seeds"] == "0 / 0"
    assert any(
        line.startswith("w, demonstrator of 50 %: rlhf outperforms its data: Yes. It is +0.111")
        for line in read["text"]
    )
    falls = {
        (row["quality"], row["algorithm"]): row["T = 8"]
        for row in read["tables"]["w: fall of regret against BC by horizon"]
    }
    assert ("50 %", "bc") not in falls and falls["50 %", "rlhf"] == "80 %"
    half = points["50", "rlhf"]
    assert half["unit"] == pytest.approx(8 * 0.9) and half["demonstrator"] == pytest.approx(8 * 0.7)
    assert half["over_best"][0] == pytest.approx(0.1 / 0.9) and half["outperforms"] == "Yes"
    assert (
        points["100", "rlhf"]["outperforms"] == "No" and points["50", "bc"]["outperforms"] == "No"
    )
    assert half["fall"][0] == pytest.approx(0.8) and half["corrects"] == "Yes"
    assert points["50", "gail"]["fall"][0] == pytest.approx(1 - 0.31 / 0.5)
    (row,) = (
        row
        for row in seed_table.decomposition(
            [half, points["50", "bc"], points["50", "gail"], points["50", "dagger"]]
        )
    )
    assert row["gain over BC"].startswith(spread([0.4 / 0.9, None, None])[:4])
    assert row["share repaired"].startswith("0.475 [")  # 0.19 / 0.4
    noisy = dict(
        half, returns=[x + 9 * (-1) ** i for i, x in enumerate(points["50", "bc"]["returns"])]
    )
    assert (
        decomposition.split(noisy, {p["algo"]: p for p in points.values() if p["quality"] == "50"})[
            "share repaired"
        ]
        == "–"
    )
    assert any(
        "RLHF outperforms its data: claimed Yes; measured Yes in 1, No in 1 of 2" in line
        for line in read["text"]
    )
    twice = [
        dict(half, algo=algo, returns=[x + gain for x in half["returns"]])
        for algo, gain in (("rlhf", 0), ("rlhf_iterated", 0.72))
    ]
    assert (
        seed_table.again(twice)[0]["iterated less one-shot"].startswith("0.1 [")
        and seed_table.again(twice[:1]) == []
    )
    assert {axis.get_title() for axis in seed_table.draw(read).axes} == {
        "w, demonstrator of 50 %", "w, demonstrator of 100 %"
    }  # fmt: skip


# The decomposition.


def test_the_decomposition_sets_rlhf_beside_what_repairs_exposure_bias(monkeypatch):
    monkeypatch.setattr(qualities, "shown", lambda env, quality, steps, _: (8.0, 8 * 0.8))
    jitter = np.linspace(-0.01, 0.01, 6)
    levels = {"expert": [0.3] * 6, "untrained": [0.9] * 6}
    found = {
        "w/50/others": report(bc=0.5 + jitter, gail=0.4 + jitter, dagger=0.35 - jitter, **levels),
        "w/50/30": report(rlhf=0.45 + jitter, **levels),
        "w/50/1000": report(rlhf=0.1 + jitter, **levels),
    }
    for name in ("30", "1000"):
        (curve,) = (c for c in found[f"w/50/{name}"].curves if c.algo == "rlhf")
        object.__setattr__(curve, "labels", int(name))
    read = decomposition.read(found)
    (rows,) = read["tables"].values()
    assert [row["share repaired"].split(" ")[0] for row in rows] == [
        "3",
        "0.375",
    ]  # 0.15 / 0.05 and 0.15 / 0.4
    assert rows[1]["gain over BC"].startswith("0.444") and rows[1][
        "above the mean demonstrator"
    ].startswith("0.222")
    assert len(decomposition.draw(read).axes) == 2
    _, parts = parsed("--experiment=decomposition")
    assert len(parts) == 2 * 6 and parts[1].request.settings["rlhf"] == {"labels": 10}
    _, parts = parsed("--experiment=decomposition --lane_keep.demonstrator=25")
    assert {part.name.split("/")[1] for part in parts} == {"25"}


# Over-optimisation.


@pytest.mark.parametrize("form", ["d (a - b log d)", "d (a - b d)"])
def test_the_form_that_made_a_curve_wins(form):
    d = np.linspace(0.05, 3.0, 30)
    gain = d * (2.0 - 0.7 * (np.log(d) if "log" in form else d))
    found = overoptimization.fits(d, gain + np.random.default_rng(0).normal(0, 0.01, 30))
    assert found[form]["a"] == pytest.approx(2.0, abs=0.05) and found[form]["b"] == pytest.approx(
        0.7, abs=0.05
    )
    assert found[form]["r2"] > 0.99 and min(found, key=lambda name: found[name]["aic"]) == form
    assert overoptimization.fits(d[:3], gain[:3]) == {}


def gains(curve, noise, seeds=10):
    """Returns gold gains [S, R] of seeds that share a curve, with noise in every round but the
    first."""
    drawn = np.random.default_rng(0).normal(0, noise, (seeds, len(curve)))
    drawn[:, 0] = 0.0
    return np.asarray(curve) + drawn


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        (np.linspace(0, 1, 40), "no"),
        (
            np.concatenate([np.linspace(0, 1, 20), np.full(20, 1.0)]),
            "no",
        ),  # its highest round is noise
        (np.zeros(40), "no"),
        (np.concatenate([np.linspace(0, 1, 20), np.linspace(1, 0.5, 20)]), "yes"),
        (np.linspace(0, -1, 40), "yes"),  # it never rose
    ],
)
def test_gold_that_falls_is_told_from_noise(curve, expected):
    gold = gains(curve, 0.2)
    assert (
        overoptimization.over_optimised(
            overoptimization.peaks(gold), gold[:, -1], np.linspace(0.9, 1, 10)
        )
        == expected
    )
    assert (
        overoptimization.over_optimised(overoptimization.peaks(gold), gold[:, -1], -np.ones(10))
        == "no"
    )


def test_gains_are_over_the_last_round_in_which_the_policy_was_held(monkeypatch):
    """Earlier rounds do not count: the worlds have just started, so the clone looks too good."""
    drawn = {
        "true_return": [9.0, 5.0, 3.0, 4.0, 6.0, 8.0], "proxy": [1.0, 1.0, 1.0, 2.0, 3.0, 4.0],
        "reference_kl": [0.0, 1e-12, 0.0, 0.25, 1.0, 4.0],
    }  # fmt: skip
    monkeypatch.setattr(overoptimization, "SMOOTH", 1)
    monkeypatch.setattr(
        overoptimization.training,
        "metric",
        lambda data, curve, name: (np.arange(6), np.tile(drawn[name], (2, 1))),
    )
    found = overoptimization.curves_of(report(rlhf=[0.1, 0.1]), "rlhf")
    np.testing.assert_allclose(found["gold"], [[0, 1, 3, 5]] * 2)
    np.testing.assert_allclose(found["proxy"], [[0, 1, 2, 3]] * 2)
    np.testing.assert_allclose(found["d"], [[0, 0.5, 1, 2]] * 2)


def test_smoothing_leaves_rounds_to_compare():
    values = np.arange(8.0).reshape(2, 4)
    np.testing.assert_allclose(overoptimization.smooth(values), [[0.5, 1.5, 2.5], [4.5, 5.5, 6.5]])
    assert overoptimization.smooth(np.ones((2, 30))).shape == (2, 30 - overoptimization.SMOOTH + 1)
    assert overoptimization.smooth(np.ones((2, 1))).shape == (2, 1)


def test_a_small_fall_is_none():
    gold = gains(np.concatenate([np.linspace(0, 1, 20), np.linspace(1, 0.95, 20)]), 1e-3)
    assert (
        overoptimization.over_optimised(
            overoptimization.peaks(gold), gold[:, -1], np.linspace(0.9, 1, 10)
        )
        == "no"
    )


def test_parts_of_the_label_studies():
    _, parts = parsed("--experiment=overoptimization --out=runs/over")
    of = {part.name.removeprefix("lane_keep/"): part for part in parts}
    assert len(of) == 2 * 8 + 5 and all(
        part.request.settings["rlhf"]["reference_kl"] == 0.0
        for part in parts
        if part.name.endswith("/rlhf")
    )
    assert of["300/4/best_of_n"].request.settings["best_of_n"] == {
        "labels": 300,
        "reward_hidden": (4,),
    }
    frozen = of["pressure/frozen"]
    assert (
        frozen.after == "lane_keep/pressure/source"
        and frozen.request.given == "runs/over/lane_keep/pressure/source"
    )
    assert (
        frozen.request.settings["ppo"]["reward"] == "learned"
        and frozen.request.settings["ppo"]["learning_rate"] == 1e-3
    )
    assert of["pressure/iterated"].request.settings["rlhf_iterated"] == {
        **overoptimization.PRESSED,
        "keep": "last",
    }
    pressures = [
        part.request.settings[algo]
        for part in parts
        for algo in part.request.algo
        if "best_of_n" not in part.name
    ]
    assert all(
        one["linger"] == 1_000_000 for one in pressures if one
    )  # a fall counts whole, whatever the world's settings
    pressed = of["pressure/adversarial"].request.settings["airl"]
    assert all(pressed[name] == getattr(rlhf.Config(), name) for name in overoptimization.ALIKE)
    _, parts = parsed("--experiment=overoptimization --budget=smoke")
    one, _, again = parts
    assert (one.name, again.name) == ("lane_keep/50/64x64/rlhf", "lane_keep/pressure/one_shot")
    assert [cell.static_key() for cell in build.build(one.request).cells] == [
        cell.static_key() for cell in build.build(again.request).cells
    ]
    _, parts = parsed("--experiment=label_efficiency")
    assert len(parts) == 4 * 8
    settings = {part.name: part.request.settings["rlhf_iterated"] for part in parts}
    assert settings["lane_keep/500/mistake-uniform"] == {
        "labels": 500,
        "teacher": "mistake",
        "queries": "uniform",
    }


# Beyond the data.


def test_a_ranking_is_of_what_is_better_than_the_data():
    true = np.arange(30.0)
    learned = np.where(true > 14, true, -true)  # right above 14, the other way round below
    assert extrapolation.ranking(true, learned, 14.0) == pytest.approx(1.0)
    assert extrapolation.ranking(true, learned, -np.inf) < 0.9
    assert np.isnan(extrapolation.ranking(true, learned, 20.5))  # nine are no ranking
    assert np.isnan(
        extrapolation.ranking(true, np.ones(30), 10.0)
    )  # nor is a reward that says nothing


def test_extrapolation_sets_policy_and_reward_beside_the_best_demonstration(monkeypatch):
    monkeypatch.setattr(
        qualities,
        "shown",
        lambda env, quality, steps, _: (8.0, 8 * (0.6 if quality == "50" else 1.0)),
    )
    true = np.tile(np.linspace(0, 8, 40), (6, 1))

    def metric(
        data, curve, name
    ):  # rollouts of even places from one demonstrator, those of odd places from the other
        own = true[:, data.plan["place"] :: 2]
        return np.arange(20), own if name == "judged_true" or not data.plan["wrong"] else -own

    monkeypatch.setattr(extrapolation.training, "metric", metric)
    jitter = np.linspace(-0.01, 0.01, 6)
    part = lambda wrong, place=0, **levels: dataclasses.replace(
        one := report(**levels), plan={**one.plan, "wrong": wrong, "place": place}
    )
    common = {"expert": [0.5] * 6, "untrained": [0.9] * 6}
    found = {
        "w/learn": part(False, bc=0.5 + jitter, trex=0.2 + jitter, drex=0.5 - jitter, **common)
    }
    for place, quality in enumerate(extrapolation.BETTER):
        found[f"w/trex-{quality}"] = part(False, place, judged=[0.0] * 6, **common)
        found[f"w/drex-{quality}"] = part(True, place, judged=[0.0] * 6, **common)
    read = extrapolation.read(found)
    (rows,) = read["tables"].values()
    of = {row["algorithm"]: row for row in rows}
    assert list(of) == ["bc", "trex", "drex"]
    assert of["trex"]["above it, in scores"].startswith("0.222")  # (0.8 - 0.6) / 0.9
    assert of["drex"]["above it, in scores"].startswith("-0.111")
    assert of["trex"]["lowest seed"] == pytest.approx(1.0) and of["drex"][
        "lowest seed"
    ] == pytest.approx(-1.0)
    assert of["trex"]["such rollouts"] == (true[0] > 4.8).sum() and of["bc"]["such rollouts"] == 0
    assert len(extrapolation.draw(read).axes) == 2


def test_parts_of_extrapolation():
    _, parts = parsed("--experiment=extrapolation --env=lane_keep,hopper --out=runs/x")
    of = {part.name: part for part in parts}
    assert list(of)[:2] == ["lane_keep/learn", "lane_keep/learn_flag_seen"]
    seen = of["lane_keep/learn_flag_seen"].request
    assert seen.settings["drex"] == {"mask_failure": False} and seen.algo == ("trex", "drex")
    assert list(of)[6:] == [
        "hopper/learn",
        *(f"hopper/{algo}-{better}" for algo in ("trex", "drex") for better in ("75", "100")),
    ]
    assert of["hopper/learn"].request.settings == {"hopper": {"demonstrator": "50"}}
    better = of["lane_keep/drex-100"]
    assert (
        better.after == "lane_keep/learn" and better.request.given == "runs/x/lane_keep/learn:drex"
    )
    assert better.request.settings["lane_keep"] == {
        "demonstrator": "expert"
    } and better.request.algo == ("judged",)
    assert of["hopper/trex-75"].request.settings["hopper"] == {"demonstrator": "75"}
    _, few = parsed("--experiment=extrapolation --budget=smoke")
    assert [part.name for part in few] == [
        "lane_keep/learn",
        "lane_keep/learn_flag_seen",
        "lane_keep/drex-100",
    ]

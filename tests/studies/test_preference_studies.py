"""The studies of preferences: their rules on constructed cells, their parts, and fits of known
curves."""

import dataclasses
import pathlib

import numpy as np
import pytest
from scipy import stats

from irl_bench.cli import sweep
from irl_bench.core.settings import BadInput
from irl_bench.studies import (
    claims,
    decomposition,
    extrapolation,
    iqm,
    label_efficiency,
    qualities,
    seed_table,
)
from irl_bench.studies.measures import spread
from tests.studies.test_studies import report


def parsed(line):
    command = sweep.parse(["sweep.py", *line.split()])
    assert command.study
    return command, command.study.parts(
        command.request, command.demos, pathlib.Path(command.request.out)
    )


# The seed table.


@pytest.mark.parametrize(
    ("verdict", "fallen", "p", "over_clone", "expected"),
    [
        ("QUADRATIC", None, None, None, "No"),  # BC itself
        ("INCONCLUSIVE", None, None, None, "Undetermined"),
        ("QUADRATIC", [0.4, 0.2, 0.6], 0.01, [0.3, 0.1, 0.5], "Yes"),
        ("QUADRATIC", [0.4, 0.2, 0.6], 0.01, [0.1, -0.1, 0.3], "Undetermined"),  # the clone's gain
        ("QUADRATIC", [0.4, 0.2, 0.6], 0.01, [float("nan")] * 3, "Undetermined"),  # all of it
        ("QUADRATIC", [0.4, 0.2, 0.6], 0.03, None, "Undetermined"),  # not after Holm's correction
        ("QUADRATIC", [0.4, -0.1, 0.9], 0.01, None, "Undetermined"),
        ("QUADRATIC", [0.1, 0.0, 0.2], 0.01, None, "No"),  # surely less than 30 %
        ("QUADRATIC", [-0.5, -0.9, -0.1], 1.0, None, "No"),
        ("LINEAR", [0.2, 0.1, 0.4], 0.01, None, "Undetermined"),  # a verdict is no effect
        ("LINEAR", [0.4, 0.2, 0.6], 0.5, None, "Undetermined"),
        ("LINEAR", [-0.5, -0.9, -0.1], 1.0, None, "No"),
        ("RECOVERABLE", [0.4, 0.2, 0.6], 0.01, [0.2, 0.1, 0.3], "Yes"),
    ],
)
def test_rule_on_exposure_bias(verdict, fallen, p, over_clone, expected):
    assert claims.corrects(verdict, fallen, p, over_clone) == expected


@pytest.mark.parametrize(
    ("below", "verdict", "expected"),
    [
        ([-0.07, -0.09, -0.05], "QUADRATIC", "Yes"),
        ([-0.07, -0.09, -0.05], "INCONCLUSIVE", "Yes"),
        ([-0.07, -0.09, -0.05], "LINEAR", claims.NOTHING),  # regret that does not compound
        ([-0.0017, -0.003, -0.001], "INCONCLUSIVE", claims.NOTHING),  # as good as its data
        ([-0.07, -0.2, 0.01], "QUADRATIC", "Undetermined"),
        ([-0.01, -0.03, -0.001], "QUADRATIC", "Undetermined"),
        ([float("nan")] * 3, "QUADRATIC", "Undetermined"),
    ],
)
def test_a_clone_without_exposure_bias_leaves_nothing_to_correct(below, verdict, expected):
    assert claims.exposure_bias({"over_mean": below, "verdict": verdict}) == expected


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
    assert claims.outperforms(gain, p) == expected


def test_holm_is_the_definition():
    p = [0.01, 0.04, 0.03, 0.005]
    np.testing.assert_allclose(claims.holm(p), [0.03, 0.06, 0.06, 0.02])
    assert claims.holm([0.9, 0.8]) == [1.0, 1.0]


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


def test_the_p_value_of_a_fall_is_that_of_its_interval():
    """The interval of 95 % reaches 0 where the one-sided p-value is 0.025."""
    rng = np.random.default_rng(1)
    bc = np.exp(rng.normal(size=12))
    fallen = qualities.fall(bc * rng.uniform(0.4, 1.1, 12), bc)
    shifted = [x - fallen[1] for x in fallen]
    assert qualities.no_fall(shifted, 12) == pytest.approx(0.025)
    assert qualities.no_fall([0.5, 0.5, 0.5], 12) == 0.0
    assert qualities.no_fall([0.0, 0.0, 0.0], 12) == 1.0
    assert qualities.no_fall([-0.2, -0.5, 0.1], 12) > 0.5


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
    # A control is its treatment with another reward or other answers, and nothing else.
    for control, (algo, change) in seed_table.CONTROLS.items():
        treatment = seed_table.TREATMENTS.get(control, "compared")
        for quality in ("50", "100"):
            ours, theirs = (
                named[f"lane_keep/{quality}/{control}"],
                named[f"lane_keep/{quality}/{treatment}"],
            )
            assert ours.algo == (algo,)
            assert ours.settings[algo] == {**theirs.settings.get(algo, {}), **change}
            assert ours.demos == theirs.demos and ours.seeds == theirs.seeds
    assert "lane_keep/25/true_reward" not in named
    last = named["lane_keep/50/last_policy_constant_reward"].settings["rlhf"]
    assert last == {"labels": 500, "keep": "last", "control": "constant_reward"}
    seen = named["lane_keep/50/flag_seen"]
    assert seen.algo == ("gail", "gailfo", "airl", "rlhf", "rlhf_iterated")
    assert all(seen.settings[algo]["mask_failure"] is False for algo in seen.algo)
    assert seen.settings["rlhf"]["labels"] == 500
    assert named["lane_keep/50/more_demos"].demos == 96 + -(-500 * 25 // 512) and named[
        "lane_keep/50/more_demos"
    ].algo == ("bc", "clone")
    (part,) = parsed("--experiment=seed_table --budget=smoke")[1]
    assert part.name == "lane_keep/50/compared"
    _, parts = parsed("--experiment=seed_table --env=hopper")
    assert {part.name.split("/")[1] for part in parts} == {"50", "100"}
    assert not any("flag_seen" in part.name for part in parts)  # a robot's world marks no failure
    assert qualities.qualities_of("hopper", "full") == ("25", "50", "75", "100")
    assert qualities.qualities_of("walker2d", "full") == ("100",)  # no lesser one ships
    _, parts = parsed("--experiment=seed_table --env=hopper --budget=full")
    assert {part.name.split("/")[1] for part in parts} == {"25", "50", "75", "100"}
    _, parts = parsed("--experiment=seed_table --lane_keep.demonstrator=75")
    assert {part.name.split("/")[1] for part in parts} == {"75"}
    assert len(parts) == 2 + len(seed_table.CONTROLS) + 1


def test_the_bar_is_what_is_shown_where_that_is_better(monkeypatch):
    """Demonstrations of half a rollout, in which the demonstrator never fails."""
    totals = {4: (3.0, 4.0), 8: (4.0, 5.0)}
    monkeypatch.setattr(qualities, "shown", lambda env, quality, steps, _: totals[steps])
    same = lambda level: [level] * 6
    data = report(expert=same(0.5), bc=same(0.5), untrained=same(0.9))
    data.plan["worlds"]["w"]["demo_steps"] = 4
    read = seed_table.read({"w/50/compared": data})
    (point,) = read["points"]
    assert point["kept_up"] == [6.0, 8.0] and point["demo_steps"] == 4
    (line,) = (line for line in read["text"] if "Kept up" in line)
    score = lambda total: f"{(total - point['random']) / point['unit']:.2f}"
    assert line == (
        "w, demonstrator of 50 %: its demonstrations are the first 4 steps. Kept up to T_max, they "
        f"would score {score(6.0)} in the mean and {score(8.0)} in the best of 64 rollouts; the "
        f"best rollout scores {score(5.0)}. A learner has to be above {score(8.0)}."
    )
    assert (point["best"], point["best_rollout"]) == (8.0, 5.0)
    returns = np.array(point["returns"])
    assert point["over_best"][0] == pytest.approx(np.mean(returns - 8.0) / point["unit"])
    (said,) = (line for line in read["text"] if "bc outperforms its data" in line)
    assert "what the best of its demonstrator's first steps would score if they were kept" in said
    assert any("the best is that of their steps kept up." in line for line in read["text"])
    earlier = {k: v for k, v in point.items() if k != "best_rollout"} | {"algo": "gail"}
    of_old = seed_table.join([earlier])["text"]
    assert any("Measured before 30 November 2026" in line for line in of_old)
    with pytest.raises(BadInput, match=r"--stored: its bar is .* measures it again$"):
        seed_table.join([point, earlier])


def test_the_table_reads_levels_against_the_demonstrator(monkeypatch):
    monkeypatch.setattr(
        qualities,
        "shown",
        lambda env, quality, steps, _: (8.0, 8 * (0.8 if quality == "50" else 1.0)),
    )
    jitter = np.linspace(-0.01, 0.01, 10)
    common = {"untrained": [0.9] * 10}
    found = {
        "w/50/flag_seen": report(expert=[0.3] * 10, rlhf=0.2 + jitter, **common),
        "w/50/compared": report(
            expert=[0.3] * 10,
            bc=0.5 + jitter,
            gail=0.31 + jitter,
            dagger=0.32 - jitter,
            rlhf=0.1 + jitter,
            **common,
        ),
        "w/100/compared": report(
            expert=[0.0] * 10, bc=0.2 + jitter, rlhf=0.01 + jitter / 10, **common
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
        line.startswith(
            "w, demonstrator of 50 %: rlhf outperforms its data: Yes. Its score is 0.111 ["
        )
        for line in read["text"]
    )
    falls = {
        (row["quality"], row["algorithm"]): row["T = 8"]
        for row in read["tables"]["w: fall of regret against BC by horizon"]
    }
    assert ("50 %", "bc") not in falls and falls["50 %", "rlhf"].startswith("80 % [")
    half = points["50", "rlhf"]
    assert half["unit"] == pytest.approx(8 * 0.9) and half["demonstrator"] == pytest.approx(8 * 0.7)
    assert half["over_best"][0] == pytest.approx(0.1 / 0.9) and half["outperforms"] == "Yes"
    assert (
        points["100", "rlhf"]["outperforms"] == "No" and points["50", "bc"]["outperforms"] == "No"
    )
    assert half["fall"][0] == pytest.approx(0.8) and half["corrects"] == "Yes"
    assert points["50", "gail"]["fall"][0] == pytest.approx(1 - 0.31 / 0.5)
    fewer = claims.answer([{**point, "seeds": 9} for point in points.values()])
    answers = {(p["quality"], p["outperforms"], p["corrects"]) for p in fewer}
    assert answers == {(quality, *2 * ("Undetermined",)) for quality in ("50", "100")}
    assert all(
        "10 seeds are needed for an answer, and it has 9." in s for s in claims.sentences(fewer)
    )
    (row,) = (
        row
        for row in seed_table.decomposition(
            [half, points["50", "bc"], points["50", "gail"], points["50", "dagger"]]
        )
    )
    assert row["gain over BC"].startswith(spread([0.4 / 0.9, None, None])[:4])
    assert row["GAIL's share"].startswith("0.475 [")  # 0.19 / 0.4
    assert row["DAgger's share"].startswith("0.4") and row["over the clone"] == "–"
    noisy = dict(
        half, returns=[x + 9 * (-1) ** i for i, x in enumerate(points["50", "bc"]["returns"])]
    )
    assert (
        decomposition.split(noisy, {p["algo"]: p for p in points.values() if p["quality"] == "50"})[
            "GAIL's share"
        ]
        == "–"
    )
    assert any(
        "rlhf (RLHF) outperforms its data: claimed Yes; measured Yes at 50 %; No at 100 %." in line
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
    shuffled = [dict(half), dict(half, place="shuffled_labels")]
    shuffled[1]["returns"] = [x - 1.44 for x in half["returns"]]
    (row,) = seed_table.controlled(shuffled)
    assert row["control"] == "rlhf (shuffled labels)"
    assert row["learner less control"].startswith("0.2 [")


def test_nobody_can_outperform_an_expert_that_earns_everything(monkeypatch):
    monkeypatch.setattr(qualities, "shown", lambda *_: (8.0, 8.0))
    monkeypatch.setattr(claims, "FAULTLESS", ("w",))
    jitter = np.linspace(-0.01, 0.01, 6)
    seeds = {"expert": [0.0] * 6, "untrained": [0.9] * 6, "bc": 0.2 + jitter, "rlhf": 0.1 + jitter}
    read = seed_table.read({"w/100/compared": report(**seeds)})
    cells = [p for p in read["points"] if p["place"] == "compared"]
    assert {p["outperforms"] for p in cells} == {claims.IMPOSSIBLE}
    assert not any("p_holm" in p for p in cells)  # a test that nobody can pass takes no power
    assert any("rlhf outperforms its data: Impossible." in line for line in read["text"])


# The decomposition.


def test_the_decomposition_sets_rlhf_beside_what_repairs_exposure_bias(monkeypatch):
    monkeypatch.setattr(qualities, "shown", lambda env, quality, steps, _: (8.0, 8 * 0.8))
    jitter = np.linspace(-0.01, 0.01, 6)
    levels = {"expert": [0.3] * 6, "untrained": [0.9] * 6}
    found = {
        "w/50/others": report(
            bc=0.5 + jitter, clone=0.48 + jitter, gail=0.4 + jitter, dagger=0.35 - jitter, **levels
        ),
        "w/50/30": report(rlhf=0.45 + jitter, **levels),
        "w/50/1000": report(rlhf=0.1 + jitter, **levels),
    }
    for name in ("30", "1000"):
        (curve,) = (c for c in found[f"w/50/{name}"].curves if c.algo == "rlhf")
        object.__setattr__(curve, "labels", int(name))
    found["w/50/1000_flag_seen"] = report(rlhf=0.01 + jitter, **levels)
    found["w/50/others_flag_seen"] = report(gail=[0.2] * 5 + [0.9], **levels)
    read = decomposition.read(found)
    gains, scores = read["tables"].values()
    few, many = gains
    # 0.15 / 0.05 and 0.15 / 0.4: the flag that GAIL saw does not count.
    assert few["DAgger's share"].startswith("3 [") and many["DAgger's share"].startswith("0.375 [")
    assert few["GAIL's share"].startswith("2 [")
    assert many["gain over BC"].startswith("0.444")
    assert many["over the clone"].startswith("0.422")
    assert many["above the mean demonstrator"].startswith("0.222")
    assert many["score, flag hidden"].startswith("0.889 [") and few["flag seen"] == "–"
    assert many["flag seen"].startswith("0.989 [")
    of = {(row["algorithm"], row["labels"]): row for row in scores}
    assert list(of) == [
        ("bc", 0), ("clone", 0), ("gail", 0), ("dagger", 0), ("rlhf", 30), ("rlhf", 1000)
    ]  # fmt: skip
    gail = of["gail", 0]
    assert gail["score, flag hidden"].startswith("0.556 [")  # (0.9 - 0.4) / 0.9
    assert (
        gail["flag seen"].startswith("0.778 [") and gail["lost seeds"] == "0 / 1"
    )  # below half of the demonstrator's 0.7 / 0.9
    assert gail["worst seed"] == pytest.approx(0.49 / 0.9) and of["bc", 0]["flag seen"] == "–"
    assert len(decomposition.draw(read).axes) == 1
    command, parts = parsed("--experiment=decomposition --gail.rounds=30")
    named = {part.name: part.request for part in parts}
    assert command.request.seeds == 20 and len(parts) == 2 * 2 * 6
    assert named["lane_keep/50/10"].settings["rlhf"] == {"labels": 10}
    assert named["lane_keep/50/10_flag_seen"].settings["rlhf"] == {
        "labels": 10,
        "mask_failure": False,
    }
    seen = named["lane_keep/50/others_flag_seen"]
    assert seen.algo == ("gail",) and named["lane_keep/50/others"].algo == decomposition.OTHERS
    assert seen.settings["gail"] == {"rounds": 30, "mask_failure": False}
    assert named["lane_keep/50/others"].settings["gail"] == {"rounds": 30}
    _, parts = parsed("--experiment=decomposition --lane_keep.demonstrator=25")
    assert {part.name.split("/")[1] for part in parts} == {"25"}
    _, parts = parsed("--experiment=decomposition --env=hopper")
    assert not any("flag_seen" in part.name for part in parts)  # a robot marks no failure


# Efficiency of labels.


def labelled(rlhf_iterated):
    return report(expert=[0.0] * 20, untrained=[0.9] * 20, rlhf_iterated=rlhf_iterated)


def test_label_efficiency_compares_queries_and_teachers_with_the_base_seed_by_seed(
    constructed_worlds,
):
    constructed_worlds["w"] = 0.0  # so that scores are 1 - cost
    rng = np.random.default_rng(0)
    base, noise = rng.uniform(0.0, 0.4, 20), rng.normal(0, 0.01, 20)
    found = {
        "w/50/oracle-uniform": labelled(base),
        "w/50/oracle-disagreement": labelled(base - 0.1 + noise),
        "w/50/oracle-entropy": labelled(base + noise),
        "w/50/mistake-uniform": labelled(base + 0.2 + noise),
        "w/50/oracle-uniform-flag_seen": labelled(np.r_[np.zeros(19), 0.9]),
        "w/150/oracle-uniform": labelled(base),
        "w/150/oracle-disagreement": labelled(base + rng.normal(0, 0.2, 20)),
    }
    # A lost cell leaves the other seeds paired with their own.
    (curve,) = (c for c in found["w/50/oracle-entropy"].curves if c.algo == "rlhf_iterated")
    curve.failed[3] = True
    read = label_efficiency.read(found)
    scores, queries, teachers = read["tables"].values()
    assert [(row["labels"], row["queries"]) for row in queries] == [
        (50, "disagreement"), (50, "entropy"), (150, "disagreement")
    ]  # fmt: skip
    good, same, unclear = queries
    middle = stats.trim_mean(0.1 - noise, 0.25)
    assert good["less uniform"].startswith(f"{middle:.3g} [") and good["answer"] == "better"
    power = stats.nct.sf(
        stats.t.ppf(1 - 0.025 / 3, 19), 19, good["detectable"] * np.sqrt(20) / noise.std(ddof=1)
    )
    assert power == pytest.approx(0.8, abs=1e-6)
    assert same["answer"] == "no difference above 0.05" and same["seeds"] == 19
    assert same["detectable"] < 0.02  # the seeds' own differences, not their scores, count
    assert unclear["answer"] == "no power" and unclear["detectable"] > 0.05
    # Holm over three comparisons: the smallest p-value counts three times.
    assert good["p (Holm)"] == pytest.approx(3 * 2 / iqm.RESAMPLES)
    (teacher,) = teachers
    assert teacher["teacher"] == "mistake" and teacher["answer"] == "worse"
    assert [row["flag seen"].split(" ")[0] for row in scores] == ["1", "–", "–", "–", "–", "–"]
    first = scores[0]
    assert first["score, flag hidden"].startswith(f"{stats.trim_mean(1 - base, 0.25):.3g} [")
    assert first["lost seeds"] == "0 / 1"
    assert first["worst seed"] == pytest.approx(1 - base.max())
    assert any("uniformly random actions" in line for line in read["text"])
    figure = label_efficiency.draw(read)
    dots = [line for line in figure.axes[0].lines if line.get_markersize() == 2]
    assert sum(len(line.get_ydata()) for line in dots) == 6 * 20 - 1


def test_parts_of_label_efficiency_hide_and_show_the_flag():
    command, parts = parsed("--experiment=label_efficiency")
    assert command.request.seeds == 20
    assert len(parts) == 4 * (8 + 1)
    settings = {part.name: part.request.settings["rlhf_iterated"] for part in parts}
    assert settings["lane_keep/500/mistake-uniform"] == {
        "labels": 500,
        "teacher": "mistake",
        "queries": "uniform",
    }
    seen = [name for name, values in settings.items() if values.get("mask_failure") is False]
    assert seen == [
        f"lane_keep/{n}/oracle-uniform-flag_seen" for n in label_efficiency.LABELS["default"]
    ]
    assert settings[seen[0]] == {
        **settings["lane_keep/50/oracle-uniform"],
        "mask_failure": False,
    }
    _, parts = parsed("--experiment=label_efficiency --env=hopper")
    assert len(parts) == 4 * 8  # a robot marks no failure


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
    assert of["trex"]["above the bar, in scores"].startswith("0.222")  # (0.8 - 0.6) / 0.9
    assert of["drex"]["above the bar, in scores"].startswith("-0.111")
    assert of["trex"]["lowest seed"] == pytest.approx(1.0) and of["drex"][
        "lowest seed"
    ] == pytest.approx(-1.0)
    assert of["trex"]["such rollouts"] == (true[0] > 4.8).sum() and of["bc"]["such rollouts"] == 0
    assert len(extrapolation.draw(read).axes) == 2


def test_parts_of_extrapolation():
    _, parts = parsed("--experiment=extrapolation --env=lane_keep,hopper --out=runs/x")
    of = {part.name: part for part in parts}
    assert list(of)[:3] == [
        f"lane_keep/{place}" for place in ("learn", "learn_flag_seen", "learn_shuffled")
    ]
    control = of["lane_keep/learn_shuffled"].request
    assert control.settings["trex"] == {"shuffled": True} and control.algo == ("trex", "drex")
    seen = of["lane_keep/learn_flag_seen"].request
    assert seen.settings["drex"] == {"mask_failure": False} and seen.algo == ("trex", "drex")
    assert list(of)[7:] == [
        "hopper/learn",
        "hopper/learn_shuffled",
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
    assert [part.name for part in few] == ["lane_keep/learn", "lane_keep/drex-100"]

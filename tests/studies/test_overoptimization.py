"""Over-optimisation: the fits of known curves, falls that are known and falls that are none, the
rule and its parts."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from irl_bench.algos import best_of_n
from irl_bench.plan import build, registry
from irl_bench.report.data import plain
from irl_bench.rl import ppo
from irl_bench.storage.files import StoreError
from irl_bench.studies import iqm, overoptimization
from irl_bench.studies.significance import holm, is_small
from tests.studies.test_preference_studies import parsed
from tests.studies.test_studies import report

SEEDS = 20
UP = np.linspace(0.9, 1.0, SEEDS)


@pytest.mark.parametrize("form", overoptimization.FORMS)
def test_the_form_that_made_a_curve_fits_it_better(form):
    d = np.linspace(0.05, 3.0, 30)
    gain = d * (2.0 - 0.7 * (np.log(d) if "log" in form else d))
    found = overoptimization.fits(d, gain + np.random.default_rng(0).normal(0, 0.01, 30))
    assert found[form]["a"] == pytest.approx(2.0, abs=0.05)
    assert found[form]["b"] == pytest.approx(0.7, abs=0.05)
    assert found[form]["r2"] > 0.99 and set(found[form]) == {"a", "b", "r2"}
    assert max(found, key=lambda name: found[name]["r2"]) == form
    assert overoptimization.fits(d[:3], gain[:3]) == {}
    held = np.concatenate([np.full(5, 1e-4), d[:3]])  # rounding is no distance
    assert overoptimization.fits(held, np.zeros(8)) == {}


def gains(curve, noise, rng=None):
    """Returns gold gains [S, R] of seeds that share a curve, with noise in every round but the
    first."""
    drawn = (rng or np.random.default_rng(0)).normal(0, noise, (SEEDS, len(curve)))
    drawn[:, 0] = 0.0
    return np.asarray(curve) + drawn


def answer(gold, proxy=UP, rows=1):
    """The answer for one row of a table of as many rows."""
    peak = overoptimization.peaks(gold)
    fall = peak - gold[:, -1]
    p = min(1.0, rows * overoptimization.fall_p(fall))
    return overoptimization.over_optimised(peak, fall, proxy, p)


UP_AND_DOWN = np.concatenate([np.linspace(0, 1, 20), np.linspace(1, 0.5, 20)])


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        (np.linspace(0, 1, 40), "no"),
        (np.concatenate([np.linspace(0, 1, 20), np.full(20, 1.0)]), "no"),  # its peak is noise
        (np.zeros(40), "no"),
        (UP_AND_DOWN, "yes"),
        (np.linspace(0, -1, 40), "yes"),  # it never rose
    ],
)
def test_gold_that_falls_is_told_from_noise(curve, expected):
    gold = gains(curve, 0.2)
    assert answer(gold, rows=20) == expected
    assert answer(gold, -UP) == "no"  # nothing was maximised


def test_each_condition_of_the_rule_counts():
    gold = gains(UP_AND_DOWN, 0.05)
    peak = overoptimization.peaks(gold)
    fall = peak - gold[:, -1]
    assert fall.mean() == pytest.approx(0.5, abs=0.1)
    assert overoptimization.over_optimised(peak, fall, UP, 0.024) == "yes"
    assert overoptimization.over_optimised(peak, fall, UP, 0.026) == "undetermined"
    assert overoptimization.over_optimised(peak, fall, UP, None) == "undetermined"
    assert overoptimization.over_optimised(20 * peak, fall, UP, 0.0) == "no"  # less than a tenth
    mixed = np.where(np.arange(SEEDS) % 2, 1.0, -1.0)
    assert overoptimization.over_optimised(peak, fall, mixed, 0.0) == "undetermined"
    assert overoptimization.over_optimised(peak, mixed, UP, 0.0) == "undetermined"
    few = slice(iqm.LEAST - 1)
    assert overoptimization.over_optimised(peak[few], fall[few], UP[few], 0.0) == "undetermined"
    assert overoptimization.fallen_seeds(peak, fall) == SEEDS
    assert overoptimization.fallen_seeds(20 * peak, fall) == 0
    assert overoptimization.fallen_seeds(-peak, fall - 0.5) == np.sum(fall > 0.5)


def test_one_seed_that_falls_is_no_fall_of_all():
    gold = gains(np.concatenate([np.linspace(0, 1, 20), np.linspace(1, 0.97, 20)]), 1e-3)
    gold[3, 25:] = -20.0
    assert answer(gold) == "no"
    peak = overoptimization.peaks(gold)
    assert overoptimization.fallen_seeds(peak, peak - gold[:, -1]) == 1


@pytest.mark.parametrize("walks", [False, True])
def test_curves_without_a_fall_are_rarely_said_to_fall(walks, monkeypatch):
    """The rate of a one-sided test at 0.025; a seed's own maximum would reject nearly always."""
    monkeypatch.setattr(iqm, "RESAMPLES", 500)
    iqm._rows.cache_clear()
    rng = np.random.default_rng(1)
    said = []
    for _ in range(600):
        gold = gains(np.zeros(60), 1.0, rng)
        said.append(answer(gold.cumsum(1) if walks else gold) == "yes")
    iqm._rows.cache_clear()
    assert np.mean(said) < 0.03
    own = gold.max(1) - gold[:, -1]
    assert overoptimization.fall_p(own) < 1e-6


@pytest.mark.parametrize("walks", [False, True])
def test_a_table_without_a_fall_rarely_says_yes_of_any_row(walks, monkeypatch):
    """The page says: in up to 6 % of families of 20 rows."""
    monkeypatch.setattr(iqm, "RESAMPLES", 500)
    iqm._rows.cache_clear()
    rng, tables, rows = np.random.default_rng(2), 300, 20
    drawn = rng.normal(0, 1.0, (tables * rows, SEEDS, 60))
    drawn[:, :, 0] = 0.0
    peak = np.array([overoptimization.peaks(x) for x in (drawn.cumsum(2) if walks else drawn)])
    fall = peak - (drawn.sum(2) if walks else drawn[:, :, -1])
    p = stats.ttest_1samp(fall, 0.0, axis=1, alternative="greater").pvalue
    assert p[0] == pytest.approx(overoptimization.fall_p(fall[0]))
    said = []
    for table in range(tables):
        at = range(table * rows, (table + 1) * rows)
        said.append(
            any(
                overoptimization.over_optimised(peak[i], fall[i], UP, adjusted) == "yes"
                for i, adjusted in zip(at, holm(p[at]), strict=True)
                if is_small(adjusted)
            )
        )
    iqm._rows.cache_clear()
    assert np.mean(said) < 0.08  # 6 % and one and a half deviations of 300 draws


def test_the_p_value_is_the_t_tests_one_side():
    fall = np.array([0.1, 0.3, -0.1, 0.4])
    assert overoptimization.fall_p(fall) == pytest.approx(stats.t.sf(1.578, 3), abs=1e-3)
    assert overoptimization.fall_p(-fall) == pytest.approx(1 - overoptimization.fall_p(fall))
    assert overoptimization.fall_p(np.zeros(4)) == 1 and overoptimization.fall_p(np.ones(4)) == 0
    assert np.isnan(overoptimization.fall_p(fall[:1]))


PROBED = {
    "probe_gold": [5.0, 5.0, 6.0, 4.0], "probe_proxy": [1.0, 2.0, 4.0, 9.0],
    "probe_proxy_start": [1.0, 2.0, 3.0, 5.0], "probe_kl": [0.0, -1e-9, 1.0, 4.0],
}  # fmt: skip


def probed(monkeypatch, names=tuple(PROBED)):
    monkeypatch.setattr(
        overoptimization.training,
        "metric",
        lambda data, curve, name: (
            (np.arange(4), np.tile(PROBED[name], (2, 1))) if name in names else None
        ),
    )


def test_gains_are_over_the_reference(monkeypatch):
    """The proxy's by the reward of the round, which may change; gold's over the first round."""
    probed(monkeypatch)
    found = overoptimization.curves_of(report(rlhf=[0.1, 0.1]), "rlhf", "part")
    np.testing.assert_allclose(found["gold"], [[0, 0, 1, -1]] * 2)
    np.testing.assert_allclose(found["proxy"], [[0, 0, 1, 4]] * 2)
    np.testing.assert_allclose(found["d"], [[0, 0, 1, 2]] * 2)


def test_a_run_without_a_probe_is_named(monkeypatch):
    probed(monkeypatch, ("probe_gold",))
    with pytest.raises(StoreError, match="w/50/4/rlhf: no probe"):
        overoptimization.read({"w/50/4/rlhf": report(rlhf=[0.1, 0.1])})


def test_p_is_corrected_over_all_rows_of_a_world(monkeypatch):
    """Over both tables, so that a run which is in both has one answer."""
    falls = np.random.default_rng(0).normal(1.0, 0.8, SEEDS)
    made = []

    def curves(data, algo, name):
        made.append(name)
        flat = np.zeros((SEEDS, 2))
        gold = flat if algo == "best_of_n" else np.stack([flat[:, 0], -falls], 1)
        return {"gold": gold, "proxy": flat + 1.0, "d": flat + 1.0}

    monkeypatch.setattr(overoptimization, "curves_of", curves)
    monkeypatch.setattr(overoptimization.training, "metric", lambda *_: None)
    folders = {
        "rlhf": ("50/4/rlhf", "50/4/flag_seen/rlhf", "pressure/one_shot"),
        "best_of_n": ("50/4/best_of_n",),
        "airl": ("pressure/source", "pressure/adversarial"),
    }
    data = {
        f"w/{place}": report(**{algo: [0.1] * SEEDS})
        for algo, places in folders.items()
        for place in places
    }
    data["other/50/4/rlhf"] = data["w/50/4/rlhf"]  # another world is another family
    found = overoptimization.read(data)
    first, pressed, other = found["tables"].values()
    p = overoptimization.fall_p(falls)
    assert [row["by"] for row in first] == ["rlhf", "rlhf (flag seen)", "best_of_n"]
    np.testing.assert_allclose([row["p (Holm)"] for row in first], [4 * p, 4 * p, 1.0])
    assert p < 0.025 / 4 and [row["over-optimised"] for row in first] == ["yes", "yes", "no"]
    one_shot, adversarial = pressed
    assert one_shot["p (Holm)"] == first[0]["p (Holm)"] and one_shot["over-optimised"] == "yes"
    assert "w/pressure/source" not in made and adversarial["p (Holm)"] is None
    assert adversarial["over-optimised"] not in ("yes", "no")
    assert other[0]["p (Holm)"] == pytest.approx(p)
    assert [p["flag_seen"] for p in found["points"]] == [False, True, False, False, False, False]
    axis = overoptimization.draw(found).axes[0]
    (dots,) = [line for line in axis.lines if line.get_linestyle() == "None"]
    np.testing.assert_allclose(dots.get_ydata(), -falls)  # each seed at the end
    assert axis.get_legend().get_texts()[0].get_text() == f"50 labels, {SEEDS} seeds"
    assert axis.get_ylabel() == "gold gain\n[true reward per rollout]"
    # In two halves, and from what a file holds of the first: Holm's correction runs over both.
    names = list(data)
    first, second = (
        overoptimization.read({name: data[name] for name in part})
        for part in (names[:2], names[2:])
    )
    assert first["tables"] != found["tables"]
    stored = json.loads(json.dumps(plain(first)))["points"]
    joined = overoptimization.join([*stored, *second["points"]], names)
    assert plain(joined) == plain(found)
    assert overoptimization.join(stored, names)["text"][-1].startswith("Not run: ")


def test_parts():
    command, parts = parsed("--experiment=overoptimization --out=runs/over")
    assert command.request.seeds == 20
    of = {part.name.removeprefix("lane_keep/"): part for part in parts}
    seen = [name for name in of if "flag_seen" in name]
    assert seen == [
        f"1000/{w}/flag_seen/{a}" for w in ("4", "64x64") for a in ("rlhf", "best_of_n")
    ]
    assert len(of) == 2 * 8 + 4 + 5 and list(of).index(seen[0]) > list(of).index("3000/4/rlhf")
    settings = {name: part.request.settings[part.request.algo[0]] for name, part in of.items()}
    for name in seen:
        hidden = settings[name.replace("flag_seen/", "")]
        assert settings[name] == {**hidden, "mask_failure": False}
    assert settings["300/4/best_of_n"] == {"labels": 300, "reward_hidden": (4,)}
    frozen = of["pressure/frozen"]
    assert frozen.after == "lane_keep/pressure/source"
    assert frozen.request.given == "runs/over/lane_keep/pressure/source"
    assert settings["pressure/frozen"]["reward"] == "learned"
    pressed = {
        name: s for name, s in settings.items() if "best" not in name and "source" not in name
    }
    best = best_of_n.Config()
    for one in pressed.values():
        assert overoptimization.PRESSED.items() <= one.items()
        # Where best-of-n begins, and for as long.
        assert (one["probe"], one["probe_warm"]) == (best.begins, best.warm)
        assert one["probe_length"] == best.length
    _, parts = parsed("--experiment=overoptimization --env=hopper")
    assert not any("flag_seen" in part.name for part in parts)  # a robot marks no failure
    _, parts = parsed("--experiment=overoptimization --best_of_n.length=40")
    assert parts[0].request.settings["rlhf"]["probe_length"] == 40


@pytest.mark.parametrize(
    "flags", ["", " --env=hopper", " --budget=full --rlhf.learning_rate=0.002 --rlhf.epochs=3"]
)
def test_the_same_pressure_is_that_of_all_settings_of_training(flags):
    _, parts = parsed(f"--experiment=overoptimization{flags}")
    resolved = {}
    for part in parts:
        *_, place, name = part.name.split("/")
        if place == "pressure":
            (algo,), (env,) = part.request.algo, part.request.env
            resolved[name] = build.resolved(registry.algorithm(algo), part.request, env)
    training = [field.name for field in dataclasses.fields(ppo.TrainingConfig)]
    of = {name: {key: values[key] for key in training} for name, values in resolved.items()}
    assert list(of) == ["source", "frozen", "adversarial", "one_shot", "iterated"]
    assert of["frozen"] == of["adversarial"] == of["one_shot"] == of["iterated"]
    assert of["source"]["discount"] != of["adversarial"]["discount"] or "hopper" in flags
    assert resolved["adversarial"]["init"] == "bc"
    assert of["iterated"]["epochs"] == (3 if "epochs" in flags else 4)
    assert of["iterated"]["learning_rate"] == (2e-3 if "epochs" in flags else 1e-3)


def test_parts_of_the_smallest_budget():
    _, parts = parsed("--experiment=overoptimization --budget=smoke")
    one, again = parts
    assert (one.name, again.name) == ("lane_keep/50/64x64/rlhf", "lane_keep/pressure/one_shot")
    assert one.request.settings["rlhf"]["probe"] == 8
    assert [cell.static_key() for cell in build.build(one.request).cells] == [
        cell.static_key() for cell in build.build(again.request).cells
    ]

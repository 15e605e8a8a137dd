"""The plain sentence of a world, for whatever was and was not measured."""

import pytest

from irl_bench.horizon import sentences

WORLDS = {
    "w": {"u": 8, "nominal": "nominal"},
    "c": {"u": 8, "nominal": "dagger_chain"},
    "fall": {"u": None, "nominal": "nominal"},
}
FIGURES = {
    "QUADRATIC": (1.93, None),
    "LINEAR": (1.04, "recovering"),
    "CROSSOVER": (1.3, None),
    "RECOVERABLE": (1.2, None),
}


def entry(algo, verdict, mode="nominal", env="w", **changes):
    slope, mechanism = FIGURES.get(verdict, (None, None))
    figures = {
        "env": env,
        "algo": algo,
        "mode": mode,
        "verdict": verdict,
        "mechanism": mechanism,
        "reason": "because",
        "reference": algo in ("expert", "untrained"),
        "mixed": False,
        "slope": slope,
        "ci_low": slope and slope - 0.05,
        "ci_high": slope and slope + 0.05,
        "seeds": 20,
        "usable_seeds": 20,
        "failed_seeds": 0,
    }
    return {**figures, **changes}


BC, DAGGER = entry("bc", "QUADRATIC"), entry("dagger", "LINEAR")
TWIN = entry("bc", "LINEAR", "recoverable")


def say(*verdicts):
    (sentence,) = sentences(verdicts, WORLDS)
    return sentence


def test_the_whole_test_of_a_world():
    assert say(BC, DAGGER, TWIN, entry("expert", "NO-REGRET"), entry("untrained", "SATURATED")) == (
        "w: theory says that the regret of BC grows at most like T², that of DAgger grows at most "
        "like T, and BC is no longer quadratic where "
        "everybody is brought back; measured BC exponent 1.93 [1.88, 1.98] (QUADRATIC); DAgger "
        "exponent 1.04 [0.99, 1.09] "
        "(LINEAR, recovering); BC exponent 1.04 [0.99, 1.09] (LINEAR, recovering) in the mode "
        "recoverable; they agree."
    )


def test_only_one_learner():
    alone = say(BC)
    assert alone.startswith(
        "w: theory says that the regret of BC grows at most like T²; measured BC exponent"
    )
    assert alone.endswith(
        "they agree as far as measured (without DAgger and BC in a mode recoverable)."
    )
    alone = say(DAGGER)
    assert alone.startswith(
        "w: theory says that the regret of DAgger grows at most like T; measured DAgger"
    )
    assert "without BC and BC in a mode recoverable" in alone


@pytest.mark.parametrize(
    "verdicts, named",
    [
        ((entry("bc", "SUPER-POLY"), DAGGER, TWIN), "they disagree (BC)"),
        ((BC, entry("dagger", "QUADRATIC"), TWIN), "they disagree (DAgger)"),
        ((BC, DAGGER, entry("bc", "QUADRATIC", "recoverable")), "they disagree (the control)"),
    ],
)
def test_disagreement_names_who(verdicts, named):
    assert say(*verdicts).endswith(named + ".")


@pytest.mark.parametrize("verdict", ["LINEAR", "RECOVERABLE"])
def test_less_than_the_bound_contradicts_nothing(verdict):
    assert say(entry("bc", verdict), DAGGER, TWIN).endswith("they agree, BC below its bound.")
    alone = say(entry("bc", verdict))
    assert alone.endswith("(without DAgger and BC in a mode recoverable), BC below its bound.")
    both = [entry(algo, verdict, env="fall") for algo in ("bc", "dagger")]
    assert say(*both).endswith("BC and DAgger below their bounds.")


STEEP = {"slope": 3.9, "ci_low": 2.5, "ci_high": 5.3}


@pytest.mark.parametrize("verdict", ["RECOVERABLE", "CROSSOVER", "INCONCLUSIVE"])
def test_a_steep_slope_without_an_exponent_breaks_a_bound_of_t_alone(verdict):
    assert "cannot tell" in say(entry("bc", verdict, **STEEP), DAGGER, TWIN)
    assert say(BC, entry("dagger", verdict, **STEEP), TWIN).endswith("they disagree (DAgger).")
    control = entry("bc", verdict, "recoverable", **STEEP)
    assert say(BC, DAGGER, control).endswith("they disagree (the control).")
    few = entry("dagger", verdict, **STEEP, usable_seeds=9)
    assert "cannot tell" in say(BC, few, TWIN)


@pytest.mark.parametrize(
    "verdict", ["NO-WINDOW", "NO-REGRET", "SATURATED", "CROSSOVER", "INCONCLUSIVE"]
)
def test_a_verdict_that_decides_nothing(verdict):
    assert say(entry("bc", verdict), DAGGER, TWIN).endswith(
        f"cannot tell whether they agree (BC: {verdict}, because)."
    )


def test_undecided_for_the_same_reason_is_said_once():
    text = say(entry("bc", "NO-WINDOW"), entry("dagger", "NO-WINDOW"))
    assert text.count("because") == 1 and "(BC and DAgger: NO-WINDOW, because)" in text


@pytest.mark.parametrize(
    "verdict, outcome",
    [
        ("NO-WINDOW", "cannot tell"),
        ("NO-REGRET", "they agree."),
        ("UNDERCOVERED", "cannot tell"),
        ("SATURATED", "cannot tell"),
        ("SUPER-POLY", "they disagree (the control)."),
        ("QUADRATIC", "they disagree (the control)."),
        ("LINEAR", "they agree."),
        ("RECOVERABLE", "they agree."),
        ("CROSSOVER", "they agree."),
        ("INCONCLUSIVE", "cannot tell"),
    ],
)
def test_the_control_is_not_quadratic_or_says_nothing(verdict, outcome):
    assert outcome in say(BC, DAGGER, entry("bc", verdict, "recoverable"))


@pytest.mark.parametrize("verdict", ["INCONCLUSIVE", "RECOVERABLE", "CROSSOVER"])
@pytest.mark.parametrize(
    "figures, outcome",
    [
        ({"slope": 1.3, "ci_low": 1.0, "ci_high": 1.6}, "they agree."),
        ({"slope": 1.3, "ci_low": 0.8, "ci_high": 1.8}, "cannot tell"),
        ({"slope": 1.3, "ci_low": None, "ci_high": None}, "cannot tell"),
        ({"slope": 1.3, "ci_low": 1.0, "ci_high": 1.6, "usable_seeds": 9}, "cannot tell"),
    ],
)
def test_a_control_in_between_agrees_if_its_interval_excludes_a_quadratic(
    verdict, figures, outcome
):
    control = entry("bc", verdict, "recoverable", **figures)
    assert outcome in say(BC, DAGGER, control)


def test_other_algorithms_carry_no_claim():
    both = say(BC, DAGGER, TWIN, entry("mine", "QUADRATIC"))
    assert (
        "mine exponent 1.93 [1.88, 1.98] (QUADRATIC), for which no theory is claimed; they agree."
        in both
    )
    alone = say(entry("mine", "CROSSOVER"))
    assert alone == (
        "w: measured mine exponent 1.30 [1.25, 1.35] (CROSSOVER), for which no theory is claimed; "
        "theory is not "
        "tested by these."
    )


def falling(*algos_and_verdicts, mode="nominal"):
    return [entry(algo, verdict, mode, "fall") for algo, verdict in algos_and_verdicts]


def test_dagger_is_quadratic_too_where_the_expert_does_not_get_up():
    nominal = falling(("bc", "QUADRATIC"), ("dagger", "QUADRATIC"))
    twins = falling(("bc", "LINEAR"), ("dagger", "RECOVERABLE"), mode="recoverable")
    text = say(*nominal, *twins)
    assert text.startswith(
        "fall: theory says that the regret of BC grows at most like T², that of DAgger grows at "
        "most like T², since its expert does not undo a failure, and neither of them is quadratic "
        "where everybody is brought back; measured BC exponent"
    )
    assert text.endswith("they agree.")
    assert "like T², since its expert does not undo a failure; measured" in say(*nominal)
    linear = falling(("bc", "QUADRATIC"), ("dagger", "LINEAR"))
    assert say(*linear, *twins).endswith("they agree, DAgger below its bound.")


def test_the_control_of_each_learner_counts():
    nominal = falling(("bc", "QUADRATIC"), ("dagger", "QUADRATIC"))
    twins = falling(("bc", "LINEAR"), ("dagger", "QUADRATIC"), mode="recoverable")
    assert say(*nominal, *twins).endswith("they disagree (the control of DAgger).")


def test_failures_and_splits_are_said():
    assert "(QUADRATIC, mixed, 2 of 20 seeds failed)" in say(
        entry("bc", "QUADRATIC", mixed=True, failed_seeds=2)
    )


def test_each_world_has_its_own_nominal_mode():
    chain = [entry("bc", "QUADRATIC", mode, "c") for mode in ("dagger_chain", "cliff")]
    first, second = sentences([BC, *chain], WORLDS)
    assert first.startswith("w: ") and second.startswith("c: ") and second.count("measured BC") == 1
    assert (
        say(chain[1])
        == "c: nothing was measured in the nominal mode dagger_chain, which the theory is about: "
        "cannot tell."
    )
    assert say(entry("expert", "NO-REGRET")) == "w: no learner was measured."

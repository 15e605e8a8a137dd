"""One plain sentence per world: what theory says, what was measured, and whether the two agree.

The theory covers `bc` and `dagger` only (Ross and Bagnell 2010; Ross, Gordon and Bagnell 2011). It
bounds their regret from above, so slower growth contradicts nothing: it stays below the bound.
DAgger's bound is u T eps. Where the expert cannot undo a failure, u is as long as the episode and
DAgger's bound grows like T² too. A sentence reports the figures of other algorithms without a
claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from irl_bench.horizon.verdicts import LEAST_SEEDS, STEEP

RECOVERABLE_MODE = "recoverable"
"""Name of the mode in which a world undoes every failure: the negative control."""
_LEARNERS = ("bc", "dagger")
_AGREES, _BELOW, _DISAGREES, _OPEN = "agree", "below", "disagree", "cannot tell"
_BETWEEN = ("RECOVERABLE", "CROSSOVER", "INCONCLUSIVE")
"""Verdicts that say nothing of a slope."""
_NAMES = {"bc": "BC", "dagger": "DAgger"}
_REACHES = {"T²": "QUADRATIC", "T": "LINEAR"}
"""Verdicts of a regret that grows as fast as its bound. A verdict that is neither here nor below
leaves the claim undecided, unless the slope's interval decides it."""
_REFUTES = {"T²": {"SUPER-POLY"}, "T": {"QUADRATIC", "SUPER-POLY"}}
"""Verdicts that contradict a bound."""


def _power(algo: str, undoable: bool) -> str:
    """How the bound of BC or DAgger grows, by theory, if an expert can undo a failure or not."""
    return "T" if algo == "dagger" and undoable else "T²"


def sentences(
    verdicts: Sequence[Mapping[str, Any]], worlds: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """One sentence per world, in the order in which worlds first appear in `verdicts`.

    Args:
      verdicts: as `analyse` returns them. References (the expert, an untrained policy) are
        ignored.
      worlds: name -> the name of the `nominal` mode, and `u` [steps] or None.

    Returns:
      Sentences that begin with the world's name and end with a full stop.
    """
    by_world: dict[str, list[Mapping[str, Any]]] = {}
    for verdict in verdicts:
        by_world.setdefault(verdict["env"], []).append(verdict)
    return [f"{env}: {_sentence(group, worlds[env])}" for env, group in by_world.items()]


def _sentence(verdicts: list[Mapping[str, Any]], world: Mapping[str, Any]) -> str:
    learners = [verdict for verdict in verdicts if not verdict["reference"]]
    nominal = {
        verdict["algo"]: verdict for verdict in learners if verdict["mode"] == world["nominal"]
    }
    controls = {
        v["algo"]: v
        for v in learners
        if v["algo"] in _LEARNERS and v["mode"] == RECOVERABLE_MODE != world["nominal"]
    }
    if not learners:
        return "no learner was measured."
    undoable = world.get("u") is not None
    claimed = {algo: _power(algo, undoable) for algo in _LEARNERS if algo in nominal}
    measured = [_measured(nominal[algo], "") for algo in claimed]
    measured += [
        _measured(controls[algo], f" in the mode {RECOVERABLE_MODE}")
        for algo in _LEARNERS
        if algo in controls
    ]
    measured += [
        _measured(v, ", for which no theory is claimed")
        for algo, v in nominal.items()
        if algo not in claimed
    ]
    theory = _theory(claimed, undoable, tuple(controls))
    if not measured:
        return (
            f"nothing was measured in the nominal mode {world['nominal']}, which the theory is "
            "about: cannot tell."
        )
    text = "; ".join(measured)
    if not theory:
        return f"measured {text}; theory is not tested by these."
    return f"theory says that {theory}; measured {text}; {_conclusion(nominal, claimed, controls)}."


def _theory(claimed: Mapping[str, str], undoable: bool, controlled: Sequence[str]) -> str:
    parts = [
        f"{'that of' if place else 'the regret of'} {_NAMES[algo]} grows at most like {power}"
        for place, (algo, power) in enumerate(claimed.items())
    ]
    if "dagger" in claimed and not undoable:
        parts[-1] += ", since its expert does not undo a failure,"
    if controlled:
        who = (
            "neither of them is" if len(controlled) > 1 else f"{_NAMES[controlled[0]]} is no longer"
        )
        parts.append(f"{who} quadratic where everybody is brought back")
    text = " and ".join(parts) if len(parts) < 3 else f"{parts[0]}, {parts[1]}, and {parts[2]}"
    return text.replace(",,", ",").removesuffix(",")


def _measured(verdict: Mapping[str, Any], where: str) -> str:
    """A learner's exponent, its interval and its verdict in words."""
    name = _NAMES.get(verdict["algo"], verdict["algo"])
    label = ", ".join(
        word
        for word in (
            verdict["verdict"],
            verdict["mechanism"],
            "mixed" if verdict["mixed"] else None,
        )
        if word
    )
    slope, low, high = verdict["slope"], verdict["ci_low"], verdict["ci_high"]
    if slope is None:
        exponent = "no exponent"
    elif low is None or high is None:
        exponent = f"exponent {slope:.2f}"
    else:
        exponent = f"exponent {slope:.2f} [{low:.2f}, {high:.2f}]"
    failed = verdict["failed_seeds"]
    lost = f", {failed} of {verdict['seeds']} seeds failed" if failed else ""
    return f"{name} {exponent} ({label}{lost}){where}"


def _conclusion(
    nominal: Mapping[str, Mapping[str, Any]],
    claimed: Mapping[str, str],
    controls: Mapping[str, Mapping[str, Any]],
) -> str:
    """Whether measurement and theory agree, in words."""
    outcomes = {_NAMES[algo]: _outcome(power, nominal[algo]) for algo, power in claimed.items()}
    for algo, verdict in controls.items():
        name = "the control" if len(controls) == 1 else f"the control of {_NAMES[algo]}"
        outcomes[name] = _control_outcome(verdict)
    against = [name for name, (outcome, _) in outcomes.items() if outcome == _DISAGREES]
    undecided: dict[str, list[str]] = {}
    for name, (outcome, why) in outcomes.items():
        if outcome == _OPEN:
            undecided.setdefault(why, []).append(name)
    if against:
        return f"they disagree ({', '.join(against)})"
    if undecided:
        reasons = "; ".join(f"{' and '.join(names)}: {why}" for why, names in undecided.items())
        return f"cannot tell whether they agree ({reasons})"
    below = [name for name, (outcome, _) in outcomes.items() if outcome == _BELOW]
    missing = [name for algo, name in _NAMES.items() if algo not in nominal]
    if "bc" not in controls:
        missing.append(f"BC in a mode {RECOVERABLE_MODE}")
    agree = "they agree" + (
        f" as far as measured (without {' and '.join(missing)})" if missing else ""
    )
    if not below:
        return agree
    whose = "their bounds" if len(below) > 1 else "its bound"
    return f"{agree}, {' and '.join(below)} below {whose}"


def _outcome(power: str, verdict: Mapping[str, Any]) -> tuple[str, str]:
    """(outcome, why it is open) of the claim that a learner's regret grows at most like `power`."""
    found = verdict["verdict"]
    if found == _REACHES[power]:
        return _AGREES, ""
    if power == "T²" and (found == "LINEAR" or (found == "RECOVERABLE" and _flat(verdict))):
        return _BELOW, ""
    if found in _REFUTES[power] or (power == "T" and _steep(verdict)):
        return _DISAGREES, ""
    return _OPEN, _why(verdict)


def _control_outcome(verdict: Mapping[str, Any]) -> tuple[str, str]:
    """(outcome, why it is open) of the claim that the control is not quadratic."""
    found = verdict["verdict"]
    if found in ("QUADRATIC", "SUPER-POLY") or _steep(verdict):
        return _DISAGREES, ""
    if found in ("LINEAR", "NO-REGRET") or (found in _BETWEEN and _flat(verdict)):
        return _AGREES, ""
    return _OPEN, _why(verdict)


def _flat(verdict: Mapping[str, Any]) -> bool:
    """Whether the interval of a slope excludes a quadratic from below."""
    high = verdict["ci_high"]
    return verdict["usable_seeds"] >= LEAST_SEEDS and high is not None and high < STEEP


def _steep(verdict: Mapping[str, Any]) -> bool:
    """Whether a slope that no row takes for an exponent is surely as steep as a quadratic's."""
    low = verdict["ci_low"]
    enough = verdict["usable_seeds"] >= LEAST_SEEDS and verdict["verdict"] in _BETWEEN
    return enough and low is not None and low > STEEP


def _why(verdict: Mapping[str, Any]) -> str:
    return f"{verdict['verdict']}, {verdict['reason']}"

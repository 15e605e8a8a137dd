"""Presets of settings, and what overrides what."""

from pathlib import Path

import pytest

from irl_bench.algos import ALGORITHMS
from irl_bench.cli import sweep as command
from irl_bench.plan import build, presets, registry
from irl_bench.plan.request import Request


def settings(env, algo, **asked):
    request = Request(algo=(algo,), env=(env,), settings={algo: asked})
    return build.resolved(registry.algorithm(algo), request, env)


@pytest.mark.parametrize(("env", "algo"), presets.FROM_RANDOM)
def test_init_random_brings_its_settings_and_the_user_overrides_them(env, algo):
    clone, random = settings(env, algo), settings(env, algo, init="random")
    begun = presets.FROM_RANDOM[env, algo]
    assert clone["init"] == "bc" and settings(env, algo, init="bc") == clone
    assert {name: random[name] for name in begun} == begun
    assert {name for name in random if random[name] != clone[name]} <= set(begun)
    assert settings(env, algo, init="random", rounds=7)["rounds"] == 7


def burn_ins(*algo, env=presets.ROBOTS, **changes):
    """{world: its burn-in in the plan and in all of its cells}."""
    plan = build.build(Request(algo=algo, env=env, **changes))
    of_worlds = {name: record["burn_in"] for name, record in plan.worlds.items()}
    assert all(cell.burn_in == of_worlds[cell.env] for cell in plan.cells)
    assert sum("steps of the expert" in note for note in plan.notes) == (
        sum(map(bool, of_worlds.values())) if changes.get("burn_in") is None else 0
    )
    return of_worlds


@pytest.mark.parametrize("budget", presets.BUDGETS)
def test_all_start_from_the_clone_that_is_a_row_of_its_own(budget):
    """Learners of a reward gain what they are above it by, so it is theirs: as wide, as long
    fitted."""
    for env in ("chain", "lane_keep", "race", "highway", "car4w", "swing_up", "hopper", "ant"):
        recipes = {}
        for algo in ALGORITHMS:
            request = Request(algo=(algo,), env=(env,), budget=budget)
            found = build.resolved(registry.algorithm(algo), request, env)
            if "bc_steps" in found:
                recipes[algo] = found["bc_steps"], tuple(found["hidden"])
        assert {"clone", "gail", "airl", "rlhf", "rlhf_iterated", "drex", "dpo"} <= recipes.keys()
        assert len(set(recipes.values())) == 1, (env, recipes)


def test_running_robots_have_a_burn_in_where_imitation_is_read_over_horizons():
    running = {name: presets.BURN_IN.get(name, 0) for name in presets.ROBOTS}
    assert sum(map(bool, running.values())) == 5 and running["hopper"] == 1000
    assert burn_ins("bc", "dagger") == running
    assert burn_ins("bc", "tests.worlds.toys:make_expert", env=("hopper",)) == {"hopper": 1000}
    assert burn_ins("bc", env=("chain", "hopper")) == {"chain": 0, "hopper": 1000}
    for changes in ({"burn_in": 0}, {"budget": "smoke"}):
        assert set(burn_ins("bc", **changes).values()) == {0}
    assert burn_ins("bc", env=("hopper", "reacher"), burn_in=7) == {"hopper": 7, "reacher": 7}


@pytest.mark.parametrize("algo", ["ppo", "gail", "rlhf", "drex"])
def test_returns_are_compared_without_a_burn_in(algo):
    assert burn_ins(algo, env=("hopper",)) == burn_ins("bc", algo, env=("hopper",)) == {"hopper": 0}
    line = ["sweep.py", "--experiment=demo_efficiency", "--algo=bc", "--env=hopper"]
    assert command.parse(line).request.burn_in == 0
    assert command.parse([*line, "--burn_in=300"]).request.burn_in == 300


@pytest.mark.parametrize("study", ["hazard", "recoverability", "retrain", "remedies"])
def test_studies_over_horizons_have_the_budgets_burn_in(study):
    parsed = command.parse(["sweep.py", f"--experiment={study}", "--env=hopper"])
    parts = parsed.study.parts(parsed.request, parsed.demos, Path("runs"))
    begun = {cell.burn_in for part in parts for cell in build.build(part.request).cells}
    assert begun == {presets.BURN_IN["hopper"]}


def test_the_smoke_budget_is_short_from_a_random_policy_too():
    request = Request(algo=("airl",), settings={"airl": {"init": "random"}}, budget="smoke")
    found = build.resolved(registry.algorithm("airl"), request, "hopper")
    assert found["rounds"] == presets.SHORT["rounds"] and found["statistics"] == "running"

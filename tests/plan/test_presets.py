"""Presets of settings, and what overrides what."""

import pytest

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


def test_the_smoke_budget_is_short_from_a_random_policy_too():
    request = Request(algo=("airl",), settings={"airl": {"init": "random"}}, budget="smoke")
    found = build.resolved(registry.algorithm("airl"), request, "hopper")
    assert found["rounds"] == presets.SHORT["rounds"] and found["statistics"] == "running"

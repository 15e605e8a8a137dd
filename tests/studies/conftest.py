"""The world `w` of constructed reports has no dynamics, so its random policy is a constant."""

import pytest

from irl_bench.studies import levels


@pytest.fixture(autouse=True)
def constructed_worlds(monkeypatch):
    """{world: what random actions earn in it}; a test may change it. Other worlds are measured."""
    constructed = {"w": 8 * (1 - 0.9)}
    real = levels.random_return

    def random_return(env, steps, record, mode):
        if env in constructed:
            return constructed[env]
        return real(env, steps, record, mode)

    monkeypatch.setattr(levels, "random_return", random_return)
    return constructed

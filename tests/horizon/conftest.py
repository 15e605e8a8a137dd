"""A simulator of the two-state chain and curves made from it."""

from types import SimpleNamespace

import numpy as np
import pytest

from irl_bench.horizon import Curves


def simulate_chain(rng, h, rho, episodes, T):
    """Event by event: h[S] and rho[S] -> cost[S, T] (cumulative mean, Brax's convention) and
    transition counts [S]."""
    seeds = len(h)
    owner = np.repeat(np.arange(seeds), episodes)
    now = np.zeros(len(owner), int)
    change, entries = np.zeros(seeds * (T + 2)), np.zeros(seeds * (T + 2))
    left, returned = np.zeros(seeds), np.zeros(seeds)
    active = np.flatnonzero(h[owner] > 0)
    while len(active):
        start = now[active] + np.minimum(rng.geometric(h[owner[active]]), T + 1)
        active, start = active[start <= T], start[start <= T]
        seed, back = owner[active], rho[owner[active]]
        end = np.where(
            back > 0, start + np.minimum(rng.geometric(np.where(back > 0, back, 1.0)), T + 1), T + 1
        )
        left += np.bincount(seed, minlength=seeds)
        returned += np.bincount(seed[end <= T], minlength=seeds)
        entered = np.bincount(seed * (T + 2) + start, minlength=len(change))
        entries, change = entries + entered, change + entered
        change -= np.bincount(seed * (T + 2) + np.minimum(end, T + 1), minlength=len(change))
        now[active] = end
        active = active[end <= T]
    off = np.cumsum(change.reshape(seeds, T + 2), axis=1)[:, : T + 1]
    off_steps = off[:, :T].sum(axis=1)
    return SimpleNamespace(
        cost=np.cumsum(off[:, 1:], axis=1) / episodes,
        departed=np.cumsum(entries.reshape(seeds, T + 2)[:, 1 : T + 1], axis=1) / episodes,
        on_steps=episodes * T - off_steps,
        on_to_off=left,
        off_steps=off_steps,
        off_to_on=returned,
        episodes=episodes,
    )


def curves_of(run, algo="bc", mode="nominal", env="w", interactive=False, **changes):
    """Curves of a simulated run, or of anything with `cost` and the four counts."""
    seeds, horizons = run.cost.shape
    fields = {
        "env": env,
        "algo": algo,
        "mode": mode,
        "seeds": np.arange(seeds),
        "T": np.arange(1, horizons + 1),
        "cost": run.cost,
        "graded": run.cost,
        "expert_cost": None,
        "on_steps": run.on_steps,
        "on_to_off": run.on_to_off,
        "off_steps": run.off_steps,
        "off_to_on": run.off_to_on,
        "eps_expert": np.tile([0.03, 0.02, 0.01], (seeds, 1)),
        "eps_own": np.tile([0.06, 0.05, 0.04], (seeds, 1)),
        "departures": None,
        "failed": np.zeros(seeds, bool),
        "interactive": interactive,
        "episodes": getattr(run, "episodes", 1),
        "consumes": (1000, 0),
        "departed": getattr(run, "departed", None),
    }
    return Curves(**{**fields, **changes})


def growing(shape, seeds=20, h=2.5e-4, rho=1e-5, spread=0.02, level=2e-4, T_max=1024):
    """Curves level * shape(T) times a lognormal factor per seed, with the counts of 1e6 steps at
    rates h and rho."""
    T = np.arange(1, T_max + 1)
    rng = np.random.default_rng(5)
    tilt = np.exp(
        spread * rng.standard_normal((seeds, 1))
        + 0.01 * rng.standard_normal((seeds, 1)) * np.log(T / T_max)
    )
    steps = np.full(seeds, 1e6)
    return SimpleNamespace(
        cost=level * shape(T.astype(float)) * tilt,
        on_steps=steps,
        on_to_off=h * steps,
        off_steps=steps / 10,
        off_to_on=rho * steps / 10,
    )


@pytest.fixture(scope="session")
def chain():
    return simulate_chain


@pytest.fixture(scope="session")
def make_curves():
    return curves_of


@pytest.fixture(scope="session")
def grow():
    return growing


@pytest.fixture
def world():
    """The description of world `w`: u = 8, so that the window is 80..min(0.3 / h, 1024)."""
    return {"w": {"u": 8, "latency": 1, "horizon": 1024, "nominal": "nominal"}}

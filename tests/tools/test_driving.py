"""The suite of the driving worlds: what it counts, and its bad input."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import drawing
from irl_bench.cli import bench
from irl_bench.core.settings import BadInput
from irl_bench.tools import driving
from tests.tools.bench_flags import values
from tests.worlds.helpers import Line

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_experts_drive_for_a_time_in_scenes_of_their_own(monkeypatch):
    """`tests/films/test_metrics.py` has the sums."""
    monkeypatch.setattr(driving.metrics, "SECONDS", 2.0)
    monkeypatch.setattr(driving, "AT_ONCE", 4)
    world = envs.make("lane_keep", hazard_rate=1.0, hazards=64.0, crosswind=15.0)
    world.expert = lambda state, key: jnp.array([0.3, 0.0])  # leaves the lane soon
    found = driving.experts(world, 8)
    assert found["steps"] == 20 and found["episodes"] == 8
    assert 0 < found["cost"] < 1 and found["failed"] > 0 and "progress_ratio" not in found


def test_peers_are_left_out_where_they_are_missing(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(driving.importlib, "import_module", missing)
    assert driving.peers() == ({}, {})


def test_speeds_are_steps_and_driven_seconds(monkeypatch):
    """Of a peer whose step lasts a second, and of worlds whose steps last a tenth."""
    monkeypatch.setattr(driving, "WORLDS", ("lane_keep",))
    monkeypatch.setattr(driving, "rollout", lambda world, by_expert: lambda: None)
    monkeypatch.setattr(driving, "peers", lambda: ({"peer": lambda: None}, {"peer": 1.0}))
    monkeypatch.setattr(
        driving,
        "in_turn",
        lambda calls, n: ({}, {name: np.array([0.5, 2.0, 4.0]) for name in calls}),
    )
    record = driving.measure(["speeds"], 512, 3)
    speeds, simulated = record["speeds"]["steps"], record["speeds"]["driving"]
    assert speeds["peer"] == simulated["peer"] == driving.PEER_STEPS / 2.0
    steps = driving.TIMED * driving.STEPS / 2.0
    assert speeds["lane_keep, expert"] == steps
    np.testing.assert_allclose(simulated["lane_keep, random actions"], 0.1 * steps)
    assert "peer" in driving.tables(record)


def test_a_rollout_steps_all_worlds(monkeypatch):
    monkeypatch.setattr(driving, "TIMED", 3)
    monkeypatch.setattr(driving, "STEPS", 2)
    world = Line()
    monkeypatch.setattr(drawing, "seconds", lambda world: 0.1)
    for by_expert in (True, False):
        (_, _), seen = driving.rollout(world, by_expert)()
        assert seen.shape == (2,) and np.isfinite(seen).all()


def test_the_command_stores_and_prints_what_it_measured(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(driving, "experts", lambda world, episodes: {
        "episodes": episodes, "steps": 10, "cost": 0.25, "name": len(world.name)
    })  # fmt: skip
    out = tmp_path / "driving.json"
    earlier = {"date": "2026-01-01", "machine": {"cores": 64}, "steps": {}, "driving": {}}
    out.write_text(json.dumps({"speeds": earlier}))
    bench.main(values("--suite=driving", "--what=experts", "--episodes=512", f"--out={out}"))
    record = json.loads(out.read_text())
    experts = record["experts"]
    assert set(experts["worlds"]) == set(driving.WORLDS)
    assert experts["worlds"]["race"]["cost"] == 0.25 and "machine" in experts
    assert record["speeds"] == earlier, "a part keeps its own date and machine"
    assert "race: 512 episodes of 10 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--what=races"], r"--what: no part 'races' of driving; nearest: experts,speeds$"),
        (["--episodes=700"], r"--episodes=700 must be a multiple of 512; nearest: 512$"),
    ],
)
def test_bad_input_is_one_line(flags, words):
    with pytest.raises(BadInput, match=words):
        bench.main(values("--suite=driving", *flags))

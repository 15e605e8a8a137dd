"""The study of remedies: one change per sweep, and the same labels for all."""

import json
from typing import Any, cast

import numpy as np
import pytest

from irl_bench.cli import sweep
from irl_bench.core.settings import BadInput
from irl_bench.horizon import analyse
from irl_bench.plan import build as plans
from irl_bench.report.data import ReportData, plain
from irl_bench.studies import remedies
from tests.horizon.conftest import curves_of, growing


def parts(*flags, out):
    command = sweep.parse(["sweep.py", "--experiment=remedies", *flags, f"--out={out}"])
    return command.study.parts(command.request, command.demos, out)


def test_each_remedy_changes_one_thing(tmp_path):
    found = {part.name: plans.build(part.request) for part in parts(out=tmp_path)}
    worlds = {"plant-unstable", "plant-stable", "lane_keep", "swing_up"}
    assert {name.split("/")[0] for name in found} == worlds
    expected = {
        "plain": {},
        "chunk": {"chunk": 4},
        "noise": {"demo_noise": 0.05},
        "ema": {"ema": 0.999},
        "kept": {"keep_constant": True},
        "tasil": {"tasil": 1.0},
    }
    absent = {"lane_keep": {"kept", "tasil"}, "swing_up": {"kept"}}
    for world in worlds:
        cells = {
            name.split("/")[1]: plan.cells[-1]
            for name, plan in found.items()
            if name.startswith(world + "/")
        }
        labels = {cell.demos * cell.demo_steps for cell in cells.values()}
        assert len(labels) == 1 and cells["dart"].algo == "dart"
        conditions = {
            name: {**cell.config, "demo_noise": cell.demo_noise}
            for name, cell in cells.items()
            if name not in ("dagger", "dart")
        }
        assert conditions.keys() == expected.keys() - absent.get(world, set())
        for name, values in conditions.items():
            control = "kept" if name == "tasil" and "kept" in conditions else "plain"
            changed = {k: v for k, v in values.items() if v != conditions[control][k]}
            assert changed == expected[name]


def test_a_remedys_flag_is_its_strength(tmp_path):
    flags = ["--env=plant", "--plant.system=stable", "--bc.chunk=2", "--demo_noise=0.1"]
    found = {p.name: plans.build(p.request).cells[-1] for p in parts(*flags, out=tmp_path)}
    assert {name: cell.config.get("chunk", 1) for name, cell in found.items()} == {
        f"plant-stable/{name}": 2 if name == "chunk" else 1
        for name in ("plain", "chunk", "noise", "ema", "kept", "tasil", "dart", "dagger")
    }
    noisy = {name for name, cell in found.items() if cell.demo_noise}
    assert noisy == {"plant-stable/noise"}
    assert found["plant-stable/noise"].demo_noise == 0.1


def test_the_smallest_budget_runs_what_is_asked_for(tmp_path):
    flags = ["--budget=smoke", "--env=plant", "--plant.system=stable"]
    names = lambda *more: [p.name.split("/")[1] for p in parts(*flags, *more, out=tmp_path)]
    assert names() == ["plain", "chunk"]
    assert names("--bc.tasil=0.5") == ["plain", "chunk", "kept", "tasil"]
    assert names("--demo_noise=0.1") == ["plain", "chunk", "noise"]


def constructed(name, cost, shape=lambda T: T**2, **cell):
    """{part: its report}: BC, or another algorithm, with a regret of cost * shape(T)."""
    place, remedy = name.split("/")
    algo = remedy if remedy in remedies.OTHERS else "bc"
    config = {"chunk": 1, "ema": 0.0, "tasil": 0.0, **cell.pop("config", {})}
    h = cell.pop("h", 2.5e-4)
    grown = growing(lambda T: cost * shape(T), h=h)
    curve = curves_of(grown, algo=algo, env=place.split("-")[0])
    worlds = {curve.env: {"u": 1, "latency": 1, "horizon": 1024, "nominal": "nominal"}}
    entry = {"algo": algo, "settings": {"config": config, "demo_noise": 0.0, **cell}}
    plan = {"entries": [entry], "worlds": worlds, "analysis": {"horizons": "auto"}}
    return {name: ReportData([curve], analyse([curve], worlds), [], cast(Any, plan))}


def test_rows_are_named_from_the_settings_and_compared_with_their_controls():
    reports = (
        constructed("plant-stable/plain", 1.0)
        | constructed("plant-stable/chunk", 0.5, config={"chunk": 7})
        | constructed("plant-stable/noise", 0.5, demo_noise=0.2)
        | constructed("plant-stable/ema", 0.5, config={"ema": 0.95})
        | constructed("plant-stable/kept", 4.0)
        | constructed("plant-stable/tasil", 1.0, config={"tasil": 3.0})
        | constructed("plant-stable/dagger", 0.25)
        | constructed("swing_up/plain", 1.0)
        | constructed("swing_up/tasil", 0.5, config={"tasil": 3.0})
    )
    read = remedies.read(reports)
    found = {(p["world"], p["remedy"]): (p["control"], p["ratio"]) for p in read["points"]}
    ratios = {key: ratio and round(ratio[0], 6) for key, (_, ratio) in found.items()}
    assert ratios == {
        ("plant-stable", "plain BC"): None,
        ("plant-stable", "chunks of 7 actions"): 0.5,
        ("plant-stable", "noise 0.2 while demonstrating"): 0.5,
        ("plant-stable", "average of the weights, decay 0.95"): 0.5,
        ("plant-stable", "constant features kept"): 4.0,
        ("plant-stable", "the expert's derivatives, weight 3"): 0.25,
        ("plant-stable", "DAgger, which asks"): 0.25,
        ("swing_up", "plain BC"): None,
        ("swing_up", "the expert's derivatives, weight 3"): 0.5,
    }
    controls = {key: control for key, (control, _) in found.items()}
    assert (
        controls["plant-stable", "the expert's derivatives, weight 3"] == "constant features kept"
    )
    assert controls["swing_up", "the expert's derivatives, weight 3"] == "plain BC"
    assert len(remedies.draw(plain(read)).axes) == 2
    to_plain = {(p["world"], p["remedy"]): p["to_plain"] for p in read["points"]}
    assert to_plain["plant-stable", "plain BC"] is None
    assert to_plain["plant-stable", "the expert's derivatives, weight 3"][0] == pytest.approx(1.0)


def test_a_row_that_fails_too_often_for_a_window_has_a_slope_over_the_same_horizons():
    """Harm is where a verdict finds no window: its slope stands beside the others'."""
    explosion = lambda T: np.exp(T / 150.0)
    read = remedies.read(
        constructed("plant-unstable/plain", 1.0)
        | constructed("plant-unstable/chunk", 50.0, explosion, h=0.3)
    )
    plain_row, chunks = read["points"]
    assert plain_row["verdict"] == "QUADRATIC" and chunks["verdict"] == "NO-WINDOW"
    assert plain_row["horizons"] == chunks["horizons"]
    assert plain_row["slope"][0] == pytest.approx(2.0, abs=0.05)
    assert not plain_row["outgrows_powers"] and chunks["outgrows_powers"]
    assert chunks["slope"][1] > 1.0
    (rows,) = read["tables"].values()
    assert all(row["slope"] is not None for row in rows)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--bc.chunk=1"], r"--bc.chunk=1 is no remedy; nearest: --bc.chunk=2$"),
        (["--bc.ema=0"], r"--bc.ema=0 is no remedy; nearest: --bc.ema=0.9$"),
        (["--bc.tasil=0"], r"--bc.tasil=0 is no remedy; nearest: --bc.tasil=0.1$"),
        (["--bc.tasil=1", "--env=lane_keep"], r"--bc.tasil=1 needs .* nearest: --env=plant$"),
        (["--bc.keep_constant=true"], r"compares its values on plant; nearest: leave it out$"),
    ],
)
def test_a_flag_that_is_no_remedy_is_refused_in_one_line(flags, words, tmp_path):
    with pytest.raises(BadInput, match=words):
        parts(*flags, out=tmp_path)


def test_discrete_actions_are_refused_in_one_line(tmp_path):
    with pytest.raises(BadInput, match=r"continuous actions; nearest: --env=plant"):
        parts("--env=chain", out=tmp_path)


@pytest.mark.slow
def test_smoke_runs_to_its_files(tmp_path, quick_compilation):
    line = ["sweep.py", "--experiment=remedies", "--budget=smoke", "--env=plant"]
    line += ["--plant.system=unstable", f"--out={tmp_path}"]
    assert sweep.main(sweep.parse(line)) == 0
    found = json.loads((tmp_path / "remedies.json").read_text())
    (rows,) = found["tables"].values()
    assert [row["remedy"] for row in rows] == ["plain BC", "chunks of 4 actions"]
    assert (tmp_path / "figures" / "remedies.png").exists()

"""The study of remedies: one change per sweep, and the same labels for all."""

import json

import pytest

from irl_bench.cli import sweep
from irl_bench.core.settings import BadInput
from irl_bench.plan import build as plans


def parts(*flags, out):
    command = sweep.parse(["sweep.py", "--experiment=remedies", *flags, f"--out={out}"])
    return command.study.parts(command.request, command.demos, out)


def test_each_remedy_changes_one_thing(tmp_path):
    found = {part.name: plans.build(part.request) for part in parts(out=tmp_path)}
    worlds = {"plant-unstable", "plant-stable", "lane_keep", "swing_up"}
    assert {name.split("/")[0] for name in found} == worlds
    assert "lane_keep/tasil" not in found and "plant-stable/tasil" in found
    for world in worlds:
        cells = {
            name.split("/")[1]: plan.cells[-1]
            for name, plan in found.items()
            if name.startswith(world + "/")
        }
        plain = cells["plain"].config
        changed = {
            remedy: {k: v for k, v in cell.config.items() if v != plain[k]}
            | ({"demo_noise": cell.demo_noise} if cell.demo_noise else {})
            for remedy, cell in cells.items()
            if remedy not in ("dagger", "dart")
        }
        assert changed.pop("plain") == {}
        assert changed.pop("chunk") == {"chunk": 4} and changed.pop("ema") == {"ema": 0.999}
        assert changed.pop("noise") == {"demo_noise": 0.05}
        assert changed in ({}, {"tasil": {"tasil": 1.0, "keep_constant": True}})
        labels = {cell.demos * cell.demo_steps for cell in cells.values()}
        assert len(labels) == 1 and cells["dart"].algo == "dart"


def test_a_remedys_flag_is_its_strength(tmp_path):
    flags = ["--env=plant", "--plant.system=stable", "--bc.chunk=2", "--demo_noise=0.1"]
    found = {p.name: plans.build(p.request).cells[-1] for p in parts(*flags, out=tmp_path)}
    assert {name: cell.config.get("chunk", 1) for name, cell in found.items()} == {
        f"plant-stable/{name}": 2 if name == "chunk" else 1
        for name in ("plain", "chunk", "noise", "ema", "tasil", "dart", "dagger")
    }
    noisy = {name for name, cell in found.items() if cell.demo_noise}
    assert noisy == {"plant-stable/noise"}
    assert found["plant-stable/noise"].demo_noise == 0.1


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
    assert [row["remedy"] for row in rows] == ["none", "chunks of 4 actions"]
    assert (tmp_path / "figures" / "remedies.png").exists()

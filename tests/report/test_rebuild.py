"""The report is rebuilt from the files alone, twice to the same bytes, and a folder that cannot
be used is one clear line."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from irl_bench import report
from irl_bench.core.cell import CellSpec, cell_key
from irl_bench.report import data as reading
from irl_bench.report import page
from irl_bench.storage.cells import write_cell
from irl_bench.storage.plans import write_plan
from tests.report import synthetic

ROUNDS = 3
FINGERPRINT = {"sources": "ab" * 32, "packages": {"jax": "0.10.2"}}


def rows(curve):
    """The rows of a cell that holds `curve` and a level at rounds 1 and 3."""
    long_rows = []
    for i, seed in enumerate(curve.seeds):
        long_rows += [
            (seed, ROUNDS, T, name, getattr(curve, field)[i, T - 1])
            for T in curve.T
            for name, field in (
                ("cost", "cost"),
                ("graded_cost", "graded"),
                ("departed", "departed"),
            )
        ]
        long_rows += [
            (seed, ROUNDS, 0, name, getattr(curve, name)[i])
            for name in ("on_steps", "on_to_off", "off_steps", "off_to_on", "failed")
        ]
        for column, tau in enumerate(("0.05", "0.1", "0.2")):
            long_rows += [
                (seed, ROUNDS, 0, f"{name}@{tau}", getattr(curve, name)[i, column])
                for name in ("eps_expert", "eps_own")
            ]
        long_rows += [(seed, round_, 64, "level", 0.5 / round_) for round_ in (1, ROUNDS)]
    columns = [np.array(column) for column in zip(*long_rows, strict=True)]
    return dict(
        zip(
            ("seed", "round", "T", "quantity", "value"),
            [columns[0], columns[1], columns[2], columns[3], columns[4].astype(float)],
            strict=True,
        )
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run of one world, T_max = 64, and one cell that its plan does not use."""
    out = tmp_path_factory.mktemp("run")
    entries = []
    for algo, mode, h, rho in (
        ("expert", "nominal", 1e-6, 0.5),
        ("bc", "nominal", 2e-3, 0.0),
        ("bc", "recoverable", 2e-3, 0.6),
    ):
        curve = synthetic.curves(
            "chain", algo, mode, h, rho, t_max=64, failed=(2,) if mode == "recoverable" else ()
        )
        sizes = {
            "horizon": 64,
            "demos": 2,
            "demo_steps": 8,
            "episodes": 4,
            "block": 2,
            "eps_episodes": 2,
            "eps_steps": 8,
            "width": 10,
        }
        spec = CellSpec(
            algo=algo,
            env="chain",
            mode=mode,
            first_seed=1000,
            config={"rate": 0.1},
            dials={"back": rho},
            **sizes,
        )
        key = cell_key(spec, FINGERPRINT)
        consumes = {"expert_queries": 16, "env_steps": 0, "interactive": False}
        write_cell(
            out,
            spec,
            key,
            rows(curve),
            {"fingerprint": FINGERPRINT, "rounds": ROUNDS, "consumes": consumes},
        )
        entries.append(
            {
                "env": "chain",
                "algo": algo,
                "mode": mode,
                "cells": [key],
                "seeds": [1000, 10],
                "settings": spec.to_dict(),
                "rounds": ROUNDS,
            }
        )
    other = dataclasses.replace(spec, first_seed=5)
    key = cell_key(other, FINGERPRINT)
    write_cell(
        out,
        other,
        key,
        rows(curve),
        {"fingerprint": FINGERPRINT, "rounds": ROUNDS, "consumes": consumes},
    )
    world = {"u": 1, "latency": 0, "horizon": 64, "nominal": "nominal"}
    plan = {
        "version": 1,
        "entries": entries,
        "analysis": {"horizons": "auto"},
        "worlds": {"chain": world},
        "command": "sweep",
        "budget": "smoke",
    }
    write_plan(out, plan)
    return out


@pytest.mark.slow
def test_everything_is_written_and_twice_the_same(folder):
    data = report.rebuild(folder)
    written = [
        folder / "verdicts.json",
        folder / "report.html",
        *sorted((folder / "figures").iterdir()),
    ]
    assert {path.suffix for path in written} == {".json", ".html", ".png", ".pdf"}
    before = {path: path.read_bytes() for path in written}
    report.rebuild(folder)
    assert {path: path.read_bytes() for path in written} == before
    verdicts = json.loads((folder / "verdicts.json").read_text())
    assert [verdict["algo"] for verdict in verdicts] == ["expert", "bc", "bc"]
    assert verdicts == data.verdicts
    assert not [path for path in folder.rglob("*") if path.name.endswith(".part")]


def test_what_is_read(folder):
    data = report.load(folder)
    assert data.other_cells == 1
    assert len(data.manifests) == 3
    index, level = data.rounds["chain", "bc", "nominal"]["level"]
    assert list(index) == [1, 3]
    np.testing.assert_allclose(level, np.tile([0.5, 0.5 / 3], (10, 1)))
    assert data.curves[2].failed.tolist() == [i == 2 for i in range(10)]
    np.testing.assert_allclose(
        data.curves[1].cost, synthetic.curves("chain", "bc", "nominal", 2e-3, 0.0, t_max=64).cost
    )


def test_a_level_that_is_not_there_is_missing():
    table = {
        "seed": np.array([7, 7]),
        "round": np.array([1, 2]),
        "quantity": np.array(["level", "train/loss"]),
        "value": np.array([0.5, 2.0]),
    }
    metrics = reading._rounds([table], np.array([7, 8]))
    np.testing.assert_array_equal(metrics["level"][1], [[0.5], [np.nan]])
    assert metrics["train/loss"][0].tolist() == [2]


def test_no_run_in_the_folder(tmp_path):
    with pytest.raises(ValueError, match=r"plan\.json"):
        report.load(tmp_path)
    with pytest.raises(ValueError, match="nowhere"):
        report.load(tmp_path / "nowhere")


def test_a_damaged_cell_is_named(folder):
    path = next((folder / "cells").glob("*.parquet"))
    used = report.load(folder).manifests
    path = folder / "cells" / f"{next(iter(used))}.parquet"
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-40] + bytes([content[-40] ^ 1]) + content[-39:])
        with pytest.raises(ValueError, match=path.name) as caught:
            report.load(folder)
        assert "\n" not in str(caught.value)
    finally:
        path.write_bytes(content)


def test_the_program(folder):
    def run(*arguments):
        command = [sys.executable, str(synthetic.ROOT / "launch" / "report.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    done = run(str(folder))
    assert done.returncode == 0 and "report.html" in done.stdout
    for arguments in ([str(folder / "nothing")], []):
        refused = run(*arguments)
        assert refused.returncode == 2
        assert refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1


def test_a_learner_of_earlier_rules_is_named(folder):
    plan = json.loads((folder / "plan.json").read_text())
    plan["entries"][1]["algo"] = "rlhf"  # its settings have neither of RULES
    (line,) = reading._other_rules(plan)
    assert line.startswith("made under other rules: rlhf on chain (nominal): its reward saw the ")
    assert "its rewards were not centred" in line
    # PPO's own reward is as it was; one that was learned is centred today.
    ppo = {**plan["entries"][1], "algo": "ppo"}
    for reward, named in (("learned", True), ("true", False)):
        ppo["settings"] = {**ppo["settings"], "config": {"reward": reward}}
        lines = reading._other_rules({**plan, "entries": [ppo]})
        assert ["ppo on chain (nominal): its rewards were not" in line for line in lines] == (
            [True] if named else []
        )
    config = {"mask_failure": False, "centre_reward": False}
    plan["entries"][1]["settings"]["config"] |= config  # chosen by the user, so shown elsewhere
    assert not reading._other_rules(plan) and not report.load(folder).other_rules
    text = page.build(dataclasses.replace(report.load(folder), other_rules=("made so",)))
    assert "Made so." in text

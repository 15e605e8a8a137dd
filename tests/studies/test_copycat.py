"""The study of copycats: the same demonstrations seen in several ways, and remedies."""

import json
from typing import Any, cast

import numpy as np
import pytest

from irl_bench.cli import sweep
from irl_bench.core.settings import BadInput
from irl_bench.horizon import analyse
from irl_bench.plan import build as plans
from irl_bench.report.data import ReportData, plain
from irl_bench.studies import copycat
from tests.horizon.conftest import curves_of, growing


def parts(*flags, out):
    command = sweep.parse(["sweep.py", "--experiment=copycat", *flags, f"--out={out}"])
    return command.study.parts(command.request, command.demos, out)


def test_views_and_remedies_differ_in_one_thing_each(tmp_path):
    found = {part.name: plans.build(part.request).cells[-1] for part in parts(out=tmp_path)}
    assert {name.split("/")[0] for name in found} == {"lane_keep", "race", "hopper"}
    usual = {"frames": "1", "last_action": "hidden", "velocities": "visible"}
    for env in ("lane_keep", "hopper"):
        cells = {k.removeprefix(f"{env}/"): c for k, c in found.items() if k.startswith(env)}
        assert len({c.demos * c.demo_steps for c in cells.values()}) == 1
        for name, cell in cells.items():
            view, arm = name.split("/")
            options = {k: v for k, v in cell.options.items() if v != usual.get(k, v)}
            assert options == copycat.VIEWS[view]
            assert cell.algo == ("dagger" if arm == "dagger" else "bc")
            if cell.algo == "bc":
                base = cells["present/bc"].config
                changed = {k: v for k, v in cell.config.items() if v != base[k]}
                assert changed == copycat.REMEDIES.get(arm, {})
    arms = {name.split("/")[2] for name in found if name.startswith("race/frames-4-action")}
    assert arms == {"bc", "dropout", "adversary", "masks", "dagger"}


def constructed(name, cost, held_out, **metrics):
    """{part: its report}: a regret proportional to `cost`, and the metrics of the last round."""
    env, _, arm = name.split("/")
    algo = "dagger" if arm == "dagger" else "bc"
    curve = curves_of(growing(lambda T: cost * T**2), algo=algo, env=env)
    worlds = {env: {"u": 1, "latency": 1, "horizon": 1024, "nominal": "nominal"}}
    rng = np.random.default_rng(0)
    seeds = len(curve.seeds)
    wobble = 0.01 * rng.normal(size=seeds)
    recorded = {} if algo == "dagger" else {"best_held_out_loss": held_out, **metrics}
    rounds = {
        f"train/{metric}": (
            np.array([1, 2]),
            np.stack([np.full(seeds, 9.0), value + wobble], 1),
        )
        for metric, value in recorded.items()
    }
    plan = cast(Any, {"entries": [], "worlds": worlds})
    report = ReportData([curve], analyse([curve], worlds), [], plan)
    report.rounds[env, algo, "nominal"] = rounds
    return {name: report}


def test_a_view_is_a_copycat_if_its_held_out_loss_falls_and_its_regret_rises():
    seen = {"predictable": 0.9, "repeats": 0.8, "shift": 0.5}
    reports = (
        constructed("lane_keep/present/bc", 1.0, -2.0)
        | constructed("lane_keep/last-action/bc", 3.0, -3.0, **seen)
        | constructed("lane_keep/last-action/dropout", 1.5, -2.5, **seen)
        | constructed("lane_keep/last-action/dagger", 0.5, None)
        | constructed("lane_keep/positions/bc", 2.0, -1.0)
        | constructed("lane_keep/frames-4/bc", 1.0, -2.0, **seen)
    )
    read = copycat.read(reports)
    points = {(p["view"], p["remedy"]): p for p in read["points"]}
    copies = points["last-action", "none"]
    np.testing.assert_allclose(copies["ratio"][0], 3.0)
    np.testing.assert_allclose(copies["held_out_change"][0], -1.0)
    np.testing.assert_allclose(copies["repeats"][0], 0.8, atol=0.01)
    treated = points["last-action", "dropout on the past"]
    np.testing.assert_allclose(treated["ratio"][0], 0.5)  # of plain BC in the same view
    np.testing.assert_allclose(treated["held_out_change"][0], 0.5)
    assert points["last-action", "DAgger, which asks"]["held_out_change"] is None
    np.testing.assert_allclose(points["last-action", "DAgger, which asks"]["ratio"][0], 1 / 6)
    np.testing.assert_allclose(points["frames-4", "none"]["ratio"][0], 0.5)
    assert read["text"][:2] == [
        "lane_keep, last action: the held-out loss falls, the regret rises; a copycat.",
        "lane_keep, frames 4: the held-out loss falls, the regret falls.",
    ]
    (rows,) = read["tables"].values()
    assert [row["shift"] is not None for row in rows] == [False, True, True, False, False, False]
    assert len(copycat.draw(plain(read)).axes) == 1


@pytest.mark.parametrize(
    ("change", "ratio", "words"),
    [
        (
            [-1, -2, -0.5],
            [2, 0.9, 4],
            "falls, the regret is not shown to change.",
        ),
        ([0.1, -0.1, 0.3], [2, 1.5, 4], "is not shown to change, the regret rises."),
        (None, None, "cannot be compared with its control."),
    ],
)
def test_what_is_not_shown_is_said(change, ratio, words):
    assert copycat.sentence({"held_out_change": change, "ratio": ratio}).endswith(words)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--env=chain"], r"--env=chain: it has no views .* nearest: --env=lane_keep,race,hopper$"),
        (
            ["--lane_keep.frames=2", "--env=lane_keep"],
            r"--lane_keep.frames: --experiment=copycat compares",
        ),
        (
            ["--bc.adversary=2"],
            r"--bc.adversary: --experiment=copycat compares its values; nearest: leave it",
        ),
    ],
)
def test_what_the_study_varies_is_refused_in_one_line(flags, words, tmp_path):
    with pytest.raises(BadInput, match=words):
        parts(*flags, out=tmp_path)


@pytest.mark.slow
def test_smoke_runs_to_its_files(tmp_path, quick_compilation):
    line = ["sweep.py", "--experiment=copycat", "--budget=smoke", "--env=lane_keep"]
    assert sweep.main(sweep.parse([*line, f"--out={tmp_path}"])) == 0
    found = json.loads((tmp_path / "copycat.json").read_text())
    (rows,) = found["tables"].values()
    assert [(row["view"], row["remedy"]) for row in rows] == [
        ("positions", "none"),
        ("positions action", "none"),
        ("positions action", "dropout on the past"),
    ]
    assert (tmp_path / "figures" / "copycat.png").exists()

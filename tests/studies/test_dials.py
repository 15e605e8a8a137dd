"""The studies that turn a dial: their sweeps, and slopes beside the chain's."""

import itertools
from typing import Any, cast

import numpy as np
import pytest

from irl_bench.cli import sweep
from irl_bench.core.settings import BadInput
from irl_bench.horizon import analyse, chain_model
from irl_bench.horizon.slopes import slope
from irl_bench.plan import build as plans
from irl_bench.report.data import ReportData, plain
from irl_bench.studies import dials
from tests.horizon.conftest import curves_of, simulate_chain


def parts(study, *flags, out):
    command = sweep.parse(["sweep.py", f"--experiment={study}", *flags, f"--out={out}"])
    return command.study.parts(command.request, command.demos, out)


def cells(study, *flags, out):
    """{part: the cell of BC}"""
    return {
        part.name: next(cell for cell in plans.build(part.request).cells if cell.algo == "bc")
        for part in parts(study, *flags, out=out)
    }


def test_recoverability_turns_one_dial(tmp_path):
    found = cells("recoverability", "--env=chain,lane_keep,hopper", out=tmp_path)
    for env in ("chain", "lane_keep", "hopper"):
        own = {name: cell for name, cell in found.items() if cell.env == env}
        rates = [cell.dials["reacquisition"] for cell in own.values()]
        assert rates == [0, 1 / 1024, 1 / 256, 1 / 64, 1 / 16, 1 / 4] + [1] * (env == "chain")
        assert len({cell.static_key() for cell in own.values()}) == 1  # one compilation
    assert found["lane_keep/rho/0.25"].dials["crosswind"] == 4.0


def test_hazard_turns_each_dial_alone(tmp_path):
    found = cells("hazard", "--env=lane_keep,hopper", "--lane_keep.crosswind=3", out=tmp_path)
    usual = {"demos": 96, "hazard_rate": 0.01, "noise": 0.0}
    for name, cell in found.items():
        env, dial, value = name.split("/")
        if env != "lane_keep":
            continue
        assert cell.dials["crosswind"] == 3.0
        values = {"demos": cell.demos, **{k: cell.dials[k] for k in ("hazard_rate", "noise")}}
        key = {"demonstrations": "demos"}.get(dial, dial)
        if dial == "hazard_rate":  # as many ruts in the demonstrations
            rate, ruts = values["hazard_rate"], values["demos"] * 512
            assert ruts / (28 + 1 / rate) == pytest.approx(96 * 512 / 128, rel=0.02)
            assert cell.config["steps_per_round"] / values["demos"] == pytest.approx(
                found["lane_keep/noise/0"].config["steps_per_round"] / 96, rel=0.02
            )
            values["demos"] = 96
        assert values == {**usual, key: pytest.approx(float(value))}
    counts = [c.demos for n, c in found.items() if n.startswith("lane_keep/demonstrations/")]
    assert counts == [24, 48, 67, 96, 134, 192]
    pushes = [c.dials["push_rate"] for n, c in found.items() if n.startswith("hopper/push_rate/")]
    assert pushes == pytest.approx([1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3])


def constructed(h, horizons="auto", seeds=20, rho=0.0):
    """The report of BC as a two-state chain, in a world whose window begins at T = 80."""
    rates = np.full(seeds, h), np.full(seeds, rho)
    curve = curves_of(simulate_chain(np.random.default_rng(4), *rates, 2000, 1024))
    worlds = {"w": {"u": 8, "latency": 1, "horizon": 1024, "nominal": "nominal"}}
    plan = {"analysis": {"horizons": horizons}, "worlds": worlds}
    return ReportData([curve], analyse([curve], worlds, horizons), [], cast(Any, plan))


def test_the_slope_at_a_saturated_point_is_the_chains():
    """Beyond h T_max = 0.3 there is no verdict, but there is a slope, and it bends."""
    rates = (1e-4, 1e-3, 4e-3)
    reports = {f"w/hazard/{h:g}": constructed(h) for h in rates}
    read = dials.read(reports, "", "")
    assert [point["verdict"] for point in read["points"]] == ["QUADRATIC"] + 2 * ["NO-WINDOW"]
    for h, point in zip(rates, read["points"], strict=True):
        grid = np.array(point["horizons"])
        assert (grid[0], grid[-1]) == (80, 1024)  # the same for all
        assert point["saturated"] == (h * 1024 > 0.3)
        exact = slope(grid, chain_model.cost(grid, h, 0.0))
        assert point["chain_slope"] == pytest.approx(exact, abs=0.01)
        middle, low, high = point["slope"]
        assert low <= exact <= high and high - low < 0.12
        assert middle == pytest.approx(exact, abs=0.06)
        # The same rollouts give both, so their difference is less uncertain than the slope.
        apart, least, most = point["less_chain"]
        assert apart == pytest.approx(middle - point["chain_slope"]) and least < 0 < most
        assert most - least < high - low
    assert read["points"][2]["slope"][0] < 1.7
    (rows,) = read["tables"].values()
    assert [row["above 0.3"] for row in rows] == [False, True, True]
    assert all(row["slope"] is not None and row["difference"] is not None for row in rows)
    figure = dials.draw(plain(read), {"hazard": "1/step"})
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["the chain", "h T_max > 0.3", "BC, measured"]
    assert figure.axes[0].get_legend() is None  # it would hide intervals
    assert figure.axes[0].get_xlabel() == "hazard [1/step]"


def test_horizons_that_are_asked_for_are_those_of_every_point():
    asked = [100, 200, 300, 400, 500, 600, 1000]
    read = dials.read({"w/hazard/0.004": constructed(4e-3, asked)}, "", "")
    assert read["points"][0]["horizons"] == asked


def test_without_failures_there_is_no_slope():
    read = dials.read({"w/hazard/0": constructed(0.0)}, "", "")
    (row,) = read["tables"]["w: BC by hazard"]
    assert row["slope"] is row["the chain's"] is row["difference"] is None
    assert row["h T_max"] == 0 and not row["above 0.3"]
    assert read["text"][-1].endswith("throughout: w at hazard = 0.")
    assert dials.draw(plain(read), {}).legends == []


@pytest.mark.parametrize(("values", "shown"), [((4, 8), 2), ((0, 0.25), 2), ((0.4, 0.8), 2)])
def test_a_dial_of_few_values_has_ticks(values, shown):
    row = {"env": "w", "dial": "d", "slope": [1.5, 1.4, 1.6], "chain_slope": 1.5, "saturated": 0}
    axis = dials.draw({"points": [row | {"value": value} for value in values]}, {}).axes[0]
    low, high = axis.get_xlim()
    assert sum(low <= tick <= high for tick in axis.get_xticks()) >= shown


@pytest.mark.parametrize(
    ("study", "flag"),
    [("hazard", "lane_keep.hazard_rate"), ("recoverability", "lane_keep.reacquisition")],
)
def test_a_dial_that_the_study_turns_is_refused(study, flag, tmp_path):
    with pytest.raises(BadInput, match=rf"--{flag}: --experiment={study} turns it; nearest: "):
        parts(study, "--env=lane_keep", f"--{flag}=0.02", out=tmp_path)


@pytest.mark.parametrize(
    ("study", "env", "words"),
    [
        ("recoverability", "grid", r"reacquisition, which grid has not; nearest: \w+$"),
        ("hazard", "grid", r"hazard turns a rate .*, which grid has not; nearest: --env=chain"),
        ("hazard", "reacher", r"reacher is fixed .* no push moves it; nearest: --env=hopper$"),
    ],
)
def test_a_world_without_the_dial_is_one_line(study, env, words, tmp_path):
    with pytest.raises(BadInput, match=words):
        parts(study, f"--env={env}", out=tmp_path)


@pytest.mark.slow
def test_on_the_chain_measured_and_predicted_slopes_agree(tmp_path):
    """The chain is the two-state chain, so the prediction is exact but for chance."""
    line = ["sweep.py", "--experiment=recoverability", "--env=chain", "--seeds=10"]
    line += ["--episodes=2048", f"--out={tmp_path}"]
    from irl_bench.studies import study

    command = sweep.parse(line)
    result = study.run(command.study, command.request, command.demos, "", lambda text: None)
    found = [(point["slope"], point["chain_slope"]) for point in result["points"]]
    assert len(found) == 7
    for (middle, low, high), chain in found:
        assert abs(middle - chain) < max(0.05, (high - low) / 2)
    measured = [middle for (middle, _, _), _ in found]
    assert all(later < earlier + 0.05 for earlier, later in itertools.pairwise(measured))
    assert measured[0] > 1.9 and measured[-1] < 1.1
    assert (tmp_path / "figures" / "recoverability.png").exists()

"""The studies that turn a dial: their sweeps, and slopes beside the chain's."""

import pytest

from irl_bench.cli import sweep
from irl_bench.core.settings import BadInput
from irl_bench.plan import build as plans


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
        assert rates == [1 / 1024, 1 / 256, 1 / 64, 1 / 16, 1.0]
        assert len({cell.static_key() for cell in own.values()}) == 1  # one compilation
    assert found["lane_keep/rho/1"].dials["crosswind"] == 4.0


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
        assert values == {**usual, key: pytest.approx(float(value))}
    counts = [c.demos for n, c in found.items() if n.startswith("lane_keep/demonstrations/")]
    assert counts == [24, 48, 96, 192, 384]
    pushes = [c.dials["push_rate"] for n, c in found.items() if n.startswith("hopper/push_rate/")]
    assert pushes == pytest.approx([2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3])


@pytest.mark.parametrize(
    ("study", "words"),
    [
        ("recoverability", r"reacquisition, which grid has not; nearest: \w+$"),
        ("hazard", r"hazard turns a rate of hazards, which grid has not; nearest: --env=chain"),
    ],
)
def test_a_world_without_the_dial_is_one_line(study, words, tmp_path):
    with pytest.raises(BadInput, match=words):
        parts(study, "--env=grid", out=tmp_path)


@pytest.mark.slow
def test_on_the_chain_measured_and_predicted_slopes_agree(tmp_path, quick_compilation):
    """The chain is the two-state chain, so the prediction is exact but for chance."""
    line = ["sweep.py", "--experiment=recoverability", "--env=chain", "--seeds=10"]
    line += ["--episodes=512", f"--out={tmp_path}"]
    from irl_bench.studies import study

    command = sweep.parse(line)
    result = study.run(command.study, command.request, command.demos, "", lambda text: None)
    slopes = [(point["slope"], point["chain_slope"]) for point in result["points"]]
    assert len(slopes) == 5
    for (slope, low, high), chain in slopes:
        assert abs(slope - chain) < max(0.1, high - low)
    measured = [slope for (slope, _, _), _ in slopes]
    assert measured == sorted(measured, reverse=True) and measured[0] > 1.7 and measured[-1] < 1.2
    assert (tmp_path / "figures" / "recoverability.png").exists()

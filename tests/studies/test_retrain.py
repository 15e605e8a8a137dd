"""BC trained anew at every horizon: its data, its slopes and its refusals."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from irl_bench.algos import bc
from irl_bench.cli import sweep
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Task
from irl_bench.plan import build as plans
from irl_bench.running.programs import Program
from irl_bench.studies import retrain

SMOKE = ["sweep.py", "--experiment=retrain", "--budget=smoke"]


def parts(*flags, out):
    command = sweep.parse([*SMOKE, *flags, f"--out={out}"])
    return command.study.parts(command.request, command.demos, out)


def test_slopes_are_those_of_power_laws():
    """J = c T^1.5 and eps = d T^-0.5 with seeds that differ by a factor alone."""
    grid = np.array([64, 128, 256, 512, 1024])
    factor = np.exp(np.linspace(-0.3, 0.3, 9))[:, None]
    found = retrain.measured(grid, 1e-3 * grid**1.5 * factor, 0.1 * grid**-0.5 * factor**2)
    for quantity, slope in (("J", 1.5), ("eps", -0.5), ("ratio", 2.0)):
        np.testing.assert_allclose(found[f"slope_{quantity}"], slope, atol=1e-9)
    ratio = np.array(found["ratio"])[:, 0]
    np.testing.assert_allclose(ratio, 1e-2 * grid**2 * factor.mean() / (factor**2).mean())
    none = retrain.measured(grid, np.zeros((3, 5)), np.zeros((3, 5)))
    assert np.isnan(none["slope_J"]).all() and np.isnan(none["slope_ratio"]).all()


def test_each_part_shows_the_first_steps_of_the_same_demonstrations(tmp_path, quick_compilation):
    """All horizons share compiled functions. A shorter T shows less of the same episodes, and
    counts fewer labels and fewer steps of held-out episodes."""
    made = [plans.build(part.request) for part in parts("--T_max=32", out=tmp_path)]
    cells = {
        (plan.entries[-1].cells[0].config["loss"], plan.entries[-1].cells[0].shown_steps): cell
        for plan in made
        for cell in plan.entries[-1].cells
        if not cell.config["time_indexed"]
    }
    short, long = cells["nll", 8], cells["nll", 32]
    assert short.static_key() == long.static_key() and short.demo_steps == long.demo_steps == 32
    queries = {
        plan.entries[-1].cells[0].shown_steps: plan.entries[-1].consumes["expert_queries"]
        for plan in made
    }
    assert queries == {8: 4 * 8, 32: 4 * 32}
    program = Program(short, {})
    program.prepare()
    seeds = program.put([np.asarray(short.seeds, np.uint32)] * program.groups)
    dials = program.put([program.dials(short)] * program.groups)
    few = program.demonstrations([short], seeds, dials)
    all_ = program.demonstrations([long], seeds, dials)
    np.testing.assert_array_equal(few.observation, all_.observation)
    assert (np.asarray(all_.mask) == 1).all()
    assert (np.asarray(few.mask)[..., :8] == 1).all() and not np.asarray(few.mask)[..., 8:].any()
    state = program.init(seeds, few, dials, None)
    blocks = program.put([np.uint32(0)] * program.groups)
    for cell in (short, long):
        errors = program.expert_errors(state, dials, seeds, blocks, program.shown([cell]))
        steps = np.asarray(errors["expert_steps"])
        assert (steps == cell.eps_block * cell.shown_steps).all()
    program.settle()


def test_bc_does_not_see_what_is_not_shown(quick_compilation):
    """Actions past the mask change nothing, of the training and of the held-out episodes."""
    from irl_bench.core.settings import settings_of
    from irl_bench.core.types import Spec
    from tests.algos.test_contract import KEY, TINY, WORLDS, task_of

    task = task_of("line")
    demos = task.demonstrations
    early = (jnp.arange(demos.mask.shape[1]) < 2).astype(jnp.float32)
    shown = demos.replace(mask=demos.mask * early)
    other = shown.replace(action=jnp.where(early[:, None] > 0, shown.action, 0.77))
    known = settings_of(bc.Config)
    config = bc.Config(**{name: value for name, value in TINY.items() if name in known})
    learner = bc.make(Spec(WORLDS["line"](), 8, *demos.mask.shape), config)
    ends = []
    for seen in (shown, other):
        state = learner.init(KEY, Task(seen, task.dials))
        state, metrics = learner.update(state, Task(seen, task.dials))
        ends.append((float(metrics["held_out_loss"]), float(metrics["loss"])))
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--algo=dagger"], r"--experiment=retrain is about bc; nearest: leave out --algo"),
        (["--demos_from=mine.npz"], r"--experiment=retrain cuts .* leave out --demos_from"),
        (["--demos=4,8"], r"one number of demonstrations"),
        (["--horizons=10,5"], r"must be increasing"),
    ],
)
def test_bad_input_is_one_line(flags, words, tmp_path):
    with pytest.raises(BadInput, match=words):
        parts(*flags, out=tmp_path)


@pytest.mark.slow
def test_smoke_runs_to_its_files(tmp_path, quick_compilation):
    line = [*SMOKE, "--T_max=64", f"--out={tmp_path}"]
    assert sweep.main(sweep.parse(line)) == 0
    found = json.loads((tmp_path / "retrain.json").read_text())
    variants = [row["trained with"] for row in found["tables"]["Slopes over T"]]
    assert variants == ["log loss", "squared error", "time indexed"] and all(
        row["world"] == "chain, tail 2" and row["by theory"] > 0.9
        for row in found["tables"]["Slopes over T"]
    )
    assert (tmp_path / "figures" / "retrain.png").exists()

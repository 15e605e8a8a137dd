"""BC trained anew at every horizon: its data, its slopes and its refusals."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from envs import chain
from irl_bench.algos import bc
from irl_bench.cli import sweep
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Task
from irl_bench.horizon import chain_model, missing_mass
from irl_bench.horizon.slopes import slope
from irl_bench.plan import build as plans
from irl_bench.plan import presets
from irl_bench.running.programs import Program
from irl_bench.studies import retrain, study

SMOKE = ["sweep.py", "--experiment=retrain", "--budget=smoke"]


def parts(*flags, out):
    command = sweep.parse([*SMOKE, *flags, f"--out={out}"])
    return command.study.parts(command.request, command.demos, out)


def test_slopes_are_those_of_power_laws():
    """J = c T^1.5 and eps = d T^-0.5 with seeds that differ by a factor alone."""
    grid = np.array([64, 128, 256, 512, 1024])
    factor = np.exp(np.linspace(-0.3, 0.3, 9))[:, None]
    found = retrain.measured(grid, 1e-3 * grid**1.5 * factor, 0.1 * grid**-0.5 * factor**2)
    for quantity, exponent in (("J", 1.5), ("eps", -0.5), ("ratio", 2.0)):
        np.testing.assert_allclose(found[f"slope_{quantity}"], exponent, atol=1e-9)
    ratio = np.array(found["ratio"])[:, 0]
    np.testing.assert_allclose(ratio, 1e-2 * grid**2 * factor.mean() / (factor**2).mean())
    none = retrain.measured(grid, np.zeros((3, 5)), np.zeros((3, 5)))
    assert np.isnan(none["slope_J"]).all() and np.isnan(none["slope_ratio"]).all()


def test_each_part_shows_the_first_steps_of_the_same_demonstrations(tmp_path, quick_compilation):
    """All horizons share compiled functions. A shorter T shows less of the same episodes, and
    counts fewer labels and fewer steps of held-out episodes."""
    made = [plans.build(part.request) for part in parts("--T_max=32", "--demos=4", out=tmp_path)]
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


def test_the_chain_has_fewer_demonstrations_than_its_budget_and_other_worlds_have_as_many(tmp_path):
    def counts(*flags):
        command = sweep.parse(["sweep.py", "--experiment=retrain", *flags, f"--out={tmp_path}"])
        found = command.study.parts(command.request, command.demos, tmp_path)
        return {(part.request.env[0], part.request.demos) for part in found}

    car = presets.budget_of("lane_keep", "default").demos
    assert counts("--env=chain,lane_keep") == {("chain", 16), ("lane_keep", car)}
    assert counts("--env=chain,lane_keep", "--demos=7") == {("chain", 7), ("lane_keep", 7)}


def test_labels_that_are_shown_give_the_slope_in_closed_form(tmp_path, quick_compilation):
    """The cost of a table of the situations that each part shows. Whole demonstrations at every T
    would make it a fixed policy, whose cost grows like T²."""
    flags = ["--chain.tail=2", "--demos=16", "--seeds=10", "--seeds_at_once=10"]
    flags += ["--T_max=512", "--horizons=64,128,256,512"]
    made = {
        int(part.name.rsplit("/", 1)[1]): plans.build(part.request)
        for part in parts(*flags, out=tmp_path)
        if "/log_loss/" in part.name
    }
    cells = {T: next(cell for cell in plan.cells if cell.algo == "bc") for T, plan in made.items()}
    first = cells[64]
    program = Program(first, {})
    program.prepare()
    seeds = program.put([np.asarray(first.seeds, np.uint32)] * program.groups)
    dials = program.put([program.dials(first)] * program.groups)
    law, grid = chain.TAILS["2"], np.array(list(cells))
    h = np.zeros((2, len(grid), first.width))
    for k, cell in enumerate(cells.values()):
        demos = program.demonstrations([cell], seeds, dials)
        view = np.argmax(np.asarray(demos.observation), -1).reshape(-1, 16, 512)[: first.width]
        mask = np.asarray(demos.mask).reshape(-1, 16, 512)[: first.width] > 0
        for way, shown in enumerate((mask, np.ones_like(mask))):
            for seed in range(first.width):
                unseen = np.isin(np.arange(law.situations), view[seed][shown[seed]], invert=True)
                h[way, k, seed] = law.hazard * law.probability[unseen].sum()
    program.settle()
    J = chain_model.cost(grid[:, None], h, 0.0).mean(-1)
    exact = missing_mass.retrained_slope(law.probability, grid, 16, law.hazard)
    right, wrong = slope(grid, J)
    assert right == pytest.approx(exact, abs=0.1)
    assert wrong > exact + 0.4


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
        (["--demo_steps=64"], r"--demo_steps=64: .* as long as the horizon; nearest: --T_max=64$"),
        (["--bc.loss=mse"], r"--bc.loss: .*retrain compares its values; nearest: leave it out$"),
        (["--bc.time_indexed=true"], r"--bc.time_indexed: .* compares its values; nearest: leave"),
        (["--demos=4,8"], r"one number of demonstrations"),
        (["--horizons=10,5"], r"must be increasing"),
    ],
)
def test_bad_input_is_one_line(flags, words, tmp_path):
    with pytest.raises(BadInput, match=words):
        parts(*flags, out=tmp_path)


def test_averaged_weights_are_for_the_networks_alone(tmp_path):
    average = {
        part.name.split("/")[-2]: plans.build(part.request).cells[-1].config["ema"]
        for part in parts("--env=chain", "--bc.ema=0.9", out=tmp_path)
    }
    assert average == {"log_loss": 0.9, "squared_error": 0.9, "time_indexed": 0.0}


def test_the_hazard_of_a_table_for_each_step_stays_in_range(tmp_path):
    """It is lowered to h T_max = 0.2, and is no more than 1."""
    indexed = lambda *flags: next(
        plans.build(part.request).cells[-1]
        for part in parts(*flags, out=tmp_path)
        if "/time_indexed/" in part.name
    )
    usual = indexed("--T_max=512", "--demos=16")
    h = usual.dials["hazard"] * missing_mass.missing_mass(chain.TAILS["2"].probability, 16)[0]
    assert h * 512 == pytest.approx(retrain.INDEXED_FAILURES)
    assert indexed("--T_max=8", "--demos=4").dials["hazard"] == 1.0


def test_tails_whose_rarest_situations_decide_have_more_seeds_and_tables_are_fitted(tmp_path):
    """Four times the seeds on two tails, and 24 rounds of log loss and squared error."""
    line = ["sweep.py", "--experiment=retrain", "--seeds=5", f"--out={tmp_path}"]
    command = sweep.parse(line)
    found = {}
    for part in command.study.parts(command.request, command.demos, tmp_path):
        _, tail, variant, _ = part.name.split("/")
        cell = plans.build(part.request).cells[-1]
        found[tail, variant] = part.request.seeds, cell.config["rounds"]
    assert found == {
        ("tail-2", "log_loss"): (5, 24),
        ("tail-2", "squared_error"): (5, 24),
        ("tail-2", "time_indexed"): (5, 6),
        ("tail-1.5", "log_loss"): (5, 24),
        ("tail-3", "log_loss"): (20, 24),
        ("tail-geometric", "log_loss"): (20, 24),
    }


@pytest.mark.slow
def test_the_measured_slope_is_the_closed_form(tmp_path):
    """BC with log loss on one tail, in the whole study: plan, training, evaluation and fit."""
    line = ["sweep.py", "--experiment=retrain", "--chain.tail=2", "--T_max=512", "--seeds=10"]
    line += [f"--out={tmp_path}"]
    command = sweep.parse(line)
    kept = lambda *args: [p for p in command.study.parts(*args) if "/log_loss/" in p.name]
    one = dataclasses.replace(command.study, parts=kept)
    result = study.run(one, command.request, command.demos, "", lambda text: None)
    (point,) = result["points"]
    law = chain.TAILS["2"]
    grid = np.array(point["T"])
    exact = missing_mass.retrained_slope(law.probability, grid, 16, law.hazard)
    assert len(grid) == 7 and point["theory"] == pytest.approx(exact)
    assert 1.4 < exact < 1.6
    assert point["slope_J"][0] == pytest.approx(exact, abs=0.1)
    # Errors are those in unseen situations, so J / eps has the T² of a fixed policy.
    assert point["slope_ratio"][0] == pytest.approx(2.0, abs=0.15)
    np.testing.assert_allclose(point["eps_per_unseen"], 2 / 3, atol=0.1)


@pytest.mark.slow
def test_smoke_runs_to_its_files(tmp_path, quick_compilation):
    line = [*SMOKE, "--T_max=64", f"--out={tmp_path}"]
    assert sweep.main(sweep.parse(line)) == 0
    found = json.loads((tmp_path / "retrain.json").read_text())
    variants = [row["trained with"] for row in found["tables"]["Slopes over T"]]
    assert variants == ["log loss", "squared error", "time indexed"] and all(
        row["world"] == "chain, tail 2"
        and (row["by theory"] is None) == (row["trained with"] == "squared error")
        for row in found["tables"]["Slopes over T"]
    )
    assert (tmp_path / "figures" / "retrain.png").exists()

"""The runner: results depend on neither chunks, neighbours nor interruptions, and one
compilation serves all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import threading

import jax
import numpy as np
import pytest

from irl_bench import sweep
from irl_bench.cli import sweep as cli
from irl_bench.core.cell import cell_key, fingerprint
from irl_bench.core.exits import INTERRUPTED
from irl_bench.core.settings import BadInput
from irl_bench.running import programs, runner, work
from irl_bench.running.console import Silent
from irl_bench.storage import checkpoints
from irl_bench.storage.cells import cell_path, learned_path, read_cell
from irl_bench.storage.files import StoreError
from tests.worlds.toys import (
    BAD_METRIC_ROUND,
    BAD_PARAMS_ROUND,
    BAD_SEED,
    ROUNDS,
    cell,
    closed_form,
)


def run(cells, out, **options):
    return runner.compute(cells, out, **{"display": Silent(), "stop": threading.Event(), **options})


def contents(out):
    return {path.name: path.read_bytes() for path in sorted((out / "cells").glob("*.parquet"))}


def value(out, spec, quantity, seed, horizon=0):
    _, table = read_cell(cell_path(out, cell_key(spec, fingerprint())))
    rows = table.to_pylist()
    return [
        row["value"]
        for row in rows
        if (row["quantity"], row["seed"], row["T"]) == (quantity, seed, horizon)
    ]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """(folder, cells) of an undisturbed run."""
    out, cells = tmp_path_factory.mktemp("reference"), [cell(), cell(first_seed=3)]
    run(cells, out)
    return out, cells


def test_what_another_worker_has_stored_meanwhile_stays(reference, tmp_path, monkeypatch):
    """Its machine rounds differently, so what it learned belongs to its own result alone."""
    out, (spec, *_) = reference
    key = cell_key(spec, fingerprint())
    before = [path(out, key).read_bytes() for path in (cell_path, learned_path)]
    usual = work.Work.keep

    def late(batch):
        for name in ("cells", "learned"):
            shutil.copytree(out / name, tmp_path / name, dirs_exist_ok=True)
        return jax.tree.map(lambda leaf: leaf + 1, usual(batch))

    monkeypatch.setattr(work.Work, "keep", late)
    run([spec], tmp_path)
    after = [path(tmp_path, key).read_bytes() for path in (cell_path, learned_path)]
    assert after == before
    assert read_cell(cell_path(out, key))[0]["learned"] == hashlib.sha256(before[1]).hexdigest()


def test_a_learned_file_that_another_worker_has_left_is_replaced(reference, tmp_path):
    """It died before it stored its result."""
    out, (spec, *_) = reference
    key = cell_key(spec, fingerprint())
    learned_path(tmp_path, key).parent.mkdir()
    learned_path(tmp_path, key).write_bytes(b"of another worker")
    run([spec], tmp_path)
    for path in (cell_path, learned_path):
        assert path(tmp_path, key).read_bytes() == path(out, key).read_bytes()


@contextlib.contextmanager
def compilations():
    """Counts all compilations by JAX, those the runner knows of and any other."""
    seen = []

    def listener(name, seconds, **_):
        if name == "/jax/core/compile/backend_compile_duration":
            seen.append(name)

    jax.monitoring.register_event_duration_secs_listener(listener)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listener)


def test_only_the_programs_last_used_are_kept(monkeypatch):
    """A long study would run out of memory maps."""
    monkeypatch.setattr(programs, "CACHED_PROGRAMS", 2)
    programs._programs.clear()
    first, second, third = (cell(demo_steps=steps) for steps in (7, 8, 9))
    kept = programs.program_for(first, {})
    programs.program_for(second, {})
    assert programs.program_for(first, {}) is kept
    programs.program_for(third, {})
    assert programs.program_for(first, {}) is kept
    assert [program._cell for program in programs._programs.values()] == [third, first]


def test_demonstrations_are_made_once_for_all_cells_that_want_the_same(tmp_path):
    programs._demonstrations.clear()
    run([cell()], tmp_path)
    (demos,) = programs._demonstrations.values()
    run([cell(episodes=64, mode="nominal")], tmp_path)  # has the same demonstrations
    assert [kept is demos for kept in programs._demonstrations.values()] == [True]
    run([cell(mode="recoverable"), cell(demo_steps=7)], tmp_path)
    assert len(programs._demonstrations.values()) == 3


class StopAt(Silent):
    """Asks the run to stop once it is in `stage` for the `count`-th time."""

    def __init__(self, stop, stage, count):
        self.stop, self.stage, self.left = stop, stage, count

    def advance(self, label, stage, fraction):
        self.left -= stage == self.stage
        if self.left == 0:
            self.stop.set()


def test_one_compilation_for_modes_dials_seeds_and_episodes(tmp_path):
    programs._programs.clear()
    cells = [
        cell(),
        cell(first_seed=6),
        cell(mode="recoverable"),
        cell(dials={"slip": 0.3}),
        cell(episodes=64, eval_every=0),
    ]
    with compilations() as seen:
        summary = run(cells, tmp_path)
    once = {"demonstrate": 1, "init": 1, "chunk": 1, "evaluate": 1, "expert_errors": 1, "keep": 1}
    assert summary.compilations == {f"{cells[0].algo} {cells[0].env}": once}
    assert len(seen) == len(once) and len(summary.done) == 5
    with compilations() as seen:
        summary = run([cell(first_seed=9)], tmp_path)
    assert seen == [] and sum(summary.compilations[f"{cells[0].algo} {cells[0].env}"].values()) == 0


def test_same_cells_again_do_nothing(reference):
    out, cells = reference
    before = contents(out)
    summary = run(cells, out)
    assert summary.done == [] and len(summary.present) == 2 and contents(out) == before
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert len(log) == 2 and all(line["wall"] > 0 and line["resumed"] is None for line in log)


@pytest.mark.parametrize("rounds", [1, 4, ROUNDS])
def test_bytes_do_not_depend_on_chunks(tmp_path, reference, rounds):
    out, cells = reference
    run(cells, tmp_path, chunk_rounds=rounds, checkpoint_seconds=0.0)
    assert contents(tmp_path) == contents(out)
    assert not (tmp_path / "checkpoints").exists()


def test_bytes_do_not_depend_on_neighbours_or_order(tmp_path, reference):
    out, cells = reference
    run([cell(mode="recoverable"), cells[1], cell(first_seed=30), cells[0]], tmp_path)
    assert contents(out).items() <= contents(tmp_path).items()


@pytest.mark.parametrize(
    ("stage", "count", "expected"),
    [
        ("training", 2, {"round": 5, "block": 0, "eps_block": 0}),
        ("training", 5, {"round": ROUNDS, "block": 0, "eps_block": 0}),
        ("evaluating", 3, {"round": ROUNDS, "block": 3, "eps_block": 0}),
        ("measuring eps", 1, {"round": ROUNDS, "block": 4, "eps_block": 1}),
    ],
)
def test_resume_is_exact(tmp_path, reference, stage, count, expected):
    out, cells = reference
    stop = threading.Event()
    with pytest.raises(runner.Interrupted) as caught:
        run(cells[:1], tmp_path, stop=stop, display=StopAt(stop, stage, count), chunk_rounds=3)
    assert caught.value.code == INTERRUPTED and contents(tmp_path) == {}
    summary = run(cells, tmp_path)
    assert list(summary.resumed.values()) == [expected]
    assert contents(tmp_path) == contents(out)
    assert not (tmp_path / "checkpoints").exists()


def test_damaged_checkpoints_fall_back_and_then_start_again(tmp_path, reference):
    out, cells = reference
    notes = []

    class Noting(Silent):
        def note(self, text):
            notes.append(text)

    stop = threading.Event()
    with pytest.raises(runner.Interrupted):
        run(
            cells[:1],
            tmp_path,
            stop=stop,
            display=StopAt(stop, "evaluating", 2),
            checkpoint_seconds=0.0,
        )
    seals = sorted(tmp_path.glob("checkpoints/*/*.json"))
    assert len(seals) == 2
    for seal in seals:
        seal.write_bytes(seal.read_bytes()[:-30])
    run(cells[:1], tmp_path, display=Noting())
    assert len(notes) == 2 and "one before" in notes[0] and "starts again" in notes[1]
    assert contents(tmp_path).items() <= contents(out).items()


def of_another_cell(arrays, facts):
    return arrays, {**facts, "key": "0" * 20}


def without(name):
    return lambda arrays, facts: ({k: v for k, v in arrays.items() if k != name}, facts)


def with_a_longer_history(arrays, facts):
    return {**arrays, "history": np.repeat(arrays["history"], 2, axis=0)}, facts


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (of_another_cell, "it belongs to cell '0000"),
        (without("state.0"), "it has no state.0"),
        (without("history"), "it has no history"),
        (with_a_longer_history, "its history has the shape"),
    ],
)
def test_a_sound_checkpoint_that_does_not_fit_is_said(tmp_path, reference, change, words):
    """Nothing of it is used: the cell begins again."""
    out, cells = reference
    stop, notes = threading.Event(), []
    with pytest.raises(runner.Interrupted):
        run(cells[:1], tmp_path, stop=stop, display=StopAt(stop, "evaluating", 2))
    (folder,) = (tmp_path / "checkpoints").iterdir()
    arrays, facts = checkpoints.restore(folder, pytest.fail)
    shutil.rmtree(folder)
    checkpoints.save(folder, 99, *change(arrays, facts))
    display = Silent()
    display.note = notes.append
    summary = run(cells[:1], tmp_path, display=display)
    assert len(notes) == 1 and words in notes[0] and notes[0].endswith("the cell starts again")
    assert not summary.resumed and contents(tmp_path).items() <= contents(out).items()


def test_failed_seeds_are_marked_and_the_others_go_on(tmp_path):
    spec = cell(algo="tests.worlds.toys:make_failing", first_seed=BAD_SEED - 1, eval_every=0)
    summary = run([spec], tmp_path)
    (failures,) = summary.failures.values()
    assert failures == [
        {"seed": BAD_SEED, "round": BAD_METRIC_ROUND, "quantity": "loss"},
        {"seed": BAD_SEED + 1, "round": BAD_PARAMS_ROUND, "quantity": "params"},
    ]
    for seed, failed in ((BAD_SEED - 1, False), (BAD_SEED, True), (BAD_SEED + 1, True)):
        assert value(tmp_path, spec, "failed", seed) == [float(failed)]
        assert np.isnan(value(tmp_path, spec, "cost", seed, 16)) == failed
    good = value(tmp_path, spec, "cost", BAD_SEED - 1, 16)
    run([cell(first_seed=BAD_SEED - 1, eval_every=0)], tmp_path)
    assert good == value(
        tmp_path, cell(first_seed=BAD_SEED - 1, eval_every=0), "cost", BAD_SEED - 1, 16
    )


def test_expert_costs_what_the_closed_form_says(tmp_path):
    changes = {
        "algo": "tests.worlds.toys:make_expert",
        "eval_every": 0,
        "episodes": 4096,
        "block": 512,
        "dials": {"slip": 0.05},
    }
    cells = [cell(**changes), cell(**changes, mode="recoverable")]
    summary = run(cells, tmp_path)
    assert "chunk" not in next(iter(summary.compilations.values()))
    for spec, back in zip(cells, (0.0, 0.5), strict=True):
        exact = closed_form(16, 0.05, back)
        got = [
            np.mean([value(tmp_path, spec, "cost", seed, t)[0] for seed in spec.seeds])
            for t in (1, 8, 16)
        ]
        # The steps of an episode vary together: at most T times the spread of independent ones,
        # over 3 x 4096 episodes.
        for horizon, mean in zip((1, 8, 16), got, strict=True):
            assert abs(mean - exact[horizon - 1]) < 4 * horizon * 0.5 / np.sqrt(3 * 4096)
        assert value(tmp_path, spec, "eps_own@0.1", 0) == [0.0]
        on, off = value(tmp_path, spec, "on_steps", 0)[0], value(tmp_path, spec, "off_steps", 0)[0]
        assert on + off == 4096 * 16


@pytest.mark.parametrize(
    ("policy", "exact"), [("stay", closed_form(16, 0.1, 0.5)[15]), ("draw", np.nan)]
)
def test_a_policy_that_draws_has_no_closed_form_and_does_not_fail(tmp_path, policy, exact):
    spec = cell(
        algo=f"policy:tests.worlds.toys:{policy}",
        env="tests.worlds.toys:Known",
        mode="recoverable",
        eval_every=0,
    )
    run([spec], tmp_path)
    for seed in spec.seeds:
        np.testing.assert_allclose(
            value(tmp_path, spec, "expected_cost", seed, 16), exact, rtol=1e-5
        )
        assert np.isfinite(value(tmp_path, spec, "cost", seed, 16)) and value(
            tmp_path, spec, "failed", seed
        ) == [0.0]


def test_a_damaged_result_stops_the_run_and_stays(tmp_path, reference):
    out, cells = reference
    path = cell_path(tmp_path, cell_key(cells[0], fingerprint()))
    path.parent.mkdir()
    path.write_bytes(cell_path(out, path.stem).read_bytes()[:-1])
    before = path.read_bytes()
    with pytest.raises(StoreError, match=path.name):
        run(cells, tmp_path)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_one(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(StoreError, match="cannot write"):
        run([cell()], tmp_path / "out")


def test_an_unknown_mode_is_named(tmp_path):
    with pytest.raises(ValueError, match="no mode 'stormy', only nominal, recoverable"):
        run([cell(mode="stormy")], tmp_path)


def test_tensorboard_files(tmp_path):
    spec = cell(first_seed=12)
    run([spec], tmp_path, tensorboard=True)
    assert list((tmp_path / "tensorboard" / cell_key(spec, fingerprint())).iterdir())


def test_supervise_returns_and_raises():
    assert runner.supervise(lambda stop: 3) == 3
    with pytest.raises(KeyError):
        runner.supervise(lambda stop: {}["x"])


class Told(Silent):
    """Remembers its notes."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_cells_from_another_number_of_devices_are_said(tmp_path, monkeypatch):
    """They are computed again, since a program for several devices rounds otherwise."""
    own = fingerprint()["devices"]
    monkeypatch.setattr(runner, "fingerprint", lambda: {**fingerprint(), "devices": own + 1})
    run([cell(), cell(first_seed=3)], tmp_path)
    monkeypatch.undo()
    told = Told()
    summary = run([cell(), cell(first_seed=3), cell(first_seed=6)], tmp_path, display=told)
    assert len(summary.done) == 3
    (line,) = [note for note in told.notes if "devices" in note]
    assert line.startswith(
        f"2 of these cells were begun by a process with {own + 1} devices, and this one has {own}"
    )
    assert line.endswith(f"to resume them, use JAX_NUM_CPU_DEVICES={own + 1}")
    told = Told()
    run([cell(), cell(first_seed=9)], tmp_path, display=told)  # the first is here by now
    assert told.notes == []


def test_a_checkpoint_from_another_number_of_devices_is_said(tmp_path):
    key = cell_key(cell(), {**fingerprint(), "devices": 4})
    (tmp_path / "checkpoints" / key).mkdir(parents=True)
    told = Told()
    run([cell()], tmp_path, display=told)
    assert any(
        "1 of these cells" in note and "JAX_NUM_CPU_DEVICES=4" in note for note in told.notes
    )


def test_an_option_that_only_the_calling_thread_sees_is_one_line(tmp_path):
    with (
        jax.default_matmul_precision("bfloat16"),
        pytest.raises(BadInput, match=r"context manager.*jax\.config\.update"),
    ):
        runner.run([cell()], tmp_path, display=Silent())


def test_another_option_in_the_same_process_is_another_program(tmp_path):
    """As in a notebook: neither programs nor demonstrations of the former option are used again."""
    run([cell()], tmp_path)
    jax.config.update("jax_default_prng_impl", "rbg")
    try:
        run([cell()], tmp_path)
        again = contents(tmp_path)
        programs._programs.clear()
        programs._demonstrations.clear()
        run([cell()], tmp_path / "fresh")
        assert len(again) == 2 and contents(tmp_path / "fresh").items() <= again.items()
    finally:
        jax.config.update("jax_default_prng_impl", "threefry2x32")


def test_an_option_of_the_calling_thread_is_found_before_anything_is_written(tmp_path):
    request = cli.parse(
        ["sweep.py", "--algo=bc", "--env=chain", "--budget=smoke", f"--out={tmp_path / 'run'}"]
    ).request
    with jax.default_matmul_precision("bfloat16"), pytest.raises(BadInput, match="context manager"):
        sweep.compute(request, "", print)
    assert not (tmp_path / "run").exists()

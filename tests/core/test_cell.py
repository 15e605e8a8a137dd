"""A cell's key is stable, and changes with all that determines the cell's numbers."""

import dataclasses
import json

import pytest

from irl_bench.core.cell import PACKAGES, CellSpec, cell_key, fingerprint, numerical_sources
from tests.worlds.toys import cell

PRINTS = {"sources": "abc", "versions": {"jax": "1"}}


def test_key_is_pinned():
    # Renaming or reordering a field, or another JSON, would orphan every stored result without a
    # word.
    spec = cell(config={"learning_rate": 1e-3, "layers": (64, 64)}, dials={"slip": 0.1, "back": 0})
    assert cell_key(spec, PRINTS) == "b6edfe190788d052a529"


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(CellSpec)])
def test_key_depends_on_every_field(field):
    base = cell(config={"rate": 0.1}, dials={"slip": 0.1}, plugin={"own.py": "00"})
    value = getattr(base, field)
    if isinstance(value, dict):
        changed = {**value, "more": "x"} if field == "plugin" else {**value, "more": 1}
    else:
        changed = value + "2" if isinstance(value, str) else value * 2 + (not value)
    if field == "block":
        changed = 4
    assert cell_key(dataclasses.replace(base, **{field: changed}), PRINTS) != cell_key(base, PRINTS)


def test_key_depends_on_values_inside_and_on_the_fingerprint():
    base = cell(config={"rate": 0.1}, dials={"slip": 0.1})
    keys = {
        cell_key(base, PRINTS),
        cell_key(dataclasses.replace(base, config={"rate": 0.2}), PRINTS),
        cell_key(dataclasses.replace(base, dials={"slip": 0.2}), PRINTS),
        cell_key(base, {**PRINTS, "sources": "abd"}),
        cell_key(base, {**PRINTS, "versions": {"jax": "2"}}),
    }
    assert len(keys) == 5


def test_key_ignores_order_and_spelling():
    one = cell(config={"a": 1, "b": (2, 3)}, dials={"slip": 1, "back": -0.0})
    two = cell(config={"b": [2, 3], "a": 1}, dials={"back": 0.0, "slip": 1.0})
    assert one == two
    assert cell_key(one, PRINTS) == cell_key(two, dict(reversed(PRINTS.items())))
    assert CellSpec.from_dict(json.loads(json.dumps(one.to_dict()))) == one


def test_what_enters_as_data_shares_compiled_functions():
    base = cell()
    alike = [
        cell(mode="recoverable"),
        cell(dials={"slip": 0.3}),
        cell(first_seed=9),
        cell(episodes=64),
        cell(eval_every=0),
    ]
    other = [
        cell(algo="x"),
        cell(horizon=17),
        cell(width=4),
        cell(demos=5),
        cell(config={"a": 1}),
        cell(block=4),
    ]
    assert all(spec.static_key() == base.static_key() for spec in alike)
    assert all(spec.static_key() != base.static_key() for spec in other)


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 0},
        {"horizon": 0},
        {"episodes": 30},
        {"eval_every": -1},
        {"first_seed": -1},
        {"first_seed": 2**31 - 1},
        {"dials": {"slip": float("nan")}},
        {"config": {"rate": float("inf")}},
        {"config": {"rate": object()}},
        {"algo": "../../etc"},
        {"mode": ""},
    ],
)
def test_impossible_cells_are_refused_in_one_line(changes):
    with pytest.raises(ValueError) as caught:
        cell(**changes)
    assert "\n" not in str(caught.value)


def test_eps_blocks_divide():
    assert cell(eps_episodes=16, block=8).eps_block == 8
    assert cell(eps_episodes=15, block=8).eps_block == 5
    assert cell(eps_episodes=3, block=8).eps_block == 3


def test_fingerprint_holds_what_changes_numbers(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    plain = fingerprint()
    assert plain["versions"].keys() == set(PACKAGES)
    assert "absent" not in (plain["versions"]["jax"], plain["versions"]["brax"])
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8 --xla_dump_to=x")
    assert fingerprint() == plain
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    assert fingerprint() != plain


def test_fingerprint_covers_the_numerical_sources_only():
    files = numerical_sources()
    assert all(path.is_file() for path in files)
    names = {f"{path.parent.name}/{path.name}" for path in files}
    assert {
        "envs/core.py", "envs/chain.py", "driving/lane_keep.py", "rollouts/evaluation.py",
        "core/types.py", "core/learner.py", "algos/bc.py", "adversarial/trainer.py",
        "preferences/trainer.py", "rl/ppo.py", "nets/supervised.py", "plan/donor.py",
        "running/programs.py", "running/batch.py", "running/runner.py", "running/progress.py",
    } <= names  # fmt: skip
    rooms = {name.partition("/")[0] for name in names}
    assert not rooms & {"cli", "report", "horizon", "studies", "tools", "labelling"}
    assert not names & {"core/folders.py", "core/jax_options.py", "plan/build.py"}

"""What is wrong in a run's folder is found: flipped bits, and values that somebody wrote."""

import hashlib
import types

import numpy as np
import pytest

from irl_bench.core.cell import CellSpec
from irl_bench.core.settings import BadInput
from irl_bench.plan import registry
from irl_bench.storage import artifacts
from irl_bench.storage.cells import cell_path, encode, read_cell
from irl_bench.storage.plans import read_plan, write_plan
from irl_bench.upkeep import verify


def learned_cell(runs):
    """The path of a cell of the toy learner."""
    return next(
        path
        for path in sorted((runs / "whole").glob("cells/*"))
        if read_cell(path)[0]["spec"]["algo"].startswith("tests.")
    )


def rewritten(path, change):
    """Changes a cell's rows, with a hash that fits."""
    manifest, table = read_cell(path)
    rows = table.to_pydict()
    change(rows)
    manifest = {k: v for k, v in manifest.items() if k not in ("sha256", "format", "key")}
    path.write_bytes(encode(path.stem, rows, manifest))


def test_a_sound_run(runs):
    found, said = verify.check(runs / "whole"), []
    assert not found.problems and len(found.sound) == 6 and found.absent == 0
    verify.repeat(found, 2, seed=0, say=said.append, outside=True)
    assert len(said) == 2 and all("the same bytes" in line for line in said)
    assert not found.problems
    assert verify.summary(found) == "6 cells and 2 learned files are sound"
    part = verify.check(runs / "one")
    assert part.absent == 6 - len(list((runs / "one").glob("cells/*"))) and not part.problems


@pytest.mark.parametrize("bit", [0, 5])
@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["cells", "learned"])
def test_a_flipped_bit_is_found(runs, kind, place, bit):
    path = sorted((runs / "whole" / kind).iterdir())[0]
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    (problem,) = verify.check(runs / "whole").problems
    assert str(path) in problem and "\n" not in problem


def test_a_planted_value_is_found_by_computing_again(runs):
    path, said, seeds = learned_cell(runs), [], []

    def plant(rows):
        place = rows["quantity"].index("cost")
        rows["value"][place] += 0.5
        seeds.append(rows["seed"][place])

    rewritten(path, plant)
    found = verify.check(runs / "whole")
    assert not found.problems
    verify.repeat(found, 1, keys=[path.stem[:8]], say=said.append, outside=True)
    (problem,) = found.problems
    assert said == [problem] and path.stem in problem
    assert f"cost of seed {seeds[0]} at T = 1 is" in problem


def test_a_cell_under_another_ones_name_is_found(runs):
    one, other, *_ = sorted((runs / "whole").glob("cells/*"))
    one.write_bytes(other.read_bytes())
    (problem,) = verify.check(runs / "whole").problems
    assert f"holds cell {other.stem}, not what its name says" in problem


def test_a_learned_file_under_another_ones_name_is_found(runs):
    one, other = sorted((runs / "whole").glob("learned/*"))
    one.write_bytes(other.read_bytes())
    (problem,) = verify.check(runs / "whole").problems
    assert f"is what another cell learned: {other.stem}" in problem


def test_a_learned_file_of_another_worker_is_found(runs):
    """It is sound, and not what the stored cell has learned."""
    path = sorted((runs / "whole").glob("learned/*"))[0]
    spec = CellSpec.from_dict(read_cell(cell_path(runs / "whole", path.stem))[0]["spec"])
    leaves = artifacts.read(path, ("policy",)).leaves("policy", spec.seeds)
    parts = {"policy": [leaf + 1 for leaf in leaves]}
    artifacts.write(runs / "whole", spec, path.stem, parts)
    (problem,) = verify.check(runs / "whole").problems
    assert problem.startswith(f"{path} is not what the stored cell has learned")


def test_a_learned_file_that_is_gone_is_found(runs):
    path = sorted((runs / "whole").glob("learned/*"))[0]
    path.unlink()
    (problem,) = verify.check(runs / "whole").problems
    assert problem.startswith(f"{path} is missing")


def test_a_cell_that_is_gone_is_found(runs):
    path = learned_cell(runs)
    path.unlink()
    found = verify.check(runs / "whole")
    (problem,) = found.problems
    assert problem.startswith(f"{path} is gone") and found.absent == 1


def test_nothing_stored_is_not_sound(runs):
    for path in (runs / "whole").glob("cells/*"):
        path.unlink()
    (runs / "whole" / "log.jsonl").unlink()
    (problem,) = verify.check(runs / "whole").problems
    assert problem == f"{runs / 'whole'} holds no stored cell"


def test_a_damaged_cell_of_a_pilot_is_found(runs):
    pilot = runs / "whole" / "pilot" / "cells"
    pilot.mkdir(parents=True)
    (pilot / "0123.parquet").write_text("nothing")
    (problem,) = verify.check(runs / "whole").problems
    assert "0123.parquet" in problem


def test_a_cell_that_the_plan_has_as_another_is_found(runs):
    plan = read_plan(runs / "whole")
    assert plan
    one, other, *_ = plan["entries"]
    one["cells"], other["cells"] = other["cells"], one["cells"]
    write_plan(runs / "whole", plan)
    assert any("and the plan has" in line for line in verify.check(runs / "whole").problems)


def test_a_damaged_cell_that_is_asked_for_is_no_unknown_key(runs):
    path = learned_cell(runs)
    path.write_bytes(path.read_bytes()[:-5])
    found = verify.check(runs / "whole")
    verify.repeat(found, 1, keys=[path.stem])
    assert len(found.problems) == 1


def test_settings_that_do_not_give_the_key_are_found(runs):
    path = learned_cell(runs)
    manifest, table = read_cell(path)
    manifest = {k: v for k, v in manifest.items() if k not in ("sha256", "format", "key")}
    manifest["spec"]["episodes"] *= 2
    path.write_bytes(encode(path.stem, table, manifest))
    (problem,) = verify.check(runs / "whole").problems
    assert "give the key" in problem


def test_cells_of_other_sources_are_not_computed_again(runs, monkeypatch):
    usual = verify.fingerprint()
    monkeypatch.setattr(verify, "fingerprint", lambda: {**usual, "sources": "0"})
    found, said = verify.check(runs / "whole"), []
    verify.repeat(found, 1, say=said.append)
    (line,) = said
    assert len(found.sound) == 6 and line.startswith("no cell was computed again: all were made ")


def test_an_unknown_key_is_one_line(runs):
    with pytest.raises(BadInput, match=r"no sound cell has the key 00ff.*irl-bench status"):
        verify.repeat(verify.check(runs / "whole"), 1, keys=["00ff"])


def test_a_file_of_the_world_that_has_changed_is_named(tmp_path):
    """A track that is another today: its cells are not computed again, and nothing is called
    wrong."""
    angle = np.linspace(0.0, 2.0 * np.pi, 60, endpoint=False)
    path = tmp_path / "track.csv"

    def write(radius):
        rows = np.stack([radius * np.cos(angle), radius * np.sin(angle), 0 * angle + 5.0], 1)
        path.write_text("\n".join(",".join(map(str, [*row, 5.0])) for row in rows) + "\n")
        return hashlib.sha256(path.read_bytes()).hexdigest()

    digest = write(60.0)
    name = registry.world("race", {"track": str(path)}).world.chosen["track"]
    cell = lambda sha256: types.SimpleNamespace(
        env="race", options={"track": name}, plugin={name: sha256}
    )
    assert verify._changed_files(cell(digest)) == ""
    assert verify._changed_files(cell("0" * 64)) == name
    write(70.0)
    with pytest.raises(BadInput, match=f"{name} is not known here"):
        verify._changed_files(cell(digest))

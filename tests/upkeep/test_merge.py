"""Folders of several machines become one, or one line says why not."""

import json

import pytest

from irl_bench.core.settings import BadInput
from irl_bench.report import load
from irl_bench.storage.cells import cell_path, encode, read_cell
from irl_bench.storage.files import StoreError
from irl_bench.storage.plans import read_plan, write_plan
from irl_bench.studies.study import INDEX
from irl_bench.upkeep.merge import merge
from tests.upkeep.conftest import run


def contents(folder):
    names = ("cells/*", "learned/*", "plan.json")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for name in names
        for path in sorted(folder.glob(name))
    }


def quiet(_):
    pass


def test_two_shares_are_the_whole_run(runs):
    said = []
    assert merge([runs / "one", runs / "other"], runs / "both", said.append)
    assert contents(runs / "both") == contents(runs / "whole")
    assert said == [f"joined 2 folders in {runs / 'both'}: 6 cells"]
    assert load(runs / "both").verdicts == load(runs / "whole").verdicts
    lines = (runs / "both" / "log.jsonl").read_text().splitlines()
    assert len(lines) == len({json.loads(line)["key"] for line in lines}) == 6


def test_what_is_missing_is_said_and_added_later(runs):
    said = []
    with pytest.raises(BadInput, match="two folders of runs are needed"):
        merge([runs / "one", runs / "one"], runs / "both", quiet)
    copied = runs / "copied"
    copied.mkdir()
    for name in ("plan.json", "log.jsonl"):
        (copied / name).write_bytes((runs / "one" / name).read_bytes())
    assert not merge([runs / "one", copied], runs / "both", said.append)
    stored = len(list((runs / "one").glob("cells/*")))
    assert said[-1].endswith(f": {stored} cells, {6 - stored} of the plan are missing")
    assert merge([runs / "other"], runs / "both", said.append)
    assert contents(runs / "both") == contents(runs / "whole")


def test_seeds_that_follow_on_one_another_are_one_entry(runs):
    later = run(runs / "later", first_seed=6, seeds=3)
    assert merge([later, runs / "whole"], runs / "both", quiet)
    plan = read_plan(runs / "both")
    assert plan and {tuple(entry["seeds"]) for entry in plan["entries"]} == {(0, 9)}
    (world,) = plan["worlds"].values()
    assert (world["first_seed"], world["seeds"]) == (0, 9)
    assert all(len(curve.seeds) == 9 for curve in load(runs / "both").curves)


@pytest.mark.slow
def test_the_order_of_folders_does_not_matter(runs):
    """Of three, the one in the middle of the seeds may come last."""
    folders = [run(runs / f"from{first}", first_seed=first, seeds=3) for first in (6, 12, 9)]
    assert merge(folders, runs / "both", quiet)
    plan = read_plan(runs / "both")
    assert plan and {tuple(entry["seeds"]) for entry in plan["entries"]} == {(6, 9)}


def test_what_lies_in_the_folder_is_never_written_over(runs):
    """Also without a plan, as while a pilot runs or after a merge that was interrupted."""
    name = sorted((runs / "whole").glob("cells/*"))[0].name
    (runs / "both" / "cells").mkdir(parents=True)
    (runs / "both" / "cells" / name).write_text("somebody else's")
    with pytest.raises(StoreError, match=name):
        merge([runs / "one", runs / "other"], runs / "both", quiet)
    assert (runs / "both" / "cells" / name).read_text() == "somebody else's"


def test_a_merge_that_was_interrupted_goes_on(runs):
    merge([runs / "one", runs / "other"], runs / "both", quiet)
    (runs / "both" / "plan.json").unlink()
    sorted((runs / "both").glob("cells/*"))[0].unlink()
    assert merge([runs / "one", runs / "other"], runs / "both", quiet)
    assert contents(runs / "both") == contents(runs / "whole")


def test_a_gap_between_seeds_is_one_line(runs):
    with pytest.raises(BadInput, match=r"0 to 5 and 9 to 11, do not follow .* groups of 3"):
        merge([run(runs / "later", first_seed=9, seeds=3), runs / "whole"], runs / "both", quiet)
    assert not (runs / "both").exists()


def changed(folder, change):
    """Rewrites a folder's plan."""
    plan = read_plan(folder)
    assert plan
    change(plan)
    write_plan(folder, plan)
    return folder


def of_worlds(**changes):
    return lambda plan: [record.update(changes) for record in plan["worlds"].values()]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (of_worlds(fingerprint="0"), "different sources, versions or numbers of devices"),
        (of_worlds(dials={"slip": 0.2}), "with different dials"),
        (lambda plan: plan.update(analysis={"horizons": [4, 8]}), "different --horizons"),
        (
            lambda plan: [e["settings"].update(episodes=64) for e in plan["entries"]],
            "with different settings",
        ),
    ],
)
def test_other_conditions_are_one_line_and_nothing_is_written(runs, change, words):
    changed(runs / "other", change)
    with pytest.raises(BadInput, match=words) as error:
        merge([runs / "one", runs / "other"], runs / "both", quiet)
    assert "\n" not in str(error.value) and "nearest" in str(error.value)
    assert not (runs / "both").exists()


def test_a_world_without_a_cell_is_one_line(runs):
    def add(plan):
        plan["worlds"]["chain"] = {**next(iter(plan["worlds"].values()))}

    changed(runs / "other", add)
    with pytest.raises(BadInput, match=r"other/plan.json names the world chain and no cell") as e:
        merge([runs / "one", runs / "other"], runs / "both", quiet)
    assert "\n" not in str(e.value) and "nearest" in str(e.value)
    assert not (runs / "both").exists()


def test_one_cell_with_two_contents_is_named(runs):
    path = sorted((runs / "one").glob("cells/*"))[0]
    manifest, table = read_cell(path)
    rows = table.to_pydict()
    rows["value"][0] += 1.0
    manifest = {k: v for k, v in manifest.items() if k not in ("sha256", "format", "key")}
    path.write_bytes(encode(path.stem, rows, manifest))
    with pytest.raises(BadInput, match=rf"other contents: .*{path.stem}.*irl-bench verify"):
        merge([runs / "one", runs / "whole"], runs / "both", quiet)
    assert not (runs / "both").exists()


def test_a_damaged_cell_is_named(runs):
    path = sorted((runs / "one").glob("cells/*"))[0]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreError, match=path.name):
        merge([runs / "one", runs / "other"], runs / "both", quiet)


def study_of(folder, run, **changes):
    """Makes a folder of a run one part of a study."""
    folder.mkdir()
    run.rename(folder / "part")
    index = {"study": "decomposition", "command": "a", "parts": {"part": False}, **changes}
    (folder / INDEX).write_text(json.dumps(index))
    return folder


def test_a_study_in_two_folders_is_one(runs):
    a = study_of(runs / "a", runs / "one", entries={"part": [["w", "a", "m"]]})
    b = study_of(runs / "b", runs / "other")
    assert merge([a, b], runs / "both", quiet)
    assert contents(runs / "both" / "part") == contents(runs / "whole")
    assert json.loads((runs / "both" / INDEX).read_text())["entries"] == {"part": [["w", "a", "m"]]}


@pytest.mark.parametrize("parts", [{"../../x": False}, {"/tmp/x": False}, {"a/../b": False}, [1]])
def test_a_strangers_index_leads_nowhere_else(runs, parts):
    a = study_of(runs / "a", runs / "one", parts=parts)
    with pytest.raises(BadInput, match=r"no folder of a study|is damaged"):
        merge([a, runs / "whole"], runs / "both", quiet)


def test_a_study_whose_parts_are_not_begun_is_not_complete(runs):
    parts, said = {"part": False, "later": False}, []
    a = study_of(runs / "a", runs / "one", parts=parts)
    b = study_of(runs / "b", runs / "other", parts=parts)
    assert not merge([a, b], runs / "both", said.append)
    assert said[-1].endswith("6 cells; not begun: later")


def test_a_study_and_a_sweep_are_not_joined(runs):
    a = study_of(runs / "a", runs / "one")
    with pytest.raises(BadInput, match=r"first holds a sweep, the other decomposition; nearest"):
        merge([runs / "whole", a], runs / "both", quiet)


def test_a_folder_without_a_run_is_named(runs):
    (runs / "empty").mkdir()
    with pytest.raises(BadInput, match="empty is not the folder of a run"):
        merge([runs / "one", runs / "empty"], runs / "both", quiet)
    assert not cell_path(runs / "both", "0").parent.exists()

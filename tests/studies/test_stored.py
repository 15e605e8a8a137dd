"""Studies that are read in parts, and completed from an earlier result."""

import json

import numpy as np
import pytest

from irl_bench.core.settings import BadInput
from irl_bench.report.data import plain
from irl_bench.storage.files import StoreError
from irl_bench.studies import qualities, seed_table, study
from tests.studies.test_studies import report

JITTER = np.linspace(-0.01, 0.01, 6)
COMMAND = "launch/sweep.py --experiment=seed_table --first_seed=5"


@pytest.fixture
def parts(monkeypatch):
    """{part: its data} of a table of two qualities."""
    monkeypatch.setattr(qualities, "shown", lambda *_: (8.0, 7.0))
    common = {"expert": [0.1] * 6, "untrained": [0.9] * 6}
    return {
        "w/50/compared": report(
            **common, bc=0.5 + JITTER, clone=0.5 - JITTER, airl=0.3 + JITTER, rlhf=0.1 + JITTER
        ),
        "w/50/flag_seen": report(**common, airl=0.2 + JITTER, rlhf=0.15 - JITTER),
        "w/50/shuffled_labels": report(**common, rlhf=0.6 + JITTER),
        "w/100/compared": report(
            **common, bc=0.2 + JITTER, clone=0.2 - JITTER, airl=0.15 + JITTER, rlhf=0.12 + JITTER
        ),
        "w/100/flag_seen": report(**common, airl=0.12 + JITTER, rlhf=0.13 - JITTER),
    }


@pytest.fixture
def folder(tmp_path, parts, monkeypatch):
    """Returns a function that makes a study's folder in which some parts are finished."""

    def load(path, partial=False):
        if not (path / "plan.json").exists():
            raise StoreError(f"{path} is not the folder of a run")
        return parts[str(path.relative_to(out))]

    monkeypatch.setattr(study, "load", load)
    monkeypatch.setattr(study.figures, "files", lambda name, draw: {})
    out = tmp_path / "study"

    def made(*finished, command=COMMAND, name="seed_table"):
        out.mkdir()
        index = {"study": name, "command": f"{command} --out={out}"}
        (out / study.INDEX).write_text(json.dumps({**index, "parts": dict.fromkeys(parts, True)}))
        for part in finished:
            (out / part).mkdir(parents=True)
            (out / part / "plan.json").touch()
        return out

    return made


def stored(tmp_path, result, command=COMMAND, name="seed_table"):
    path = tmp_path / "stored.json"
    path.write_text(json.dumps(plain({"study": name, "command": command, **result})))
    return path


def quiet(_):
    """Takes the place of print."""


def test_a_table_in_two_halves_is_the_table(tmp_path, parts, folder):
    """Also Holm's correction, which runs over the cells of both halves."""
    names = list(parts)
    whole = seed_table.read(parts)
    half = seed_table.read({name: parts[name] for name in names[:3]})
    assert half["points"][3]["p_holm"] < whole["points"][3]["p_holm"] < 1.0  # RLHF from 50 %
    path = stored(tmp_path, half)
    found = study.rebuild(folder(*names[3:]), quiet, stored=path)
    for field in ("points", "tables", "text"):
        assert found[field] == plain(whole[field])


def test_where_both_have_a_learner_the_stored_one_counts(tmp_path, parts, folder):
    earlier = plain(seed_table.read({"w/50/compared": parts["w/50/compared"]}))
    for point in earlier["points"]:
        point["device"] = "a stored one"
    found = study.rebuild(
        folder("w/50/compared", "w/50/flag_seen"), quiet, stored=stored(tmp_path, earlier)
    )
    devices = {(p["place"], p["algo"]): p["device"] for p in found["points"]}
    assert devices["compared", "rlhf"] == "a stored one" != devices["flag_seen", "rlhf"]
    assert len(devices) == 6


def test_a_partial_table_says_what_was_not_run(folder):
    found = study.rebuild(folder("w/50/compared", "w/100/flag_seen"), quiet, partial=True)
    assert "Not run: w/100/compared, w/50/flag_seen, w/50/shuffled_labels." in found["text"]


def test_a_partial_table_names_learners_that_other_qualities_have(parts):
    points = seed_table.read(parts)["points"]
    kept = [p for p in points if (p["quality"], p["algo"]) != ("100", "airl")]
    text = seed_table.join(kept, parts)["text"]
    assert "Not run: airl in w/100/compared, airl in w/100/flag_seen." in text


def test_a_whole_table_says_nothing_of_missing_learners(parts):
    assert not any("Not run" in line for line in seed_table.read(parts)["text"])


def test_without_the_flag_a_missing_part_is_an_error(folder):
    with pytest.raises(StoreError, match=r"is not the folder of a run.*; with --partial the"):
        study.rebuild(folder("w/50/compared"), quiet)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": "transfer"}, "is a result of transfer, and the folder's is not"),
        (
            {"command": COMMAND + " --lane_keep.view=visible"},
            "the file's command has --lane_keep.view=visible, the folder's none of its own; near",
        ),
        (
            {"command": COMMAND.replace("5", "6")},
            "the file's command has --first_seed=6, the folder's --first_seed=5; nearest: a ",
        ),
    ],
)
def test_a_stored_result_of_something_else_is_refused(tmp_path, parts, folder, change, expected):
    half = seed_table.read({"w/50/compared": parts["w/50/compared"]})
    with pytest.raises(BadInput, match=expected):
        study.rebuild(folder(), quiet, stored=stored(tmp_path, half, **change))


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "No such file"), ("{", "is not a study's result"), ("[]", "is not a study's result")],
)
def test_a_file_that_is_no_result_is_named(tmp_path, folder, content, expected):
    path = tmp_path / "stored.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadInput, match=expected):
        study.rebuild(folder(), quiet, stored=path)


def test_nothing_finished_and_a_study_that_needs_all_parts(folder, tmp_path):
    out = folder()
    with pytest.raises(StoreError, match="seed_table has no part yet that can be read"):
        study.rebuild(out, quiet, partial=True)
    index = json.loads((out / study.INDEX).read_text())
    (out / study.INDEX).write_text(json.dumps({**index, "study": "retrain"}))
    with pytest.raises(BadInput, match="retrain has no result before all of its parts are there"):
        study.rebuild(out, quiet, partial=True)


def test_points_of_an_earlier_version_are_refused():
    with pytest.raises(BadInput, match="earlier version"):
        study.first_of_each([{"env": "w"}])


@pytest.mark.parametrize("damaged", [{"part": "a/b"}, {"part": 3}, {}, []])
@pytest.mark.parametrize("name", ["seed_table", "transfer", "overoptimization"])
def test_damaged_points_are_one_line(damaged, name, tmp_path, folder):
    path = stored(tmp_path, {"points": [damaged]}, name=name)
    with pytest.raises(BadInput) as error:
        study.rebuild(folder(name=name), quiet, stored=path)
    assert str(path) in str(error.value) or "--stored" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture
def half(parts):
    return plain(seed_table.read({"w/50/compared": parts["w/50/compared"]}))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # means of no value
@pytest.mark.parametrize("value", [None, "text", [], [None]])
def test_no_damage_of_a_point_names_an_exception(value, half, tmp_path, folder):
    out = folder("w/100/compared")
    for key in half["points"][0]:
        for change in ({key: value}, None):
            point = {**half["points"][0], **(change or {})}
            if change is None:
                del point[key]
            points = [point, *half["points"][1:]]
            try:
                study.rebuild(out, quiet, stored=stored(tmp_path, {**half, "points": points}))
            except BadInput as error:
                assert "--stored" in str(error) and "nearest: " in str(error)
                assert "Error" not in str(error) and "ufunc" not in str(error)


@pytest.mark.parametrize("algo", ["foo", "gial", 3])
def test_an_unknown_algorithm_is_refused(algo, half, tmp_path, folder):
    half["points"][2]["algo"] = algo
    path = stored(tmp_path, half)
    with pytest.raises(BadInput) as error:
        study.rebuild(folder("w/100/compared"), quiet, stored=path)
    assert f"--stored={path}: point 2 of `points`: unknown algorithm '{algo}'" in str(error.value)

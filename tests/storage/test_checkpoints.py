"""Checkpoints: exact, two kept, and a damaged one is passed over with one line, never used."""

import logging as std_logging
import os
import pathlib
import shutil
import sys
import types

import numpy as np
import pytest
from absl import logging

from irl_bench.storage import checkpoints
from irl_bench.storage.files import StoreError, WriteError

ARRAYS = {
    "state.0": np.float32([[1.5, np.nan], [-0.0, np.inf]]),
    "state.1": np.uint32([7, 2**32 - 1]),
    "state.2": np.array([True, False]),
    "state.3": np.zeros((0, 2), np.float32),
    "state.4": np.int64(5),
    "sums.cost": np.array([1 / 3, 1e300]),
}


def facts(serial):
    return {"key": "k", "round": serial}


def save(folder, *serials):
    for serial in serials:
        checkpoints.save(folder, serial, {**ARRAYS, "serial": np.float64(serial)}, facts(serial))


def restored(folder):
    notes = []
    return checkpoints.restore(folder, notes.append), notes


def test_round_trip_is_exact(tmp_path):
    save(tmp_path / "a", 3)
    (arrays, found), notes = restored(tmp_path / "a")
    assert found == facts(3) and notes == []
    for name, value in ARRAYS.items():
        assert arrays[name].dtype == value.dtype and arrays[name].shape == np.shape(value)
        assert arrays[name].tobytes() == value.tobytes()


def test_nothing_there(tmp_path):
    assert restored(tmp_path / "a") == (None, [])


def test_two_are_kept_and_the_newest_is_used(tmp_path):
    save(tmp_path / "a", 9, 10, 100)
    assert len([path for path in (tmp_path / "a").iterdir() if path.is_dir()]) == 2
    assert restored(tmp_path / "a")[0][1] == facts(100)
    checkpoints.remove(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_forked_process_writes_under_names_of_its_own(tmp_path, monkeypatch):
    save(tmp_path / "a", 7)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    save(tmp_path / "a", 7)
    names = {path.name for path in (tmp_path / "a").glob("*.json")}
    assert len(names) == 2 and {name.split(".")[0] for name in names} == {f"{7:012d}"}


def test_a_write_that_fails_is_one_line_whatever_threads_of_orbax_tell(
    tmp_path, monkeypatch, caplog
):
    told = []
    monkeypatch.setattr(std_logging.getLogger("asyncio"), "filters", [])

    class Orbax:
        def save(self, *arguments, **options):
            logging.exception("a thread has raised")
            raise ValueError("no space left")

    def unraisable(text):
        sys.unraisablehook(types.SimpleNamespace(exc_value=RuntimeError(text)))

    monkeypatch.setattr(sys, "unraisablehook", lambda raised: told.append(str(raised.exc_value)))
    monkeypatch.setattr(checkpoints, "_orbax", Orbax)
    with pytest.raises(WriteError, match="no space left"):
        save(tmp_path / "a", 1)
    unraisable("Event loop is closed")  # a write that ends after `save`
    unraisable("something else")
    assert told == ["something else"] and not caplog.records
    logging.error("said")
    assert [record.message for record in caplog.records] == ["said"]


def test_any_damage_falls_back_to_the_one_before_and_then_to_none(tmp_path):
    save(tmp_path / "a", 1, 2)
    newest = sorted((tmp_path / "a").glob("*.json"))[-1]
    files = [newest, *sorted(path for path in newest.with_suffix("").rglob("*") if path.is_file())]
    rng = np.random.default_rng(0)
    assert len(files) > 3
    for file in files:
        sound = file.read_bytes()
        damages = [sound[: len(sound) // 2], sound + b"x"] if sound else [b"x"]
        for position in rng.integers(0, max(len(sound), 1), 3 if sound else 0):
            flipped = bytearray(sound)
            flipped[position] ^= 1 << rng.integers(8)
            damages.append(bytes(flipped))
        for damaged in damages:
            file.write_bytes(damaged)
            found, notes = restored(tmp_path / "a")
            assert found[1] == facts(1) and float(found[0]["serial"]) == 1, file
            assert (
                len(notes) == 1
                and "\n" not in notes[0]
                and newest.stem in notes[0]
                and "one before" in notes[0]
            )
        file.write_bytes(sound)
    assert restored(tmp_path / "a")[0][1] == facts(2)
    for folder in (tmp_path / "a").iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    found, notes = restored(tmp_path / "a")
    assert found is None and len(notes) == 2 and "starts again" in notes[1]


@pytest.mark.parametrize(
    ("latest", "words"), [(1, ["the one before it is used"]), (0, ["before", "starts again"])]
)
def test_one_that_is_refused_falls_back_to_the_one_before(tmp_path, latest, words):
    def check(arrays, facts):
        if facts["round"] > latest:
            raise ValueError(f"round {facts['round']} is too late")

    notes = []
    save(tmp_path / "a", 1, 2)
    found = checkpoints.restore(tmp_path / "a", notes.append, check)
    assert found is None if latest == 0 else found[1] == facts(1)
    assert [word in note for word, note in zip(words, notes, strict=True)] == [True] * len(words)
    assert all("is too late" in note for note in notes)


def test_one_that_was_not_finished_is_not_seen(tmp_path):
    save(tmp_path / "a", 1, 2)
    sorted((tmp_path / "a").glob("*.json"))[-1].unlink()
    assert restored(tmp_path / "a")[0][1] == facts(1)
    whole = next(path for path in (tmp_path / "a").iterdir() if path.is_dir())
    shutil.copytree(whole, tmp_path / "a" / "9.orbax-checkpoint-tmp")
    assert restored(tmp_path / "a")[0][1] == facts(1)


@pytest.mark.parametrize("removals", [1, 3])
def test_another_worker_may_remove_the_folder_of_all_meanwhile(tmp_path, monkeypatch, removals):
    """It has stored its last cell."""
    usual, left = os.mkdir, [None] * removals

    def mkdir(path, *rest, **more):
        usual(path, *rest, **more)
        if pathlib.Path(path).name == "checkpoints" and left:
            left.pop()
            os.rmdir(path)  # noqa: PTH106

    monkeypatch.setattr(os, "mkdir", mkdir)
    save(tmp_path / "checkpoints" / "a", 1)
    assert not left and restored(tmp_path / "checkpoints" / "a")[0][1] == facts(1)


def test_a_failed_write_names_the_folder_and_keeps_what_was_there(tmp_path, monkeypatch):
    save(tmp_path / "a", 1)

    class Full:
        def save(self, *arguments, **options):
            raise ValueError("RESOURCE_EXHAUSTED:\nno space")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_orbax", Full)
        with pytest.raises(StoreError, match="cannot write checkpoint") as caught:
            save(tmp_path / "a", 2)
        assert "\n" not in str(caught.value) and str(tmp_path / "a") in str(caught.value)
    assert restored(tmp_path / "a")[0][1] == facts(1)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="cannot write"):
        save(tmp_path / "file" / "a", 1)


@pytest.fixture
def home(tmp_path):
    """A folder outside of the run, with files and a folder that bear the same names."""
    home = tmp_path / "home"
    (home / "app").mkdir(parents=True)
    for name in ("app", "package", "settings"):
        (home / f"{name}.json").write_text("mine")
    (home / "app" / "thesis").write_text("mine")
    return home


def content(folder):
    return {path: path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_that_is_a_link_out_of_the_run_is_refused(tmp_path, home):
    before = content(home)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    folder = tmp_path / "run" / "checkpoints" / "0123456789abcdef0123"
    folder.symlink_to(home)
    for use in (restored, lambda folder: save(folder, 7), checkpoints.remove):
        with pytest.raises(WriteError, match="is a link that leads out") as caught:
            use(folder)
        assert str(folder) in str(caught.value)
    assert content(home) == before


def test_a_checkpoint_that_is_a_link_is_not_read(tmp_path, home, monkeypatch):
    save(tmp_path / "a", 1, 2)
    newest = max(path for path in (tmp_path / "a").iterdir() if path.is_dir())
    newest.rename(tmp_path / "elsewhere")
    newest.symlink_to(tmp_path / "elsewhere")
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path=".": listed.append(str(path)) or scandir(path))
    found, notes = restored(tmp_path / "a")
    assert found[1] == facts(1) and "is a link" in notes[0]
    # A link may lead to a whole disk: what it leads to is not even listed.
    assert listed and not [path for path in listed if newest.name in path]

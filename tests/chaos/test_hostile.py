"""Run folders from a stranger: nothing is run or written outside, and every answer is short."""

import json
import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest

from irl_bench.core.settings import BadInput
from irl_bench.storage import checkpoints, comparisons, files, untrusted
from irl_bench.storage.cells import cell_path, encode
from irl_bench.storage.files import WriteError, locked
from irl_bench.storage.plans import write_plan
from irl_bench.tools.chaos import hostile, tricks
from irl_bench.upkeep import verify
from tests.storage.test_cells import KEY, MANIFEST, columns
from tests.worlds.toys import cell

ROOT = pathlib.Path(__file__).parents[2]


def test_folders_of_strangers(small):
    size = len(tricks.TRICKS)
    # The suite measures times; here they only tell of what does not end.
    count = hostile.hostile(small, size, seconds=120.0)
    assert count.sound, "\n".join(count.notes)
    # A trick that no command refuses was none.
    assert count.tried == size and count.refused > size


def test_a_lock_that_is_a_link_empties_no_file(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "mine")
    with (
        pytest.raises(WriteError, match=r"\.lock is a link that leads out"),
        locked(tmp_path / "run"),
    ):
        pass
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_link_deep_in_the_folder_loses_no_file_elsewhere(tmp_path):
    elsewhere, run = tmp_path / "mine", tmp_path / "run"
    elsewhere.mkdir()
    (run / "checkpoints").mkdir(parents=True)
    (elsewhere / "app.json").write_text("{}")
    (run / "checkpoints" / "0123").symlink_to(elsewhere)
    with pytest.raises(WriteError, match=r"0123 is a link that leads out"), locked(run):
        pass
    assert (elsewhere / "app.json").exists()


def test_folders_that_are_nested_deep_are_looked_through(tmp_path):
    nested = [f"{tmp_path}{'/a' * depth}" for depth in range(1, 1200)]
    for folder in nested:
        os.mkdir(folder)  # noqa: PTH102 - pathlib and rmtree would call themselves
    link = f"{nested[-1]}/link"
    os.symlink("/", link)  # noqa: PTH211
    with pytest.raises(WriteError, match=r"link is a link that leads out"), locked(tmp_path):
        pass
    os.unlink(link)  # noqa: PTH108
    for folder in reversed(nested):
        os.rmdir(folder)  # noqa: PTH106


def test_a_folder_of_another_user_is_passed_over(tmp_path, monkeypatch):
    """As that of submitit, which its user alone may open."""
    scandir, access = os.scandir, os.access
    closed = tmp_path / "workers" / "submitit" / "0123"
    closed.mkdir(parents=True)

    def scan(path):
        if path == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(files.os, "scandir", scan)
    monkeypatch.setattr(
        files.os, "access", lambda path, mode: path != closed and access(path, mode)
    )
    files.check_links(tmp_path)
    monkeypatch.setattr(files.os, "access", lambda path, mode: True)
    with pytest.raises(WriteError, match="Permission denied"):
        files.check_links(tmp_path)


def test_files_of_other_names_are_no_checkpoints_to_remove(tmp_path):
    (tmp_path / "app.json").write_text("{}")
    (tmp_path / "app").mkdir()
    for serial in range(4):
        checkpoints.save(tmp_path, serial, {"x": np.zeros(1)}, {})
    assert (tmp_path / "app.json").exists() and (tmp_path / "app").exists()
    arrays, _ = checkpoints.restore(tmp_path, pytest.fail)
    assert arrays["x"].shape == (1,)


def test_clips_of_a_strangers_world_run_no_code(tmp_path):
    (tmp_path / "evil_world.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    np.savez(
        tmp_path / comparisons.CLIPS,
        facts=json.dumps({**tricks.CLIPS, "env": "evil_world:make"}),
        observation=np.zeros((2, 1, 1)),
        action=np.zeros((2, 1, 1)),
        pairs=np.array([[0, 1]]),
    )

    def label(*flags):
        return subprocess.run(
            [sys.executable, "-m", "irl_bench", "label", f"--out={tmp_path}", *flags],
            cwd=tmp_path, capture_output=True, text=True, timeout=120,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    for flags in ((), ("--env=chain",)):
        done = label(*flags)
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert "nearest: --env=evil_world:make" in done.stderr
        assert not (tmp_path / "ran").exists()
    assert label("--env=evil_world:make").returncode == 2  # it has no `make`
    assert (tmp_path / "ran").exists()


def test_a_link_within_the_folder_is_none_of_that(tmp_path):
    (tmp_path / "cells").mkdir()
    (tmp_path / "figures").symlink_to(tmp_path / "cells")
    with locked(tmp_path):
        pass


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, "nested"),
        ('{"a": NaN}', "number nan"),
        ('{"a": 1e999}', "number inf"),
        ("9" * 40, "64 bits"),
        ('"\\u001b[2J"', "control characters"),
        ('"\\ud800"', "no Unicode"),
        ("{", "Expecting"),
    ],
)
def test_values_that_no_file_holds(text, why):
    with pytest.raises(ValueError, match=why) as caught:
        untrusted.parsed(text)
    assert "\n" not in str(caught.value)


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    answers = []

    def read():
        try:
            untrusted.content(tmp_path / "pipe")
        except OSError as error:
            answers.append(error.strerror)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(10)
    assert answers == ["it is no regular file"]


def test_code_that_a_folder_names_runs_only_if_it_is_asked_for(tmp_path, monkeypatch, small):
    folder, trace = tmp_path / "run", tmp_path / "trace"
    folder.mkdir()
    (folder / "evil_of_a_test.py").write_text(f"open({str(trace)!r}, 'w').close()\n")
    monkeypatch.chdir(folder)
    plan = json.loads((small.sound / "plan.json").read_text())
    del plan["sha256"]
    spec = cell(algo="evil_of_a_test:make")
    prints = verify.fingerprint()
    key = verify.cell_key(spec, prints)
    path = cell_path(folder, key)
    path.parent.mkdir()
    manifest = {**MANIFEST, "fingerprint": prints, "spec": spec.to_dict()}
    path.write_bytes(encode(key, columns(), manifest))
    write_plan(folder, plan)
    found, said = verify.check(folder), []
    verify.repeat(found, 1, say=said.append)
    verify.repeat(found, 1, keys=[key], say=said.append)
    assert key in found.own and not trace.exists()
    assert "code from outside" in said[0] and "evil_of_a_test:make is code" in said[1]
    with pytest.raises(BadInput):
        verify.repeat(found, 1, keys=[key], say=said.append, outside=True)
    assert trace.exists() and key != KEY

"""A user without a home, as in many containers: caches go elsewhere with one line, and `~` is
refused in one."""

import os
import pathlib
import pwd
import subprocess
import sys

import pytest

from irl_bench.core import folders
from irl_bench.core.settings import BadInput

ROOT = pathlib.Path(__file__).parents[2]
NOBODY = """
import pwd, runpy, sys
def unknown(number): raise KeyError(number)
pwd.getpwuid = unknown
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("MPLCONFIGDIR", "kept")
    folders.cache.cache_clear()
    yield
    folders.cache.cache_clear()


def test_without_a_home_the_cache_is_temporary_and_said(homeless, tmp_path, capsys):
    found = folders.cache()
    assert found is not None and found.parent == tmp_path and found.stat().st_mode & 0o077 == 0
    assert folders.cache() == found
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and str(found) in told


def test_a_home_that_cannot_be_written_is_like_none(homeless, tmp_path, monkeypatch, capsys):
    blocked = tmp_path / "home"
    blocked.write_text("")  # a file: nobody, not even root, can make a folder in it
    monkeypatch.setenv("HOME", str(blocked))
    found = folders.cache()
    assert found is not None and found.parent == tmp_path
    assert "warning" in capsys.readouterr().err


def test_a_folder_that_others_can_write_is_not_used(homeless, tmp_path, capsys):
    folder = tmp_path / f"irl_bench-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    assert folders.cache() is None
    assert "compiled anew" in capsys.readouterr().err


def test_a_tilde_without_a_home_is_one_line(homeless):
    with pytest.raises(
        BadInput, match=r"~/runs/a: there is no home folder ~; nearest: the full path"
    ):
        folders.expand("~/runs/a")
    assert folders.expand("runs/a") == pathlib.Path("runs/a")


@pytest.mark.parametrize("flags", [["--list"], ["--describe=chain"]])
def test_every_command_works_without_a_home(flags, tmp_path):
    usable = {
        name: value
        for name, value in os.environ.items()
        if name not in ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR")
    }
    usable.pop("JAX_COMPILATION_CACHE_DIR", None)
    line = [sys.executable, "-c", NOBODY, str(ROOT / "launch" / "sweep.py"), *flags]
    done = subprocess.run(
        line,
        capture_output=True,
        text=True,
        timeout=300,
        env={**usable, "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
    )
    assert done.returncode == 0 and "chain" in done.stdout, done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("warning: "), done.stderr

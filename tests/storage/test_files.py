"""The lock of a folder, on file systems that have locks and on those that have none."""

import errno
import fcntl
import os
import subprocess
import sys

import filelock
import pytest

from irl_bench.storage import files
from irl_bench.storage.files import WriteError, locked

ELSEWHERE = """
import errno, fcntl, socket, sys
from irl_bench.storage import files
def flock(*_): raise OSError(errno.ENOSYS, "not there")
fcntl.flock, files.LOCK_SECONDS, socket.gethostname = flock, 0.2, lambda: "elsewhere"
with files.locked(sys.argv[1]): print("in")
"""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.2)


def failing(code):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    return flock


def test_one_run_at_a_time(tmp_path):
    with locked(tmp_path), pytest.raises(WriteError, match="held by another run"), locked(tmp_path):
        pass


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_nobody_waits_for_a_run_that_was_killed(tmp_path, monkeypatch, code):
    """As on Lustre without the mount option `flock`."""
    monkeypatch.setattr(fcntl, "flock", failing(code))
    with locked(tmp_path):  # a file would stand for the lock, and stay
        call = [sys.executable, "-c", ELSEWHERE, str(tmp_path)]
        done = subprocess.run(call, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "in\n", "")


def test_earlier_versions_of_filelock_say_it_otherwise(tmp_path, monkeypatch):
    def acquire(*_, **__):
        raise NotImplementedError

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    with locked(tmp_path):
        pass


def test_a_lock_that_fails_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", failing(errno.EIO))
    with pytest.raises(WriteError, match=r"^cannot write .*lock: "), locked(tmp_path):
        pass


@pytest.mark.parametrize("code", [None, errno.EPERM, errno.EOPNOTSUPP], ids=str)
def test_a_file_is_created_once(tmp_path, monkeypatch, code):
    """Also where there are no links, as in a folder that is a mounted bucket."""

    def link(*_):
        raise OSError(code, os.strerror(code))

    if code:
        monkeypatch.setattr(os, "link", link)
    path = tmp_path / "new" / "file"
    assert files.create(path, b"one")
    assert not files.create(path, b"two") and not files.create(path, b"longer")
    assert files.create(path, b"one") and path.read_bytes() == b"one"
    assert [*path.parent.iterdir()] == [path]

"""A run's folder keeps the files that its worlds are made of."""

import pytest

from envs import files
from irl_bench.storage import world_files
from irl_bench.storage.files import StoreError


@pytest.fixture
def name(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_known", {})
    (tmp_path / "oval.csv").write_text("1")
    return files.named(tmp_path / "oval.csv")[0]


def kept(out, name):
    world_files.keep(out, {"race": {"options": {"track": name, "frames": "1"}}})
    return out / "files" / name


def test_a_damaged_copy_is_told_and_written_anew(tmp_path, name):
    out = tmp_path / "run"
    copy = kept(out, name)
    assert world_files.kept(out) == [copy] and not world_files.damaged(out)
    copy.write_text("12")
    with pytest.raises(StoreError, match=f"{name} does not hold what its name says; nearest"):
        world_files.kept(out)
    world_files.offer(out)  # passed over
    assert files.path_of(name) == tmp_path / "oval.csv"
    assert kept(out, name).read_text() == "1"


def test_the_run_goes_on_without_the_file(tmp_path, name):
    copy = kept(tmp_path / "run", name)
    (tmp_path / "oval.csv").unlink()
    assert files.path_of(name) == copy


def test_what_a_stranger_put_there_stays_there(tmp_path, name):
    out = tmp_path / "run"
    copy = kept(out, name)
    (tmp_path / "secret").write_text("2")
    (out / "files" / "key.txt").symlink_to(tmp_path / "secret")
    (out / "files" / "key-0123456789ab.txt").symlink_to(tmp_path / "secret")
    (out / "files" / ".junk").write_text("3")
    assert world_files.kept(out) == [copy] and not world_files.damaged(out)

"""Files of worlds are named by name and content."""

import os
import re

import pytest

from envs import files


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(files, "_known", {})


def test_a_name_depends_on_the_content_and_not_on_the_place(tmp_path):
    for folder, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "my track.csv").write_text(text)
    one, two, other = (files.named(tmp_path / f / "my track.csv") for f in "abc")
    assert one == two and one[0] != other[0]
    assert one[0].startswith("my_track-") and one[0].endswith(".csv")
    assert files.path_of(one[0]).read_text() == "1" and files.path_of(other[0]).read_text() == "2"


def test_a_copy_keeps_its_name(tmp_path):
    (tmp_path / "oval.csv").write_text("1")
    name, _ = files.named(tmp_path / "oval.csv")
    (tmp_path / name).write_text("1")
    assert files.named(tmp_path / name)[0] == name


def test_a_file_that_changed_is_one_line(tmp_path):
    (tmp_path / "oval.csv").write_text("1")
    name, _ = files.named(tmp_path / "oval.csv")
    (tmp_path / "oval.csv").write_text("2")
    with pytest.raises(ValueError, match=rf"{name} is not known here; nearest: .* begins with \w+"):
        files.path_of(name)
    (tmp_path / "oval.csv").unlink()
    with pytest.raises(ValueError, match=r"nearest"):
        files.path_of(name)
    (tmp_path / "copy.csv").write_text("1")  # another place with the same content
    (tmp_path / "oval.csv").write_text("1")
    files.named(tmp_path / "oval.csv")
    (tmp_path / "oval.csv").write_text("2")
    (tmp_path / name).write_text("1")
    files.offer(tmp_path / name)
    assert files.path_of(name) == tmp_path / name and files.content(name) == b"1"


def test_only_what_has_the_named_content_is_taken(tmp_path, monkeypatch):
    (tmp_path / "oval.csv").write_text("1")
    name, _ = files.named(tmp_path / "oval.csv")
    kept = tmp_path / "run" / name
    kept.parent.mkdir()
    kept.write_text("another road")
    files.offer(kept)
    assert files.path_of(name) == tmp_path / "oval.csv"
    with pytest.raises(ValueError, match="other content than its name says; nearest: another"):
        files.path_of(kept)
    monkeypatch.chdir(kept.parent)  # a file of that name beside the user is never passed over
    with pytest.raises(ValueError, match="other content than its name says"):
        files.path_of(name)
    kept.write_text("1")
    files.offer(kept)
    (tmp_path / "oval.csv").unlink()
    assert files.path_of(name).samefile(kept)
    assert files.path_of("somewhere/else.csv").name == "else.csv"


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (".csv", r"file-\w{12}\.csv"),
        ("O.CSV", r"O-\w{12}\.csv"),
        ("x" * 230 + ".csv", r"x{100}-\w{12}\.csv"),
        ("the oval\u3000(2).csv", r"the_oval__2_-\w{12}\.csv"),
        ("a.b.csv", r"a_b-\w{12}\.csv"),
    ],
)
def test_unusual_names(own, expected, tmp_path):
    (tmp_path / own).write_text("1")
    name, _ = files.named(tmp_path / own)
    assert re.fullmatch(expected, name), name


def test_what_is_no_file_is_one_line(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ValueError, match="no regular file"):
        files.path_of(tmp_path / "pipe.csv")
    monkeypatch.setattr(files, "LARGEST", 3)
    (tmp_path / "large.csv").write_text("1234")
    with pytest.raises(ValueError, match="has 4 bytes; nearest: a file of at most 3"):
        files.path_of(tmp_path / "large.csv")
    assert files.path_of("~nobody-of-this-name/a.csv").name == "a.csv"


def test_links_are_no_copies(tmp_path):
    (tmp_path / "oval.csv").write_text("1")
    name, _ = files.named(tmp_path / "oval.csv")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "oval.csv")
    assert not files.is_sound(tmp_path / "run" / name)

"""Files of worlds are named by name and content."""

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
    with pytest.raises(ValueError, match=rf"oval\.csv is not the file any more .* {name}; nearest"):
        files.path_of(name)
    (tmp_path / "oval.csv").unlink()
    with pytest.raises(ValueError, match=r"nearest"):
        files.path_of(name)


def test_only_what_has_the_named_content_is_taken(tmp_path):
    (tmp_path / "oval.csv").write_text("1")
    name, _ = files.named(tmp_path / "oval.csv")
    (tmp_path / "oval.csv").unlink()
    kept = tmp_path / "run" / name
    kept.parent.mkdir()
    kept.write_text("another road")
    files.offer(kept)
    with pytest.raises(ValueError, match="nearest"):
        files.path_of(name)
    kept.write_text("1")
    files.offer(kept)
    assert files.path_of(name) == kept
    assert files.path_of("somewhere/else.csv").name == "else.csv"

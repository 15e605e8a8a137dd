"""The record of the chaos suite, RELIABILITY.md made from it, and what disturbs a process."""

import dataclasses
import errno
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from irl_bench.tools.chaos import disks, kills, suite
from irl_bench.tools.chaos.counts import Count
from tests.tools.bench_flags import values

ROOT = pathlib.Path(__file__).parents[2]


def test_the_page_is_that_of_the_stored_record():
    page = (ROOT / "RELIABILITY.md").read_text()
    assert page == suite.page(ROOT / "reliability" / "chaos.json")


def test_the_stored_record_is_sound():
    faults = json.loads((ROOT / "reliability" / "chaos.json").read_text())["faults"]
    for name, count in faults.items():
        known = {field.name for field in dataclasses.fields(Count)}
        assert name in suite.FAULTS and count["fault"] == name
        assert Count(**{key: count[key] for key in known}).sound


def test_the_help_says_how_long_the_full_sizes_take():
    """By the seconds of the stored record, whose faults were made in parts of their sizes."""
    seconds = 0.0
    for count in json.loads((ROOT / "reliability" / "chaos.json").read_text())["faults"].values():
        part = re.search(r" --share=([\d.]+)", count["command"])
        seconds += count["seconds"] / (float(part[1]) if part else 1.0)
    assert seconds > 3 * 3600
    said = values()["suite"].help
    assert "chaos: what a run's folder survives, more than three hours on two cores;" in said


def test_a_record_is_added_to(tmp_path):
    out = tmp_path / "a" / "chaos.json"
    for name, tried in (("damage", 7), ("random_kills", 1), ("damage", 1000)):
        suite._add(out, name, Count(name, tried=tried, refused=3, wrong=1), "a command")
    faults = json.loads(out.read_text())["faults"]
    assert list(faults) == ["random_kills", "damage"] and faults["damage"]["tried"] == 1000
    page = suite.page(out)
    assert "| 1,000 | 3 refused, 0 lost, 0 doubled, 1 wrong |" in page and "`a command`" in page
    assert "Nothing has been measured yet." in suite.page(tmp_path / "none.json")


def test_a_count_without_tries_is_not_sound():
    assert not Count("damage").sound and Count("damage", tried=1).sound
    assert not Count("damage", tried=1, doubled=1).sound


@pytest.mark.parametrize(("most", "size"), [(100, 4), (3, 9), (1, 1), (57, 57)])
def test_places_are_spread_over_all(most, size):
    found = kills.places(most, size)
    assert len(found) == min(most, size) and found[0] >= 1 and found[-1] <= most
    assert max(b - a for a, b in zip([0, *found], [*found, most + 1])) <= 2 * most / size + 1


EVENTS = [
    ["open", "learned/.a.part"],
    ["fsync", "learned/.a.part"],
    ["rename", "learned/.a.part", "learned/a", "1"],
    ["open", "cells/.b.part"],
    ["fsync", "cells/.b.part"],
    ["rename", "cells/.b.part", "cells/b", "2"],
]


def after(tmp_path, events, newest):
    (tmp_path / "1").write_text("learned")
    (tmp_path / "2").write_text("cell")
    out = tmp_path / "out"
    disks.after_cut(events, tmp_path, out, newest)
    return {
        path.relative_to(out).as_posix(): path.read_text()
        for path in out.rglob("*")
        if path.is_file()
    }


def test_a_name_that_was_not_flushed_may_be_gone(tmp_path):
    assert after(tmp_path, EVENTS, newest=True) == {"cells/b": "cell"}


def test_a_name_that_was_flushed_is_there(tmp_path):
    flushed = [*EVENTS[:3], ["fsync", "learned"], *EVENTS[3:]]
    assert after(tmp_path, flushed, newest=True) == {"cells/b": "cell", "learned/a": "learned"}


def test_a_new_folder_whose_name_was_not_flushed_may_be_gone(tmp_path):
    events = [["mkdir", "learned"], *EVENTS[:3], ["fsync", "learned"], *EVENTS[3:]]
    assert after(tmp_path, events, newest=True) == {"cells/b": "cell"}
    events = [["mkdir", "learned"], ["fsync", "."], *events[1:]]
    (tmp_path / "again").mkdir()
    assert "learned/a" in after(tmp_path / "again", events, newest=True)


def test_contents_that_were_not_flushed_are_empty(tmp_path):
    events = [event for event in EVENTS if event[0] != "fsync"]
    assert after(tmp_path, events, newest=False) == {"cells/b": "", "learned/a": ""}


PROGRAM = """
import pathlib, sys
from irl_bench.storage.files import write_atomic
from irl_bench.tools.chaos import hooks
out = pathlib.Path(sys.argv[1])
name, value = sys.argv[2:]
getattr(hooks, name)(out, pathlib.Path(value) if name == "journal" else int(value))
write_atomic(out / "a" / "b", b"1")
print("written")
"""


def disturbed(out, *arguments):
    out.mkdir()
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, out, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_hooks_disturb_the_write_that_is_meant(tmp_path):
    journal = disturbed(tmp_path / "run", "journal", tmp_path / "journal")
    assert journal.stdout == "written\n", journal.stderr
    written = (tmp_path / "journal" / "journal").read_text()
    lines = [json.loads(line) for line in written.splitlines()]
    kinds = [line[0] for line in lines]
    assert kinds == ["mkdir", "fsync", "open", "fsync", "rename", "fsync"]
    assert lines[1][1] == "." and lines[4][2] == "a/b" and lines[5][1] == "a"
    assert (tmp_path / "journal" / lines[4][3]).read_bytes() == b"1"
    for at in range(1, 7):
        killed = disturbed(tmp_path / f"killed-{at}", "die", at)
        assert killed.returncode == -9 and killed.stdout == ""
    full = disturbed(tmp_path / "full", "full", 3)
    assert os.strerror(errno.ENOSPC) in full.stderr and not (tmp_path / "full/a/b").exists()

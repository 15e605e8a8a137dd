"""The record of the chaos suite, RELIABILITY.md made from it, and what disturbs a process."""

import dataclasses
import errno
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
from typing import ClassVar

import pytest

from irl_bench.tools.chaos import disks, kills, suite, victims
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
        again = Count(**{key: count[key] for key in known})
        suite.FAULTS[name].hold(again)
        assert again.sound, again.notes


def test_the_help_says_how_long_the_full_sizes_take():
    """By the seconds of the stored record, whose faults were made in parts of their sizes."""
    seconds = 0.0
    for count in json.loads((ROOT / "reliability" / "chaos.json").read_text())["faults"].values():
        part = re.search(r" --share=([\d.]+)", count["command"])
        seconds += count["seconds"] / (float(part[1]) if part else 1.0)
    assert seconds > 2 * 3600
    said = values()["suite"].help
    assert "chaos: what a run's folder survives, more than two hours on two cores;" in said


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
    assert Count("seen_late", tried=1, doubled=None).sound


@pytest.mark.parametrize(
    ("name", "counted", "unmet"),
    [
        ("random_kills", {"resumed": 1, "after_checkpoint": 99}, "fewer than half"),
        ("random_kills", {"after_checkpoint": 100}, "no cell went on"),
        ("random_kills", {"resumed": 1, "after_checkpoint": 100}, ""),
        ("two_workers", {"workers": [2, 1]}, "fewer than two processes"),
        ("two_workers", {}, "fewer than two processes"),
        ("seen_late", {"workers": [2]}, "no cell was computed again"),
        ("seen_late", {"workers": [2], "repeated": 1}, ""),
        ("read_only", {"kinds": {"empty folder": 2}}, "folder of a killed run: it was not made"),
    ],
)
def test_a_bar_that_is_not_met_is_not_sound(name, counted, unmet):
    count = Count(name, tried=200, **counted)
    suite.FAULTS[name].hold(count)
    assert count.sound == (not unmet) and unmet in "".join(count.notes)


@pytest.mark.parametrize("sound", [True, False])
def test_every_kind_is_made_and_a_bar_that_is_not_met_is_told(tmp_path, monkeypatch, capsys, sound):
    sizes = []

    def made(stage, size):
        sizes.append(size)
        count = Count("")
        for kind in disks.NEVER[: 2 if sound else 1]:
            count.made(kind)
        return count

    fault = dataclasses.replace(suite.FAULTS["read_only"], run=made)
    monkeypatch.setattr(suite, "FAULTS", {"read_only": fault})
    monkeypatch.setattr(suite, "stages", lambda place, names: {"small": None})
    assert suite.run(["read_only"], tmp_path / "chaos.json", share=0.01) == sound
    assert sizes == [2] and ("1 unmet" in capsys.readouterr().out) != sound
    assert "1 empty folder" in suite.page(tmp_path / "chaos.json")


def test_what_is_not_counted_is_a_dash(tmp_path):
    count = Count("seen_late", tried=3, doubled=None, repeated=2, workers=[2, 2])
    assert suite.counted(dataclasses.asdict(count)) == (
        "2 repeated, cells stored by 2 processes a run, 0 lost, – doubled, 0 wrong"
    )


def test_tests_elsewhere_exist():
    for _, file, name in suite.ELSEWHERE.values():
        assert f"def {name}(" in (ROOT / file).read_text()


def test_kills_come_before_every_kind_of_change():
    changes = ["open", "rename"] * 40 + ["rmdir"] * 2 + ["open"]
    met = list(kills._changes(changes, 20, 0))
    assert len(met) == len(set(met)) == 20
    for kind, most in (("open", 41), ("rename", 40), ("rmdir", 2)):
        places = [at for each, at in met if each == kind]
        assert len(places) == min(9, most) and min(places) >= 1 and max(places) <= most
    # Those of a kind reach the end of a run.
    assert max(at for kind, at in met if kind == "open") > 36


def test_a_change_that_does_not_come_is_looked_for_earlier(monkeypatch):
    class Stage:
        changes = ("open",) * 40

    tried = []

    def kill_at(stage, kind, at, count):
        tried.append(at)
        return at <= 20

    monkeypatch.setattr(kills, "_kill_at", kill_at)
    kills.write_kills(Stage, 1)
    assert len(tried) > 1 and tried == sorted(tried, reverse=True) and 0 < tried[-1] <= 20


def test_cells_that_may_be_stored_twice_are_not_doubled(tmp_path):
    lines = [json.dumps({"key": key}) for key in ("a", "a", "b", "b", "c")]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    count, late = Count("damage"), Count("seen_late", doubled=None)
    victims.count_stored(tmp_path, count, again={"a"})
    victims.count_stored(tmp_path, late)
    assert count.doubled == 1 and "b was stored 2 times" in count.notes[0]
    assert late.repeated == 2 and late.doubled is None


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


FOLDER = [
    ["mkdir", "c/t"],
    ["rename", "c/t", "c/d", "3"],
    ["open", "c/.s.part"],
    ["fsync", "c/.s.part"],
    ["rename", "c/.s.part", "c/s", "1"],
]
"""A checkpoint and its seal."""


@pytest.fixture
def checkpoint(tmp_path):
    (tmp_path / "3" / "inner").mkdir(parents=True)
    (tmp_path / "3" / "inner" / "x").write_text("array")
    return tmp_path


def test_a_folder_that_was_renamed_is_whole_or_without_contents(checkpoint):
    assert after(checkpoint, FOLDER, newest=False) == {"c/d/inner/x": "array", "c/s": "learned"}
    flushed = [*FOLDER, ["fsync", "c"]]
    (checkpoint / "out").rename(checkpoint / "before")
    assert after(checkpoint, flushed, newest=True) == {"c/d/inner/x": "", "c/s": "learned"}


def test_a_folder_that_was_removed_takes_its_files_along(checkpoint):
    assert after(checkpoint, [*FOLDER, ["remove", "c/d"]], newest=False) == {"c/s": "learned"}


def test_a_file_in_a_new_folder_of_a_new_folder_may_be_gone(checkpoint):
    events = [["mkdir", "c"], *FOLDER, ["fsync", "c"], *EVENTS[3:]]
    assert after(checkpoint, events, newest=True) == {"cells/b": "cell"}


def test_a_log_may_end_in_half_a_line(tmp_path):
    (tmp_path / "4").write_text("first\nabcdef\n")
    events = [["append", "log.jsonl", "4"]]
    assert after(tmp_path, events, newest=False) == {"log.jsonl": "first\nabc"}
    (tmp_path / "out").rename(tmp_path / "before")
    assert after(tmp_path, events, newest=True) == {"log.jsonl": ""}


PROGRAM = """
import os, pathlib, shutil, sys, time
from irl_bench.storage.files import write_atomic
from irl_bench.tools.chaos import hooks
out = pathlib.Path(sys.argv[1])
name, *values = sys.argv[2:]
values = [pathlib.Path(v) if os.sep in v else int(v) if v.isdecimal() else v for v in values]
getattr(hooks, name)(*([] if name in ("limit", "alarm") else [out]), *values)
write_atomic(out / "a" / "b", b"1")
if name == "journal":
    (out / "c" / "d").mkdir(parents=True)
    (out / "c" / "d" / "e").write_bytes(b"2")
    (out / "c" / "d").rename(out / "c" / "f")
    for line in "12":
        with (out / "log").open("a") as file:
            file.write(line)
if name == "limit":
    write_atomic(out / "c", b"1" * 1000)
if name == "alarm":
    time.sleep(60)
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


def test_a_journal_holds_what_is_renamed_and_appended_to(tmp_path):
    journal = disturbed(tmp_path / "run", "journal", tmp_path / "journal")
    assert journal.stdout == "written\n", journal.stderr
    written = (tmp_path / "journal" / "journal").read_text()
    lines = [json.loads(line) for line in written.splitlines()]
    kinds = [line[0] for line in lines]
    assert kinds[:6] == ["mkdir", "fsync", "open", "fsync", "rename", "fsync"]
    assert lines[1][1] == "." and lines[4][2] == "a/b" and lines[5][1] == "a"
    assert (tmp_path / "journal" / lines[4][3]).read_bytes() == b"1"
    folder, appended = lines[kinds.index("rename", 6)], lines[kinds.index("append")]
    assert folder[1:3] == ["c/d", "c/f"] and appended[1] == "log"
    assert (tmp_path / "journal" / folder[3] / "e").read_bytes() == b"2"
    assert (tmp_path / "journal" / appended[2]).read_bytes() == b"1"


def test_each_change_that_is_counted_is_met_and_told(tmp_path):
    assert disturbed(tmp_path / "run", "tally", tmp_path / "tally").stdout == "written\n"
    changes = (tmp_path / "tally").read_text().split()
    assert changes == ["mkdir", "fsync", "open", "fsync", "rename", "fsync"]
    for number, kind in enumerate(changes):
        at = changes[: number + 1].count(kind)
        killed = disturbed(tmp_path / f"killed-{number}", "die", at, kind)
        assert killed.returncode == -9 and killed.stdout == f"fault {kind}\n"
    none = disturbed(tmp_path / "none", "die", 4, "fsync")
    assert none.stdout == "written\n"
    full = disturbed(tmp_path / "full", "full", 3)
    assert os.strerror(errno.ENOSPC) in full.stderr and not (tmp_path / "full/a/b").exists()
    assert full.stdout == "fault open\n"


def test_a_file_that_becomes_too_large_is_told_once(tmp_path):
    done = disturbed(tmp_path / "run", "limit", 500)
    assert done.stdout == "fault size\n" and (tmp_path / "run" / "a" / "b").exists()
    assert "c: File too large" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_alarm_ends_a_process_that_is_busy(tmp_path, number):
    assert disturbed(tmp_path / "run", "alarm", 0, int(number)).returncode == -number


SAID = """4 cells, 0 already there @1.0
stage compiling @1.5
stage training @2.0
stage measuring eps @3.0
done a: 1 s @4.0
"""


def test_the_stage_that_a_process_is_in():
    assert victims.stage_of("") == victims.stage_of(SAID) == ""
    assert victims.stage_of(f"{SAID}stage training @5.0\nnote x @6.0\n") == "training"


def test_moments_are_spread_over_the_time_of_all_calls():
    class Stage:
        calls: ClassVar = {"training": [1.0, 0.0, 3.0]}

    draw = random.Random(0)
    alarms = [kills._moment(Stage, "training", 1.0, draw, signal.SIGKILL) for _ in range(400)]
    first = [alarm.delay for alarm in alarms if alarm.call == 0]
    last = [alarm.delay for alarm in alarms if alarm.call == 2]
    assert len(first) + len(last) == 400 and 60 < len(first) < 140
    assert 0 <= min(first) < 0.1 < 0.9 < max(first) <= 1 and 2.9 < max(last) <= 3


def test_a_phase_that_was_not_met_is_tried_again_and_earlier():
    count = Count("phase_kills")
    tried = []
    for phase, part in kills._phases(4, count):
        tried.append((phase, part))
        count.made("training" if len(tried) < 3 else phase)
    first = [("compiling", part) for part in (1.0, 0.5, 0.25)]
    assert tried == [*first, ("evaluating", 1.0), ("measuring eps", 1.0)]
    assert len(list(kills._phases(4, Count("phase_kills")))) == kills.TRIES * 4

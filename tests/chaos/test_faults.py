"""Each fault of the chaos suite in a small size; the same functions at full size write
RELIABILITY.md."""

import dataclasses

import pytest

from irl_bench.storage import checkpoints
from irl_bench.tools.chaos import kills, suite, victims

SMALL = {
    "small_kills": 4,
    "phase_kills": 4,
    "write_kills": 6,
    "terminations": 4,
    "full_disk": 7,
    "read_only": 2,
    "power_cuts": 4,
    "two_workers": 1,
    "clock_set_back": 2,
    "seen_late": 1,
    "moved": 1,
}
"""Fault -> its size here."""
REPEATED = ("small_kills", "write_kills", "terminations", "full_disk")
"""Of these `phase_kills` or a test of the runner (integration/test_interruptions) has one kind."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(f, marks=pytest.mark.slow if f in REPEATED else ()) for f in SMALL],
)
def test_nothing_is_lost_doubled_or_wrong(name, toy, monkeypatch):
    # The suite measures times; here they only tell of what does not end.
    monkeypatch.setattr(kills, "TERM_SECONDS", 60.0)
    fault, size = suite.FAULTS[name], SMALL[name]
    # Where all kinds are made, they are asked for.
    kinds = fault.kinds if size >= len(fault.kinds) else ()
    # The toys write too few checkpoints for all kills to meet one.
    needs = () if name == "write_kills" else fault.needs
    count = fault.run(toy, size)
    dataclasses.replace(fault, kinds=kinds, needs=needs).hold(count)
    assert count.sound, count.notes
    assert count.tried >= min(size, len(fault.kinds) or size) and count.seconds > 0
    if name in ("full_disk", "read_only"):
        assert count.refused > 0


def forgetful(job):
    """A program that stores no progress when it is asked to stop."""
    checkpoints.save = lambda *arguments: None
    victims.work(job)


def test_a_program_that_stores_nothing_when_asked_to_stop_is_found(toy, monkeypatch):
    assert toy.calls
    monkeypatch.setattr(victims, "work", forgetful)
    # A signal may come after the call that was timed; earlier ones follow.
    shares = (1.0, 0.6, 0.3, 0.1)
    monkeypatch.setattr(kills, "_phases", lambda size, count: [("training", s) for s in shares])
    monkeypatch.setattr(kills, "_finish", lambda stage, out, count: None)
    count = kills.terminations(toy, 1)
    assert count.lost and all("left no checkpoint" in note for note in count.notes)


def test_no_damage_is_silent(toy):
    count = suite.FAULTS["damage"].run(toy, 60)
    suite.FAULTS["damage"].hold(count)
    assert count.sound, count.notes
    assert count.tried == 62 and count.resumed >= 10 and count.refused >= 20
    assert count.ignored == 20


@pytest.mark.slow
@pytest.mark.parametrize("name", suite.FAULTS)
def test_a_tenth_of_the_full_size(name, tmp_path):
    record, said = tmp_path / "chaos.json", []
    assert suite.run([name], record, share=0.1, say=said.append), said
    assert name in suite.page(record)

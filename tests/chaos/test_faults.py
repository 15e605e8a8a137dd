"""Each fault of the chaos suite in a small size; the same functions at full size write
RELIABILITY.md."""

import pytest

from irl_bench.tools.chaos import damage, disks, kills, sharing, suite

SMALL = {
    kills.random_kills: 4,
    kills.phase_kills: 4,
    kills.write_kills: 2,
    kills.terminations: 2,
    disks.full_disk: 2,
    disks.read_only: 2,
    disks.power_cuts: 3,
    sharing.two_workers: 1,
    sharing.clock_set_back: 1,
    sharing.seen_late: 1,
    sharing.moved: 1,
}
"""Fault -> its size here."""
KILLS = (kills.random_kills, kills.phase_kills)
REPEATED = (
    kills.random_kills, kills.write_kills, kills.terminations, disks.full_disk,
)  # fmt: skip
"""Of these `phase_kills` or a test of the runner (integration/test_interruptions) has one kind."""


@pytest.mark.parametrize(
    "fault",
    [pytest.param(f, marks=pytest.mark.slow if f in REPEATED else ()) for f in SMALL],
    ids=lambda fault: fault.__name__,
)
def test_nothing_is_lost_doubled_or_wrong(fault, toy, monkeypatch):
    # The suite measures times; here they only tell of what does not end.
    monkeypatch.setattr(kills, "TERM_SECONDS", 60.0)
    count = fault(toy, SMALL[fault])
    assert count.sound, count.notes
    assert count.tried >= SMALL[fault] and count.seconds > 0
    if fault in KILLS:
        assert count.resumed > 0 and 2 * count.after_checkpoint >= count.tried
    if fault in (disks.full_disk, disks.read_only):
        assert count.refused > 0


def test_no_damage_is_silent(toy):
    count = damage.damage(toy, 60)
    assert count.sound, count.notes
    assert count.tried == 62 and count.resumed >= 10 and count.refused >= 20


@pytest.mark.slow
@pytest.mark.parametrize("name", suite.FAULTS)
def test_a_tenth_of_the_full_size(name, tmp_path):
    record, said = tmp_path / "chaos.json", []
    assert suite.run([name], record, share=0.1, say=said.append), said
    assert name in suite.page(record)

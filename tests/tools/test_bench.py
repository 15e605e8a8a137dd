"""What every suite of bench.py does before it measures for minutes or hours."""

import pytest

from irl_bench.cli import bench
from irl_bench.core.settings import BadInput
from irl_bench.tools import driving, rates, speed
from irl_bench.tools.chaos import suite
from irl_bench.tools.chaos.counts import Count
from irl_bench.tools.fleet import record
from tests.tools.bench_flags import values

SUITES = {
    "speed": (speed, "measure", ["--what=worlds"]),
    "chaos": (suite, "run", ["--what=damage"]),
    "scale": (record, "run", ["--workers=1"]),
    "cells": (rates, "measure", ["--what=chain"]),
    "driving": (driving, "measure", ["--what=experts"]),
}


PARTS = {"chaos": "faults", "scale": "fleets", "cells": "worlds"}
NO_RECORDS = [
    *((name, text) for name in SUITES for text in ("not json", "", "[1]", "[" * 100_000)),
    *((name, f'{{"{part}": {value}}}') for name, part in PARTS.items() for value in (3, "[{}]")),
    *((name, f'{{"{part}": {{"damage": 1}}}}') for name, part in PARTS.items()),
]


@pytest.fixture
def start(monkeypatch):
    """Starts a suite that must not come to measure."""
    for module, name, _ in SUITES.values():
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("it measures"))

    def started(name, out):
        bench.main(values(f"--suite={name}", *SUITES[name][2], f"--out={out}"))

    return started


@pytest.mark.parametrize("name", SUITES)
def test_a_file_that_cannot_be_written_is_refused_first(start, tmp_path, name):
    (tmp_path / "taken").write_text("{}")
    for out in (tmp_path, tmp_path / "taken" / "a.json"):
        with pytest.raises(BadInput, match=r"^--out=.*; nearest: --out=[^\n]*$"):
            start(name, out)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(("name", "content"), [each for each in NO_RECORDS if each[0] != "speed"])
def test_a_file_that_is_no_record_is_refused_first(start, tmp_path, name, content):
    """The speeds have no part in this: their record is replaced."""
    out = tmp_path / "mine.txt"
    out.write_text(content)
    with pytest.raises(BadInput, match=r"^--out=.*holds something else than a .*; nearest: --out="):
        start(name, out)
    assert out.read_text() == content


def test_a_record_without_any_part_is_added_to(tmp_path):
    out = tmp_path / "chaos.json"
    out.write_text("{}")
    suite._add(out, "damage", Count("damage", tried=1), "a command")
    assert "`damage`" in suite.page(out)

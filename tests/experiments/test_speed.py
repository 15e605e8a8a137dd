"""The bench: that it measures what it says at tiny sizes, and that its page holds what was measured."""

import json

from irl_bench.experiments import speed


def test_the_record_becomes_the_page(tmp_path):
    record = speed.measure(["worlds"], "chain", [4], steps=3, repeats=1)
    (row,) = record["parts"]["worlds"]
    assert row["worlds"] == 4 and row["failures"] == 0 and row["best_steps_per_s"] >= row["median_steps_per_s"] > 0
    assert record["machine"].keys() == {"cores", "memory_gib"}
    (tmp_path / "here.json").write_text(json.dumps(record))
    text = speed.page(tmp_path)
    assert "## here" in text and record["date"] in text and f"{row['first_call_s']:.3g}"[:3] in text


def test_nothing_measured(tmp_path):
    assert "Nothing has been measured yet." in speed.page(tmp_path)

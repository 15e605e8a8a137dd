"""The verdict table on a terminal and off it."""

import io

from irl_bench.report import show
from tests.report import synthetic


def printed(*arguments, tty=False):
    class Stream(io.StringIO):
        def isatty(self):
            return tty

    stream = Stream()
    show(*arguments, file=stream)
    return stream.getvalue()


def test_plain_text_fits_and_ends_in_the_sentences():
    data = synthetic.report_data()
    text = printed(data.verdicts, data.sentences, {"bc chain": {"init": 1, "chunk": 1}})
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text
    assert "QUADRATIC" in text and "9/10" in text
    assert "compiled for bc chain: init 1, chunk 1" in text
    assert " ".join(text.split()).endswith(" ".join(data.sentences[-1].split()))


def test_missing_is_a_dash():
    data = synthetic.report_data()
    keys = ("slope", "hazard", "recovery", "level", "untrained_level")
    text = printed([{**data.verdicts[3], **dict.fromkeys(keys)}], [])
    assert text.splitlines()[2].split()[3:8] == ["–"] * 5


def test_names_cannot_write_on_the_screen():
    data = synthetic.report_data()
    hostile = [
        {
            **data.verdicts[3],
            "mode": "\x1b[31mred\n[bold]x[/bold]",
            "algo": "long" * 40,
            "reason": "\x07\x1b]0;x",
        }
    ]
    for tty in (False, True):
        text = printed(hostile, ["\x1b[2J"], tty=tty)
        assert "\x1b[31m" not in text and "\x1b[2J" not in text and "\x07" not in text
    assert max(map(len, printed(hostile, []).splitlines())) <= 100


def test_markup_in_names_is_shown_as_it_is(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    data = synthetic.report_data()
    assert "[bold]x" in printed([{**data.verdicts[3], "mode": "[bold]x"}], [], tty=True)


def test_horizons_that_differ_from_the_closed_form_without_spread_are_named():
    verdict = dict.fromkeys(("exact_slope", "closed_form_z", "closed_form_z_T_max"))
    data = synthetic.report_data()
    plain = " ".join(
        printed([{**data.verdicts[3], **verdict, "closed_form_unjudged": []}], []).split()
    )
    named = " ".join(
        printed([{**data.verdicts[3], **verdict, "closed_form_unjudged": [80, 113]}], []).split()
    )
    assert "closed form" not in plain and named.endswith(
        "all seeds differ from it alike at T = 80, 113"
    )


def test_a_world_without_a_window_says_so():
    data = synthetic.report_data(("lane_keep",), h=0.05)
    assert printed(data.verdicts, []).splitlines()[0] == "lane_keep: no window"


def test_a_mixed_verdict_says_so_and_names_of_verdicts_stay_whole():
    data = synthetic.report_data()
    mixed = {**data.verdicts[3], "verdict": "NO-WINDOW", "mixed": True}
    text = printed([mixed], ["x" * 96 + " NO-WINDOW"])
    assert "; mixed: some seeds come back, and others do not" in " ".join(text.split())
    assert not any(line.endswith("NO-") for line in text.splitlines())
    unmixed = printed([{**mixed, "mixed": False}], [])
    assert "mixed" not in unmixed

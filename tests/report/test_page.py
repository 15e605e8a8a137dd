"""The page shows every figure, loads nothing, and escapes every name."""

import dataclasses
import html
import json
import re

import numpy as np
import plotly.graph_objects as go
import pytest

from irl_bench.report import interactive, page, tables
from tests.report import synthetic

HOSTILE = '<script>alert("x")</script>&</td>'


@pytest.fixture(scope="module")
def data():
    return synthetic.report_data()


@pytest.fixture(scope="module")
def built(data):
    return page.build(data)


def without_plotly(text):
    """The page without plotly's script, which is not under test."""
    start = text.index("<script>", text.index('type="application/json"'))
    return text[:start] + text[text.index("</script>", start) :]


def rows(text):
    """Cells of all table rows, as text."""
    row_texts = re.findall(r"<tr[^>]*>(.*?)</tr>", text, re.DOTALL)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in row_texts]
    return [[html.unescape(cell.replace("<wbr>", "")) for cell in row] for row in cells]


def test_every_figure_of_the_verdicts_is_on_the_page(data, built):
    shown = rows(without_plotly(built))
    for verdict in data.verdicts:
        place = next(
            i
            for i, row in enumerate(shown)
            if row[:1] == [verdict["env"]]
            and row[2:3] == [verdict["algo"]]
            and verdict["mode"] in row[1]
        )
        here = shown[place]
        text = " | ".join(here)
        for key in ("hazard", "recovery", "level", "untrained_level"):
            assert tables.number(verdict[key]) in here, key
        if verdict["slope"] is not None:
            assert (
                f"{verdict['slope']:.3f} [{verdict['ci_low']:.3f}, {verdict['ci_high']:.3f}]"
                in here
            )
        window = verdict["window"]
        assert f"{window['low']} to {window['high']}" in here
        assert f"{verdict['usable_seeds']} of {verdict['seeds']}" in here
        assert verdict["verdict"] in text
        assert shown[place + 1] == [verdict["reason"]]
        everything = [cell for row in shown for cell in row]
        for key in (
            "stationary",
            "hazard_T_max",
            "eps_expert",
            "eps_own",
            "exc_acc_err",
            "expert_queries",
        ):
            assert tables.number(verdict[key]) in everything, key
        assert tables.exponent(verdict["chain_slope"], None, None) in everything
        assert (
            tables.exponent(
                verdict["graded_slope"], verdict["graded_ci_low"], verdict["graded_ci_high"]
            )
            in everything
        )
        for fit in verdict["models"].values():
            assert any(cell.rstrip("*") == tables.number(fit["bic"]) for cell in everything)
        if not tables.is_reference(verdict):
            for mean, (low, high) in zip(verdict["regret"], verdict["regret_ci"], strict=True):
                assert tables.interval(mean, low, high) in everything


def test_sentences_and_counts_come_first(data, built):
    text = html.unescape(built)
    assert all(sentence in text for sentence in data.sentences)
    assert text.index(data.sentences[0]) < text.index("<h2>")
    assert "3 other cells" in built
    assert html.escape(data.plan["command"]) in built


def test_the_control_is_named(built):
    assert "lane_keep, recoverable twin (control)" in built


def test_nothing_is_loaded_from_elsewhere(built):
    text = without_plotly(built)
    assert not re.search(r"""(src|href|action|srcset|poster)\s*=|url\(|@import|https?://""", text)
    assert built.count("<script src") == 0
    assert "default-src 'none'" in built
    assert built.count("plotly.js v") == 1


def test_names_are_escaped():
    data = synthetic.report_data(("chain", HOSTILE))
    data = dataclasses.replace(
        data,
        plan={**data.plan, "command": HOSTILE},
        sentences=[HOSTILE],
        manifests={"k": {"fingerprint": {HOSTILE: HOSTILE}}},
    )
    hostile = [{**verdict, "reason": HOSTILE, "verdict": HOSTILE} for verdict in data.verdicts]
    text = without_plotly(page.build(dataclasses.replace(data, verdicts=hostile)))
    assert "<script>alert" not in text
    assert "</td>&" not in text
    assert text.count("<script") == without_plotly(page.build(synthetic.report_data())).count(
        "<script"
    )
    assert html.escape(HOSTILE, quote=False) in text.replace("&#34;", '"')
    figures = re.search(
        r'<script id="figures" type="application/json">(.*?)</script>', text, re.DOTALL
    )
    assert figures and "<" not in figures[1]
    assert json.loads(figures[1])


def test_plots_are_valid(data):
    for make in (
        interactive.regret,
        interactive.local_slopes,
        interactive.eps,
        interactive.hazard_recovery,
        interactive.hazard_over_time,
        interactive.learning,
        interactive.diagnostics,
        interactive.reward_maps,
    ):
        plots = make(data)
        assert plots
        for plot in plots:
            go.Figure(plot["figure"])
            json.dumps(plot["figure"], allow_nan=False)


def test_the_closed_forms_columns_are_filled_and_explained(data):
    figures = {"exact_slope": 1.9876, "closed_form_z": 2.5, "closed_form_unjudged": [80, 113]}
    text = page.build(
        dataclasses.replace(data, verdicts=[{**verdict, **figures} for verdict in data.verdicts])
    )
    everything = [cell for row in rows(without_plotly(text)) for cell in row]
    assert "1.988" in everything and "2.5; no spread at T = 80, 113" in everything
    assert (
        "Closed form's slope: the same fit to the exact regret" in text
        and "the largest |z| at any" in text
    )


def test_missing_is_never_zero():
    data = synthetic.report_data()
    numbers = (
        "slope",
        "ci_low",
        "ci_high",
        "hazard",
        "recovery",
        "level",
        "untrained_level",
        "eps_expert",
        "eps_own",
        "exc_acc_err",
    )
    data = dataclasses.replace(
        data,
        verdicts=[{**verdict, **dict.fromkeys(numbers), "models": {}} for verdict in data.verdicts],
    )
    header = tables.verdicts(data).header
    for row in tables.verdicts(data).rows:
        for name in ("slope [95 % CI]", "h [1/step]", "ρ [1/step]", "level", "untrained level"):
            assert row[header.index(name)] == tables.MISSING
    for row in tables.errors(data).rows:
        assert row[3:6] == [tables.MISSING] * 3
    assert page.build(data)
    for value in (None, float("nan"), float("inf"), np.nan):
        assert tables.number(value) == tables.MISSING
    assert tables.number(0) == tables.number(0.0) == "0"
    assert tables.exponent(-1e-5, -0.2, 0.0) == "0.000 [-0.200, 0.000]"


def test_only_the_keys_of_a_verdict_that_are_promised_are_needed():
    data = synthetic.report_data()
    least = [
        {key: verdict[key] for key in ("env", "algo", "mode", "verdict", "regret", "regret_ci")}
        for verdict in data.verdicts
    ]
    assert tables.MISSING in page.build(dataclasses.replace(data, verdicts=least))


def test_no_window_and_failed_seeds_render():
    nothing = synthetic.report_data(("lane_keep",), h=0.05)
    assert {verdict["verdict"] for verdict in nothing.verdicts} == {"NO-WINDOW"}
    text = page.build(nothing)
    assert "no window: no slope is fitted" in text
    assert "9 of 10" in text
    bc = ("lane_keep", "bc", "nominal")
    nothing.rounds[bc]["failed_round"] = (
        np.array([30]),
        np.where(np.arange(10) == 3, 12.0, -1.0)[:, None],
    )
    assert ["lane_keep", "nominal", "bc", "1000 to 1009", "1003 (round 12)"] in [
        list(row[:5]) for row in tables.seeds(nothing).rows
    ]


def test_a_learner_whose_seeds_all_failed_renders():
    text = page.build(synthetic.report_data(("lane_keep",), failed=tuple(range(10))))
    assert "1000, 1001, 1002" in text
    assert "0 of 10" in text


def test_one_seed_and_one_horizon_render():
    assert page.build(
        synthetic.with_curves([synthetic.curves("chain", "bc", "nominal", 1e-3, 0.0, seeds=1)])
    )
    assert page.build(
        synthetic.with_curves([synthetic.curves("chain", "bc", "nominal", 1e-3, 0.0, t_max=1)])
    )


def test_a_split_between_seeds_is_marked():
    data = synthetic.report_data(("lane_keep",))
    assert "mixed" not in without_plotly(page.build(data))
    split = dataclasses.replace(
        data, verdicts=[{**verdict, "mixed": True} for verdict in data.verdicts]
    )
    assert all(row[3].endswith("mixed") for row in tables.verdicts(split).rows)
    assert "Seeds split" in page.build(split)


def test_settings_name_what_differs():
    (env, table), *_ = tables.settings(synthetic.report_data())
    values = {row[0]: row[1] for row in table.rows}
    assert env == "chain"
    assert values["demos"] == "80"
    assert values["bc.learning_rate"] == "0.001"
    assert values["chain.recoverability"] == "mode nominal: 0; mode recoverable: 1"


def test_a_learner_that_is_alone_is_named_in_every_legend():
    data = synthetic.with_curves([synthetic.curves("chain", "bc", "nominal", 1e-3, 0.0)])
    for make in (
        interactive.regret,
        interactive.local_slopes,
        interactive.eps,
        interactive.hazard_recovery,
        interactive.hazard_over_time,
    ):
        (plot,) = make(data)
        assert plot["figure"]["layout"][
            "showlegend"
        ]  # plotly leaves it out where there is one trace
        assert any(trace.get("name", "").startswith("bc") for trace in plot["figure"]["data"])


def test_the_command_can_be_pasted():
    data = synthetic.report_data(("chain",))
    for line in ("launch/sweep.py --env=chain", "python launch/sweep.py --env=chain"):
        text = page.build(dataclasses.replace(data, plan={**data.plan, "command": line}))
        assert "<pre>python launch/sweep.py --env=chain</pre>" in text


def test_what_is_not_set_reads_none():
    data = synthetic.report_data(("chain",))
    fingerprint = {"device": "", "matmul_precision": "None", "xla_flags": [], "devices": 2}
    table = tables.versions(
        dataclasses.replace(data, manifests={"k": {"fingerprint": fingerprint}})
    )
    assert [list(row) for row in table.rows] == [
        [name, "none"] for name in list(fingerprint)[:3]
    ] + [["devices", "2"]]

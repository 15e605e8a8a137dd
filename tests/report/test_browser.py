"""The page in a headless browser, from a telephone to a wide screen; skipped where there is
none."""

import dataclasses
import html
import json
import re
import shutil
import subprocess

import pytest

from irl_bench.report import page
from tests.report import synthetic

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=30000",
    "--dump-dom",
)
WIDTHS = (360, 390, 480, 768, 1024, 1180, 1181, 1280, 1440, 1920)
PROBE = """<script>
var broken = [];
addEventListener("error", function (e) { broken.push(String(e.message)); });
document.addEventListener("securitypolicyviolation", function (e) { broken.push("blocked: " + e.blockedURI); });
addEventListener("load", function () { setTimeout(function () {
  function all(selector) { return Array.prototype.slice.call(document.querySelectorAll(selector)); }
  function width(e) { return e.getBoundingClientRect().width; }
  function spills(e) { return e.scrollWidth > e.clientWidth; }
  function words(e) { return e.textContent.trim().slice(0, 60); }
  var root = document.scrollingElement, cells = all(".verdict td"), client = root.clientWidth;
  var found = { scroll: root.scrollWidth, client: client, broken: broken,
    right: Math.max.apply(null, all("main > *").map(function (e) { return e.getBoundingClientRect().right; })),
    spill: Math.max.apply(null, all(".plot").map(function (e) { return width(e.querySelector("svg")) - width(e); }).concat(0)),
    cut: all(".verdict, .verdict *").filter(function (e) { return e.clientWidth && spills(e); }).map(words),
    outside: cells.filter(function (e) {
      var box = e.getBoundingClientRect();
      return !box.width || !box.height || box.left < 0 || box.right > client;
    }).map(words),
    cells: cells.length, text: width(document.querySelector(".lead, main > p")) / client,
    plots: all(".plot").length, drawn: all(".plot .main-svg .xtick").length,
    loaded: performance.getEntriesByType("resource").map(function (r) { return r.name; }) };
  all("details").forEach(function (e) { e.open = true; });
  found.tables = all(".scroll").filter(spills).map(words);
  found.opened = root.scrollWidth;
  parent.postMessage(found, "*");
}, 500); });
</script></head>"""
LONG = (
    "the regret at T = 160 is too near zero for an interval, and max(10 u, 10 L) = 1280 <= T <= "
    "4065 spans 3.18x, less than 8x"
)


NAMES = {"dagger": "my_package.my_algorithms.recurrent_imitation:make_learner"}
WORLD = "my_package.worlds.slippery_roads:make_world"


def look(folder, text):
    """width -> what the page says of itself in a window of that width."""
    if CHROMIUM is None:
        pytest.skip("no chromium here")
    # A study's page allows no script at all; this copy of it allows the probe.
    if "script-src" not in text:
        text = text.replace(
            "default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'", 1
        )
    (folder / "page.html").write_text(text.replace("</head>", PROBE, 1), encoding="utf-8")
    # In frames, because a window of a headless browser is never narrower than 500 px.
    frames = "".join(
        f'<iframe src="page.html" name="{w}" style="width:{w}px;height:900px;border:0"></iframe>'
        for w in WIDTHS
    )
    listen = """<script>var found = {}; addEventListener("message", function (e) {
      document.querySelectorAll("iframe").forEach(function (f) {
        if (f.contentWindow === e.source) { found[f.name] = e.data; }
      });
      document.title = JSON.stringify(found); });</script>"""
    (folder / "frame.html").write_text(
        f"<!DOCTYPE html><title></title><body>{listen}{frames}", encoding="utf-8"
    )
    command = [
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={folder / 'profile'}",
        "--window-size=2000,1000",
        (folder / "frame.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    measured = json.loads(
        html.unescape(re.search(r"<title>(\{.*?\})</title>", done.stdout, re.DOTALL)[1])
    )
    assert set(map(int, measured)) == set(WIDTHS)
    return {int(width): page_ for width, page_ in measured.items()}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report whose names and reasons are long."""
    data = synthetic.report_data(("lane_keep", WORLD))
    verdicts = [
        {**v, "algo": NAMES.get(v["algo"], v["algo"]), "reason": LONG} for v in data.verdicts
    ]
    text = page.build(dataclasses.replace(data, verdicts=verdicts))
    assert html.escape(LONG) in text
    return look(tmp_path_factory.mktemp("report"), text)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study with a wide table."""
    columns = ("score", "above the best", "above the mean", "regret", "fall against BC")
    row = {
        "quality": "50 %",
        "algorithm": NAMES["dagger"],
        **dict.fromkeys(columns, "-0.153 [-0.158, -0.148]"),
    }
    row |= {
        "p (Holm)": 0.0123,
        "slope": 1.98,
        "h": 0.00015,
        "expert queries": 49152,
        "env steps": 684288,
        "seeds": 10,
    }
    command = (
        f"launch/sweep.py --experiment=seed_table --env={WORLD} --demos=64 "
        "--first_seed=22000 --out=runs/a/long/path"
    )
    results = {
        "title": "Who corrects exposure bias?",
        "text": [LONG, LONG],
        "tables": {"a table": [row] * 3},
        "command": command,
    }
    return look(
        tmp_path_factory.mktemp("study"), page.study(results, {}, [f"{WORLD}/25/compared"] * 9)
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_spills_and_nothing_is_loaded(report, width):
    measured = report[width]
    assert measured["scroll"] <= measured["client"] <= width
    assert measured["opened"] <= measured["client"]
    assert measured["right"] <= measured["client"]
    assert measured["spill"] <= 0
    assert measured["plots"] == 36 and measured["drawn"] > 40
    assert measured["broken"] == [] and measured["loaded"] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_verdicts_fit_and_the_text_uses_the_page(report, width):
    measured = report[width]
    assert measured["cells"] == 12 * 12
    assert measured["cut"] == [] and measured["outside"] == []
    assert measured["text"] > (0.5 if width > 1600 else 0.75)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_study_fits(study, width):
    measured = study[width]
    assert measured["scroll"] <= measured["client"] <= width
    assert measured["right"] <= measured["client"]
    assert measured["text"] > (0.5 if width > 1600 else 0.75)
    assert measured["broken"] == [] and measured["loaded"] == []


@pytest.mark.parametrize("width", [width for width in WIDTHS if width >= 1280])
def test_no_table_scrolls_where_there_is_room(report, study, width):
    assert report[width]["tables"] == [] and study[width]["tables"] == []

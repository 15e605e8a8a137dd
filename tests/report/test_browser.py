"""The page in a headless browser, wide and narrow; skipped where there is none."""

import json
import re
import shutil
import subprocess

import pytest

from irl_bench.report import page
from tests.report import synthetic

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=20000",
    "--dump-dom",
)
PROBE = """<script>
var broken = [];
addEventListener("error", function (e) { broken.push(String(e.message)); });
document.addEventListener("securitypolicyviolation", function (e) { broken.push("blocked: " + e.blockedURI); });
addEventListener("load", function () { setTimeout(function () {
  var root = document.scrollingElement, inner = 0, wide = 0;
  document.querySelectorAll(".plot").forEach(function (box) {
    inner = Math.max(inner, box.querySelector("svg").getBoundingClientRect().width - box.clientWidth);
  });
  document.querySelectorAll("main > *").forEach(function (e) { wide = Math.max(wide, e.getBoundingClientRect().right); });
  parent.postMessage({ scroll: root.scrollWidth, client: root.clientWidth, right: wide, spill: inner, broken: broken,
    plots: document.querySelectorAll(".plot").length, drawn: document.querySelectorAll(".plot .main-svg .xtick").length,
    loaded: performance.getEntriesByType("resource").map(function (r) { return r.name; }) }, "*");
}, 500); });
</script></head>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_spills_and_nothing_is_loaded(tmp_path, width):
    text = page.build(synthetic.report_data(("lane_keep",)))
    (tmp_path / "page.html").write_text(text.replace("</head>", PROBE, 1), encoding="utf-8")
    # In a frame, because a window of a headless browser is never narrower than 500 px.
    frame = f'<iframe src="page.html" style="width:{width}px;height:900px;border:0"></iframe>'
    listen = "<script>addEventListener('message', function (e) { document.title = JSON.stringify(e.data); });</script>"
    (tmp_path / "frame.html").write_text(f"<!DOCTYPE html><title></title><body>{listen}{frame}", encoding="utf-8")
    command = [
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1600,1000",
        (tmp_path / "frame.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(re.search(r"<title>(\{.*?\})</title>", done.stdout)[1])
    assert found["scroll"] <= found["client"] <= width
    assert found["right"] <= found["client"]
    assert found["spill"] <= 0
    assert found["plots"] == 14 and found["drawn"] > 20
    assert found["broken"] == [] and found["loaded"] == []

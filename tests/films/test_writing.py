"""A film's files: what they hold, and the page in a headless browser."""

import html
import importlib.util
import io
import json
import re
import subprocess

import numpy as np
import pytest
from PIL import Image, ImageColor

from envs import drawing
from irl_bench.core.settings import BadInput
from irl_bench.films import writing
from tests.report.test_browser import CHROMIUM, FLAGS

SHADES = (30, 90, 150, 210)
FAILURES = [("bc", [False, True, True, False]), ("<expert>", [False] * 4)]


def pictures(size=(65, 41)):
    """Four frames of one shade each."""
    return [Image.new("RGB", size, (shade, shade, 0)) for shade in SHADES]


def written(folder, *formats, frames=None):
    paths = writing.write(
        folder / "film", formats, frames or pictures(), 0.05, "scene <3>", FAILURES
    )
    assert [path.name for path in paths] == [f"film.{name}" for name in formats]
    return paths


def test_a_gif_holds_every_frame_at_its_time(tmp_path):
    (path,) = written(tmp_path, "gif")
    with Image.open(path) as film:
        assert film.n_frames == 4 and film.info["loop"] == 0
        for index, shade in enumerate(SHADES):
            film.seek(index)
            assert film.info["duration"] == 50
            found = np.asarray(film.convert("RGB"))[20, 30]
            assert np.abs(found.astype(int) - (shade, shade, 0)).max() <= 8


def test_a_short_failure_keeps_its_red(tmp_path):
    """In a film of many colours, in frames between those that the palette is taken from."""
    slope = np.linspace(0, 255, 120).astype(np.uint8)
    scene = np.stack([*np.meshgrid(slope, slope[:90]), np.full((90, 120), 120, np.uint8)], -1)
    frames = [Image.fromarray(scene) for _ in range(40)]
    for index, frame in enumerate(frames):  # equal frames would become one
        frame.paste("black", (2 * index, 80, 2 * index + 2, 90))
    red = ImageColor.getrgb(drawing.FAILING)
    frames[7].paste(red, (10, 10, 16, 14))
    (path,) = written(tmp_path, "gif", frames=frames)
    with Image.open(path) as film:
        film.seek(7)
        found = np.asarray(film.convert("RGB"))[12, 13].astype(int)
    assert np.abs(found - red).max() <= 12


def test_a_page_holds_frames_names_and_failures_and_asks_nobody(tmp_path):
    (path,) = written(tmp_path, "html")
    text = path.read_text()
    assert "default-src 'none'" in text and not re.search(r"https?://", text)
    assert "scene &lt;3&gt;" in text and "scene <3>" not in text and "<expert>" not in text
    data = json.loads(re.search(r"const film = (\{.*\});", text)[1])
    assert len(data["frames"]) == 4 and data["seconds"] == 0.05 and data["since"] == 0.0
    assert [driver["failed"] for driver in data["drivers"]] == [[0, 1, 1, 0], [0] * 4]


def test_equal_films_are_equal_files(tmp_path):
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        contents.append([path.read_bytes() for path in written(tmp_path / name, "gif", "html")])
    assert contents[0] == contents[1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of its reader
@pytest.mark.skipif(importlib.util.find_spec("imageio_ffmpeg") is None, reason="no ffmpeg here")
def test_an_mp4_can_be_read_again(tmp_path):
    import imageio_ffmpeg

    (path,) = written(tmp_path, "mp4")  # of odd sizes, which H.264 does not take
    reader = imageio_ffmpeg.read_frames(str(path))
    facts = next(reader)
    assert facts["size"] == (66, 42) and facts["fps"] == pytest.approx(20)
    shades = [np.frombuffer(frame, np.uint8).reshape(42, 66, 3)[20, 30, 0] for frame in reader]
    assert np.abs(np.array(shades, int) - SHADES).max() < 12


@pytest.mark.parametrize(
    ("formats", "message"),
    [(["avi"], "formats=avi: must be of gif, html, mp4; nearest: gif,html")],
)
def test_an_unknown_format_is_one_line(formats, message):
    with pytest.raises(BadInput, match=re.escape(message)):
        writing.check(formats)


def test_mp4_without_its_extra_names_it(monkeypatch):
    monkeypatch.setattr(writing.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"needs the extra films; nearest: pip install 'irl-bench"):
        writing.check(["gif", "mp4"])


PROBE = """<script>
addEventListener("load", async () => {
  const find = (id) => document.getElementById(id), said = { broken: [] };
  addEventListener("error", (event) => said.broken.push(String(event.message)));
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const shade = () => find("film").getContext("2d").getImageData(5, 5, 1, 1).data[0];
  const at = () => Number(find("place").value);
  await wait(1000);
  find("play").click();                       // pause
  find("place").value = 2; find("place").oninput();
  await wait(100); said.scrubbed = [at(), shade()];
  find("on").click(); await wait(100); said.on = [at(), shade()];
  find("on").click(); await wait(100); said.end = at();
  find("back").click(); await wait(100); said.back = [at(), shade()];
  await wait(500); said.paused = at();
  find("speed").value = "4"; find("place").value = 0; find("place").oninput();
  find("play").click();
  const seen = new Set();
  for (let i = 0; i < 60; i++) { seen.add(at()); await wait(10); }
  said.played = [...seen].sort(); said.label = find("play").textContent;
  dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
  said.stepped = find("play").textContent;
  const marks = document.querySelectorAll(".marks canvas");
  const drawn = (mark, x) => mark.getContext("2d").getImageData(x, 0, 1, 1).data[3];
  said.marks = [...marks].map((mark) => [0, 1, 2, 3].map((x) => drawn(mark, x)));
  document.title = JSON.stringify(said);
});
</script></head>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_the_page_plays_pauses_scrubs_and_steps(tmp_path):
    (path,) = written(tmp_path, "html")
    path.write_text(path.read_text().replace("</head>", PROBE, 1))
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    said = json.loads(html.unescape(re.search(r"<title>(\{.*?\})</title>", done.stdout)[1]))
    near = lambda found, index: found[0] == index and abs(found[1] - SHADES[index]) <= 8
    assert said["broken"] == []
    assert near(said["scrubbed"], 2) and near(said["on"], 3) and said["end"] == 3
    assert near(said["back"], 2) and said["paused"] == 2
    assert said["played"] == [0, 1, 2, 3] and said["label"] == "Pause"
    assert said["stepped"] == "Play"
    assert [[alpha > 0 for alpha in line] for line in said["marks"]] == [
        [False, True, True, False],
        [False] * 4,
    ]


def test_frames_of_many_colours_keep_them_roughly():
    rng = np.random.default_rng(0)
    shades = rng.integers(0, 255, (8, 3))
    image = Image.fromarray(np.repeat(shades[None], 16, 0).astype(np.uint8).repeat(8, 1))
    content = io.BytesIO()
    writing._quantised([image])[0].convert("RGB").save(content, "PNG")
    found = np.asarray(Image.open(content)).astype(int)
    assert np.abs(found - np.asarray(image)).max() <= 16

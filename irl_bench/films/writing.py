"""A film's files: GIF, MP4, and a page that plays it without a network."""

from __future__ import annotations

import base64
import importlib
import importlib.util
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from envs import drawing
from irl_bench.core.settings import BadInput
from irl_bench.storage.files import write_atomic

FORMATS = ("gif", "html", "mp4")
PALETTE = 64
"""Colours of a frame in a GIF and on a page."""
MARKS = (drawing.FAILING, drawing.FINE, drawing.GHOST)
"""Colours that say something. A failure may be over within frames that give no other colour."""
SHORTEST = 0.02
"""Browsers slow a GIF down whose frames last less [s]."""


def check(formats: Sequence[str]) -> None:
    """Raises BadInput if a format is not known, or what it needs is not installed; one line."""
    for name in formats:
        if name not in FORMATS:
            raise BadInput(f"formats={name}: must be of {', '.join(FORMATS)}; nearest: gif,html")
    if "mp4" in formats and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise BadInput(
            "formats=mp4 needs the extra films; nearest: pip install 'irl-bench[films]', or "
            "formats=gif,html"
        )


def write(
    out: Path,
    formats: Sequence[str],
    frames: Sequence[Image.Image],
    seconds: float,
    title: str,
    failures: Sequence[tuple[str, Sequence[bool]]],
    since: float = 0.0,
) -> list[Path]:
    """Writes a film and returns its files.

    Args:
      out: their name without its ending.
      formats: which of FORMATS; `check` has passed.
      frames: the pictures, of one size.
      seconds: duration of a frame [s].
      title: what the film shows, as text.
      failures: (driver, whether each frame is one of its failures) of each driver.
      since: time in the episode of the first frame [s].

    Raises:
      StoreError: a file cannot be written.
    """
    makers = {
        "gif": lambda: _gif(frames, seconds),
        "html": lambda: _page(frames, seconds, title, failures, since),
        "mp4": lambda: _mp4(frames, seconds),
    }
    paths = []
    for name in formats:
        path = out.with_name(f"{out.name}.{name}")
        write_atomic(path, makers[name]())
        paths.append(path)
    return paths


def _quantised(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """Frames in the colours of a few of them, spread over the film, and in those of `MARKS`, which
    no film may lose."""
    some = frames[:: max(1, len(frames) // 8)]
    wide, high = frames[0].size
    band = max(1, high // 8)
    sheet = Image.new("RGB", (wide, high * len(some) + band * len(MARKS)))
    for index, frame in enumerate(some):
        sheet.paste(frame, (0, index * high))
    for index, colour in enumerate(MARKS):
        top = high * len(some) + index * band
        sheet.paste(colour, (0, top, wide, top + band))
    colours = sheet.quantize(PALETTE)
    return [frame.quantize(palette=colours, dither=Image.Dither.NONE) for frame in frames]


def _gif(frames: Sequence[Image.Image], seconds: float) -> bytes:
    first, *rest = _quantised(frames)
    content, duration = io.BytesIO(), round(1000 * max(seconds, SHORTEST))
    first.save(
        content, "GIF", save_all=True, append_images=rest, duration=duration, loop=0, optimize=False
    )
    return content.getvalue()


def _mp4(frames: Sequence[Image.Image], seconds: float) -> bytes:
    ffmpeg: Any = importlib.import_module("imageio_ffmpeg")  # an extra: it may be missing
    # H.264 takes even sizes alone.
    wide, high = (side + side % 2 for side in frames[0].size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        writer = ffmpeg.write_frames(
            str(path), (wide, high), fps=1.0 / seconds, macro_block_size=2, ffmpeg_log_level="error"
        )
        writer.send(None)
        for frame in frames:
            whole = Image.new("RGB", (wide, high))
            whole.paste(frame, (0, 0))
            writer.send(np.ascontiguousarray(np.asarray(whole)))
        writer.close()
        return path.read_bytes()


def _page(
    frames: Sequence[Image.Image],
    seconds: float,
    title: str,
    failures: Sequence[tuple[str, Sequence[bool]]],
    since: float,
) -> bytes:
    def encoded(frame: Image.Image) -> str:
        content = io.BytesIO()
        frame.save(content, "PNG", optimize=True)
        return base64.b64encode(content.getvalue()).decode()

    loader = jinja2.PackageLoader("irl_bench.films", ".")
    page = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    wide, high = frames[0].size
    text = page.get_template("player.html").render(
        title=title,
        wide=wide,
        high=high,
        data={
            "frames": [encoded(frame) for frame in _quantised(frames)],
            "seconds": seconds,
            "since": since,
            "drivers": [
                {"name": name, "failed": [int(one) for one in failed]} for name, failed in failures
            ],
        },
    )
    return text.encode()

"""`--compile_cache`: compiled functions stay with the run, for machines of the same kind."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from irl_bench.running import process
from tests.conftest import QUICK

ROOT = Path(__file__).parents[2]


def swept(out, *flags):
    """Runs a small sweep and returns the names of the compiled functions in its folder."""
    command = ["--algo=bc", "--env=chain", "--mode=cliff", "--budget=smoke", "--seeds=1"]
    done = subprocess.run(
        [sys.executable, ROOT / "launch" / "sweep.py", *command, f"--out={out}", *flags],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        # Whatever compiles within half a second is not kept otherwise, which depends on the moment.
        env={**os.environ, **QUICK, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"},
    )
    assert done.returncode == 0, done.stderr
    return {path.name for path in out.glob("compiled/*/*") if path.name.endswith("-cache")}


@pytest.mark.slow
def test_another_machine_compiles_nothing_again(tmp_path):
    first = swept(tmp_path / "a", "--compile_cache")
    assert first
    (tmp_path / "b").mkdir()
    shutil.copytree(tmp_path / "a" / "compiled", tmp_path / "b" / "compiled")
    assert swept(tmp_path / "b", "--compile_cache") == first
    cells = [
        {path.name: path.read_bytes() for path in (tmp_path / run).glob("cells/*")} for run in "ab"
    ]
    assert cells[0] and cells[0] == cells[1]


@pytest.mark.slow
def test_entries_that_were_torn_or_damaged_are_compiled_again(tmp_path):
    """A machine that dies leaves half a file, or an empty one, since JAX writes in place; a disk
    may flip a bit."""
    names = sorted(swept(tmp_path / "a", "--compile_cache"))
    assert len(names) >= 3
    (tmp_path / "b").mkdir()
    shutil.copytree(tmp_path / "a" / "compiled", tmp_path / "b" / "compiled")
    entries = sorted((tmp_path / "b").glob("compiled/*/*-cache"))
    for number, entry in enumerate(entries):
        content = bytearray(entry.read_bytes())
        content[len(content) // 2] ^= 1
        damaged = (content[: len(content) // 2], b"", content)[number % 3]
        entry.write_bytes(damaged)
    assert swept(tmp_path / "b", "--compile_cache") == set(names)
    cells = [
        {path.name: path.read_bytes() for path in (tmp_path / run).glob("cells/*")} for run in "ab"
    ]
    assert cells[0] and cells[0] == cells[1]


@pytest.mark.parametrize(
    ("info", "other"),
    [
        ("flags\t\t: fpu sse avx2\n", "flags\t\t: fpu sse\n"),
        ("Features\t: fp asimd\n", "Features\t: fp asimd sve\n"),
    ],
)
def test_other_instructions_are_another_kind(info, other, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "CPU_INFO", tmp_path / "cpuinfo")
    kinds = []
    for text in (info, other, info.replace("fpu sse avx2", "avx2 fpu sse")):
        process.CPU_INFO.write_text(f"model name\t: any\n{text}")
        kinds.append(process.kind_of_machine())
    assert kinds[0] != kinds[1] and kinds[0] == kinds[2]

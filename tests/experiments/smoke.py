"""A study at its smallest budget, for the tests that share the studies among them: all in one file would be the last one."""

import json
from pathlib import Path

from irl_bench import cli


def runs_to_its_files(name: str, out: Path) -> None:
    assert cli.main(cli.parse(["sweep.py", f"--experiment={name}", "--budget=smoke", f"--out={out}"])) == 0
    found = json.loads((out / f"{name}.json").read_text())
    assert any(found["tables"].values())
    assert (out / f"{name}.html").stat().st_size > 0
    assert (out / "figures" / f"{name}.png").exists()

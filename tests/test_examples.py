"""The examples run as a user runs them, made small; their notebooks hold what the sources say.

An example is a plain Python script. All but `drive_gym` are jupytext percent sources as well, and
each of these lies beside the notebook that `examples/execute.py` makes of it.
"""

import dataclasses
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable, Mapping

import pytest

from tests.conftest import QUICK

ROOT = pathlib.Path(__file__).parents[1]
TOOLS = {"execute"}
"""Files beside the examples that are none."""
PROGRAM = f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); runpy.run_path('example.py')"
LARGEST_OUTPUT, LARGEST_FILE = 150_000, 400_000
"""Bytes."""


def verdicts(run: pathlib.Path) -> dict[tuple[str, str], dict]:
    """{(algorithm, mode): verdict} of a run's learners."""
    return {
        (v["algo"], v["mode"]): v
        for v in json.loads((run / "verdicts.json").read_text())
        if not v["reference"]
    }


def number(pattern: str, text: str) -> float:
    """The first number that a pattern's group finds in a text."""
    match = re.search(pattern, text)
    assert match, f"{pattern!r} is not in\n{text}"
    return float(match[1])


def first_sweep(folder: pathlib.Path, printed: str) -> None:
    run = folder / "runs" / "first_sweep"
    assert verdicts(run).keys() == {
        (algo, mode) for algo in ("bc", "dagger") for mode in ("dagger_chain", "recoverable")
    }
    assert (run / "report.html").stat().st_size > 10_000
    assert {"cells", "figures", "learned"} <= set(
        re.findall(r"^(\w+) \(\d+ files\)$", printed, re.MULTILINE)
    )
    assert "NO-WINDOW because the window is" in printed.splitlines()[-1]


def first_sweep_in_full(folder: pathlib.Path, printed: str) -> None:
    measured = verdicts(folder / "runs" / "first_sweep")
    assert measured["bc", "dagger_chain"]["verdict"] == "QUADRATIC"
    assert measured["bc", "recoverable"]["verdict"] == "LINEAR"
    assert measured["dagger", "dagger_chain"]["verdict"] == "LINEAR"


def an_algorithm(folder: pathlib.Path, printed: str) -> None:
    plain = verdicts(folder / "runs" / "tally")
    assert plain.keys() == {("tally:make", "dagger_chain"), ("bc", "dagger_chain")}
    assert plain["tally:make", "dagger_chain"]["recovery"] == 0
    assert len({verdict["expert_queries"] for verdict in plain.values()}) == 1
    recovers = verdicts(folder / "runs" / "tally_recovers")["tally:make", "dagger_chain"]
    assert recovers["recovery"] == pytest.approx(1 / 3, abs=0.05)  # the dial of `chain`
    refusals = printed.splitlines()[-2:]
    assert "tally.fallback must be an integer in [0, 3], not 7; nearest: 3" in refusals[0]
    assert "lane_keep" in refusals[1]


def an_algorithm_in_full(folder: pathlib.Path, printed: str) -> None:
    plain = verdicts(folder / "runs" / "tally")
    assert {verdict["verdict"] for verdict in plain.values()} == {"QUADRATIC"}
    recovers = verdicts(folder / "runs" / "tally_recovers")
    assert recovers["tally:make", "dagger_chain"]["verdict"] == "LINEAR"


def a_world(folder: pathlib.Path, printed: str) -> None:
    assert "slip.reset: cost is bool[], not float32[]" in printed
    assert "ledge.grip must be a number in [0, 1], not 2.0; nearest: 1" in printed.splitlines()[-1]
    measured = verdicts(folder / "runs" / "ledge")
    assert measured["bc", "nominal"]["recovery"] == 0
    assert measured["bc", "recoverable"]["recovery"] > 0.2
    assert measured["dagger", "nominal"]["recovery"] > 0.3


def a_world_in_full(folder: pathlib.Path, printed: str) -> None:
    measured = verdicts(folder / "runs" / "ledge")
    assert measured["bc", "nominal"]["verdict"] == "QUADRATIC"
    assert measured["bc", "recoverable"]["verdict"] in ("LINEAR", "RECOVERABLE")
    assert measured["dagger", "nominal"]["verdict"] in ("LINEAR", "RECOVERABLE")


def a_policy(folder: pathlib.Path, printed: str) -> None:
    for package, name in (("torch", "PyTorch"), ("stable_baselines3", "stable-baselines3")):
        skipped = f"{name} is not installed, so its policy is skipped." in printed
        assert skipped == (importlib.util.find_spec(package) is None)
        assert skipped != bool(re.search(rf"^{name}, \w+ +[A-Z-]+ ", printed, re.MULTILINE))
    row = r"^NumPy, linear clone +[A-Z-]+ .* (0\.\d+)$"
    assert number(f"(?m){row}", printed) < 0.2  # a clone errs seldom on the expert's states
    assert "must return actions [2, 2] for observations [2, 82]" in printed.splitlines()[-1]


def read_a_run(folder: pathlib.Path, printed: str) -> None:
    measured = number(r"T = 1024: measured ([\d.]+)", printed)
    exact = number(r"T = 1024: measured [\d.]+, exact ([\d.]+)", printed)
    assert measured == pytest.approx(exact, rel=0.3)
    assert "learned/KEY.safetensors is damaged" in printed.splitlines()[-1]


def reward_maps(folder: pathlib.Path, printed: str) -> None:
    seeds = re.findall(r"(?m)^seed \d: correlation with the true reward -?[01]\.\d\d$", printed)
    assert len(seeds) >= 2
    assert -1.0 <= number(r"mean of seeds: (-?[\d.]+)", printed) <= 1.0


def reward_maps_in_full(folder: pathlib.Path, printed: str) -> None:
    assert number(r"mean of seeds: (-?[\d.]+)", printed) > 0.6


def drive_gym(folder: pathlib.Path, printed: str) -> None:
    assert "200 steps: return" in printed.splitlines()[-1]


@dataclasses.dataclass(frozen=True)
class Example:
    """How an example is made small, and what must be true of what it writes and prints."""

    check: Callable[[pathlib.Path, str], None]
    smaller: Mapping[str, str] = dataclasses.field(default_factory=dict)
    in_full: Callable[[pathlib.Path, str], None] | None = None
    needs: tuple[str, ...] = ()
    slow: bool = False
    """Whether even the small form is left to the slow tests."""


SMALL = 'budget="smoke", episodes=16'
FEW = 'bc={"steps_per_round": 20}'
EXAMPLES = {
    "first_sweep": Example(
        first_sweep,
        {
            "seeds=10": "seeds=2",
            'budget="smoke"': f"{SMALL}, {FEW}",
            'budget="default"': f'{SMALL}, {FEW}, dagger={{"steps_per_round": 20}}',
        },
        first_sweep_in_full,
    ),
    "an_algorithm": Example(
        an_algorithm,
        {
            "seeds=10": "seeds=2",
            'budget="default", out="runs/tally"': f'{SMALL}, {FEW}, out="runs/tally"',
            'budget="default"': SMALL,
        },
        an_algorithm_in_full,
        slow=True,  # tests/plan/test_registry.py goes the same way
    ),
    "a_world": Example(
        a_world,
        {
            "horizon = 768": "horizon = 256",
            "seeds=10, episodes=64": "seeds=2, episodes=4",
            "seeds=10, demos=40": "seeds=2, demos=8",
            'budget="default"': f'{SMALL}, bc={{"rounds": 2}}, '
            'dagger={"iterations": 2, "steps_per_round": 50}',
        },
        a_world_in_full,
        slow=True,
    ),
    "a_policy": Example(
        a_policy,
        {
            "seeds=5, episodes=16, eps_episodes=16": "seeds=2, episodes=4, eps_episodes=4",
            "steps=2048": "steps=512",
        },
    ),
    "read_a_run": Example(
        read_a_run,
        {'budget="default"': f'{SMALL}, {FEW}, dagger={{"steps_per_round": 20}}'},
        needs=("duckdb",),
        slow=True,
    ),
    "reward_maps": Example(
        reward_maps,
        {
            "SEEDS = 5": "SEEDS = 2",
            "demos=256": "demos=8, episodes=16",
            '"rounds": 100': '"rounds": 1, "worlds": 8',
        },
        reward_maps_in_full,
        slow=True,
    ),
    "drive_gym": Example(
        drive_gym, {'"rounds": 5': '"rounds": 2, "bc_steps": 50'}, needs=("gymnasium",), slow=True
    ),
}
NOTEBOOKS = [name for name in EXAMPLES if name != "drive_gym"]


def run(
    name: str, source: str, folder: pathlib.Path, environment: Mapping[str, str] = QUICK
) -> str:
    """What the source prints when it is run as a script in an empty folder."""
    (folder / "example.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=850,
        env={**os.environ, **environment, "MPLBACKEND": "agg"},
    )
    assert done.returncode == 0, f"{name}: {done.stderr}"
    return done.stdout


def require(packages: tuple[str, ...]) -> None:
    absent = [package for package in packages if importlib.util.find_spec(package) is None]
    if absent:
        pytest.skip(f"{', '.join(absent)} not installed: make setup EXTRAS=dev,examples")


def source_of(name: str) -> str:
    return (ROOT / "examples" / f"{name}.py").read_text()


def test_every_example_is_run():
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == EXAMPLES.keys() | TOOLS
    assert {path.stem for path in (ROOT / "examples").glob("*.ipynb")} == set(NOTEBOOKS)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if example.slow else [])
        for name, example in EXAMPLES.items()
    ],
)
def test_an_example_runs(name, tmp_path):
    example, source = EXAMPLES[name], source_of(name)
    require(example.needs)
    for large, small in example.smaller.items():
        assert large in source
        source = source.replace(large, small)
    example.check(tmp_path, run(name, source, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXAMPLES if EXAMPLES[name].in_full])
def test_an_example_finds_what_its_text_says(name, tmp_path):
    example = EXAMPLES[name]
    printed = run(name, source_of(name), tmp_path, environment={})  # it computes for minutes
    example.check(tmp_path, printed)
    example.in_full(tmp_path, printed)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_its_source_with_outputs(name):
    path = ROOT / "examples" / f"{name}.ipynb"
    stored = json.loads(path.read_text())["cells"]
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in stored] == cells(
        source_of(name)
    )
    assert path.stat().st_size < LARGEST_FILE
    outputs = [output for cell in stored for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert any(output["output_type"] == "stream" for output in outputs)
    for output in outputs:
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr"
        text = json.dumps(output)
        assert len(text) < LARGEST_OUTPUT
        assert not re.search(r"(?<![\w.])/(home|root|tmp|usr|var|work|Users)/", text), (
            "a path of one machine"
        )
    counts = [cell["execution_count"] for cell in stored if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))


def cells(source: str) -> list[tuple[str, str]]:
    """(kind, text) of the cells of a percent source."""
    _, *parts = re.split(r"^# %%( \[markdown\])?\n", source, flags=re.MULTILINE)
    found = []
    for mark, body in zip(parts[::2], parts[1::2], strict=True):
        text = body.strip("\n")
        if mark:
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
        found.append(("markdown" if mark else "code", text))
    return found

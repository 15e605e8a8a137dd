"""The project as a stranger gets it: pins, the wheel's contents, the Makefile and the launchers."""

import os
import pathlib
import re
import subprocess
import sys
import tomllib
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LAUNCHERS = sorted(path.name for path in (ROOT / "launch").glob("[a-z]*.py"))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_constraints_are_names_and_versions_only():
    lines = (ROOT / "constraints.txt").read_text().split()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+!]+", line) for line in lines)
    names = [normal(line.split("==")[0]) for line in lines]
    assert len(names) == len(set(names)) and "irl-bench" not in names


def test_every_requirement_is_pinned():
    pinned = {
        normal(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().split()
    }
    extras = PROJECT["project"]["optional-dependencies"]
    assert extras.keys() >= {"cuda", "tpu", "dev", "data", "ray", "slurm"}
    named = [
        *PROJECT["project"]["dependencies"],
        *extras["dev"],
        *extras["data"],
        *extras["docs"],
        *extras["ray"],
        *extras["slurm"],
        *PROJECT["build-system"]["requires"],
    ]
    for requirement in (name for name in named if not name.startswith("irl-bench[")):
        assert normal(re.match(r"[A-Za-z0-9._-]+", requirement)[0]) in pinned, requirement


def test_what_runs_is_what_is_pinned():
    import importlib.metadata

    versions = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    for name in ("jax", "jaxlib", "brax", "numpy", "flax", "optax"):
        assert importlib.metadata.version(name) == versions[name]


def test_no_place_of_one_machine_is_written_down():
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if tracked.returncode:
        pytest.skip("not a git checkout")
    files = [
        ROOT / name
        for name in tracked.stdout.splitlines()
        if name.endswith((".py", ".toml", ".txt", ".md", "Makefile", "run"))
    ]
    words = ("/work" + "/", "/root" + "/", "/opt" + "/pypi", "/home" + "/", "pick" + "le.load")
    for path in files:
        text = path.read_text()
        for word in words:
            assert word not in text, f"{path.relative_to(ROOT)} holds {word}"


def test_the_wheel_holds_both_packages_and_nothing_else(tmp_path):
    pytest.importorskip("build")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(ROOT),
    ]
    # A copy, so that no build folder is left in the checkout.
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            (copy / name).write_bytes((ROOT / name).read_bytes())
        elif name == "README.md":
            (copy / name).write_text("")
    for package in ("irl_bench", "envs", "launch", "tests"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                target = copy / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    built = subprocess.run([*command[:-1], str(copy)], capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in inside}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"irl_bench", "envs"}
    for package in ("irl_bench", "envs"):
        ours = {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / package).rglob("*")
            if path.is_file()
        }
        ours = {name for name in ours if "__pycache__" not in name}
        assert ours <= inside, ours - inside
    assert any(name.endswith("licenses/LICENSE") for name in inside)
    unpacked, empty = tmp_path / "unpacked", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    (entry_points,) = unpacked.glob("*.dist-info/entry_points.txt")
    assert "irl-bench = irl_bench.cli.main:main" in entry_points.read_text()
    # What the command runs, outside the checkout: a world is described from the wheel's own files.
    program = "from irl_bench.cli.main import main; main()"
    line = [sys.executable, "-c", program, "sweep", "--describe=hopper"]
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        line, cwd=empty, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0 and "hopper (world)" in done.stdout, done.stderr


@pytest.mark.parametrize("target", ["sweep", "test", "setup", "lint", "types", "docs"])
def test_make_knows_what_to_do_without_an_environment(target, tmp_path):
    told = subprocess.run(
        ["make", "-n", target, f"VENV={tmp_path}/venv"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    assert "-m venv" in told.stdout and "-c constraints.txt" in told.stdout
    expected = {
        "sweep": "launch/sweep.py --algo=bc,dagger --env=chain,lane_keep,swing_up",
        "test": "-m pytest",
        "lint": "ruff check",
        "types": "pyright",
        "docs": "mkdocs build --strict",
    }
    assert expected.get(target, "-m venv") in told.stdout
    assert not (tmp_path / "venv").exists()


def test_make_sweep_takes_another_world(tmp_path):
    """The first tutorial's command names a world, in place of the three of the default sweep."""
    told = subprocess.run(
        ["make", "-n", "sweep", f"VENV={tmp_path}/venv", "ARGS=--env=chain --budget=smoke"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    (line,) = (line for line in told.stdout.splitlines() if "launch/sweep.py" in line)
    assert line.split()[1:] == [
        "launch/sweep.py", "--algo=bc,dagger", "--env=chain", "--budget=smoke"
    ]  # fmt: skip


def test_make_does_not_install_twice(tmp_path):
    venv = tmp_path / "venv"
    venv.mkdir()
    (venv / ".installed-dev").touch()
    told = subprocess.run(
        ["make", "-n", "sweep", f"VENV={venv}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 0 and "-m venv" not in told.stdout


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launchers_continue_in_the_repositorys_environment(name, tmp_path):
    """With a Python that has no packages: -S leaves site-packages out and -I the surroundings."""
    if not (ROOT / ".venv" / "bin" / "python").exists():
        pytest.skip("no .venv in this checkout")
    command = [sys.executable, "-S", str(ROOT / "launch" / name), "--no_such_flag"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ended.returncode != 0 and "ModuleNotFoundError" not in ended.stderr
    if name == "sweep.py":
        assert (
            ended.returncode == 2
            and ended.stderr.count("\n") == 1
            and ended.stderr.startswith("error: unknown flag")
        )


def test_the_program_prints_one_line_for_bad_input(tmp_path):
    command = [sys.executable, str(ROOT / "launch" / "sweep.py"), "--bc.learning_rat=1"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert (
        ended.stderr == "error: --bc.learning_rat: bc has no setting 'learning_rat'; did you mean "
        "--bc.learning_rate?\n"
    )


def test_the_citation_and_the_licence_agree_with_the_project():
    citation = (ROOT / "CITATION.cff").read_text()
    assert (
        f"version: {PROJECT['project']['version']}" in citation
        and f"license: {PROJECT['project']['license']}" in citation
    )
    import irl_bench

    assert irl_bench.__version__ == PROJECT["project"]["version"]
    assert "Apache License" in (ROOT / "LICENSE").read_text()

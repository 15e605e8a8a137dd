"""Names that mean a file in the current folder, and what `--describe` says of files that it cannot
describe."""

import sys

import pytest

from irl_bench.cli import sweep
from irl_bench.plan.references import in_folder

FILES = {
    "ridge_here": "import numpy\n\ndef fit(x):\n    pass\n\ndef make(spec, config):\n    pass\n",
    "brake_here": "def _help():\n    pass\n\ndef brake(observation, key):\n    return 0\n",
    "bare_here": "class Config:\n    x = 1.0\n\ndef make(spec, config):\n    pass\n",
    "gusts_here": (
        "import envs\n\n"
        "class Gusts(type(envs.make('chain'))):\n"
        "    name = 'gusts_here'\n\n"
        "def make():\n    return Gusts()\n"
    ),
    "broken_here": "def make(:\n",
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "mine.py").write_text("def make():\n    pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in FILES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "kind", "meant"),
    [
        ("ridge_here", "algorithm", "ridge_here:make"),
        ("ridge_here.py", "algorithm", "ridge_here:make"),
        ("./ridge_here.py", "", "ridge_here:make"),
        ("./ridge_here.py:fit", "algorithm", "ridge_here:fit"),
        ("./ridge_here.py:mke", "algorithm", "ridge_here:make"),
        ("brake_here", "policy", "brake_here:brake"),
        ("below.mine", "world", "below.mine:make"),
        ("below/mine.py", "world", "below.mine:make"),
        ("broken_here", "policy", "broken_here:act"),
        ("nothing_here", "", ""),
        ("", "", ""),
        ("..", "", ""),
        ("x" * 5000, "", ""),
        ("\x00", "", ""),
    ],
)
def test_a_name_that_means_a_file(name, kind, meant):
    assert in_folder(name, kind) == meant
    assert not set(FILES) & set(sys.modules)  # files are read, not imported


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--algo=ridge_here", "did you mean 'ridge_here:make'?"),
        ("--algo=ridge_here.py", "did you mean 'ridge_here:make'?"),
        ("--algo=./ridge_here.py:make", "nearest: --algo=ridge_here:make"),
        ("--env=gusts_here", "did you mean 'gusts_here:make'?"),
        ("--policy=brake_here", "nearest: --policy=brake_here:brake"),
        ("--describe=ridge_here", "did you mean 'ridge_here:make'?"),
        ("--env=gusts_here:make --hazard=1", "did you mean --gusts_here.hazard?"),
        ("--describe=bare_here:make", "its Config must be a dataclass"),
        ("--describe=brake_here:brake", "is a policy, which has no settings; nearest: --policy="),
        ("--describe=ridge_here:make_", "no 'make_'"),
    ],
)
def test_the_error_names_what_is_meant(line, words, capsys):
    with pytest.raises(SystemExit) as stop:
        sys.exit(sweep.main(sweep.parse_or_exit(["sweep.py", "--dry_run", *line.split()])))
    err = capsys.readouterr().err
    assert stop.value.code == 2 and err.count("\n") == 1 and words in err, err

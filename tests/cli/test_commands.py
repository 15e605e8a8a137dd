"""The small commands and `train`: their errors are one plain line with a nearest flag or value, and
texts spell commands as the program was called."""

import pathlib
import subprocess
import sys

import pytest
from absl import flags
from jax.errors import JaxRuntimeError

from irl_bench.cli import absl_errors, errors, program, spelling, sweep
from irl_bench.cli.flags import NOT_OF_TRAIN, TRAIN, options
from irl_bench.core.settings import BadInput

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def values():
    """Flags of a small command."""
    values = flags.FlagValues()
    flags.DEFINE_string("env", "lane_keep", "", flag_values=values)
    flags.DEFINE_string("out", None, "", flag_values=values)
    flags.DEFINE_list("world", [], "", flag_values=values)
    flags.DEFINE_bool("ship", False, "", flag_values=values)
    flags.DEFINE_integer("port", 0, "", lower_bound=0, upper_bound=65535, flag_values=values)
    flags.DEFINE_float("noise", 0.5, "", lower_bound=0.0, flag_values=values)
    return values


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("--evn=chain", "unknown flag --evn; did you mean --env?"),
        ("--chain.slip=0.9", "unknown flag --chain.slip; nearest: --world=slip=0.9"),
        ("--env", "Missing value for flag --env; nearest: --env=lane_keep"),
        ("--out", "Missing value for flag --out; nearest: --out=OUT"),
        ("--port=2x", "--port=2x: must be an integer in [0, 65535], not '2x'; nearest: --port=0"),
        ("--port=-1", "--port=-1: must be an integer in [0, 65535], not '-1'; nearest: --port=0"),
        ("--noise=-1", "--noise=-1: must be a number of at least 0, not '-1'; nearest: --noise=0"),
        ("--ship=yes", "--ship=yes: must be true or false, not 'yes'; nearest: --ship=true"),
        ("--ship=no", "--ship=no: must be true or false, not 'no'; nearest: --ship=false"),
        ("--noship=1", "--noship=1 does not take an argument; nearest: --noship"),
    ],
)  # fmt: skip
def test_what_absl_refuses_is_one_plain_line(argument, line, values):
    with pytest.raises((flags.Error, ValueError)) as caught:
        values(["program", argument])
    assert absl_errors.plain(caught.value, {name: values[name] for name in values}) == line


def test_an_unknown_flag_lists_the_flags_if_none_is_alike(values):
    with pytest.raises(flags.Error) as caught:
        values(["program", "--zzz=1"])
    offered = {name: values[name] for name in values}
    assert "known are --env, --out" in absl_errors.plain(caught.value, offered)
    assert "nearest: leave it out" in absl_errors.plain(caught.value, {})


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_numbers_must_be_finite(value, values):
    values(["program", f"--noise={value}"])
    line = absl_errors.not_finite({name: values[name] for name in values})
    assert (
        line
        == f"--noise={value}: must be a number of at least 0, not '{value}'; nearest: --noise=0.5"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "--out=x"], "unknown flag --out"),
        (["report"], "nearest: irl-bench report runs/sweep"),
        (["demos", "--check="], "--check= is empty"),
        (["demos", "--out=/proc/no.npz"], "--out=/proc/no.npz cannot be written"),
        (["label", "--port=22x"], "nearest: --port=0"),
        (["label", "--out=/proc/no"], "--out=/proc/no cannot be written"),
        (["train", "--algo", "bc,dagger"], "one at a time here; nearest: --algo=bc"),
        (["qqq"], "known are 'sweep', 'train'"),
    ],
)
def test_as_a_module_the_package_is_the_installed_command(arguments, words, tmp_path):
    line = [sys.executable, "-m", "irl_bench", *arguments]
    done = subprocess.run(
        line, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=_here()
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and words in done.stderr
    assert done.stderr.startswith("error: ") and not list(tmp_path.iterdir())


def _here() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


PAGE = "docs/tutorials/your-world.md"


@pytest.mark.parametrize(
    ("text", "installed", "launched"),
    [
        ("irl-bench report runs/x", "irl-bench report runs/x", "launch/report.py runs/x"),
        ("launch/expert.py --x", "irl-bench demonstrator --x", "launch/expert.py --x"),
        ("python launch/demos.py --x", "irl-bench demos --x", "python launch/demos.py --x"),
        (PAGE, "the page 'Your world' of the documentation", PAGE),
        ("pip install 'irl-bench[data]'",) * 3,
        ("runs/my.py is a file",) * 3,
    ],
)
def test_errors_spell_commands_as_the_program_was_called(
    text, installed, launched, monkeypatch, capsys
):
    for name, expected in (("irl-bench sweep", installed), ("launch/sweep.py", launched)):
        monkeypatch.setattr(sys, "argv", [name])
        errors.complain(text)
        assert capsys.readouterr().err == f"error: {expected}\n"


def test_pages_of_the_documentation_are_named_by_their_titles():
    for path in (ROOT / "docs").glob("[tgr]*/*.md"):
        title = path.read_text().partition("\n")[0].removeprefix("# ")
        if path.parent.name == "tutorials" and path.stem.startswith("your-"):
            assert spelling.page(path.stem) == f"the page '{title}' of the documentation"


def train(*argv: str):
    return sweep.parse_or_exit(["train.py", *argv], "train")


def test_train_has_its_own_defaults(capsys):
    command = train("--env=chain")
    assert command.request.algo == ("airl",) and command.request.seeds == 5
    assert train("--algo=bc", "--seeds", "2").request.seeds == 2
    with pytest.raises(SystemExit):
        train("--sedes=2")
    assert "did you mean --seeds?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "--algo bc,dagger",
        "--algo=bc,dagger",
        "-algo=bc,dagger",
        "--policy=a:b",
        "--experiment=transfer",
    ],
)
def test_train_takes_one_algorithm(line, capsys):
    with pytest.raises(SystemExit) as stop:
        train(*line.split())
    err = capsys.readouterr().err
    assert stop.value.code == 2 and err.count("\n") == 1 and "nearest: " in err


def test_train_explains_itself(capsys):
    assert sweep.main(train("--help")) == 0
    text = capsys.readouterr().out
    assert text.startswith("Trains one algorithm") and "OUT/learned" in text
    assert "launch/train.py --algo=airl" in text and "launch/sweep.py" not in text
    rows = dict(options("train"))
    assert not [name for name in NOT_OF_TRAIN if f"--{name}=..." in rows]
    for name, default in TRAIN.items():
        assert rows[f"--{name}=..."].endswith(f"default: {default}")
    assert sweep.main(train("--help", "--env=lane_keep")) == 0
    assert "--airl.penalty" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["demos_from", "given", "reward"])
def test_an_empty_file_is_refused(flag, capsys):
    with pytest.raises(SystemExit) as stop:
        sweep.parse_or_exit(["sweep.py", "--algo=ppo", f"--{flag}="])
    assert stop.value.code == 2 and f"--{flag}= is empty" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_refused_beforehand(tmp_path):
    (tmp_path / "taken").write_text("mine")
    program.check_file("out", tmp_path / "new" / "s.json", "s.json")
    program.check_file("out", tmp_path / "taken", "s.json")
    assert (tmp_path / "taken").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
    for path in (tmp_path, tmp_path / "taken" / "s.json"):
        with pytest.raises(BadInput, match=r"--out=.*nearest: --out="):
            program.check_file("out", path, "s.json")


def test_a_folder_that_cannot_be_written_is_refused_beforehand(tmp_path):
    (tmp_path / "taken").write_text("mine")
    for path in (tmp_path, tmp_path / "new" / "labels"):
        program.check_folder("out", path, "labels/chain")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    for path in (tmp_path / "taken", tmp_path / "taken" / "labels"):
        with pytest.raises(BadInput, match=r"--out=.*Not a directory.*nearest: --out=labels/chain"):
            program.check_folder("out", path, "labels/chain")


def test_too_little_memory_is_one_line_and_other_faults_keep_their_traceback(capsys):
    def fails(text):
        raise JaxRuntimeError(text)

    text = (
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 2.29GiB with allocator "
        "GPU_0_bfc on device 0. [executable_name='jit_group']\nmore"
    )
    assert errors.guarded(lambda: fails(text)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "allocate 2.29GiB" in error and "executable" not in error
    assert "nearest: --seeds_at_once=1" in error
    with pytest.raises(JaxRuntimeError):
        errors.guarded(lambda: fails("INTERNAL: a bug"))

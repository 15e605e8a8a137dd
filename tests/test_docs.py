"""Every sweep command that the documents show is one that the program accepts, and every link leads somewhere."""

import pathlib
import re
import shlex

import pytest

from irl_bench import cli, plan

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
COMMANDS = sorted({c.strip() for path in DOCUMENTS for c in re.findall(r"launch/sweep\.py ([^`\n#)]+)", path.read_text())})
EXAMPLES = re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_accepted(line, tmp_path, monkeypatch):
    for name, text in EXAMPLES:
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    if "playground:" in line:
        pytest.skip("the extra and a demonstrator of the reader's own are needed")
    command = cli.parse(["launch/sweep.py", *shlex.split(line)])
    if command.study:  # some of its parts wait for what others learn
        parts = command.study.parts(command.request, command.demos, tmp_path)
        assert all(plan.build(part.request).cells for part in parts[:: max(1, len(parts) // 4)] if not part.after)
    elif not (
        command.list or command.describe or command.request.demos_from or command.request.given
    ):  # the reader's own files
        assert plan.build(command.request).cells


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"(?<!!)\[[^]]*\]\(([^)#]+)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target

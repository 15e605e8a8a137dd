"""Commands that the documents show are accepted, links lead somewhere, and quoted files exist."""

import dataclasses
import pathlib
import re
import shlex

import pytest

import envs
from irl_bench import algos
from irl_bench.cli import sweep as cli
from irl_bench.plan import build as plan

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LAB = sorted((ROOT / "docs/lab").glob("*.md"))
COMMANDS = sorted(
    {
        command.strip()
        for path in DOCUMENTS
        for command in re.findall(r"launch/(?:sweep|train)\.py ([^`\n#)&]+)", path.read_text())
        if not command.startswith("$")  # flags that stand in a variable
    }
)
FILES = r"<!-- file: (\S+) -->\n```python\n(.*?)```"
EXAMPLES = dict(re.findall(FILES, (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL))
TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.md"))
GENERATED = {
    f"docs/reference/{page}.md"
    for page in (
        "commands",
        "studies",
        "api/irl_bench",
        "algorithms/index",
        "worlds/index",
        *(f"algorithms/{name}" for name in algos.ALGORITHMS),
        *(f"worlds/{name}" for name in envs.names()),
    )
}
"""Pages that docs/_hooks/reference.py makes when the site is built."""


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_accepted(line, tmp_path, monkeypatch):
    for name, text in EXAMPLES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    if "playground:" in line:
        pytest.skip("the extra and a demonstrator of the reader's own are needed")
    command = cli.parse(["launch/sweep.py", *shlex.split(line)])
    request = command.request
    if command.study:  # some of its parts wait for what others learn
        parts = command.study.parts(request, command.demos, tmp_path)
        some = parts[:: max(1, len(parts) // 4)]
        assert all(plan.build(part.request).cells for part in some if not part.after)
    elif not (command.list or command.describe or request.demos_from or request.given):
        if request.demos == "auto":  # a pilot would find it first
            request = dataclasses.replace(request, demos=None)
        assert plan.build(request).cells  # the others need files of the reader's own


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target in re.findall(r"!?\[[^]]*\]\(([^)#\s]+)", path.read_text()):
        if target.startswith("https://"):
            continue
        there = (path.parent / target).resolve()
        assert there.exists() or str(there.relative_to(ROOT)) in GENERATED, target


@pytest.mark.parametrize("path", LAB, ids=lambda path: path.name)
def test_quoted_results_are_stored(path):
    quoted = r"`((?:results/)?(?:search/)?\w[\w-]*\.(?:json|txt))`"
    for name in re.findall(quoted, path.read_text()):
        homes = (
            (ROOT,) if name.startswith("results/") else (ROOT / "results", ROOT / "results/search")
        )
        assert any((home / name).exists() for home in homes), name


@pytest.mark.parametrize("path", LAB, ids=lambda path: path.name)
def test_the_lab_lists_its_pages(path):
    assert path.name == "index.md" or f"({path.name})" in (ROOT / "docs/lab/index.md").read_text()


def test_tutorials_show_the_files_that_the_tests_run():
    shown = [pair for path in TUTORIALS for pair in re.findall(FILES, path.read_text(), re.DOTALL)]
    assert {name for name, _ in shown} == set(EXAMPLES)
    for name, text in shown:
        assert text == EXAMPLES[name], name

"""Executes the notebooks: NAME.py, a jupytext percent source, becomes NAME.ipynb with outputs.

    python examples/execute.py                    # all of them
    python examples/execute.py first_sweep        # one

Each runs in an empty folder, so that no result of an earlier run is used. The stored outputs leave
out what differs from run to run: lines about progress and compilation, versions, execution times.
Needs the extra `notebooks`: pip install 'irl-bench[notebooks]'.
"""

import os
import pathlib
import re
import sys
import tempfile

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = pathlib.Path(__file__).resolve().parent
PASSING = re.compile(r"^(\[ *\d+\.\d s\] .*\n|compiled for .*\n(  .*\n)*)", re.MULTILINE)
"""Lines of a run under way, and what it had to compile."""
LARGEST_OUTPUT, LARGEST_FILE = 150_000, 400_000
"""Bytes."""


def sources() -> list[pathlib.Path]:
    """The percent sources in this folder."""
    return sorted(
        path for path in HERE.glob("*.py") if path.read_text().startswith("# %% [markdown]")
    )


def execute(source: pathlib.Path) -> nbformat.NotebookNode:
    """The notebook of a percent source, with outputs.

    Raises:
      nbclient.exceptions.CellExecutionError: a cell fails.
    """
    notebook = jupytext.read(source)
    notebook.metadata = {
        "jupytext": {"formats": "ipynb,py:percent"},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")])
        )
        NotebookClient(
            notebook, timeout=1800, record_timing=False, resources={"metadata": {"path": folder}}
        ).execute()
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{source.stem}-{number}"
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = tidy(cell.outputs)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = {**notebook.metadata, "language_info": {"name": "python"}}
    return notebook


def tidy(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Outputs with the pieces of a stream put together and passing lines left out."""
    kept: list[nbformat.NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and kept and kept[-1].get("name") == output.name:
            kept[-1].text += output.text
        else:
            kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            output.text = PASSING.sub("", output.text).strip("\n") + "\n"
    return [output for output in kept if output.output_type != "stream" or output.text.strip()]


def main(names: list[str]) -> None:
    for source in sources():
        if names and source.stem not in names:
            continue
        notebook = execute(source)
        for cell in notebook.cells:
            for output in cell.get("outputs", ()):
                if len(str(output)) > LARGEST_OUTPUT:
                    sys.exit(f"{source.name}: an output is larger than {LARGEST_OUTPUT} bytes")
        text = nbformat.writes(notebook)
        if len(text) > LARGEST_FILE:
            sys.exit(f"{source.name}: the notebook is larger than {LARGEST_FILE} bytes")
        source.with_suffix(".ipynb").write_text(text + "\n")
        print(f"{source.stem}: {len(text) // 1000} kB")


if __name__ == "__main__":
    main(sys.argv[1:])

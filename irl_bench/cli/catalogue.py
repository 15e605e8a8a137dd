"""The lists of algorithms, worlds, studies and budgets, read from the sources without importing
them: JAX and Brax take seconds to import."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import envs
from irl_bench import algos
from irl_bench.core.text import aligned
from irl_bench.plan.presets import BUDGETS
from irl_bench.studies import STUDIES


def listing() -> str:
    """Returns the text of `--list`."""
    worlds = [(name, *world_summary(name)) for name in envs.names()]
    lines = ["algorithms (--algo):"]
    lines += aligned([(name, algorithm_summary(name)) for name in algos.ALGORITHMS])
    lines += ["", "worlds (--env):"]
    lines += aligned([(name, f"{help} Modes: {', '.join(modes)}.") for name, help, modes in worlds])
    lines += ["", "studies (--experiment):"]
    lines += aligned([(name, study_summary(name)) for name in STUDIES])
    lines += ["", f"budgets (--budget): {', '.join(BUDGETS)}", ""]
    lines += [
        "--describe=NAME prints a world's or an algorithm's settings; your own go in as "
        "package.module:attribute.",
    ]
    return "\n".join(lines)


def algorithm_summary(name: str) -> str:
    """Returns the first paragraph of a registered algorithm's documentation."""
    return _paragraph(ast.get_docstring(_tree(algos.ALGORITHMS[name])))


def world_summary(name: str) -> tuple[str, tuple[str, ...]]:
    """Returns (first paragraph of the documentation, modes) of a registered world."""
    module, name = envs.WORLDS[name].split(":")
    tree = _tree(module)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    text = ast.get_docstring(classes[name]) or ast.get_docstring(tree)
    modes, kind = None, classes.get(name)
    while kind is not None and modes is None:
        modes = _constant(kind, "modes")
        bases = [base.id for base in kind.bases if isinstance(base, ast.Name)]
        kind = next((classes[base] for base in bases if base in classes), None)
    return _paragraph(text), tuple(modes or ("nominal",))


def study_summary(name: str) -> str:
    """Returns the `help` of a study's `STUDY`."""
    for node in ast.walk(_tree(STUDIES[name])):
        if isinstance(node, ast.keyword) and node.arg == "help":
            return str(ast.literal_eval(node.value))
    raise AssertionError(f"{STUDIES[name]} defines no study")


def _constant(kind: ast.ClassDef, name: str) -> list[str] | None:
    """The keys of a class's own dictionary."""
    for node in kind.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        named = any(isinstance(target, ast.Name) and target.id == name for target in targets)
        if named and isinstance(value, ast.Dict):
            return [str(key.value) for key in value.keys if isinstance(key, ast.Constant)]
    return None


def _tree(module: str) -> ast.Module:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def _paragraph(text: str | None) -> str:
    return " ".join((text or "").partition("\n\n")[0].split())

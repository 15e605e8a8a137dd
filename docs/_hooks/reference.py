"""MkDocs hook: writes the reference from the tables that the programs themselves use.

The pages of commands, algorithms, worlds and the API are made when the site is built and stored
nowhere. Settings, dials, budgets and texts come from `irl_bench.plan.registry` and
`irl_bench.plan.presets`, as those of `--describe` do, so a page cannot differ from the program.

The hook also adds the pages of the lab to the navigation, newest first, shows the repository's own
Markdown files, and refuses a site that would load anything from a network.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import os
import posixpath
import re
import subprocess
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
SHOWN = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "BENCHMARKS.md": "lab/benchmarks.md",
    "RELIABILITY.md": "lab/reliability.md",
}
"""Markdown files outside docs/ that are pages of the site."""

INTERVAL = re.compile(r"-?[\d.][\d.e-]* \[-?[\d.e-]+, -?[\d.e-]+\]")
"""A figure and its interval, `1.04 [0.98, 1.09]`, which no cell of a table breaks in two."""

LINK = re.compile(
    r"(?<!!)\[(?P<text>(?:[^][]|\[[^]]*\])*)\]\((?P<target>[^)#\s]*)(?P<anchor>#[^)\s]*)?\)"
)
LOADS = re.compile(
    r"<(?:script|img|iframe|link|source)\b[^>]*\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)"
)
"""What makes a browser load something from elsewhere."""

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_generated: dict[str, str] = {}
"""{path in the site: Markdown} of the build that is under way."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Makes the pages and puts them into the navigation."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.path.insert(0, str(ROOT))
    _generated.clear()
    _generated.update({page: (ROOT / name).read_text() for name, page in SHOWN.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Brax and MuJoCo say of each other
        _section(config, "Reference")[:0] = _reference()
    lab = sorted((ROOT / "docs/lab").glob("2*.md"), reverse=True)
    _section(config, "Lab").extend(
        [
            *({_lab_title(path): f"lab/{path.name}"} for path in lab),
            {"Benchmarks": "lab/benchmarks.md"},
            {"Reliability": "lab/reliability.md"},
        ]
    )
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages to those on disk."""
    for name, text in _generated.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Leads links that leave docs/ to the page that shows their file, or makes them plain text."""
    shown = {page: name for name, page in SHOWN.items()}
    source = shown.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    here = posixpath.dirname(page.file.src_uri)

    def lead(match: re.Match[str]) -> str:
        text, target, anchor = match["text"], match["target"], match["anchor"] or ""
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path.startswith("docs/") and source.startswith("docs/"):
            return match[0]
        to = path.removeprefix("docs/") if path.startswith("docs/") else SHOWN.get(path)
        return f"[{text}]({posixpath.relpath(to, here or '.')}{anchor})" if to else text

    def whole(row: re.Match[str]) -> str:
        return INTERVAL.sub(lambda figure: figure[0].replace(" ", "&nbsp;"), row[0])

    markdown = re.sub(r"^\|.*$", whole, markdown, flags=re.MULTILINE)
    parts = re.split(r"(^```.*?^```|`[^`\n]+`)", markdown, flags=re.DOTALL | re.MULTILINE)
    # Code stands at the odd places.
    return "".join(part if i % 2 else LINK.sub(lead, part) for i, part in enumerate(parts))


def on_post_build(config: MkDocsConfig) -> None:
    """Fails if a page would load anything from elsewhere."""
    for path in Path(config.site_dir).rglob("*.html"):
        found = LOADS.search(path.read_text())
        if found:
            raise PluginError(f"{path} loads {found[1]}; the site must work offline")


def _section(config: MkDocsConfig, title: str) -> list[Any]:
    return next(entry[title] for entry in config.nav or () if title in entry)


def _lab_title(path: Path) -> str:
    """`26 Nov: TITLE` of a page that is called YEAR-MONTH-DAY-NAME.md and begins with `# TITLE`."""
    _, month, day = path.name.split("-")[:3]
    heading = path.read_text().partition("\n")[0].removeprefix("# ")
    return f"{int(day)} {MONTHS[int(month) - 1]}: {heading}"


# --- the pages ------------------------------------------------------------------------------------


def _reference() -> list[Any]:
    """Writes all pages of the reference; their part of the navigation."""
    import envs
    from irl_bench import algos

    nav: list[Any] = ["reference/index.md", {"Commands": "reference/commands.md"}]
    _generated["reference/commands.md"] = _commands()
    groups = [
        ("Algorithms", "algorithms", tuple(algos.ALGORITHMS), _algorithm),
        ("Worlds", "worlds", envs.names(), _world),
    ]
    for title, folder, names, page in groups:
        rows = []
        for name in names:
            help, text = page(name)
            _generated[f"reference/{folder}/{name}.md"] = text
            rows.append((f"[`{name}`]({name}.md)", help))
        lines = [f"# {title}", "", *_table(("name", "what it is"), rows)]
        _generated[f"reference/{folder}/index.md"] = "\n".join(lines)
        pages = [{name: f"reference/{folder}/{name}.md"} for name in names]
        nav.append({title: [f"reference/{folder}/index.md", *pages]})
    nav.append({"Studies and budgets": "reference/studies.md"})
    _generated["reference/studies.md"] = _studies()
    nav.append({"Python API": _api()})
    return nav


def _commands() -> str:
    """What every program says of itself when asked for --help."""
    lines = [
        "# Commands",
        "",
        "Every program is a file in `launch/` and a subcommand of `irl-bench`, with the same",
        "flags: `python launch/sweep.py --list` is `irl-bench sweep --list`. This page shows what",
        "each of them prints for `--help`.",
        "",
    ]
    programs = sorted(path.stem for path in (ROOT / "launch").glob("[a-z]*.py"))
    if "demonstrator" in programs:
        programs.remove("expert")  # the former name of the same program
    for name in ["sweep", "train", "report", *programs]:
        if f"## {name}" in lines:
            continue
        command = [sys.executable, f"launch/{name}.py", "--help"]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        lines += [f"## {name}", "", *_help(done.stdout), ""]
    return "\n".join(lines)


def _help(text: str) -> list[str]:
    """A program's help: its flags as a table, all other lines as they are printed."""
    flags, rest = [], []
    inside = False  # a flag, of which further lines may follow
    for line in text.splitlines():
        flag = re.match(r"  (--\S+?)(?::|  ) *(\S.*)", line)
        if flag:
            flags.append((f"`{flag[1]}`", flag[2]))
        elif inside and line.startswith("    "):
            flags[-1] = (flags[-1][0], f"{flags[-1][1]} {line.strip()}")
            continue
        elif line.strip() != "__main__:":
            rest.append(line)
        inside = bool(flag)
    printed = re.sub(r"\n{3,}", "\n\n", "\n".join(rest).strip())
    return ["```{.text .help}", printed, "```", "", *_table(("flag", "meaning"), flags)]


def _algorithm(name: str) -> tuple[str, str]:
    """(what it is in a line, its page)."""
    import envs
    from irl_bench import algos
    from irl_bench.plan import presets, registry

    found = registry.algorithm(name)
    module = importlib.import_module(algos.ALGORITHMS[name])
    lines = [f"# {name}", "", inspect.getdoc(module) or found.help, "", "## Settings", ""]
    if found.settings:
        lines += [f"A flag is `--{name}.NAME=VALUE`.", ""]
        lines[-2] += f" From Python it is `irl_bench.run(..., {name}={{...}})`."
        lines += _settings(found.settings.values())
    else:
        lines += ["It has no settings."]
    changes: dict[str, list[tuple[str, str]]] = {}
    for env in envs.names():
        for budget in presets.BUDGETS:
            values = presets.config_differences(env, name, budget)
            text = ", ".join(f"`{key}={_show(value)}`" for key, value in values.items())
            changes.setdefault(text, []).append((env, budget))
    changes.pop("", None)
    if changes:
        lines += ["", "## Other values on some worlds", ""]
        lines += [
            "The defaults above hold where this table says nothing. A flag overrides both.",
            "",
        ]
        rows = [(_places(where), text) for text, where in changes.items()]
        lines += _table(("worlds (budgets)", "values"), rows)
    lines += ["", f"The module is [`{module.__name__}`][{module.__name__}]."]
    return found.help, "\n".join(lines)


def _world(name: str) -> tuple[str, str]:
    """(what it is in a line, its page)."""
    from irl_bench.plan import presets, registry

    found = registry.world(name)
    world = found.world
    action, recovery = f"float32[{world.action_size}] in [-1, 1]", "never for certain"
    if world.n_actions:
        action = f"{world.n_actions} discrete actions"
    if world.recovery_steps is not None:
        recovery = f"{world.recovery_steps} steps"
    facts = [
        ("observation", f"float32[{world.observation_size}]"),
        ("action", action),
        ("longest horizon T_max", f"{world.horizon} steps"),
        ("recovery time u of the expert", recovery),
        ("latency L from an error to its failure", f"{world.latency} steps"),
    ]
    lines = [f"# {name}", "", found.help, "", *_table(("quantity", "value"), facts), ""]
    if found.options:
        lines += ["## Options", ""]
        lines += ["An option is chosen when the world is made. A change is a new compilation.", ""]
        lines += [*_settings(found.options.values()), ""]
    if found.dials:
        first = next(iter(found.dials.values()))
        value = f"{first.name}={_show(first.default)}"
        lines += ["## Dials", "", "A dial costs no compilation. On the command line it is a flag,"]
        lines += [f'`--{name}.{value}`; from Python it is `envs.make("{name}", {value})`.', ""]
        lines += [*_settings(found.dials.values()), ""]
    modes = []
    for mode, changes in world.modes.items():
        values = ", ".join(f"`{dial}={_show(float(value))}`" for dial, value in changes.items())
        modes.append((f"`{mode}`", values or "no change"))
    lines += ["## Modes", "", "The first mode is the world as it is.", ""]
    lines += [*_table(("mode", "change"), modes), "", "## Budgets", ""]
    budgets = [dataclasses.asdict(presets.budget_of(name, one)) for one in presets.BUDGETS]
    rows = [(f"`{key}`", *(_show(budget[key]) for budget in budgets)) for key in budgets[0]]
    lines += _table(("number of", *presets.BUDGETS), rows)
    lines += _demonstrators(name)
    return found.help, "\n".join(lines)


def _demonstrators(name: str) -> list[str]:
    """The cards of the demonstrators that ship for a world, as a section; nothing without one."""
    rows = []
    for path in sorted((ROOT / "envs/demonstrators").glob("*.json")):
        card = json.loads(path.read_text())
        if card["world"] == name:
            mean, low, high = card["return"]
            rows.append(
                (
                    f"`{path.stem}`",
                    f"{mean:.0f} [{low:.0f}, {high:.0f}]",
                    f"{card['random_return']:.0f}",
                    f"{card['cost']:.3f}",
                    f"{card['env_steps'] / 1e6:.2g} M",
                    f"`{card['command']}`",
                )
            )
    head = ("file", "return [95 % CI]", "random actions", "failed steps", "trained for", "command")
    text = "From the cards that ship beside the weights: the mean return of an episode with its "
    text += (
        "interval, that of uniformly random actions, the share of failed steps, and the training."
    )
    return ["", "## Demonstrators", "", text, "", *_table(head, rows)] if rows else []


def _studies() -> str:
    from irl_bench import studies
    from irl_bench.plan import presets
    from irl_bench.studies import study

    rows = [(f"`{name}`", study.find(name).help) for name in studies.STUDIES]
    lines = ["# Studies and budgets", "", "## Studies", ""]
    lines += ["A study is several sweeps that are read together: `--experiment=NAME`.", ""]
    lines += [*_table(("study", "what it asks"), rows), "", "## Budgets", BUDGETS]
    assert all(f"`{budget}`" in BUDGETS for budget in presets.BUDGETS)
    return "\n".join(lines)


BUDGETS = """
`--budget=NAME` sets the size of a sweep. `smoke` does everything once and is too small for a
verdict, `default` gives a verdict in minutes, `full` gives tighter intervals. The page of each
world has the numbers. The flags `--seeds`, `--demos`, `--demo_steps` and `--episodes` replace them.
"""


def _api() -> list[Any]:
    """Pages of the public face and of every package; their part of the navigation."""
    nav: list[Any] = []
    public: dict[str, set[str]] = {}
    for package in ("irl_bench", "envs"):
        module = importlib.import_module(package)
        lines = [f"# {package}", "", inspect.getdoc(module) or "", ""]
        for name in sorted(set(module.__all__)):
            item = getattr(module, name)
            home = getattr(item, "__module__", package)
            if inspect.isclass(item) or inspect.isfunction(item):
                public.setdefault(home, set()).add(name)
                lines += [f"::: {home}.{name}", ""]
            else:
                public.setdefault(package, set()).add(name)
                lines += [f"::: {package}.{name}", ""]
        _generated[f"reference/api/{package}.md"] = "\n".join(lines)
        nav.append({package: f"reference/api/{package}.md"})
    for package in ("irl_bench", "envs"):
        home = ROOT / package
        rooms = [path.parent for path in sorted(home.rglob("*/__init__.py"))]
        flat = sorted(home.glob("*.py"))
        for title, files in [
            (f"{package}, single modules", flat),
            *((_dotted(room), sorted(room.glob("*.py"))) for room in rooms),
        ]:
            modules = [_dotted(path) for path in files if not path.stem.startswith("_")]
            if "," not in title:
                modules.insert(0, title)
            elif not modules:
                continue
            lines = ["---", "search:", "  boost: 0.5", "---", f"# {title}", ""]
            for module in modules:
                hidden = "".join(f', "!^{name}$"' for name in sorted(public.get(module, ())))
                options = {"filters": f'["!^_"{hidden}]', "show_root_full_path": "true"}
                if module == title:  # the package's own text and members, under the page's heading
                    options |= {"show_root_heading": "false", "show_root_toc_entry": "false"}
                lines += [f"::: {module}", "    options:"]
                lines += [*(f"      {name}: {value}" for name, value in options.items()), ""]
            slug = title.replace(", single modules", ".modules")
            _generated[f"reference/api/{slug}.md"] = "\n".join(lines)
            nav.append({title: f"reference/api/{slug}.md"})
    return nav


# --- tables ---------------------------------------------------------------------------------------


def _settings(settings: Iterable[Any]) -> list[str]:
    rows = []
    for s in settings:
        unit = "" if s.unit == "1" else f" {s.unit}"
        meaning = f"{s.help}<br><small>{s.range}</small>"
        rows.append((f"`{s.name}`", f"`{_show(s.default)}`{unit}", meaning))
    return _table(("name", "default", "meaning and valid values"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "&#124;") for cell in cells) + " |"

    return [line(head), "|" + " --- |" * len(head), *map(line, rows)]


def _show(value: Any) -> str:
    from irl_bench.core.settings import show

    return show(value)


def _places(where: Sequence[tuple[str, str]]) -> str:
    """`ant; hopper (smoke)`: the worlds, with their budgets where these are not all three."""
    budgets: dict[str, list[str]] = {}
    for env, budget in where:
        budgets.setdefault(env, []).append(budget)
    alike: dict[str, list[str]] = {}
    for env, names in budgets.items():
        alike.setdefault(f" ({' and '.join(names)})" if len(names) < 3 else "", []).append(env)
    return "; ".join(", ".join(envs) + names for names, envs in alike.items())


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)

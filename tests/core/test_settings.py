"""What an outside algorithm may declare as settings, and what it may return: each mistake is one
line that names it."""

import pytest

from irl_bench.core.settings import BadInput, Setting, settings_of
from irl_bench.core.types import Spec
from irl_bench.plan import registry
from tests.worlds.toys import TwoState

HEADER = "import dataclasses\nimport irl_bench\n\n\n"
CONFIG = HEADER + "@dataclasses.dataclass(frozen=True)\nclass Config:\n    {field}\n\n\n"
MAKE = "def make(spec, config):\n    return irl_bench.Learner(**{{**RIGHT, {change}}})\n"
RIGHT = """RIGHT = dict(
    init=lambda key, task: key,
    update=lambda state, task: (state, {}),
    policy=lambda state: state,
    act=lambda params, observation, key: 0,
    rounds=1,
    consumes=irl_bench.Consumes(),
)


"""


@pytest.fixture
def file(tmp_path, monkeypatch, request):
    """(text) -> the reference of a module with that text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"mine_{abs(hash(request.node.name))}"

    def write(text):
        (tmp_path / f"{name}.py").write_text(text)
        return f"{name}:make"

    return write


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ('metric: str = "l2"', "its Config: setting metric: a str needs choices; nearest"),
        ("x: float | None = None", "setting x: its default must be .*, not None; nearest"),
        ("x: list = dataclasses.field(default_factory=list)", r"setting x: .* not \[\]"),
        ("x: int", "setting x: .* not no default"),
        ("x: tuple = (0.5, 0.1)", r"setting x: .* not \(0.5, 0.1\)"),
        ('x: int = irl_bench.setting(5, "my number", low=10)', "cannot be imported: .*>= 10"),
        ('x: str = irl_bench.setting("l2", "metric")', "cannot be imported: .*a str needs choices"),
    ],
)
def test_a_config_that_holds_no_settings(file, field, words):
    with pytest.raises(BadInput, match=words):
        registry.algorithm(file(CONFIG.format(field=field) + RIGHT + MAKE.format(change="")))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("'update': None", "update of its Learner must be a function, not NoneType"),
        ("'act': lambda p, o: 0", r"act cannot be called as act\(params, observation, key\)"),
        ("'rounds': 2.5", "rounds of its Learner=2.5 is of type float"),
        ("'rounds': -1", "rounds of its Learner=-1 must be at least 0"),
        (
            "'consumes': {'expert_queries': 3}",
            "consumes of its Learner must be irl_bench",
        ),
    ],
)
def test_a_learner_of_other_types(file, change, words):
    ref = file(HEADER + RIGHT + MAKE.format(change=change))
    with pytest.raises(BadInput, match=words):
        registry.learner(ref, Spec(TwoState(), 8, 2, 4), {})


@pytest.mark.parametrize("text", ["", "64,", "64,64x", ",64"])
def test_an_empty_width_is_no_width(text):
    with pytest.raises(BadInput, match="must be integers separated by commas or x"):
        Setting.make("hidden", (64, 64), {}).parse(text)


def test_a_config_without_fields_has_no_settings():
    assert settings_of(None) == {}

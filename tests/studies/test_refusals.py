"""Flags that a study would ignore, or that would put another learner under a learner's name."""

import pytest

from irl_bench.cli import sweep
from irl_bench.core.settings import BadInput
from irl_bench.studies import study

ANOTHER = "shows learners by their names, and this makes another one of it; nearest: leave it out$"
COMPARED = "compares its values; nearest: leave it out$"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("seed_table --rlhf.mask_failure=false", f"--rlhf.mask_failure: .*{ANOTHER}"),
        ("seed_table --rlhf.control=constant_reward", f"--rlhf.control: .*{ANOTHER}"),
        ("seed_table --rlhf.shuffled=true", f"--rlhf.shuffled: .*{ANOTHER}"),
        ("demo_efficiency --gail.control=true_reward", f"--gail.control: .*{ANOTHER}"),
        ("demo_efficiency --gail.mask_failure=false", f"--gail.mask_failure: .*{ANOTHER}"),
        ("decomposition --gail.mask_failure=false", f"--gail.mask_failure: .*{ANOTHER}"),
        ("extrapolation --drex.shuffled=true", f"--drex.shuffled: .*{ANOTHER}"),
        ("label_efficiency --rlhf_iterated.shuffled=true", ANOTHER),
        ("overoptimization --airl.control=true_reward", f"--airl.control: .*{ANOTHER}"),
        ("transfer --airl.mask_failure=false", f"--airl.mask_failure: .*{ANOTHER}"),
        ("decomposition --rlhf.labels=20", f"--rlhf.labels: .*{COMPARED}"),
        ("extrapolation --lane_keep.demonstrator=75", f"--lane_keep.demonstrator: .*{COMPARED}"),
        ("label_efficiency --rlhf_iterated.queries=entropy", f"queries: .*{COMPARED}"),
        ("overoptimization --best_of_n.labels=20", f"--best_of_n.labels: .*{COMPARED}"),
        ("overoptimization --rlhf.probe=4", "takes best_of_n's begins, warm and length"),
        ("transfer --gail.init=random", f"--gail.init: .*{COMPARED}"),
        (
            "transfer --lane_keep.friction=0.5",
            "--lane_keep.friction: .* changes it; nearest: leave",
        ),
        ("copycat --lane_keep.frames=4", f"--lane_keep.frames: .*{COMPARED}"),
    ],
)
def test_a_setting_that_a_study_sets_itself_is_refused(tmp_path, line, expected):
    command = sweep.parse(
        ["sweep.py", *f"--experiment={line} --budget=smoke".split(), f"--out={tmp_path / 'out'}"]
    )
    with pytest.raises(BadInput, match=expected):
        study.run(command.study, command.request, command.demos, "", lambda _: None)
    assert not (tmp_path / "out" / study.INDEX).exists()


@pytest.mark.parametrize(
    "name", ["seed_table", "decomposition", "extrapolation", "overoptimization", "label_efficiency"]
)
@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--algo=ppo", "is about .*; nearest: leave out --algo$"),
        ("--demos=4,8", "takes one number of demonstrations; nearest: --demos=8$"),
    ],
)
def test_other_algorithms_and_several_numbers_of_demonstrations_are_refused(name, flag, expected):
    with pytest.raises(BadInput, match=expected):
        sweep.parse(["sweep.py", f"--experiment={name}", flag])

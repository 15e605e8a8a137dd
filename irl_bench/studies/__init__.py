"""Studies, one file each. To add a study, write its file and register it here."""

STUDIES = {
    "copycat": "irl_bench.studies.copycat",
    "decomposition": "irl_bench.studies.decomposition",
    "demo_efficiency": "irl_bench.studies.demo_efficiency",
    "extrapolation": "irl_bench.studies.extrapolation",
    "hazard": "irl_bench.studies.hazard",
    "label_efficiency": "irl_bench.studies.label_efficiency",
    "overoptimization": "irl_bench.studies.overoptimization",
    "recoverability": "irl_bench.studies.recoverability",
    "remedies": "irl_bench.studies.remedies",
    "retrain": "irl_bench.studies.retrain",
    "seed_table": "irl_bench.studies.seed_table",
    "transfer": "irl_bench.studies.transfer",
}
"""The registry of studies: name as in --experiment=NAME -> module whose `STUDY` is an
`irl_bench.studies.study.Study`."""

OPTIONS: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("decomposition", "extrapolation", "seed_table"), ("demonstrator",)
)
"""Study -> the options that its worlds must have."""

"""Studies, one file each. Adding one is its file and its line here."""

STUDIES = {
    "decomposition": "irl_bench.experiments.decomposition",
    "demo_efficiency": "irl_bench.experiments.demo_efficiency",
    "extrapolation": "irl_bench.experiments.extrapolation",
    "label_efficiency": "irl_bench.experiments.label_efficiency",
    "overoptimization": "irl_bench.experiments.overoptimization",
    "seed_table": "irl_bench.experiments.seed_table",
    "transfer": "irl_bench.experiments.transfer",
}
"""The one registry: name of --experiment -> module with `STUDY`, an `irl_bench.experiments.study.Study`."""

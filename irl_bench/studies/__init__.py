"""Studies, one file each. Adding one is its file and its line here."""

STUDIES = {
    "decomposition": "irl_bench.studies.decomposition",
    "demo_efficiency": "irl_bench.studies.demo_efficiency",
    "extrapolation": "irl_bench.studies.extrapolation",
    "label_efficiency": "irl_bench.studies.label_efficiency",
    "overoptimization": "irl_bench.studies.overoptimization",
    "seed_table": "irl_bench.studies.seed_table",
    "transfer": "irl_bench.studies.transfer",
}
"""The one registry: name of --experiment -> module with `STUDY`, an
`irl_bench.studies.study.Study`."""

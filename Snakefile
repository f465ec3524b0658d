# CorrLoss Bench: from table files to tables of AP deltas. `snakemake` makes the main tables, `snakemake analysis`
# the others, `snakemake all` every table, `snakemake <table>` one; `--config scale=paper` plans the paper's own recipes.
include: "workflows/rules/common.smk"


rule main:
    input:
        expand(f"{OUT}/tables/{{table}}.csv", table=MATRIX.main_tables),
        f"{OUT}/runs.csv",


# `snakemake small`: the main tables of a scale by its name, as a plain `snakemake --config scale=small`.
rule:
    name:
        settings.scale
    input:
        rules.main.input,


include: "workflows/rules/fetch.smk"
include: "workflows/rules/data.smk"
include: "workflows/rules/train.smk"
include: "workflows/rules/test_dev.smk"
include: "workflows/rules/evaluate.smk"
include: "workflows/rules/tables.smk"
include: "workflows/rules/overhead.smk"
include: "workflows/rules/cost.smk"
include: "workflows/rules/rehearse.smk"
include: "workflows/rules/report.smk"


# Before the first job, and not in a dry run.
onstart:
    refuse_without_gpus()


# Seconds each: with a cluster's profile these run beside Snakemake, not after a wait in the queue.
localrules:
    runs,
    table,

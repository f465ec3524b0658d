# Tables of what the loss costs: no run is trained for them, training steps are timed.
ruleorder: time_training > table


def overhead_runs(wildcards):
    """The variants whose training steps a table times."""
    return MATRIX.tables[wildcards.table].runs


def overhead_data(wildcards):
    """Reports of the checks of their data sets."""
    names = sorted({run.dataset for run in overhead_runs(wildcards)})
    return [ancient(f"{OUT}/data/{name}.json") for name in names]


def overhead_hashes(wildcards):
    """The table is stale when one of these changes."""
    return [MATRIX.planned[run.name].hash for run in overhead_runs(wildcards)]


def overhead_gpus(wildcards):
    """One, at a scale whose runs use any."""
    runs = overhead_runs(wildcards)
    return min(1, *(MATRIX.planned[run.name].config["bench"]["gpus"] for run in runs))


rule time_training:
    input:
        overhead_data,
        file=ROOT / "experiments/tables/{table}.yaml",
        reference=ROOT / "experiments/reference/paper.csv",
    output:
        csv=report(
            f"{OUT}/tables/{{table}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}", "scale": SCALE},
        ),
        markdown=f"{OUT}/tables/{{table}}.md",
    log:
        f"{OUT}/logs/overhead/{{table}}.log",
    benchmark:
        f"{OUT}/benchmarks/overhead/{{table}}.tsv"
    wildcard_constraints:
        table="|".join(OVERHEAD_TABLES) or "-",
    conda:
        "../../environment.yml"
    # All cores, for seconds are measured; a cluster has no number of them, and gives a node instead.
    threads: workflow.resource_settings.cores or 1
    resources:
        gpu=overhead_gpus,
        gpu_lease="",
        mem_mb=8000,
        runtime=240,
    params:
        hashes=overhead_hashes,
        settings=MATRIX_SETTINGS,
    shell:
        "corrloss overhead {wildcards.table:q} {params.settings} {output.csv:q}"
        " --gpus {resources.gpu} --gpu-lease={resources.gpu_lease:q} 2> {log:q}"


# `snakemake <table>`, as for the other tables.
for overhead_table in OVERHEAD_TABLES:

    rule:
        name:
            overhead_table
        input:
            f"{OUT}/tables/{overhead_table}.csv",

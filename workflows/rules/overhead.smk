# Tables of what the loss costs: no run is trained for them, training steps are timed.
ruleorder: time_training > table


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
        " || (tail -n 30 {log:q} >&2; exit 1)"


# `snakemake <table>`, as for the other tables.
for overhead_table in OVERHEAD_TABLES:

    rule:
        name:
            overhead_table
        input:
            f"{OUT}/tables/{overhead_table}.csv",

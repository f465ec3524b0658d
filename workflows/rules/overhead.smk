# Tables of what the loss costs: no run is trained for them, training steps are timed.
ruleorder: time_training > table


rule time_training:
    input:
        inputs(
            f"{OUT}/tables/{{table}}.json",
            lambda wildcards: PLAN.table_identity(wildcards.table),
            lambda wildcards: PLAN.checked(wildcards.table),
        ),
    output:
        report(
            f"{OUT}/tables/{{table}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}", "scale": settings.scale},
        ),
        f"{OUT}/tables/{{table}}.md",
        f"{OUT}/tables/{{table}}.json",
    log:
        f"{OUT}/logs/overhead/{{table}}.log",
    benchmark:
        f"{OUT}/benchmarks/overhead/{{table}}.tsv"
    wildcard_constraints:
        table="|".join(MATRIX.overhead_tables) or "-",
    conda:
        "../../environment.yml"
    # All cores, because seconds are measured; a cluster has no number of them, and gives a node instead.
    threads: workflow.resource_settings.cores or 1
    resources:
        gpu=min(1, MATRIX.most("gpus")),
        gpu_lease="",
        mem_mb=8000,
        runtime=240,
    params:
        settings=command_settings,
    shell:
        "logged {log:q} corrloss overhead {wildcards.table:q} {params.settings} --gpu-lease={resources.gpu_lease:q}"


# `snakemake <table>`, as for the other tables.
for table_name in MATRIX.overhead_tables:

    rule:
        name:
            table_name
        input:
            f"{OUT}/tables/{table_name}.csv",

# Before the bill: `snakemake rehearse` trains each run of the main tables for a few updates, on the data and the GPUs
# that it will have, and prints what works, what does not, and what all of it will cost; `snakemake rehearse_<table>`
# does so for one table. One seed of a run is rehearsed. A run that fails is a row of the table.
rule rehearse_run:
    input:
        inputs(
            REHEARSAL.rehearsal,
            lambda wildcards: planned(wildcards).identity["training"],
            settings.checked("{dataset}"),
            lambda wildcards: planned(wildcards).weights_in(DATA_ROOT),
        ),
    output:
        REHEARSAL.rehearsal,
    log:
        f"{OUT}/logs/rehearse/{LOGGED}.log",
    conda:
        "../../environment.yml"
    threads: lambda wildcards: planned(wildcards).threads
    resources:
        gpu=lambda wildcards: planned(wildcards).gpus,
        gpu_lease="",
        mem_mb=4000,
        runtime=120,
    params:
        settings=command_settings,
        run=run_name,
    shell:
        "logged {log:q} corrloss rehearse {params.run:q} {params.settings} --gpu-lease={resources.gpu_lease:q}"


for rehearsal, tables in {
    "rehearse": MATRIX.main_tables,
    **{f"rehearse_{name}": [name] for name in MATRIX.result_tables},
}.items():

    rule:
        name:
            rehearsal
        input:
            PLAN.rehearsals(tables),
        log:
            f"{OUT}/logs/{rehearsal}.log",
        localrule: True
        conda:
            "../../environment.yml"
        params:
            settings=command_settings,
        shell:
            "logged {log:q} corrloss rehearsals {params.settings}"

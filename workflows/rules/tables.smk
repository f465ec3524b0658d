# From records to runs.csv, and from runs.csv to tables.
rule runs:
    input:
        inputs(
            settings.runs_csv,
            lambda wildcards: PLAN.has_current_runs(),
            *(run.record for run in PLAN.folders(PLAN.requested)),
        ),
    output:
        report(
            f"{OUT}/runs.csv",
            caption="../report/runs.rst",
            category="Runs",
            labels={"scale": settings.scale},
        ),
        f"{OUT}/runs.json",
    log:
        f"{OUT}/logs/runs.log",
    benchmark:
        f"{OUT}/benchmarks/runs.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=command_settings,
    shell:
        "logged {log:q} corrloss collect {params.settings}"


rule table:
    input:
        inputs(
            f"{OUT}/tables/{{table}}.json",
            lambda wildcards: PLAN.table_identity(wildcards.table),
            lambda wildcards: PLAN.read_by(wildcards.table, PARTS),
            settings.runs_csv,
        ),
    output:
        report(
            f"{OUT}/tables/{{table}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}", "scale": settings.scale},
        ),
        f"{OUT}/tables/{{table}}.md",
        f"{OUT}/tables/{{table}}.tex",
        f"{OUT}/tables/{{table}}.json",
    log:
        f"{OUT}/logs/table/{{table}}.log",
    benchmark:
        f"{OUT}/benchmarks/table/{{table}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=command_settings,
    shell:
        "logged {log:q} corrloss table {wildcards.table:q} {params.settings}"


# Tables that a plain `snakemake` does not make: why a delta comes about, and what else was tried.
rule analysis:
    input:
        expand(f"{OUT}/tables/{{table}}.csv", table=MATRIX.analysis_tables),
        f"{OUT}/runs.csv",


rule all:
    input:
        expand(
            f"{OUT}/tables/{{table}}.csv",
            table=MATRIX.result_tables + MATRIX.overhead_tables,
        ),
        f"{OUT}/runs.csv",


# `snakemake <table>`: one target a table.
for table_name in MATRIX.result_tables:

    rule:
        name:
            table_name
        input:
            f"{OUT}/tables/{table_name}.csv",
            f"{OUT}/runs.csv",
            [
                run.test_dev / TEST_DEV_ZIP
                for run in PLAN.folders([table_name])
                if MATRIX.tables[table_name].test_dev
            ],


# `snakemake <table>/<detector>`: trains what these rows of a table need, and prints them.
for row, plan in PLAN.rows.items():

    rule:
        name:
            row
        input:
            [run.folder(settings.results).record for run in plan.runs],
            [run.folder(settings.results).replicates() for run in plan.runs],
        log:
            f"{OUT}/logs/rows/{row}.log",
        localrule: True
        conda:
            "../../environment.yml"
        params:
            settings=command_settings,
            row=row,
        shell:
            "logged {log:q} corrloss row {params.row:q} {params.settings}"

# From records to runs.csv, and from runs.csv to tables.
rule runs:
    input:
        lambda wildcards: run_files(requested_tables(), "record.json"),
    output:
        report(
            f"{OUT}/runs.csv",
            caption="../report/runs.rst",
            category="Runs",
            labels={"scale": SCALE},
        ),
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
        settings=MATRIX_SETTINGS,
    shell:
        "corrloss collect {params.settings} {output:q} > {log:q} 2>&1"
        " || (tail -n 30 {log:q} >&2; exit 1)"


rule table:
    input:
        lambda wildcards: run_files([wildcards.table], "bootstrap.bbox.npz"),
        runs=f"{OUT}/runs.csv",
        file=ancient(ROOT / "experiments/tables/{table}.yaml"),
        reference=ROOT / "experiments/reference/paper.csv",
    output:
        csv=report(
            f"{OUT}/tables/{{table}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}", "scale": SCALE},
        ),
        markdown=f"{OUT}/tables/{{table}}.md",
        latex=f"{OUT}/tables/{{table}}.tex",
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
        scale=SCALE,
        root=ROOT,
        plan=table_hash,  # instead of the file's time: a comment in it changes no table
    shell:
        "corrloss table {wildcards.table:q} --scale {params.scale:q} --root {params.root:q} --runs {input.runs:q}"
        " {output.csv:q} > {log:q} 2>&1"
        " || (tail -n 30 {log:q} >&2; exit 1)"


# Tables that a plain `snakemake` does not make: why a delta comes about, and what else was tried.
rule analysis:
    input:
        expand(f"{OUT}/tables/{{table}}.csv", table=ANALYSIS_TABLES),
        f"{OUT}/runs.csv",


rule all:
    input:
        expand(f"{OUT}/tables/{{table}}.csv", table=ALL_TABLES + OVERHEAD_TABLES),
        f"{OUT}/runs.csv",


# `snakemake <table>`: one target a table.
for table_name in ALL_TABLES:

    rule:
        name:
            table_name
        input:
            f"{OUT}/tables/{table_name}.csv",
            f"{OUT}/runs.csv",
            test_dev_files(table_name),

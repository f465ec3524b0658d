# From tables and what the runs left to one page that opens without a network.
rule report:
    input:
        tables=expand(f"{OUT}/tables/{{table}}.csv", table=MAIN_TABLES),
        runs=f"{OUT}/runs.csv",
    output:
        report(
            f"{OUT}/report.html",
            caption="../report/page.rst",
            category="Report",
            labels={"page": "everything", "scale": SCALE},
        ),
    log:
        f"{OUT}/logs/report.log",
    benchmark:
        f"{OUT}/benchmarks/report.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings=SETTINGS,
    shell:
        "corrloss report {params.settings} --runs {input.runs:q} {output:q} > {log:q} 2>&1"
        " || (tail -n 30 {log:q} >&2; exit 1)"

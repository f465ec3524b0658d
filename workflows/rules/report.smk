# From tables and the files of the runs to one page that opens without a network.
rule report:
    input:
        expand(f"{OUT}/tables/{{table}}.csv", table=MATRIX.main_tables),
        f"{OUT}/runs.csv",
    output:
        report(
            f"{OUT}/report.html",
            caption="../report/page.rst",
            category="Report",
            labels={"page": "everything", "scale": settings.scale},
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
        settings=command_settings,
        tables=MATRIX.main_tables,
    shell:
        "logged {log:q} corrloss report {params.settings} && echo report: {output:q}"

# From tables and the files of the runs to one page that opens without a network.
rule report:
    input:
        inputs(
            f"{OUT}/report.json",
            lambda wildcards: PLAN.report_identity(),
            *map(settings.table, MATRIX.main_tables),
            settings.runs_csv,
        ),
    output:
        page=report(
            f"{OUT}/report.html",
            caption="../report/page.rst",
            category="Report",
            labels={"page": "everything", "scale": settings.scale},
        ),
        made_of=f"{OUT}/report.json",
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
    shell:
        "logged {log:q} corrloss report {params.settings} && echo report: {output.page:q}"

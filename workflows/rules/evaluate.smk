# From detections to the record of a run, and to the AP of resampled images that its intervals come from.
rule evaluate:
    input:
        inputs(
            RUN.record,
            lambda wildcards: planned(wildcards).identity["evaluation"],
            RUN.training,
            RUN.prediction,
            RUN.detections(),
            RUN.positives,
            RUN.bound("best"),
            RUN.bound("worst"),
            settings.checked("{dataset}"),
        ),
    output:
        RUN.record,
        RUN.replicates(),
    log:
        f"{OUT}/logs/evaluate/{LOGGED}.log",
    benchmark:
        f"{OUT}/benchmarks/evaluate/{LOGGED}.tsv"
    priority: 10000  # what is trained is evaluated before more is trained
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=command_settings,
        run=run_name,
    shell:
        "logged {log:q} corrloss evaluate {params.run:q} {params.settings}"

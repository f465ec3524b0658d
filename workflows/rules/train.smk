# From the resolved config to weights, and from weights to detections: two stages in one job, because reloading the
# detector costs as much as predicting. A job that is run again for its predictions alone finds the training's last
# checkpoint and trains nothing. Progress goes to the terminal, the rest to the log. The config is no output: Snakemake
# removes those of a failed job, and the config of a failed training is needed.
rule train:
    input:
        inputs(
            RUN.prediction,
            lambda wildcards: planned(wildcards).identity["prediction"],
            settings.checked("{dataset}"),
            lambda wildcards: planned(wildcards).weights_in(DATA_ROOT),
        ),
    output:
        RUN.weights,
        RUN.training,
        RUN.prediction,
        RUN.detections(),
        RUN.bound("best"),
        RUN.bound("worst"),
        RUN.positives,
    log:
        f"{OUT}/logs/train/{LOGGED}.log",
    benchmark:
        f"{OUT}/benchmarks/train/{LOGGED}.tsv"
    # The longest first, by the reference results, so that no core is idle at the end.
    priority: lambda wildcards: PLAN.seconds(planned(wildcards).run)
    conda:
        "../../environment.yml"
    threads: lambda wildcards: planned(wildcards).threads
    resources:
        gpu=lambda wildcards: planned(wildcards).gpus,
        gpu_lease="",  # a folder of locks, see the workstation profile
        mem_mb=4000,
        runtime=2880,
    params:
        settings=command_settings,
        run=run_name,
    shell:
        "logged {log:q} corrloss train {params.run:q} {params.settings} --gpu-lease={resources.gpu_lease:q}"

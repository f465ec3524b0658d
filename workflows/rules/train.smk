# From the resolved config to weights, and from weights to detections: two stages in one job, because reloading the
# detector costs as much as predicting. A job that is run again for its predictions alone finds the training's last
# checkpoint and trains nothing. Progress goes to the terminal, the rest to the log.
rule train:
    input:
        fingerprints,
        checked_data,
        weights=ancient(run_weights),
    output:
        *TRAINED,
    log:
        f"{OUT}/logs/train/{LOGGED}.log",
    benchmark:
        f"{OUT}/benchmarks/train/{LOGGED}.tsv"
    wildcard_constraints:
        detector=WITHOUT_MASKS,
    conda:
        "../../environment.yml"
    threads: run_threads
    resources:
        gpu=run_gpus,
        gpu_lease="",  # a folder of locks, see the workstation profile
        mem_mb=4000,
        runtime=2880,
    params:
        settings=command_settings,
        run=run_name,
        hash=run_hash,
    shell:
        "logged {log:q} corrloss train {params.run:q} {params.settings} --config-hash={params.hash:q}"
        " --gpu-lease={resources.gpu_lease:q}"


use rule train as train_masks with:
    output:
        *TRAINED,
        f"{RUN}/detections.segm.json",
    wildcard_constraints:
        detector=WITH_MASKS,

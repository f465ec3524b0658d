# From the resolved config to weights, and from weights to detections: two stages and one job, for to load the
# detector again costs as much as to predict. A job that is done again for its predictions alone finds the
# training's last checkpoint and trains nothing. Progress goes to the terminal, the rest to the log.
rule train:
    input:
        f"{OUT}/data/{{dataset}}.train.identity",
        f"{OUT}/data/{{dataset}}.test.identity",
        checked_data,
        pretrained=ancient(run_pretrained),
    output:
        config=f"{RUN}/config.py",
        weights=f"{RUN}/weights.pth",
        report=f"{RUN}/training.json",
        detections=f"{RUN}/detections.bbox.json",
        positives=f"{RUN}/positives.npz",
        best=f"{RUN}/detections_best.bbox.json",
        worst=f"{RUN}/detections_worst.bbox.json",
        prediction=f"{RUN}/prediction.json",
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
        run=lambda wildcards: planned(wildcards).run.name,
        hash=run_hash,
        settings=MATRIX_SETTINGS,
        # Not an output: Snakemake deletes outputs before each attempt, and a training that was cut off
        # goes on from its checkpoints. The hash keeps a changed config away from stale ones.
        work_dir=lambda wildcards: f"{RUN}/checkpoints/{run_hash(wildcards)}".format(
            **wildcards
        ),
    shell:
        "corrloss resolve {params.run:q} {params.settings} --config-hash {params.hash:q}"
        " --config {output.config:q} 2> {log:q} &&"
        " corrloss train --config {output.config:q} --work-dir {params.work_dir:q}"
        " --weights {output.weights:q} --report {output.report:q}"
        " --detections {output.detections:q} --prediction {output.prediction:q}"
        " --gpus {resources.gpu} --gpu-lease={resources.gpu_lease:q} 2>> {log:q}"
        " || (tail -n 30 {log:q} >&2; exit 1)"


use rule train as train_masks with:
    output:
        config=f"{RUN}/config.py",
        weights=f"{RUN}/weights.pth",
        report=f"{RUN}/training.json",
        detections=f"{RUN}/detections.bbox.json",
        masks=f"{RUN}/detections.segm.json",
        positives=f"{RUN}/positives.npz",
        best=f"{RUN}/detections_best.bbox.json",
        worst=f"{RUN}/detections_worst.bbox.json",
        prediction=f"{RUN}/prediction.json",
    wildcard_constraints:
        detector=WITH_MASKS,

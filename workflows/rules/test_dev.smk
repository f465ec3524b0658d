# COCO test-dev: predicted without ground truth and packed for the evaluation server, which alone can tell the AP.
rule predict_test_dev:
    input:
        config=ancient(f"{RUN}/config.py"),
        weights=f"{RUN}/weights.pth",
        training=f"{RUN}/training.json",
        data=lambda wildcards: ancient(f"{OUT}/data/{test_dev_data(wildcards)}.json"),
    output:
        f"{RUN}/test_dev/detections_test-dev2017_corrloss_results.zip",
    log:
        f"{OUT}/logs/predict_test_dev/{LOGGED}.log",
    benchmark:
        f"{OUT}/benchmarks/predict_test_dev/{LOGGED}.tsv"
    conda:
        "../../environment.yml"
    threads: MAX_THREADS
    resources:
        gpu=lambda wildcards: min(1, run_gpus(wildcards)),
        gpu_lease="",
        mem_mb=16000,
        runtime=480,
    params:
        dataset=lambda wildcards: test_dev_data(wildcards),
        folder=lambda wildcards, output: Path(output[0]).parent,
        data_root=DATA_ROOT,
        root=ROOT,
    shell:
        "corrloss predict-test-dev {params.dataset:q} --config {input.config:q} --weights {input.weights:q}"
        " --training {input.training:q} --data-root {params.data_root:q} --root {params.root:q}"
        " {params.folder:q} --gpus {resources.gpu} --gpu-lease={resources.gpu_lease:q} 2> {log:q}"
        " || (tail -n 30 {log:q} >&2; exit 1)"

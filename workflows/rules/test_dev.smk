# COCO test-dev: predicted without ground truth and packed for the evaluation server, which computes the AP.
rule predict_test_dev:
    input:
        inputs(
            RUN.submission,
            lambda wildcards: MATRIX.submission_identity(planned(wildcards)),
            RUN.weights,
            RUN.training,
            lambda wildcards: [
                settings.checked(MATRIX.test_dev_data(planned(wildcards).run))
            ],
        ),
    output:
        RUN.test_dev / TEST_DEV_ZIP,
        RUN.submission,
    log:
        f"{OUT}/logs/predict_test_dev/{LOGGED}.log",
    benchmark:
        f"{OUT}/benchmarks/predict_test_dev/{LOGGED}.tsv"
    conda:
        "../../environment.yml"
    threads: MATRIX.most("threads")
    resources:
        gpu=lambda wildcards: min(1, planned(wildcards).gpus),
        gpu_lease="",
        mem_mb=16000,
        runtime=480,
    params:
        settings=command_settings,
        run=run_name,
        dataset=lambda wildcards: MATRIX.test_dev_data(planned(wildcards).run),
    shell:
        "logged {log:q} corrloss predict-test-dev {params.run:q} {params.settings} --gpu-lease={resources.gpu_lease:q}"

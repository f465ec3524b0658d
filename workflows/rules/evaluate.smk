# From detections to the record of a run, and to the AP of resampled images that its intervals come from.
rule evaluate:
    input:
        f"{RUN}/training.json",
        f"{RUN}/prediction.json",
        f"{RUN}/detections.bbox.json",
        f"{RUN}/positives.npz",
        f"{RUN}/detections_best.bbox.json",
        f"{RUN}/detections_worst.bbox.json",
        f"{OUT}/data/{{dataset}}.test.identity",
        checked_data,
    output:
        f"{RUN}/record.json",
        f"{RUN}/bootstrap.bbox.npz",
    log:
        f"{OUT}/logs/evaluate/{LOGGED}.log",
    benchmark:
        f"{OUT}/benchmarks/evaluate/{LOGGED}.tsv"
    wildcard_constraints:
        detector=WITHOUT_MASKS,
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=command_settings,
        run=run_name,
        hash=run_hash,
        ap=settings.ap,
    shell:
        "logged {log:q} corrloss evaluate {params.run:q} {params.settings} --config-hash={params.hash:q}"


use rule evaluate as evaluate_masks with:
    output:
        f"{RUN}/record.json",
        f"{RUN}/bootstrap.bbox.npz",
        f"{RUN}/bootstrap.segm.npz",
    wildcard_constraints:
        detector=WITH_MASKS,

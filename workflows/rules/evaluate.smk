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
        record=f"{RUN}/record.json",
        replicates=f"{RUN}/bootstrap.bbox.npz",
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
        run=lambda wildcards: planned(wildcards).run.name,
        hash=run_hash,
        folder=lambda wildcards, input: Path(input[0]).parent,
        annotations=lambda wildcards: annotation_file(wildcards.dataset, "test"),
        ap=AP_TOOL,
    shell:
        "corrloss evaluate --run {params.run:q} --config-hash {params.hash:q} --folder {params.folder:q}"
        " --annotations {params.annotations:q} --ap {params.ap:q} --record {output.record:q} > {log:q} 2>&1"
        " || (tail -n 30 {log:q} >&2; exit 1)"


use rule evaluate as evaluate_masks with:
    output:
        record=f"{RUN}/record.json",
        replicates=f"{RUN}/bootstrap.bbox.npz",
        mask_replicates=f"{RUN}/bootstrap.segm.npz",
    wildcard_constraints:
        detector=WITH_MASKS,

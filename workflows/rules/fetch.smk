# What comes from the network, and only on the machine where Snakemake itself runs: compute nodes need none.
localrules:
    fetch_weights,
    download_coco,
    download_coco_val,
    download_coco_test_dev,


# ImageNet weights that backbones start from, and published detectors, before the first run. The name ends in the checksum.
rule fetch_weights:
    output:
        f"{DATA_ROOT}/weights/{{file}}",
    log:
        f"{OUT}/logs/fetch_weights/{{file}}.log",
    benchmark:
        f"{OUT}/benchmarks/fetch_weights/{{file}}.tsv"
    wildcard_constraints:
        file=r"[\w.-]+",
    conda:
        "../../environment.yml"
    params:
        url=lambda wildcards: MATRIX.weights[wildcards.file],
    shell:
        "corrloss fetch-weights {params.url:q} {output:q} 2> >(tee {log:q} >&2)"


# Never a dependency; run only by name, because it fetches 20 GB. It has no output, which Snakemake would delete
# first: files that are there are kept, and a download that was interrupted is resumed.
rule download_coco:
    log:
        f"{OUT}/logs/download/coco.log",
    conda:
        "../../environment.yml"
    params:
        settings=command_settings,
        dataset="coco",
    shell:
        "corrloss download {params.dataset:q} {params.settings} 2> >(tee {log:q} >&2)"


use rule download_coco as download_coco_val with:
    log:
        f"{OUT}/logs/download/coco_val.log",
    params:
        settings=command_settings,
        dataset="coco_val",


use rule download_coco as download_coco_test_dev with:
    log:
        f"{OUT}/logs/download/coco_test_dev.log",
    params:
        settings=command_settings,
        dataset="coco_test_dev",

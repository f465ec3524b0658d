# What comes from the network, and only on the machine where Snakemake itself runs: compute nodes need none.
# Progress goes to the terminal, too.
localrules:
    fetch_weights,
    download_coco,
    download_coco_test_dev,


# ImageNet weights that backbones start from, before the first training. The name ends in the checksum.
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
        url=lambda wildcards: PRETRAINED[wildcards.file],
    shell:
        "corrloss fetch-weights {params.url:q} {output:q} 2> >(tee {log:q} >&2)"


# Implied by no other rule: 20 GB are fetched when somebody asks for them by name. What an earlier call fetched
# is left alone and what was cut off goes on, so there is no output for Snakemake to delete beforehand.
rule download_coco:
    log:
        f"{OUT}/logs/download/coco.log",
    conda:
        "../../environment.yml"
    params:
        dataset="coco",
        data_root=DATA_ROOT,
        root=ROOT,
    shell:
        "corrloss download {params.dataset:q} --data-root {params.data_root:q} --root {params.root:q}"
        " 2> >(tee {log:q} >&2)"


use rule download_coco as download_coco_test_dev with:
    log:
        f"{OUT}/logs/download/coco_test_dev.log",
    params:
        dataset="coco_test_dev",
        data_root=DATA_ROOT,
        root=ROOT,

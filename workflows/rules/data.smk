# The embedded data sets, and the check of every data set.
for name, data in MADE.items():

    rule:
        name:
            f"make_{name}"
        output:
            made_files(name),
        log:
            f"{OUT}/logs/make_data/{name}.log",
        benchmark:
            f"{OUT}/benchmarks/make_data/{name}.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            name=name,
            make=str(data["make"]),
            data_root=DATA_ROOT,
            root=ROOT,
        shell:
            "corrloss make-data {params.name:q} --data-root {params.data_root:q} --root {params.root:q}"
            " > {log:q} 2>&1"
            " || (tail -n 30 {log:q} >&2; exit 1)"


# Annotations from Cityscapes' raw layout, made or real.
for name, data in CONVERTED.items():
    for part, split in data["convert"].items():

        rule:
            name:
                f"convert_{name}_{part}"
            input:
                made_files(name),
            output:
                annotation_file(name, part),
            log:
                f"{OUT}/logs/convert/{name}_{part}.log",
            benchmark:
                f"{OUT}/benchmarks/convert/{name}_{part}.tsv"
            conda:
                "../../environment.yml"
            threads: 4
            resources:
                mem_mb=4000,
                runtime=60,
            params:
                folder=DATA_ROOT / data["folder"],
                split=split,
            shell:
                "corrloss convert-cityscapes {params.folder:q} {params.split:q} {output:q} --workers {threads}"
                " 2> >(tee {log:q} >&2)"


# Every training waits for the check of its data set: a broken image is found before the first GPU hour.
rule check_data:
    input:
        made_annotations,
    output:
        f"{OUT}/data/{{dataset}}.json",
    log:
        f"{OUT}/logs/check_data/{{dataset}}.log",
    benchmark:
        f"{OUT}/benchmarks/check_data/{{dataset}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        data_root=DATA_ROOT,
        root=ROOT,
    shell:
        "corrloss check-data {wildcards.dataset:q} --data-root {params.data_root:q} --root {params.root:q}"
        " --report {output:q} 2> >(tee {log:q} >&2)"

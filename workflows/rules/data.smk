# The embedded data sets, and the check of every data set.
for name, data in MATRIX.datasets.items():
    if data_files.is_made(data):

        rule:
            name:
                f"make_{name}"
            output:
                data_files.made_files(data, DATA_ROOT),
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
                settings=command_settings,
                name=name,
                make=str(data["make"]),
            shell:
                "logged {log:q} corrloss make-data {params.name:q} {params.settings}"

    # Annotations from Cityscapes' raw layout, made or real.
    for part, split in data.get("convert", {}).items():

        rule:
            name:
                f"convert_{name}_{part}"
            input:
                data_files.made_files(data, DATA_ROOT),
            output:
                data_files.annotation_file(data, part, DATA_ROOT),
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
                settings=command_settings,
                name=name,
                part=part,
                split=split,
            shell:
                "corrloss convert-cityscapes {params.name:q} {params.part:q} {params.settings} --workers {threads}"
                " 2> >(tee {log:q} >&2)"


# Every training waits for the check of its data set: a broken image is found before the first GPU hour. It
# is checked again when its fingerprints change, or when a rule here makes it again.
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
        settings=command_settings,
        fingerprints=lambda wildcards: [
            Path(path).read_text() for path in fingerprints(wildcards)
        ],
    shell:
        "corrloss check-data {wildcards.dataset:q} {params.settings} 2> >(tee {log:q} >&2)"

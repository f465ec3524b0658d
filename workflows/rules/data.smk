# The embedded data sets, samples of real ones, and the check of every data set.
for name, data in MATRIX.datasets.items():
    if data_files.is_made(data):

        rule:
            name:
                f"make_{name}"
            input:
                inputs(
                    data_files.made_mark(data, DATA_ROOT),
                    lambda wildcards, data=data: identity.generator_identity(data),
                ),
            output:
                data_files.made_files(data, DATA_ROOT),
                data_files.made_mark(data, DATA_ROOT),
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
            shell:
                "logged {log:q} corrloss make-data {params.name:q} {params.settings}"

    # A sample of COCO: chosen from the full annotation file, then fetched image by image. Local, as all that needs
    # a network. The images are no outputs: those that are there are kept.
    if data_files.is_sample(data):

        rule:
            name:
                f"fetch_{name}"
            input:
                inputs(
                    data_files.made_mark(
                        data, DATA_ROOT, data_files.sampled_part(data)
                    ),
                    lambda wildcards, data=data: identity.fetched_sample(
                        data, DATA_ROOT
                    ),
                ),
            output:
                data_files.annotation_file(
                    data, data_files.sampled_part(data), DATA_ROOT
                ),
                data_files.made_mark(data, DATA_ROOT, data_files.sampled_part(data)),
            log:
                f"{OUT}/logs/fetch/{name}.log",
            benchmark:
                f"{OUT}/benchmarks/fetch/{name}.tsv"
            localrule: True
            conda:
                "../../environment.yml"
            threads: 1
            params:
                settings=command_settings,
                name=name,
            shell:
                "corrloss fetch-sample {params.name:q} {params.settings} 2> >(tee {log:q} >&2)"

    # Annotations from Cityscapes' raw layout, made or real.
    for part in data.get("convert", {}):

        rule:
            name:
                f"convert_{name}_{part}"
            input:
                inputs(
                    data_files.made_mark(data, DATA_ROOT, part),
                    lambda wildcards, data=data: identity.generator_identity(data),
                    *data_files.made_files(data, DATA_ROOT),
                ),
            output:
                data_files.annotation_file(data, part, DATA_ROOT),
                data_files.made_mark(data, DATA_ROOT, part),
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
            shell:
                "corrloss convert-cityscapes {params.name:q} {params.part:q} {params.settings} --workers {threads}"
                " 2> >(tee {log:q} >&2)"


# Every training waits for the check of its data set: a broken image is found before the first GPU hour.
rule check_data:
    input:
        inputs(
            settings.checked("{dataset}"),
            lambda wildcards: MATRIX.check_identity(wildcards.dataset),
            lambda wildcards: data_files.annotations_by_rules(
                MATRIX.datasets.get(wildcards.dataset, {}), DATA_ROOT
            ),
        ),
    output:
        settings.checked("{dataset}"),
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
    shell:
        "corrloss check-data {wildcards.dataset:q} {params.settings} 2> >(tee {log:q} >&2)"

# What the scale costs: before anything is run from a table of seconds, then from the runs' records.
localrules:
    cost,


rule cost:
    log:
        f"{OUT}/logs/cost.log",
    conda:
        "../../environment.yml"
    params:
        settings=MATRIX_SETTINGS,
        # `--config gpus=8`: how many train side by side; as many as one run takes where it is not said
        gpus=int(config.get("gpus", 0)),
    shell:
        "corrloss cost {params.settings} --gpus {params.gpus:q} 2> {log:q}"

# What the scale costs: before anything is run from a table of seconds, then from the runs' records.
localrules:
    cost,


rule cost:
    log:
        f"{OUT}/logs/cost.log",
    conda:
        "../../environment.yml"
    params:
        settings=command_settings,
    shell:
        "logged {log:q} corrloss cost {params.settings}"

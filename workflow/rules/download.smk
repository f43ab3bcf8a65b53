# Archives of the paper's data sets: found on disk or downloaded, verified, listed in archives.json.
ARCHIVES = CONFIG.get("archives_folder") or "archives"


# Only the machine that runs the workflow may have a network.
localrules:
    download,


# Get the archives of a data set; LQF_DATA names folders where they may already be.
rule download:
    output:
        f"{ARCHIVES}/{{dataset}}/archives.json",
    log:
        f"logs/{SCALE}/download/{{dataset}}.log",
    conda:
        "../envs/plain.yaml"
    resources:
        download=1,
    params:
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python -m lqf download --name {wildcards.dataset} --output {params.folder:q}"
        " --log {log}"

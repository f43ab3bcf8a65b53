# Data sets: decoded once into one array, with fixed splits.
# Render or decode a data set and split it.
rule prepare:
    input:
        # None for a data set that is rendered.
        lambda wildcards: (
            ancient(f"{ARCHIVES}/{wildcards.dataset}/archives.json")
            if wildcards.dataset in PUBLISHED
            else []
        ),
    output:
        images=f"{DATA}/{{dataset}}/images.npy",
        index=f"{DATA}/{{dataset}}/index.csv",
        about=f"{DATA}/{{dataset}}/dataset.json",
        sheet=report(
            f"{DATA}/{{dataset}}/contact_sheet.png",
            caption="../report/contact_sheet.rst",
            category="Data sets",
            labels={"data set": "{dataset}"},
        ),
    log:
        f"logs/{SCALE}/prepare/{{dataset}}.log",
    priority: 100
    conda:
        "../envs/plain.yaml"
    # Rendering takes one core; decoding leaves some to the downloads and to the jobs that feed a GPU.
    threads:
        lambda wildcards: (
            min(8, max(1, workflow.cores // 2))
            if wildcards.dataset in {*PUBLISHED, *CONFIG["own"]}
            else 1
        )
    params:
        folder=lambda wildcards, output: Path(output.images).parent,
        archives=lambda wildcards: (
            f"--archives {shlex.quote(ARCHIVES)}/{wildcards.dataset}"
            if wildcards.dataset in PUBLISHED
            else ""
        ),
        settings=lambda wildcards: prepare_settings(wildcards.dataset),
    shell:
        "python -m lqf prepare --name {wildcards.dataset} --output {params.folder:q}"
        " {params.archives} --workers {threads} --settings {params.settings:q} --log {log}"

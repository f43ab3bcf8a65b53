# The pre-trained network, once for each activation, and once for each seed where it is trained here.
if CONFIG["backbone"]["pretrain"]:

    # Pre-train the backbone on the source task.
    rule backbone:
        input:
            **data_files(CONFIG["backbone"]["pretrain"]["dataset"]),
        output:
            weights=backbone_file("{activation}", "{seed}"),
        log:
            f"logs/{SCALE}/backbone/{{activation}}-{{seed}}.log",
        priority: 90
        conda:
            "../envs/torch.yaml"
        resources:
            gpu=1,
        params:
            data=lambda wildcards, input: Path(input.images).parent,
            settings=settings.dumps(
                {
                    key: CONFIG[key]
                    for key in ("backbone", "compute", "image_size", "scale")
                    if key in CONFIG
                }
            ),
        shell:
            "python -m lqf pretrain --activation {wildcards.activation} --seed {wildcards.seed}"
            " --data {params.data:q}"
            " --output {output.weights} --settings {params.settings:q} --log {log}"

else:

    # Get published weights; LQF_DATA names folders where they may already be.
    rule download_weights:
        output:
            f"{ARCHIVES}/{{published}}/archives.json",
        log:
            f"logs/{SCALE}/download/{{published}}.log",
        localrule: True
        conda:
            "../envs/plain.yaml"
        resources:
            download=1,
        params:
            folder=lambda wildcards, output: Path(output[0]).parent,
        shell:
            "python -m lqf download --name {wildcards.published} --output {params.folder:q}"
            " --log {log}"

    # Take the features out of published weights or a file; for `swap`, train jobs do the rest.
    rule backbone:
        input:
            lambda wildcards: weights_file(wildcards.activation),
        output:
            weights=backbone_file("{activation}", None),
        log:
            f"logs/{SCALE}/backbone/{{activation}}.log",
        priority: 90
        conda:
            "../envs/torch.yaml"
        params:
            archives=lambda wildcards, input: (
                f"--archives {shlex.quote(str(Path(input[0]).parent))}"
                if backbones.published(CONFIG["backbone"], wildcards.activation)
                else ""
            ),
            # Of wildcards alone: Snakemake does not compare what depends on the input.
            content=lambda wildcards: weights_content(wildcards.activation),
            settings=settings.dumps({"backbone": CONFIG["backbone"]}),
        shell:
            "python -m lqf backbone --activation {wildcards.activation} {params.archives}"
            " --output {output.weights} --settings {params.settings:q} --log {log}"

# The pre-trained network, once for each activation.


# Pre-train the backbone on the source task, or fetch published weights where there is none.
rule backbone:
    input:
        unpack(lambda wildcards: source_files()),
    output:
        weights=f"runs/{SCALE}/backbone/{{activation}}.safetensors",
    log:
        f"logs/{SCALE}/backbone/{{activation}}.log",
    priority: 90
    conda:
        "../../environment.yml"
    resources:
        gpu=1,
    params:
        data=lambda wildcards, input: (
            f"--data {Path(input.images).parent}" if input else ""
        ),
        settings=settings.dumps(
            {key: CONFIG[key] for key in ("backbone", "image_size", "scale")}
        ),
    shell:
        "python -m lqf pretrain --activation {wildcards.activation} {params.data}"
        " --output {output.weights} --settings {params.settings:q} --log {log}"

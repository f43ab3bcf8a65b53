# Eigenvalues of the Gauss–Newton matrix.


# Take the spectrum at w0 and again after non-linear fine-tuning.
rule spectrum:
    input:
        unpack(
            lambda wildcards: training_files(
                wildcards.dataset, IMPLIED["spectrum"], [wildcards.seed]
            )
        ),
    output:
        spectrum=f"runs/{SCALE}/spectrum/{{dataset}}/{{seed}}/spectrum.csv",
    log:
        f"logs/{SCALE}/spectrum/{{dataset}}/{{seed}}.log",
    priority: 50
    conda:
        "../envs/torch.yaml"
    resources:
        gpu=1,
    params:
        data=lambda wildcards, input: Path(input.images).parent,
        version=provenance.VERSION,
        settings=lambda wildcards: settings.job_settings(
            CONFIG, method_name=IMPLIED["spectrum"], experiment="spectrum"
        ),
    shell:
        "python -m lqf spectrum --dataset {wildcards.dataset} --seed {wildcards.seed}"
        " --data {params.data:q} --weights {input.weights} --output {output.spectrum}"
        " --settings {params.settings:q} --log {log}"

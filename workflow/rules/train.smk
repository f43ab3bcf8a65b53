# Training: one job is one data set, method and seed; its grid runs inside.


# Train a method over its grid, for the comparison, the ablation and the fine-grained tasks alike.
rule train:
    input:
        unpack(lambda wildcards: training_files(wildcards.dataset, wildcards.method)),
    output:
        metrics=f"runs/{SCALE}/train/{{dataset}}/{{method}}/{{seed}}/metrics.csv",
    log:
        f"logs/{SCALE}/train/{{dataset}}/{{method}}/{{seed}}.log",
    conda:
        "../../environment.yml"
    resources:
        gpu=1,
    params:
        data=lambda wildcards, input: Path(input.images).parent,
        settings=lambda wildcards: settings.job_settings(
            CONFIG, method_name=wildcards.method
        ),
    shell:
        "python -m lqf train --dataset {wildcards.dataset} --method {wildcards.method}"
        " --seed {wildcards.seed} --data {params.data} --weights {input.weights}"
        " --output {output.metrics} --settings {params.settings:q} --log {log}"


# Sweep the effective learning rate, draw few shots, or learn online.
rule experiment:
    input:
        unpack(lambda wildcards: training_files(wildcards.dataset, wildcards.method)),
    output:
        metrics=f"runs/{SCALE}/{{experiment}}/{{dataset}}/{{method}}/{{seed}}/metrics.csv",
    log:
        f"logs/{SCALE}/{{experiment}}/{{dataset}}/{{method}}/{{seed}}.log",
    # Longer than a train job: started before them, it does not trail behind.
    priority: 50
    conda:
        "../../environment.yml"
    resources:
        gpu=1,
    params:
        data=lambda wildcards, input: Path(input.images).parent,
        settings=lambda wildcards: settings.job_settings(
            CONFIG, method_name=wildcards.method, experiment=wildcards.experiment
        ),
    shell:
        "python -m lqf {wildcards.experiment} --dataset {wildcards.dataset}"
        " --method {wildcards.method} --seed {wildcards.seed} --data {params.data}"
        " --weights {input.weights} --output {output.metrics}"
        " --settings {params.settings:q} --log {log}"

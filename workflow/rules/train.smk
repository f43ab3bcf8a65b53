# Training: one job is one data set and method, and one seed unless `seeds_together` joins them.


# Train a method over its grid, for the comparison, the ablation and the fine-grained tasks alike.
rule train:
    input:
        unpack(job_files("train")),
    output:
        metrics=metrics_of("train"),
    log:
        log_of("train"),
    conda:
        "../envs/torch.yaml"
    resources:
        gpu=1,
    params:
        data=lambda wildcards, input: Path(input.images).parent,
        version=provenance.VERSION,
        seeds=lambda wildcards, output: seeds_of(output.metrics),
        settings=lambda wildcards: settings.job_settings(
            CONFIG, method_name=wildcards.method
        ),
    shell:
        "python -m lqf train --dataset {wildcards.dataset} --method {wildcards.method}"
        " --seed {params.seeds} --data {params.data:q} --weights {input.weights}"
        " --output {output.metrics} --settings {params.settings:q} --log {log}"


for experiment in [name for name in settings.OWN_RUNS if name in EXPERIMENTS]:

    # Sweep the effective learning rate, draw few shots, learn online, or put regularisers beside exact LQF.
    rule:
        name:
            experiment
        input:
            unpack(job_files(experiment)),
        output:
            metrics=metrics_of(experiment),
        log:
            log_of(experiment),
        # Longer than a train job: started before them, it does not trail behind.
        priority: 60 if experiment == "online" else 50
        conda:
            "../envs/torch.yaml"
        resources:
            gpu=1,
        params:
            data=lambda wildcards, input: Path(input.images).parent,
            version=provenance.VERSION,
            experiment=experiment,
            seeds=lambda wildcards, output: seeds_of(output.metrics),
            settings=lambda wildcards, experiment=experiment: settings.job_settings(
                CONFIG, method_name=wildcards.method, experiment=experiment
            ),
        shell:
            "python -m lqf {params.experiment} --dataset {wildcards.dataset}"
            " --method {wildcards.method} --seed {params.seeds} --data {params.data:q}"
            " --weights {input.weights} --output {output.metrics}"
            " --settings {params.settings:q} --log {log}"

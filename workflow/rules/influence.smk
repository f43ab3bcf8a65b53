# Which training samples matter, and what removing them does.


# Score every training sample, then remove the most and the least informative ones and retrain.
rule informativeness:
    input:
        unpack(
            lambda wildcards: training_files(
                wildcards.dataset, IMPLIED["informativeness"], [wildcards.seed]
            )
        ),
    output:
        scores=f"runs/{SCALE}/informativeness/{{dataset}}/{{seed}}/scores.csv",
        removal=f"runs/{SCALE}/informativeness/{{dataset}}/{{seed}}/removal.csv",
    log:
        f"logs/{SCALE}/informativeness/{{dataset}}/{{seed}}.log",
    priority: 50
    conda:
        "../envs/torch.yaml"
    resources:
        gpu=1,
    params:
        data=lambda wildcards, input: Path(input.images).parent,
        version=provenance.VERSION,
        settings=lambda wildcards: settings.job_settings(
            CONFIG,
            method_name=IMPLIED["informativeness"],
            experiment="informativeness",
        ),
    shell:
        "python -m lqf informativeness --dataset {wildcards.dataset} --seed {wildcards.seed}"
        " --data {params.data:q} --weights {input.weights} --output-scores {output.scores}"
        " --output-removal {output.removal} --settings {params.settings:q} --log {log}"

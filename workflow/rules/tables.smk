# From the rows of the runs to aggregated results, claims and tables.


# Aggregate an experiment: medians, means, intervals; no timings, so equal runs on one machine give equal bytes.
for experiment in EXPERIMENTS:

    rule:
        name:
            f"aggregate_{experiment}"
        input:
            runs_of(experiment),
            **shown_images(experiment),
        output:
            expand(
                "results/{scale}/{file}",
                scale=SCALE,
                file=artefacts.AGGREGATED[experiment],
            ),
        log:
            f"logs/{SCALE}/aggregate_{experiment}.log",
        localrule: True
        conda:
            "../envs/plain.yaml"
        params:
            runs=lambda wildcards: f"runs/{SCALE}",
            results=subpath(output[0], parent=True),
            settings=settings.dumps(aggregation_settings(experiment)),
        shell:
            "python -m lqf aggregate --runs {params.runs} --output {params.results}"
            " --settings {params.settings:q} --log {log}"


# Decide each claim by the rule that the configuration gives.
rule claims:
    input:
        expand(
            "results/{scale}/{file}",
            scale=SCALE,
            file=artefacts.aggregated_files(EXPERIMENTS),
        ),
    output:
        claims=report(
            f"results/{SCALE}/{artefacts.CLAIMS_FILE}",
            caption="../report/claims.rst",
            category="Claims",
            labels={"table": "claims.csv"},
        ),
    log:
        f"logs/{SCALE}/claims.log",
    conda:
        "../envs/plain.yaml"
    params:
        results=subpath(output.claims, parent=True),
        settings=settings.dumps(CONFIG["claims"]),
    shell:
        "python -m lqf claims --results {params.results} --output {output.claims}"
        " --settings {params.settings:q} --log {log}"


# Write a table as CSV, Markdown and LaTeX, the paper's numbers beside ours.
rule table:
    input:
        lambda wildcards: sources(wildcards.scale, wildcards.table),
    output:
        **{
            extension: f"figures/{{scale}}/{{table}}.{extension}"
            for extension in artefacts.EXTENSIONS["table"]
        },
    log:
        "logs/{scale}/{table}.log",
    conda:
        "../envs/plain.yaml"
    params:
        results=subpath(input[0], parent=True),
        figures=subpath(output.csv, parent=True),
    shell:
        "python -m lqf draw {wildcards.table} --results {params.results} --output {params.figures}"
        " --log {log}"


# Render a table's Markdown, for the report.
rule page:
    input:
        head=PAGE_HEAD,
        markdown="figures/{scale}/{table}.md",
    output:
        page=report(
            "figures/{scale}/{table}.html",
            caption="../report/artefact.rst",
            category="Tables",
            labels=lambda wildcards: described(wildcards.table, wildcards.scale),
        ),
    log:
        "logs/{scale}/{table}_page.log",
    conda:
        "../envs/plain.yaml"
    shell:
        "( cat {input.head:q} && python -m mistune --plugin table --file {input.markdown} )"
        " > {output.page} 2> {log}"

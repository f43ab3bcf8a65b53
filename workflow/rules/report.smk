# The report of a run, and the tour: a notebook that is executed against its results.


# One page with verdicts, tables and figures, for each scale that has results; trains nothing.
rule report:
    input:
        lambda wildcards: reports(),


# Write the page from the claims and from what was drawn.
rule report_page:
    input:
        lambda wildcards: report_inputs(wildcards.scale),
    output:
        "results/{scale}/report.html",
    log:
        "logs/{scale}/report_page.log",
    conda:
        "../envs/plain.yaml"
    params:
        results=subpath(output[0], parent=True),
    shell:
        "python -m lqf report {params.results} --output {output} --log {log}"


# Execute the notebook and keep it as one HTML file that loads nothing from elsewhere.
rule tour:
    input:
        unpack(
            lambda wildcards: training_files(
                tour_dataset(), "lqf", CONFIG["seeds"][:1]
            )
        ),
        notebook=NOTEBOOK,
        results=results_files(SCALE),
        artefacts=artefact_files(SCALE),
    output:
        page=report(
            tour_file(),
            caption="../report/tour.rst",
            category="Tour",
            labels={"notebook": "tour"},
        ),
    log:
        f"logs/{SCALE}/tour.log",
    conda:
        "../envs/torch.yaml"
    params:
        settings=lambda wildcards, input: tour_settings(input),
    shell:
        "LQF_TOUR={params.settings:q} python -m lqf.tour {input.notebook:q} {output.page}"
        " 2>&1 | tee {log}"


# The notebooks that explain the method; none needs a run.
rule notebooks:
    input:
        notebook_files(),


# Execute one of them.
rule notebook:
    input:
        lambda wildcards: NOTEBOOKS[wildcards.notebook],
    output:
        report(
            f"runs/{SCALE}/notebooks/{{notebook}}.html",
            caption="../report/notebook.rst",
            category="Tour",
            labels={"notebook": "{notebook}"},
        ),
    log:
        f"logs/{SCALE}/notebooks/{{notebook}}.log",
    conda:
        "../envs/torch.yaml"
    shell:
        "python -m lqf.tour {input:q} {output} 2>&1 | tee {log}"

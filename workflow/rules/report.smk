# The tour: a notebook that is executed against the results of this run.


# Execute the notebook and keep it as one HTML file that loads nothing from elsewhere.
rule tour:
    input:
        unpack(lambda wildcards: training_files(tour_dataset(), "lqf")),
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
        "../../environment.yml"
    params:
        settings=lambda wildcards, input: tour_settings(input),
    shell:
        "LQF_TOUR={params.settings:q} python -m lqf.tour {input.notebook} {output.page}"
        " 2>&1 | tee {log}"

# Figures, from the aggregated results alone, and what is said of them.


# Draw a figure as PDF, SVG and PNG, with the numbers that were drawn as CSV.
rule figure:
    input:
        lambda wildcards: sources(wildcards.scale, wildcards.figure),
    output:
        pdf="figures/{scale}/{figure}.pdf",
        svg="figures/{scale}/{figure}.svg",
        png=report(
            "figures/{scale}/{figure}.png",
            caption="../report/artefact.rst",
            category="Figures",
            labels=lambda wildcards: described(wildcards.figure, wildcards.scale),
        ),
        csv="figures/{scale}/{figure}.csv",
    log:
        "logs/{scale}/{figure}.log",
    conda:
        "../envs/plain.yaml"
    params:
        results=subpath(input[0], parent=True),
        figures=subpath(output.pdf, parent=True),
    shell:
        "python -m lqf draw {wildcards.figure} --results {params.results} --output {params.figures}"
        " --log {log}"


# Write the caption of a table or figure; it says what became of the claims, the picture does not.
rule caption:
    input:
        lambda wildcards: sources(wildcards.scale, wildcards.artefact),
        claims=f"results/{{scale}}/{artefacts.CLAIMS_FILE}",
    output:
        "figures/{scale}/{artefact}.rst",
    log:
        "logs/{scale}/{artefact}_caption.log",
    conda:
        "../envs/plain.yaml"
    params:
        results=subpath(input.claims, parent=True),
        figures=subpath(output[0], parent=True),
    shell:
        "python -m lqf caption {wildcards.artefact} --results {params.results}"
        " --output {params.figures} --log {log}"

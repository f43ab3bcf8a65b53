# Every table and figure of "LQF: Linear Quadratic Fine-Tuning" (arXiv 2012.11140).
#
#   snakemake --configfile config/demo.yaml     demo scale: no download, no GPU
#   snakemake figures                           redraw from the committed results; trains nothing
#   snakemake report                            one page for each scale that has results
#   snakemake                                   paper scale (config/config.yaml)
#   snakemake --profile profiles/slurm          paper scale on a SLURM cluster
#
# The targets are listed below; config/README.md describes the configuration.
from pathlib import Path

from snakemake.utils import min_version

min_version("9.5")


configfile: Path(workflow.basedir) / "config" / "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/download.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/backbone.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/influence.smk"
include: "workflow/rules/spectrum.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"


# Seconds each: run where Snakemake runs, also when the others go to a cluster.
localrules:
    all,
    backbones,
    claims,
    data,
    figure,
    figures,
    page,
    report,
    report_page,
    results,
    runs,
    table,
    tables,


report: "workflow/report/workflow.rst"


# Everything: all runs, results, tables, figures, claims and the demo's tour.
rule all:
    default_target: True
    input:
        all_runs(),
        results_files(SCALE),
        artefact_files(SCALE),
        contact_sheets(),
        tour_files(),


# Prepare the data sets.
rule data:
    input:
        contact_sheets(),


# Pre-train the backbone, once for each activation.
rule backbones:
    input:
        expand(
            "runs/{scale}/backbone/{activation}.safetensors",
            scale=SCALE,
            activation=["relu", "leaky_relu"],
        ),


# All runs, nothing aggregated.
rule runs:
    input:
        all_runs(),


# The aggregated results and the verdict on each claim.
rule results:
    input:
        results_files(SCALE),


# Redraw tables and figures of every scale that has results; plans no training.
rule figures:
    input:
        lambda wildcards: drawable(),


# Only the tables. (The rules `claims` and `tour` are targets too.)
rule tables:
    input:
        lambda wildcards: drawable("table"),

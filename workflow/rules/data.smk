# Data sets: decoded once into one array, with fixed splits.
from lqf.data import own


def prepare_settings(dataset):
    """What the stored images depend on; for own data the files themselves too."""
    wanted = {"image_size": CONFIG.get("stored_size") or CONFIG["image_size"]}
    if dataset in CONFIG["own"]:
        wanted["own"] = CONFIG["own"][dataset]
        listed = own.list_own(dataset, own.OwnData.read(wanted["own"]))
        wanted["files"] = own.fingerprint(*listed)
    return settings.dumps(wanted)


# Render or decode a data set and split it.
rule prepare:
    input:
        # None for a data set that is rendered.
        lambda wildcards: (
            ancient(f"{ARCHIVES}/{wildcards.dataset}/archives.json")
            if wildcards.dataset in PUBLISHED
            else []
        ),
    output:
        images=f"{DATA}/{{dataset}}/images.npy",
        index=f"{DATA}/{{dataset}}/index.csv",
        about=f"{DATA}/{{dataset}}/dataset.json",
        sheet=report(
            f"{DATA}/{{dataset}}/contact_sheet.png",
            caption="../report/contact_sheet.rst",
            category="Data sets",
            labels={"data set": "{dataset}"},
        ),
    log:
        f"logs/{SCALE}/prepare/{{dataset}}.log",
    priority: 100
    conda:
        "../../environment.yml"
    # Rendering takes one core.
    threads:
        lambda wildcards: (
            workflow.cores if wildcards.dataset in {*PUBLISHED, *CONFIG["own"]} else 1
        )
    params:
        folder=lambda wildcards, output: Path(output.images).parent,
        archives=lambda wildcards: (
            f"--archives {ARCHIVES}/{wildcards.dataset} --catalogue {shlex.quote(str(CATALOGUE))}"
            if wildcards.dataset in PUBLISHED
            else ""
        ),
        settings=lambda wildcards: prepare_settings(wildcards.dataset),
    shell:
        "python -m lqf prepare --name {wildcards.dataset} --output {params.folder}"
        " {params.archives} --workers {threads} --settings {params.settings:q} --log {log}"

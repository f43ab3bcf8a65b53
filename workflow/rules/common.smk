# What the rules share: the checked configuration, and the paths that follow from it.
import functools
import os
import shlex
import shutil
import sys

from snakemake.exceptions import WorkflowError

from lqf import backbones
from lqf import config as settings
from lqf import devices
from lqf import orphans
from lqf import provenance
from lqf.config_keys import IMPLIED
from lqf.config_sections import OwnKeys
from lqf.data import folder, own, published
from lqf.report import artefacts


def shipped(file):
    """A file of the workflow itself, wherever the Snakefile lies that runs it."""
    place = workflow.current_basedir.join(file)
    return Path(place if isinstance(place, os.PathLike) else workflow.source_path(file))


CATALOGUE = shipped("../../config/datasets.yaml")
DEFAULTS = shipped("../../config/config.yaml")
NOTEBOOK = shipped("../notebooks/tour.py")
# Notebooks that bring their own data: name -> file.
NOTEBOOKS = {
    name: shipped(f"../notebooks/{name}.py")
    for name in ("twenty_lines", "prior", "one_sample", "forgetting", "errata")
}
PAGE_HEAD = shipped("../report/page_head.html")
PUBLISHED = published.read(CATALOGUE).datasets

try:
    # Snakemake has read them already, but keeps the last of two equal keys and says nothing.
    settings.load(*workflow.configfiles)
    CONFIG = settings.resolve(
        settings.merge(settings.load(DEFAULTS), config), PUBLISHED
    )
except settings.ConfigError as problem:
    raise WorkflowError(str(problem)) from None

# Jobs say `python -m lqf …`: the Python that runs Snakemake, also where no environment is active. A conda
# environment has its own Python, which is shown this very package; a container has both.
DEPLOYMENT = {one.name for one in workflow.deployment_settings.deployment_method}
if "CONDA" in DEPLOYMENT:
    package = Path(".snakemake/package/lqf").absolute()
    package.parent.mkdir(parents=True, exist_ok=True)
    if not package.exists():
        package.symlink_to(Path(settings.__file__).parent)
    shell.prefix(
        f"set -euo pipefail; export PYTHONPATH={shlex.quote(str(package.parent))}; "
    )
elif "APPTAINER" in DEPLOYMENT:
    shell.prefix("set -euo pipefail; ")
else:
    python = shlex.quote(str(Path(sys.executable).parent))
    shell.prefix(f"set -euo pipefail; export PATH={python}:$PATH; ")

# Without --resources: a job for each GPU, and two downloads at a time, so that they never hold all cores.
if workflow.local_exec:
    limits = {"download": 2}
    if CONFIG["device"] in ("auto", "cuda"):
        limits["gpu"] = len(devices.visible(os.environ, devices.present()))
    for name, limit in limits.items():
        if limit and name not in workflow.global_resources:
            workflow.global_resources[name] = limit

# These are no parameters of a job, which would run again for a change of them.
if "APPTAINER" not in DEPLOYMENT:
    # A container may not see the process.
    os.environ[orphans.PARENT] = str(os.getpid())
os.environ.update(LQF_CATALOGUE=str(CATALOGUE))
os.environ.setdefault("LQF_DEVICE", CONFIG["device"])
os.environ.setdefault("LQF_CHECKPOINT_SECONDS", str(CONFIG["checkpoint_seconds"]))

SCALE = CONFIG["scale"]
EXPERIMENTS = CONFIG["experiments"]
DATA = f"{CONFIG['data_folder'] or 'data'}/{SCALE}"
if problems := [
    one for name in CONFIG["datasets"] for one in folder.problems(Path(DATA) / name)
]:
    raise WorkflowError("\n".join(problems))


wildcard_constraints:
    artefact="|".join(artefacts.ARTEFACTS),
    activation="relu|leaky_relu",
    dataset="[a-z0-9_]+",
    figure="|".join(
        name for name, one in artefacts.ARTEFACTS.items() if one.kind == "figure"
    ),
    method="[a-z0-9_]+",
    notebook="[a-z_]+",
    published=r"[a-z0-9_]+\.[a-z0-9_]+",
    scale="[a-z][a-z0-9_]*",
    seed=r"\d+",
    table="|".join(
        name for name, one in artefacts.ARTEFACTS.items() if one.kind == "table"
    ),


def prepare_settings(dataset):
    """What the stored images depend on; for own data the files themselves too."""
    wanted = {"image_size": CONFIG.get("stored_size") or CONFIG["image_size"]}
    if dataset in CONFIG["own"]:
        wanted["own"] = CONFIG["own"][dataset]
        listed = own.list_own(dataset, OwnKeys(**wanted["own"]))
        wanted["files"] = own.fingerprint(*listed)
    return settings.dumps(wanted)


def read_by_jobs(files):
    """What jobs read: of any age in a clone, which holds results and none of the runs that they came from.

    Elsewhere it is not `ancient`: where the job that makes such a file has to run again, Snakemake 9 leaves out
    the jobs that read it, even those whose output is missing.
    """
    return [ancient(file) for file in files] if cloned() else list(files)


@functools.cache
def cloned():
    """Whether there are claims, and no run."""
    claims = Path(f"results/{SCALE}/{artefacts.CLAIMS_FILE}")
    return claims.exists() and not any(Path(file).exists() for file in all_runs())


def data_files(dataset):
    """What a job reads of a data set."""
    files = (f"{DATA}/{dataset}/images.npy", f"{DATA}/{dataset}/index.csv")
    return dict(zip(("images", "index"), read_by_jobs(files)))


def backbone_file(activation, seed):
    """The pre-trained network: published weights are the same for every seed."""
    own = f"{seed}/" if CONFIG["backbone"]["pretrain"] else ""
    return f"runs/{SCALE}/backbone/{own}{activation}.safetensors"


def training_files(dataset, method, seeds):
    """Data and backbones of a job that trains a method on a data set."""
    activation = settings.points(CONFIG)[method].activation
    weights = dict.fromkeys(backbone_file(activation, seed) for seed in seeds)
    return {**data_files(dataset), "weights": read_by_jobs(weights)}


def job_files(kind):
    """Input of a job that trains a method on a data set, with one seed or all of them."""
    seeds = seeds_for(kind)
    return lambda wildcards: training_files(
        wildcards.dataset,
        wildcards.method,
        seeds if CONFIG["seeds_together"] else [wildcards.seed],
    )


def weights_file(activation):
    """What the backbone is made from: downloaded weights, or a file of the user; its age does not matter."""
    name = backbones.published(CONFIG["backbone"], activation)
    if name is None:
        return ancient(backbones.source(CONFIG["backbone"], activation))
    return ancient(f"{ARCHIVES}/{name}/archives.json")


@functools.cache
def weights_content(activation):
    """A hash of the user's file of weights; None for published ones, which are what the catalogue says."""
    if backbones.published(CONFIG["backbone"], activation):
        return None
    return provenance.digest(Path(backbones.source(CONFIG["backbone"], activation)))


def seeds_for(kind):
    """Seeds of a kind of job: of one experiment, or of all that share the train jobs."""
    names = settings.SWEEPS if kind == "train" else [kind]
    found = {
        seed
        for name in names
        if name in EXPERIMENTS
        for seed in EXPERIMENTS[name]["seeds"]
    }
    return sorted(found)


def metrics_of(kind):
    """What a job writes: metrics of one seed, or of every seed where one job runs them all."""
    seeds = seeds_for(kind) if CONFIG["seeds_together"] else ["{seed}"]
    folder = f"runs/{SCALE}/{kind}/{{dataset}}/{{method}}"
    return [f"{folder}/{seed}/metrics.csv" for seed in seeds]


def log_of(kind):
    """Where a job logs."""
    name = "{method}" if CONFIG["seeds_together"] else "{method}/{seed}"
    return f"logs/{SCALE}/{kind}/{{dataset}}/{name}.log"


def seeds_of(metrics):
    """Seeds of a job, in the order of its outputs."""
    return [Path(file).parent.name for file in metrics]


def method_runs(kind, section):
    """Metrics of the jobs of a kind that train the methods of a section on its data sets."""
    return [
        f"runs/{SCALE}/{kind}/{dataset}/{method}/{seed}/metrics.csv"
        for dataset, method, seed in settings.runs(
            {"experiments": {kind: section}}, [kind]
        )
    ]


def single_runs(experiment, *files):
    """Files of the jobs of an experiment on one data set, a job for each seed."""
    section = EXPERIMENTS[experiment]
    return [
        f"runs/{SCALE}/{experiment}/{section['dataset']}/{seed}/{file}"
        for seed in section["seeds"]
        for file in files
    ]


def runs_of(experiment):
    """All files that the aggregation of an experiment reads."""
    section = EXPERIMENTS[experiment]
    if experiment in settings.SWEEPS:
        return method_runs("train", section)
    if experiment in settings.OWN_RUNS:
        return method_runs(experiment, section)
    if experiment == "leave_one_out":
        read = section["rows_of"].items()
        return [file for kind, other in read for file in method_runs(kind, other)]
    if experiment == "spectrum":
        return single_runs("spectrum", "spectrum.csv")
    return single_runs("informativeness", "scores.csv", "removal.csv")


def all_seeds():
    """Seeds of all experiments, and that of the notebook."""
    found = {seed for section in EXPERIMENTS.values() for seed in section["seeds"]}
    return sorted(found | {CONFIG["seeds"][0]})


def all_runs():
    """Every file that a training job writes."""
    return sorted({file for experiment in EXPERIMENTS for file in runs_of(experiment)})


def contact_sheets():
    """A picture of each data set, the source task included."""
    pretrain = CONFIG["backbone"]["pretrain"]
    names = {*CONFIG["datasets"], *([pretrain["dataset"]] if pretrain else [])}
    return [f"{DATA}/{name}/contact_sheet.png" for name in sorted(names)]


def results_files(scale):
    """Aggregated files of the configured experiments, and the claims."""
    names = [*artefacts.aggregated_files(EXPERIMENTS), artefacts.CLAIMS_FILE]
    return [f"results/{scale}/{name}" for name in names]


def artefact_files(scale, kind=None, experiments=None):
    """Tables and figures of some experiments, by default of the configured ones."""
    chosen = artefacts.select(EXPERIMENTS if experiments is None else experiments, kind)
    pages = [
        f"figures/{scale}/{one.name}.html" for one in chosen if one.kind == "table"
    ]
    return pages + [
        f"figures/{scale}/{name}" for one in chosen for name in one.outputs()
    ]


def result_folders():
    """Folders results/SCALE that hold claims."""
    found = Path("results").glob(f"*/{artefacts.CLAIMS_FILE}")
    return sorted(file.parent for file in found)


def drawable(kind=None):
    """Tables and figures of every scale whose results are there, whatever is configured."""
    found = []
    for folder in result_folders():
        scale = folder.name
        found += artefact_files(scale, kind, present_experiments(scale))
    if not found:
        raise WorkflowError(
            "There is nothing to draw: no folder results/SCALE holds aggregated results; "
            "run the workflow first, for example with --configfile config/demo.yaml."
        )
    return found


def shown_images(experiment):
    """Images that the aggregation of an experiment copies, so that a figure can show them."""
    if experiment != "informativeness":
        return {}
    return {"shown": ancient(f"{DATA}/{EXPERIMENTS[experiment]['dataset']}/images.npy")}


def aggregation_settings(experiment):
    """What an aggregation depends on besides the rows of the runs."""
    return {"data": DATA, "experiments": {experiment: EXPERIMENTS[experiment]}}


def tour_file():
    """The executed notebook."""
    return f"runs/{SCALE}/tour.html"


def tour_files():
    """The notebooks, where they take seconds: on the backbone that is pre-trained here."""
    return [tour_file(), *notebook_files()] if CONFIG["backbone"]["pretrain"] else []


def notebook_files():
    """The notebooks that explain the method, executed."""
    return [f"runs/{SCALE}/notebooks/{name}.html" for name in NOTEBOOKS]


def tour_dataset():
    """The data set that the notebook trains on: the demo's one real task, if it is there."""
    return "digits" if "digits" in CONFIG["datasets"] else CONFIG["datasets"][0]


def tour_settings(files):
    """What the notebook is told."""
    backbone = {key: CONFIG["backbone"][key] for key in ("network", "slope")}
    return settings.dumps(
        {
            "scale": SCALE,
            "data": str(Path(files.images).parent),
            "weights": str(files.weights),
            "backbone": backbone,
            "per_class": CONFIG["train_per_class"],
        }
    )


def sources(scale, name):
    """Aggregated files that a table or figure is made from."""
    return [f"results/{scale}/{file}" for file in artefacts.ARTEFACTS[name].sources]


def described(name, scale):
    """How the report lists a table or figure."""
    artefact = artefacts.ARTEFACTS[name]
    return {"artefact": artefact.label, "shows": artefact.title, "scale": scale}


def present_experiments(scale):
    """Experiments of a scale whose aggregated results are all there."""
    return [
        name
        for name in artefacts.AGGREGATED
        if all(
            Path("results", scale, file).exists() for file in artefacts.AGGREGATED[name]
        )
    ]


def report_inputs(scale):
    """What the report of a scale shows: its claims, and every table and figure that can be drawn."""
    drawn = artefact_files(scale, experiments=present_experiments(scale))
    return [f"results/{scale}/{artefacts.CLAIMS_FILE}", *drawn]


def reports():
    """The report of every scale that has results."""
    return [f"{folder}/report.html" for folder in result_folders()]


def a_job_failed(logs):
    """Whether a rule's own command failed, by Snakemake's log, or its logs, as newer ones give it."""
    files = [logs] if isinstance(logs, str) else logs
    said = "".join(Path(file).read_text("utf-8") for file in files)
    return "RuleException" in said or "Error in rule" in said


def partial_command():
    """Aggregate and draw the runs that are there."""
    wanted = {"data": DATA, "experiments": EXPERIMENTS, "claims": CONFIG["claims"]}
    return (
        f"python -m lqf partial --runs runs/{SCALE} --results results/{SCALE}_partial"
        f" --figures figures/{SCALE}_partial --log logs/{SCALE}/partial.log"
        f" --settings {shlex.quote(settings.dumps(wanted)).replace('{', '{{').replace('}', '}}')}"
        f" && python -m lqf report results/{SCALE}_partial"
        f" --output results/{SCALE}_partial/report.html"
    )


def forget_partial():
    """Remove what an earlier run left partial, once every run is there."""
    if all(Path(file).exists() for file in results_files(SCALE)):
        for folder in ("results", "figures"):
            shutil.rmtree(f"{folder}/{SCALE}_partial", ignore_errors=True)

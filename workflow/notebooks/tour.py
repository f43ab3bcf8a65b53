# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A tour of linear quadratic fine-tuning
#
# This notebook is executed by the workflow (`snakemake tour`) against the results of the run it belongs to, from the
# folder the workflow runs in. First it shows what LQF is, on images of this run; then every table and figure, with the
# verdict on the paper's claims and the code that made it.

# %%
import base64
import inspect
import io
import json
import os
import time
from pathlib import Path

import pandas as pd
import torch
from IPython.display import HTML, Code, Image, Markdown, display
from PIL import Image as Picture

from lqf import LQF
from lqf.data.packed import PackedDataset
from lqf.networks import build, fold_batch_norm
from lqf.networks.weights import read_state
from lqf.report import artefacts, tables
from lqf.report.figures import FIGURES

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

# The workflow says what to show; by hand it is the demo scale's digits.
tour = {
    "scale": "demo",
    "data": "data/demo/digits",
    "weights": "runs/demo/backbone/0/leaky_relu.safetensors",
    "backbone": {"network": "demo_resnet", "slope": 0.1},
    "per_class": 16,
    **json.loads(os.environ.get("LQF_TOUR", "{}")),
}
results, figures = Path("results", tour["scale"]), Path("figures", tour["scale"])
claims = pd.read_csv(results / artefacts.CLAIMS_FILE).set_index("id")

# %% [markdown]
# ## LQF in twenty lines
#
# Fine-tuning moves the weights of a pre-trained network from w0 to w0 + δ. LQF trains its first-order expansion
#
# > f(x) = f0(x) + J(x) δ
#
# instead, with the squared loss Σᵢ ‖αyᵢ − f(xᵢ)‖² + μ δᵀMδ. This is a ridge regression whose features are the network's
# gradients J: it has one solution, needs no learning rate, and says exactly what each training image contributes.
#
# Why M? The paper's SGD is preconditioned by curvature, and where it stops depends on that. From δ = 0 a preconditioner P makes
# descent move in the metric P⁻¹. Stopping early is, to first order, a ridge in that metric, so the preconditioner is a prior. Here
# it is written into the ridge: M is the curvature at w0 plus ε, estimated from images and never from labels. ε, μ and the weight of
# the head are chosen by leave-one-out.

# %%
data = PackedDataset.load(tour["data"])
train = data.tensors(data.subset("train", per_class=tour["per_class"]))
validation = data.tensors(data.split_of("val"))
test = data.tensors(data.split_of("test"))

network = build(
    tour["backbone"]["network"],
    len(data.classes),
    activation="leaky_relu",
    slope=tour["backbone"]["slope"],
    seed=0,
)
network.features.load_state_dict(read_state(Path(tour["weights"])))
network = fold_batch_norm(network.eval())

model = LQF(network, len(data.classes), head="keep", activation=None).fit(train)
loo = model.leave_one_out()

print(f"{data.name}: {len(train[1])} training images, {len(data.classes)} classes")
print(
    f"chosen by leave-one-out:      μ {model.mu_:.3g}, ε {model.epsilon_:.3g}, head × {model.head_scale_:g}"
)
print(f"leave-one-out error:          {loo.error:.1f} %  (no validation set)")
print(f"test error:                   {100 - 100 * model.score(*test):.1f} %")
print(f"certificate:                  {model.certificate_}")

# %% [markdown]
# ### What a training image is worth
#
# F-SI (LQF eq. 9) is how much the outputs on other images change when a training image is left out, squared and averaged.

# %%
information = model.informativeness(validation)
order = information.argsort(descending=True)


def strip(positions: torch.Tensor) -> HTML:
    """Returns training images side by side, enlarged."""
    pixels = (train[0][positions] * 0.25 + 0.5).clamp(0, 1).mul(255).byte()
    sheet = torch.cat([one.permute(1, 2, 0) for one in pixels], dim=1).numpy()
    buffer = io.BytesIO()
    Picture.fromarray(sheet).resize((sheet.shape[1] * 2, sheet.shape[0] * 2)).save(buffer, "PNG")
    picture = base64.b64encode(buffer.getvalue()).decode()
    return HTML(f'<img alt="training images" src="data:image/png;base64,{picture}">')


display(Markdown("Most informative:"), strip(order[:12]))
display(Markdown("Least informative:"), strip(order[-12:]))

# %% [markdown]
# ### Forgetting, exactly
#
# The model without some images is computed from this one. It is the model that training without them would have found:
# its outputs agree with those of a new fit at the same μ and metric.

# %%
forgotten = order[:5]
stay = torch.ones(len(train[1]), dtype=torch.bool)
stay[forgotten] = False

started = time.perf_counter()
without = model.forget(forgotten)
seconds_forget = time.perf_counter() - started

started = time.perf_counter()
retrained = model.refit(train[0][stay], train[1][stay])
seconds_retrain = time.perf_counter() - started

gap = without.decision_function(test[0]) - retrained.decision_function(test[0])
scale = retrained.decision_function(test[0]).norm()
print(f"forget: {seconds_forget:.2f} s, train again: {seconds_retrain:.2f} s")
print(f"relative difference of the test outputs: {float(gap.norm() / scale):.1e}")


# %% [markdown]
# ## The tables and figures
#
# Each is drawn from the aggregated CSVs in `results/` alone. Below it are the claims it speaks to, decided by the rules in
# the configuration, and the code that drew it.


# %%
def show(name: str) -> None:
    """A table or figure, its claims, and its code."""
    artefact = artefacts.ARTEFACTS[name]
    display(Markdown(f"### {artefact.label}: {artefact.title}"))
    if artefact.kind == "figure" and (figures / f"{name}.png").exists():
        display(Image(figures / f"{name}.png", width=720, alt=artefact.title))
    elif artefact.kind == "table" and (figures / f"{name}.md").exists():
        display(Markdown((figures / f"{name}.md").read_text("utf-8")))
    else:
        display(Markdown("Its experiment is not part of this run."))
        return
    spoken = claims.loc[[one for one in artefact.claims if one in claims.index]]
    columns = ["statement", "value", "low", "high", "n", "verdict"]
    display(spoken[columns].reset_index(drop=True).style.format(precision=3).hide(axis="index"))
    drew = FIGURES[name] if artefact.kind == "figure" else (tables,)
    code = Code("\n\n".join(map(inspect.getsource, drew)), language="python")._repr_html_()
    command = f"python -m lqf draw {name} --results {results} --output {figures}"
    display(HTML(f"<details><summary><code>{command}</code></summary>{code}</details>"))


# %% [markdown]
# The comparison: non-linear fine-tuning, LQF, and the linear methods that came before it.

# %%
show("table1")

# %%
show("figure1_left")

# %% [markdown]
# How much the best learning rate varies from task to task. LQF solved exactly has none.

# %%
show("figure1_right")

# %% [markdown]
# What each of LQF's ingredients is worth: the squared loss, K-FAC, leaky ReLU; one by one and in pairs.

# %%
show("figure2")

# %% [markdown]
# The conditioning of the problem at the pre-trained weights and after non-linear fine-tuning.

# %%
show("figure3")

# %% [markdown]
# Few images a class.

# %%
show("figure4")

# %% [markdown]
# A task that arrives step by step: a linear model trained on from its last solution ends where training from scratch ends.

# %%
show("figure5")

# %% [markdown]
# Which training images matter, and what removing them costs.

# %%
show("figure6")

# %% [markdown]
# Fine-grained tasks, where covariance pooling helps.

# %%
show("table2")

# %% [markdown]
# ## The verdict

# %%
verdicts = claims.groupby("verdict").size().rename("claims").to_frame()
display(verdicts)
display(claims[["source", "statement", "verdict"]].style.hide(axis="index"))

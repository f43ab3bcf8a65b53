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
# # Forgetting, verified against refitting
#
# `forget` computes the optimum without some images from the optimum with them. Whether nothing of them stays is checked against a
# fit that has never seen them, at the same ridge constant.

# %%
import time

import torch

from lqf import LQF
from lqf.app.example import make_example

network, task = make_example()
model = LQF(network, classes=5).fit(task.images, task.labels)
test = task.test[0]

started = time.perf_counter()
without = model.forget(task.planted)
seconds_forget = time.perf_counter() - started

stay = torch.ones(len(task.labels), dtype=torch.bool)
stay[task.planted] = False
started = time.perf_counter()
refit = model.refit(task.images[stay], task.labels[stay])
seconds_refit = time.perf_counter() - started


def gap(one: LQF, other: LQF) -> float:
    """Relative difference of the test outputs."""
    theirs = other.decision_function(test)
    return float((one.decision_function(test) - theirs).norm() / theirs.norm())


print(f"forget {seconds_forget:.3f} s, refit {seconds_refit:.3f} s")
print(f"before forgetting, from the refit: {gap(model, refit):.1e}")
print(f"after forgetting, from the refit:  {gap(without, refit):.1e}")
print(f"residual of the forgotten model:   {without.certificate_.residual:.1e}")

# %% [markdown]
# The images were five with wrong labels; without them the test error falls.

# %%
for title, one in (("with", model), ("without", without), ("refitted", refit)):
    print(f"{title:>9}: test error {100 - 100 * one.score(*task.test):.1f} %")

# %% [markdown]
# What stays: the ridge constant was chosen with the images present, and so was the metric where it is estimated from images. The
# receipt of `lqf forget` says so.
#
# The other way round, `extend` adds samples:

# %%
back = without.extend(task.images[task.planted], task.labels[task.planted])
print(f"forgotten and added again, from the first model: {gap(back, model):.1e}")

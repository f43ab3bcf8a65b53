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
# # LQF in twenty lines
#
# A small network has learned the handwritten digits 0 to 4. It is fine-tuned to 5 to 9 with twenty images of each, five of whose
# labels are wrong. For your own images: `network` is any torch classifier, `images` N × 3 × H × W, `labels` N.

# %%
from lqf import LQF
from lqf.app.example import make_example

network, task = make_example()
model = LQF(network, classes=5).fit(task.images, task.labels)

print("certificate:         ", model.certificate_)
print(f"μ by leave-one-out:   {model.mu_:.3g}")
print(f"leave-one-out error:  {model.leave_one_out().error:.1f} %")
print(f"test error:           {100 - 100 * model.score(*task.test):.1f} %")

# %% [markdown]
# One solution, no learning rate, no validation set. Probabilities are calibrated by one temperature:

# %%
images, labels = task.test
chances = model.predict_proba(images)
print(f"temperature {model.temperature_:.2f}, mean confidence {chances.max(1).values.mean():.3f}")
print(f"accuracy {(chances.argmax(1) == labels).double().mean():.3f}")

# %% [markdown]
# What the training set says least about, by the variance of the outputs:

# %%
variance = model.predictive_covariance(images[:200]).diagonal(dim1=1, dim2=2).mean(1)
right = chances[:200].argmax(1) == labels[:200]
print(
    f"mean variance where right {variance[right].mean():.4f}, where wrong {variance[~right].mean():.4f}"
)

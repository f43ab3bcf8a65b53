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
# # What one sample is worth
#
# Leave-one-out says what the model would predict for a training image had it not seen it. Nothing is retrained for that; here it
# is held against really retraining.

# %%
import torch

from lqf import LQF
from lqf.app.example import make_example

network, task = make_example()
model = LQF(network, classes=5).fit(task.images, task.labels)
loo = model.leave_one_out()

for i in (0, int(task.planted[0]), 50):
    stay = torch.arange(len(task.labels)) != i
    outputs = model.refit(task.images[stay], task.labels[stay]).decision_function(task.images[[i]])[
        0
    ]
    gap = (outputs - loo.outputs[i]).norm() / outputs.norm()
    print(f"image {i}: relative difference to retraining without it {float(gap):.1e}")

# %% [markdown]
# ## Wrong labels
#
# Five labels were planted. Sorted by the leave-one-out probability of their label, they stand at the top.

# %%
chances = (loo.outputs / model.temperature_).softmax(1)
given = chances[torch.arange(len(task.labels)), task.labels]
order = given.argsort().tolist()
print("planted:              ", task.planted.tolist())
print("least probable labels:", sorted(order[:10]))
print(
    "found among the ten:  ",
    len(set(order[:10]) & set(task.planted.tolist())),
    "of",
    len(task.planted),
)

# %% [markdown]
# ## Influence
#
# For one test image, what each training image adds to the output of the predicted class.

# %%
image = task.test[0][:1]
digit = int(model.predict(image))
owed = model.influence(image)[0, :, digit]
for title, places in (("for", owed.argsort(descending=True)[:5]), ("against", owed.argsort()[:5])):
    told = [f"{owed[i]:+.2f} ({task.labels[i] + 5})" for i in places.tolist()]
    print(f"{title} the digit {digit + 5}: {', '.join(told)}")

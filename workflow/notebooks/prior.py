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
# # The preconditioner is a prior
#
# LQF's SGD is preconditioned by curvature. On a quadratic problem a preconditioner should change the speed and not the solution. Yet
# SGD stops early, and where it stops depends on the preconditioner: descent from δ = 0 with P = M⁻¹ moves in the metric M, and
# stopping it early acts as the ridge μ δᵀMδ does. This notebook shows it on gradients of a small network, computed whole.

# %%
import torch
from torch.func import functional_call, jacrev, vmap

from lqf.app.example import make_example

network, task = make_example()
parameters = {name: p.detach() for name, p in network.named_parameters()}


def jacobian(images: torch.Tensor) -> torch.Tensor:
    """J of every image, N · C × P."""
    parts = vmap(jacrev(lambda w, x: functional_call(network, w, x[None])[0]), (None, 0))(
        parameters, images
    )
    return torch.cat([part.flatten(2) for part in parts.values()], 2).flatten(0, 1).double()


stay = torch.ones(len(task.labels), dtype=torch.bool)
stay[task.planted] = False
images, labels = task.images[stay], task.labels[stay]
held, truth = task.test[0][:150], task.test[1][:150]
J, J_held = jacobian(images), jacobian(held)
with torch.no_grad():
    base, base_held = network(images).double(), network(held).double()
R = (15 * torch.nn.functional.one_hot(labels, 5) - base).flatten()


def error(change: torch.Tensor) -> float:
    """Test error in % of a change of the outputs."""
    return 100 * float(((base_held + change.view(-1, 5)).argmax(1) != truth).double().mean())


print(f"{len(labels)} training images, {J.shape[1]} parameters")

# %% [markdown]
# ## Two metrics
#
# M = I is the paper's penalty; M = diag(F) + ε the curvature's, here its diagonal.

# %%
curvature = J.square().sum(0) / len(labels)
metrics = {
    "M = I": torch.ones_like(curvature),
    "M = diag(F) + ε": curvature + 1e-3 * curvature.mean(),
}


def ridge(M: torch.Tensor, mu: float) -> torch.Tensor:
    """Change of the test outputs at the optimum with penalty μ δᵀMδ."""
    scaled = J / M
    K = scaled @ J.T
    mean = K.diagonal().mean()
    a = torch.linalg.solve(K + mu * mean * torch.eye(len(K), dtype=K.dtype), R)
    return (J_held / M) @ (J.T @ a)


for name, M in metrics.items():
    found = [f"{error(ridge(M, mu)):.1f}" for mu in (1e-4, 1e-2, 1.0)]
    print(f"{name:>16}: test error at μ = 1e-4, 1e-2, 1 of the kernel's mean: {', '.join(found)} %")

# %% [markdown]
# ## Early stopping in a metric is the ridge in that metric
#
# Gradient descent preconditioned by M⁻¹, stopped after t steps, beside the ridge with μ = 1/(rate · t): in the metric it moves in, the
# outputs nearly agree; in the other one they do not.


# %%
def descend(M: torch.Tensor, steps: int) -> tuple[torch.Tensor, float]:
    """Change of the test outputs after some steps, and the rate as a part of the kernel's mean."""
    K = (J / M) @ J.T
    rate = 1 / float(torch.linalg.eigvalsh(K)[-1])
    a = torch.zeros_like(R)
    for _ in range(steps):
        a += rate * (R - K @ a)
    return (J_held / M) @ (J.T @ a), 1 / (rate * steps * float(K.diagonal().mean()))


for name, M in metrics.items():
    stopped, mu = descend(M, 200)
    for other, N in metrics.items():
        gap = (stopped - ridge(N, mu)).norm() / stopped.norm()
        print(f"stopped descent with {name:>16}, from the ridge with {other:>16}: {float(gap):.2f}")

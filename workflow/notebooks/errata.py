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
# # The paper's errata, by numbers
#
# The method is sound; some of its printed formulas are not. Each is held against really refitting, on a small problem with one
# output: N samples, gradients gᵢ, F = Σ gᵢgᵢᵀ/N, the objective ½ mean eᵢ² + ½ λ‖δ‖² with residuals yᵢ − f(xᵢ), and λ kept when a sample
# is removed.

# %%
import numpy as np

rng = np.random.default_rng(0)
N, P, lam = 60, 20, 0.1
G = rng.normal(size=(N, P))
y = G @ rng.normal(size=P) + rng.normal(size=N)


def fit(stay: np.ndarray, mu: float) -> np.ndarray:
    """The minimiser of Σ (y − Gδ)² + μ‖δ‖² over some samples."""
    A = G[stay].T @ G[stay] + mu * np.eye(P)
    return np.linalg.solve(A, G[stay].T @ y[stay])


everything = np.ones(N, dtype=bool)
mu = N * lam
delta = fit(everything, mu)
i = 7
without = everything.copy()
without[i] = False
retrained = fit(without, mu)

# %% [markdown]
# ## Equation 7: the sign, and the residual
#
# Printed: w₋ᵢ = w* + (F₋ᵢ + λI)⁻¹ gᵢ. With F₋ᵢ = Σ_{j≠i} gⱼgⱼᵀ/N and eᵢ = (yᵢ − f(xᵢ))/N it holds with a minus and the residual.

# %%
F_without = G[without].T @ G[without] / N
step = np.linalg.solve(F_without + lam * np.eye(P), G[i]) * (y[i] - G[i] @ delta) / N
truth = retrained - delta
print(f"with a minus: relative error {np.linalg.norm(-step - truth) / np.linalg.norm(truth):.1e}")
print(f"with a plus:  relative error {np.linalg.norm(step - truth) / np.linalg.norm(truth):.1e}")

# %% [markdown]
# ## Equation 8: the factor goes the wrong way
#
# The change of the outputs when i is removed is eᵢ gₜᵀ(F + λI)⁻¹gᵢ times 1/(1 − αᵢ/N), which amplifies. The printed factor,
# (N − 1)/(N − 1 + αᵢ), shrinks: it is that of adding a sample.

# %%
inverse = np.linalg.inv(G.T @ G / N + lam * np.eye(P))
errors: dict[str, list[float]] = {"1/(1 − α/N)": [], "as printed": []}
for i in range(N):
    without = everything.copy()
    without[i] = False
    truth = G @ (delta - fit(without, mu))
    change = G @ inverse @ G[i] * (y[i] - G[i] @ delta) / N
    leverage = G[i] @ inverse @ G[i]
    factors = {"1/(1 − α/N)": 1 / (1 - leverage / N), "as printed": (N - 1) / (N - 1 + leverage)}
    for name, factor in factors.items():
        errors[name].append(float(np.linalg.norm(factor * change - truth) / np.linalg.norm(truth)))
for name, found in errors.items():
    print(f"{name:>12}: median relative error {np.median(found):.1e}")

# %% [markdown]
# ## Figure 1's caption, and Table 2's column
#
# The medians in the caption are plain medians over the ten data sets of Table 1. Table 2's column "GaF" repeats Table 1's FC.

# %%
from lqf.report import paper

table = {name: dict(row) for name, row in paper.TABLE1.items()}
for method, printed in paper.MEDIANS.items():
    rises = [100 * (row[method] - row["nlft"]) / row["nlft"] for row in table.values()]
    print(f"{method:>7}: median {np.median(rises):.1f} %, in the caption {printed:.0f} %")
print(paper.TABLE2_NOTE)

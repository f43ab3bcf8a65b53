"""A method is six choices; the paper's methods are named points in that space.

Nothing in the code asks "is this LQF?": it asks which parameters are trained, with which loss,
activation, optimizer, pooling and regulariser.  A combination without meaning is refused when it is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

from lqf.nearest import nearest

NONLINEAR = ("sgd", "adamw", "lp_ft")


class ImpossibleMethod(ValueError):
    """Two of the choices contradict each other, or one is not a choice at all."""


@dataclass(frozen=True)
class Method:
    """One point in the space of fine-tuning methods.

    Raises:
        ImpossibleMethod: if a value is unknown or two choices exclude each other.
    """

    __pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}  # noqa: RUF012

    trained: Literal["all", "linearized", "head"]
    """``all`` (the network itself), ``linearized`` (all parameters of the first-order expansion at w0,
    LQF eq. 1) or ``head`` (the last layer only)."""
    loss: Literal["cross_entropy", "mse"]
    """``cross_entropy`` or ``mse`` (squared error on targets times α, LQF eq. 3)."""
    activation: Literal["relu", "leaky_relu"]
    """Activation of the pre-trained network."""
    optimizer: Literal["sgd", "adamw", "lp_ft", "kfac_sgd", "exact", "euclidean"]
    """``sgd``; for all weights also ``adamw`` and ``lp_ft`` (the head alone to its optimum, then everything:
    Kumar et al. 2022); ``kfac_sgd`` (Kronecker-preconditioned), ``exact`` (the optimum whose prior is the
    curvature metric) or ``euclidean`` (that of LQF eq. 3)."""
    pooling: Literal["average", "covariance"] = "average"
    """``average`` or ``covariance`` (matrix square root of the covariance, LQF §4.2)."""
    regularizer: Literal["none", "l2_sp", "ps_kd", "elr"] = "none"
    """``none``, or for SGD on all weights ``l2_sp`` (decay towards the pre-trained weights: Li et al. 2018),
    and with cross-entropy ``ps_kd`` (targets softened by the last epoch's predictions: Kim et al. 2021)
    and ``elr`` (early-learning regularization: Liu et al. 2020)."""

    def __post_init__(self) -> None:
        for key, choices in get_type_hints(Method).items():
            value, allowed = getattr(self, key), get_args(choices)
            if value not in allowed:
                raise ImpossibleMethod(
                    f"method key {key!r} is {value!r}; allowed are {', '.join(allowed)}."
                )
        if self.exact and self.loss != "mse":
            raise ImpossibleMethod(
                f"method keys 'optimizer' ({self.optimizer}) and 'loss' ({self.loss}) exclude each "
                "other: a linear solver needs the squared loss; set loss to mse, or optimizer to "
                "sgd or kfac_sgd."
            )
        if self.trained != "all" and self.optimizer in NONLINEAR[1:]:
            raise ImpossibleMethod(
                f"method keys 'trained' ({self.trained}) and 'optimizer' ({self.optimizer}) exclude each "
                "other: the optimizer is for training all weights; set trained to all, or optimizer to "
                "sgd."
            )
        if self.regularizer != "none" and (self.trained, self.optimizer) != ("all", "sgd"):
            raise ImpossibleMethod(
                f"method keys 'regularizer' ({self.regularizer}), 'trained' ({self.trained}) and 'optimizer' "
                f"({self.optimizer}) exclude each other: the regularisers are those of training all weights by "
                "SGD; set trained to all and optimizer to sgd, or regularizer to none."
            )
        if self.regularizer in ("ps_kd", "elr") and self.loss != "cross_entropy":
            raise ImpossibleMethod(
                f"method keys 'regularizer' ({self.regularizer}) and 'loss' ({self.loss}) exclude each other: "
                "the regulariser needs probabilities; set loss to cross_entropy, or regularizer to none."
            )
        if self.trained == "all" and self.optimizer not in NONLINEAR:
            raise ImpossibleMethod(
                f"method keys 'trained' (all) and 'optimizer' ({self.optimizer}) exclude each "
                "other: only the linearised problem has a constant curvature to precondition or "
                "invert; set trained to linearized or head, or optimizer to sgd."
            )

    @property
    def exact(self) -> bool:
        """Whether the method is the optimum itself, whose constants leave-one-out chooses."""
        return self.optimizer in ("exact", "euclidean")

    @property
    def training(self) -> str:
        """Key of the config section ``training`` that holds this method's grid."""
        if self.exact:
            return "exact"
        if self.regularizer == "l2_sp":
            return "l2_sp"
        return "nonlinear" if (self.trained, self.optimizer) == ("all", "sgd") else self.optimizer


METHODS: dict[str, Method] = {
    "nlft": Method("all", "cross_entropy", "relu", "sgd"),
    # Stronger opponents, not in the paper.
    "nlft_adamw": Method("all", "cross_entropy", "relu", "adamw"),
    "lp_ft": Method("all", "cross_entropy", "relu", "lp_ft"),
    # Regularisers of it.
    "l2_sp": Method("all", "cross_entropy", "relu", "sgd", regularizer="l2_sp"),
    "ps_kd": Method("all", "cross_entropy", "relu", "sgd", regularizer="ps_kd"),
    "elr": Method("all", "cross_entropy", "relu", "sgd", regularizer="elr"),
    "mpn_cov": Method("all", "cross_entropy", "relu", "sgd", "covariance"),
    "fc": Method("head", "cross_entropy", "relu", "sgd"),
    "gaf": Method("linearized", "cross_entropy", "relu", "sgd"),
    "lqf_fc": Method("head", "mse", "leaky_relu", "kfac_sgd"),
    "lqf": Method("linearized", "mse", "leaky_relu", "kfac_sgd"),
    "b_lqf": Method("linearized", "mse", "leaky_relu", "kfac_sgd", "covariance"),
    "lqf_exact": Method("linearized", "mse", "leaky_relu", "exact"),
    "lqf_euclidean": Method("linearized", "mse", "leaky_relu", "euclidean"),
    "ridge_head": Method("head", "mse", "relu", "euclidean"),
    # Ablations: lqf with one or two of its three choices put back (all three put back is gaf).
    "lqf_no_mse": Method("linearized", "cross_entropy", "leaky_relu", "kfac_sgd"),
    "lqf_no_kfac": Method("linearized", "mse", "leaky_relu", "sgd"),
    "lqf_no_leaky": Method("linearized", "mse", "relu", "kfac_sgd"),
    "lqf_no_mse_kfac": Method("linearized", "cross_entropy", "leaky_relu", "sgd"),
    "lqf_no_mse_leaky": Method("linearized", "cross_entropy", "relu", "kfac_sgd"),
    "lqf_no_kfac_leaky": Method("linearized", "mse", "relu", "sgd"),
}

TITLES: dict[str, str] = {
    "nlft": "NLFT",
    "nlft_adamw": "NLFT, AdamW",
    "lp_ft": "LP-FT",
    "l2_sp": "L2-SP",
    "ps_kd": "PS-KD",
    "elr": "ELR",
    "ridge_head": "ridge head",
    "mpn_cov": "MPN-COV",
    "fc": "FC",
    "gaf": "GaF",
    "lqf_fc": "LQF-FC",
    "lqf": "LQF",
    "b_lqf": "B-LQF",
    "lqf_exact": "LQF (exact)",
    "lqf_euclidean": "LQF (exact, Euclidean)",
    "lqf_no_mse": "LQF, cross-entropy",
    "lqf_no_kfac": "LQF, SGD",
    "lqf_no_leaky": "LQF, ReLU",
    "lqf_no_mse_kfac": "LQF, cross-entropy + SGD",
    "lqf_no_mse_leaky": "LQF, cross-entropy + ReLU",
    "lqf_no_kfac_leaky": "LQF, SGD + ReLU",
}


def get(name: str) -> Method:
    """Return the method called ``name``.

    Raises:
        ValueError: if there is no such method; names the closest one and all allowed names.
    """
    if name in METHODS:
        return METHODS[name]
    raise ValueError(f"unknown method {name!r}: {nearest(name, METHODS)}")

"""Linear Quadratic Fine-Tuning with the habits of scikit-learn.

The model is ``f(x) = f0(x) + J(x) δ``, the network's first-order expansion at its pre-trained
weights w0 (LQF eq. 1), and δ the unique minimiser of ``Σ_i ‖αy_i − f(x_i)‖² + μ‖δ‖²`` (LQF eq. 3;
sum over samples and classes).  There is no learning rate, and the effect of every training
sample on the model is known.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

from lqf.fitted.exact import ExactOptimum, fits
from lqf.fitted.inputs import check_classes, images_only, read_images, read_samples, trial_outputs
from lqf.fitted.iterative import IterativeOptimum
from lqf.fitted.optimum import Certificate, Optimum, Problem, full_precision, in_batches
from lqf.fitted.prepare import calibrate_pooling, check_parameters, prepare_network
from lqf.influence import DualRidge, LeaveOneOut
from lqf.influence.forgetting import checked_index
from lqf.linear import Linearized

_FORMAT = "lqf-1"
_SAVED = [
    "classes",
    "head",
    "activation",
    "slope",
    "pooling",
    "target_scale",
    "ridge",
    "tolerance",
    "max_passes",
    "seed",
]


class LQF(BaseEstimator):
    """Linear Quadratic Fine-Tuning of an image classifier.

    Small problems (N·C ≤ 4096 rows of J within 1 GiB) are solved directly in the dual, and every
    question about samples is answered exactly.  Larger ones are solved by conjugate gradients with
    Kronecker factors to a stated residual; their scores are approximations and say so.

    Args:
        network: a torchvision name (with its ImageNet weights) or any module from images to
            outputs; a module is copied, never changed.  Parameters with ``requires_grad=False``
            stay at w0.
        classes: C.
        head: ``random`` puts a new last layer with PyTorch's initialisation; ``keep`` leaves it.
        activation: what every ReLU becomes, ``leaky_relu`` or ``relu``; None leaves them.
        slope: slope of the leaky ReLU.
        pooling: ``average`` (the network's own) or ``covariance`` (LQF §4.2; networks that average a map).
        target_scale: α.
        ridge: μ > 0, or how to choose it: ``loo`` (leave-one-out) or ``gcv``.
        tolerance: relative residual at which the solution is accepted.
        max_passes: budget of the iterative solver, in passes over the data.
        seed: of the head and everything random.
        device: ``auto`` (a GPU if there is one), or a torch device.

    Attributes:
        network_: the network at w0 that is linearised.
        delta_: δ = w − w0, P.
        mu_: μ.
        certificate_: residual, passes, seconds, and whether the tolerance was met.
        classes_: 0 … C−1.
    """

    network_: nn.Module
    delta_: Tensor
    mu_: float
    certificate_: Certificate
    classes_: Tensor

    def __init__(
        self,
        network: str | nn.Module,
        classes: int,
        *,
        head: str = "random",
        activation: str | None = "leaky_relu",
        slope: float = 0.1,
        pooling: str = "average",
        target_scale: float = 15.0,
        ridge: float | str = "loo",
        tolerance: float = 1e-3,
        max_passes: int = 50,
        seed: int = 0,
        device: str | torch.device = "auto",
    ) -> None:
        self.network = network
        self.classes = classes
        self.head = head
        self.activation = activation
        self.slope = slope
        self.pooling = pooling
        self.target_scale = target_scale
        self.ridge = ridge
        self.tolerance = tolerance
        self.max_passes = max_passes
        self.seed = seed
        self.device = device

    def fit(self, train: Any, labels: Any = None) -> LQF:
        """Solve for δ; deterministic for given options and data.

        Args:
            train: a Dataset, a pair (images N × 3 × H × W, labels N), or the images.
            labels: y, N, where ``train`` is the images.

        Returns:
            This estimator.

        Raises:
            ValueError: if an option, the network or the data cannot be used; says which and why.
        """
        self._check_options()
        images, marks = read_samples(train if labels is None else (train, labels), self.classes)
        check_classes(marks)
        device = self._device()
        with full_precision(device):
            network = self._prepared().to(device)
            check_parameters(network)
            images, marks = images.to(device, _dtype(network)), marks.to(device)
            calibrate_pooling(network, images)
            trial_outputs(network, images, self.classes)
            linearized = Linearized(network, _trained(network))
            problem = self._problem(linearized, images, marks)
            size, itemsize = linearized.layout.size, images.element_size()
            kind = (
                ExactOptimum if fits(len(marks), self.classes, size, itemsize) else IterativeOptimum
            )
            self._take(kind.fit(problem, self.ridge))
        return self

    def decision_function(self, images: Any) -> Tensor:
        """``f(x) = f0(x) + J(x) δ``.

        Args:
            images: M × 3 × H × W.

        Returns:
            M × C.
        """
        linearized = self._fitted()
        pictures = self._images(images)
        with full_precision(pictures.device):
            outputs = in_batches(linearized, pictures, self.delta_.to(pictures))
        return outputs.to(images.device) if isinstance(images, Tensor) else outputs.cpu()

    def predict(self, images: Any) -> Tensor:
        """The class with the largest output.

        Args:
            images: M × 3 × H × W.

        Returns:
            M, int64.
        """
        return self.decision_function(images).argmax(1)

    def predict_proba(self, images: Any) -> Tensor:
        """Softmax of the outputs; a ranking of classes, not calibrated (they fit αy, not logits).

        Args:
            images: M × 3 × H × W.

        Returns:
            M × C, rows sum to one.
        """
        return self.decision_function(images).softmax(1)

    def score(self, test: Any, labels: Any = None) -> float:
        """Accuracy, between 0 and 1 as in scikit-learn.

        Args:
            test: a Dataset, a pair (images, labels), or the images.
            labels: y, M, where ``test`` is the images.

        Returns:
            The fraction of right predictions.
        """
        self._fitted()
        images, marks = read_samples(test if labels is None else (test, labels), self.classes)
        return (self.predict(images) == marks.to(images.device)).double().mean().item()

    def leave_one_out(self) -> LeaveOneOut:
        """Outputs and error (%) of every training sample under the model without it.

        Returns:
            Residuals, outputs and error; ``exact`` says whether they are exact.
        """
        optimum = self._optimum_with_data()
        with full_precision(optimum.delta.device):
            return optimum.leave_one_out()

    def influence(self, test: Any) -> Tensor:
        """``f(x_t) − f₋ᵢ(x_t)``: what test output t owes to training sample i.

        Args:
            test: images M × 3 × H × W, or a pair or Dataset whose labels are not used.

        Returns:
            M × N × C.
        """
        optimum = self._optimum_with_data()
        images = self._images_of(test)
        with full_precision(images.device):
            return optimum.influence(images)

    def informativeness(self, validation: Any) -> Tensor:
        """F-SI of every training sample (LQF eq. 9): its mean squared effect on the outputs.

        Args:
            validation: images M × 3 × H × W, or a pair or Dataset whose labels are not used.

        Returns:
            N.
        """
        optimum = self._optimum_with_data()
        images = self._images_of(validation)
        with full_precision(images.device):
            return optimum.informativeness(images)

    def forget(self, indices: Any) -> LQF:
        """The model at the optimum without some training samples, at the same μ.

        Args:
            indices: positions in the training set, each once.

        Returns:
            A new model; this one is untouched.  Its ``certificate_`` compares the passes it took
            with those of the fit.
        """
        optimum = self._optimum_with_data()
        labels = optimum.problem.labels
        index = checked_index(torch.as_tensor(indices, device=labels.device), len(labels))
        stay = torch.ones(len(labels), dtype=torch.bool, device=labels.device)
        stay[index] = False
        check_classes(labels[stay])
        with full_precision(labels.device):
            return self._copy_with(optimum.forget(index))

    def extend(self, more: Any, labels: Any = None) -> LQF:
        """The model at the optimum with further training samples, at the same μ.

        Args:
            more: a Dataset, a pair (images, labels), or the images.
            labels: y, n, where ``more`` is the images.

        Returns:
            A new model; this one is untouched.  The new samples come last in its training set.
        """
        optimum = self._optimum_with_data()
        images, marks = read_samples(more if labels is None else (more, labels), self.classes)
        old = optimum.problem
        images, marks = images.to(old.images), marks.to(old.labels.device)
        trial_outputs(self.network_, images, self.classes)
        with full_precision(images.device):
            size, itemsize = old.linearized.layout.size, images.element_size()
            count = len(old.labels) + len(marks)
            if isinstance(optimum, ExactOptimum) and not fits(count, self.classes, size, itemsize):
                optimum = IterativeOptimum(
                    old, optimum.mu, optimum.delta.to(images), optimum.certificate
                )
            return self._copy_with(optimum.extend(images, marks))

    def save(self, path: str | os.PathLike[str], *, training_set: bool = True) -> None:
        """Write the model as safetensors; the file appears whole or not at all.

        Args:
            path: the file.
            training_set: keep images and labels too, without which a loaded model predicts but
                cannot answer questions about samples.
        """
        self._fitted()
        tensors = {f"network/{k}": v for k, v in self.network_.state_dict().items()}
        tensors["delta"] = self.delta_
        optimum = self._optimum if training_set else None
        if optimum is not None:
            tensors["images"], tensors["labels"] = optimum.problem.images, optimum.problem.labels
        if isinstance(optimum, ExactOptimum):
            tensors["gram"], tensors["base"] = optimum.solution.gram, optimum.base
        options = {key: getattr(self, key) for key in _SAVED}
        metadata = {
            "format": _FORMAT,
            "options": json.dumps(options, sort_keys=True),
            "network": self.network if isinstance(self.network, str) else "",
            "mu": repr(self.mu_),
            "certificate": json.dumps(asdict(self.certificate_), sort_keys=True),
        }
        temporary = Path(f"{os.fspath(path)}.{os.getpid()}.partial")
        try:
            plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
            save_file(plain, temporary, metadata)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        network: nn.Module | None = None,
        *,
        device: str | torch.device = "auto",
    ) -> LQF:
        """Read a model written by `save`.

        Args:
            path: the file.
            network: a module of the architecture that was fitted (its weights do not matter); not
                needed where the network was given by name.
            device: as in the constructor.

        Returns:
            The fitted model.

        Raises:
            ValueError: if the file is no saved model, or the network is missing or another one.
        """
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ValueError(
                    f"{os.fspath(path)} is no model of format {_FORMAT}; write it with LQF.save."
                )
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if network is None and not metadata["network"]:
            raise ValueError(
                f"{os.fspath(path)} was fitted on a module, whose code is not in the file; give a "
                "module of the same architecture: LQF.load(path, network)."
            )
        source: str | nn.Module = metadata["network"] if network is None else network
        model = cls(source, device=device, **json.loads(metadata["options"]))
        at = model._device()
        weights = {k.removeprefix("network/"): v for k, v in tensors.items() if "network/" in k}
        dtype = next(v.dtype for v in weights.values() if v.dtype.is_floating_point)
        prepared = model._prepared(pretrained=False).to(at, dtype)
        try:
            prepared.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(
                f"the network given is not the one saved in {os.fspath(path)}: "
                f"{str(error).splitlines()[-1].strip()}"
            ) from error
        model.network_ = prepared
        model._linearized = Linearized(model.network_, _trained(model.network_))
        model.delta_ = tensors["delta"].to(at)
        model.mu_ = float(metadata["mu"])
        model.certificate_ = Certificate(**json.loads(metadata["certificate"]))
        model.classes_ = torch.arange(model.classes)
        model._optimum = model._restored({k: v.to(at) for k, v in tensors.items()})
        return model

    def __sklearn_is_fitted__(self) -> bool:
        """Whether `fit` has been called.

        Returns:
            True after `fit` or `load`.
        """
        return hasattr(self, "delta_")

    def _restored(self, tensors: dict[str, Tensor]) -> Optimum | None:
        if "images" not in tensors:
            return None
        problem = self._problem(self._linearized, tensors["images"], tensors["labels"])
        if "gram" not in tensors:
            return IterativeOptimum(problem, self.mu_, self.delta_, self.certificate_)
        target = problem.residual_target(tensors["base"].double())
        solution = DualRidge(tensors["gram"], target, self.mu_)
        return ExactOptimum(problem, solution, tensors["base"], self.delta_, self.certificate_)

    def _take(self, optimum: Optimum) -> None:
        self._optimum: Optimum | None = optimum
        self._linearized = optimum.problem.linearized
        self.network_ = self._linearized.network
        self.delta_, self.mu_ = optimum.delta, optimum.mu
        self.certificate_ = optimum.certificate
        self.classes_ = torch.arange(self.classes)

    def _copy_with(self, optimum: Optimum) -> LQF:
        other = type(self)(**self.get_params(deep=False))
        other._take(optimum)
        return other

    def _problem(self, linearized: Linearized, images: Tensor, labels: Tensor) -> Problem:
        return Problem(
            linearized,
            images,
            labels,
            self.target_scale,
            self.classes,
            self.tolerance,
            self.max_passes,
            self.seed,
        )

    def _prepared(self, pretrained: bool = True) -> nn.Module:
        return prepare_network(
            self.network,
            self.classes,
            head=self.head,
            activation=self.activation,
            slope=self.slope,
            pooling=self.pooling,
            seed=self.seed,
            pretrained=pretrained,
        )

    def _check_options(self) -> None:
        if not isinstance(self.classes, int) or self.classes < 2:
            raise ValueError(f"classes is {self.classes!r}; it must be an integer of at least 2.")
        for name, value in (("target_scale", self.target_scale), ("slope", self.slope)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} is {value!r}; it must be a finite positive number.")
        chosen = self.ridge in ("loo", "gcv")
        if not chosen and (isinstance(self.ridge, str) or not 0 < self.ridge < float("inf")):
            raise ValueError(
                f"ridge is {self.ridge!r}; it must be 'loo', 'gcv' or a finite mu > 0."
            )
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance is {self.tolerance!r}; it must be between 0 and 1.")
        if self.max_passes < 3:
            raise ValueError(f"max_passes is {self.max_passes!r}; it must be at least 3.")

    def _device(self) -> torch.device:
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)

    def _fitted(self) -> Linearized:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("this LQF is not fitted yet; call fit first.")
        return self._linearized

    def _optimum_with_data(self) -> Optimum:
        self._fitted()
        if self._optimum is None:
            raise ValueError(
                "this model was saved without its training set, so it cannot answer questions "
                "about samples; save it with training_set=True."
            )
        return self._optimum

    def _images(self, images: Any) -> Tensor:
        pictures = read_images(images).to(self.delta_.device, _dtype(self.network_))
        trial_outputs(self.network_, pictures, self.classes)
        return pictures

    def _images_of(self, data: Any) -> Tensor:
        return self._images(images_only(data))


def _dtype(network: nn.Module) -> torch.dtype:
    return next(network.parameters()).dtype


def _trained(network: nn.Module) -> list[str]:
    return [name for name, p in network.named_parameters() if p.requires_grad]

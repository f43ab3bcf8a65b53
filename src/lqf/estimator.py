"""Linear Quadratic Fine-Tuning with the habits of scikit-learn.

The model is ``f(x) = f0(x) + J(x) δ``, the network's first-order expansion at its pre-trained
weights w0 (LQF eq. 1), and δ the unique minimiser of ``Σ_i ‖αy_i − f(x_i)‖² + μ‖δ‖²`` (LQF eq. 3;
sum over samples and classes).  There is no learning rate, and the effect of every training
sample on the model is known.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

from lqf.fitted.calibration import choose_temperature
from lqf.fitted.exact import ExactOptimum, fits
from lqf.fitted.inputs import (
    check_classes,
    check_independence,
    images_only,
    read_images,
    read_samples,
    trial_outputs,
)
from lqf.fitted.iterative import IterativeOptimum
from lqf.fitted.model_file import read_model, write_model
from lqf.fitted.optimum import Certificate, Optimum, Problem, full_precision, in_batches
from lqf.fitted.options import check_options, choose_device
from lqf.fitted.prepare import calibrate_pooling, check_parameters
from lqf.fitted.start import start_network, trained_names
from lqf.influence import LeaveOneOut
from lqf.influence.forgetting import checked_index
from lqf.linear import Linearized, RowPlan
from lqf.solve import RidgeChoice


class LQF(ClassifierMixin, BaseEstimator):
    """Linear Quadratic Fine-Tuning of an image classifier.

    Small problems (N·C ≤ 4096 rows of J within 1 GiB, where late layers take less as inputs and
    gradients) are solved directly in the dual, and every question about samples is answered exactly.
    Larger ones are solved by conjugate gradients in the dual to a stated residual, preconditioned by
    J in a few thousand coordinates (beyond 32 classes by those of a few combinations of the outputs
    first); their scores are approximations, and say so in the log and in `exact_`.

    >>> model = LQF("resnet18", classes=37).fit((images, labels))  # doctest: +SKIP
    >>> print(model.certificate_)  # doctest: +SKIP
    >>> model.predict(test_images)  # doctest: +SKIP

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
        ridge: μ > 0, or how to choose it: ``loo`` (leave-one-out) or ``gcv`` (generalised
            cross-validation); large problems take the compressed rows of J for it.
        tolerance: relative residual at which the solution is accepted.
        max_passes: budget of the iterative solver, in passes over the data; includes those in which
            μ is chosen.
        fold_batch_norm: put each batch norm into the convolution before it, which gives the same
            outputs at w0 with fewer parameters, so that ‖w − w0‖² is measured in other
            coordinates; faster, and better preconditioned.  None folds unless head and activation
            leave the network exactly as it is.
        seed: of the head and everything random; torch's own generator is not touched.
        device: ``auto`` (CUDA's current device if there is one), or a torch device.

    Attributes:
        network_: the network at w0 that is linearised.
        delta_: δ = w − w0, P.
        mu_: μ.
        ridge_choice_: the candidates and scores μ was chosen from; None where it was given.
        certificate_: residual, passes, seconds, and whether the tolerance was met.
        exact_: whether answers about samples are exact.
        temperature_: T of `predict_proba`.
        classes_: 0 … C−1.
    """

    network_: nn.Module
    delta_: Tensor
    mu_: float
    ridge_choice_: RidgeChoice | None
    certificate_: Certificate
    exact_: bool
    classes_: Tensor
    _optimum: Optimum | None
    _temperature: float | None
    _frozen: list[str]

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
        fold_batch_norm: bool | None = None,
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
        self.fold_batch_norm = fold_batch_norm
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
        check_options(self.get_params(deep=False))
        images, marks = read_samples(train if labels is None else (train, labels), self.classes)
        check_classes(marks)
        device = choose_device(self.device)
        with full_precision(device):
            network, frozen = start_network(self.network, self.get_params(deep=False))
            network = network.to(device)
            check_parameters(network)
            images, marks = _plain(images, device, _dtype(network)), marks.to(device)
            calibrate_pooling(network, images)
            trial_outputs(network, images, self.classes)
            check_independence(network, images)
            linearized = Linearized(network, trained_names(network, images))
            problem = self._problem(linearized, images, marks)
            plan = RowPlan(linearized, images)
            optimum: Optimum = (
                ExactOptimum.fit(problem, self.ridge, plan)
                if fits(plan, images, len(marks))
                else IterativeOptimum.fit(problem, self.ridge)
            )
            self._take(optimum, frozen)
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
        """``softmax(f(x)/T)`` with one temperature T, chosen on leave-one-out outputs.

        The squared loss fits αy and not logits, so the outputs' own softmax is far too sure.  T is
        the temperature under which the training labels are likeliest where each is predicted
        without its own sample; no validation set is used.  It is found at the first call.

        Args:
            images: M × 3 × H × W.

        Returns:
            M × C, rows sum to one.
        """
        return (self.decision_function(images) / self.temperature_).softmax(1)

    @property
    def temperature_(self) -> float:
        """T of `predict_proba`, in the unit of the outputs."""
        self._fitted()
        if self._temperature is None:
            outputs = self.leave_one_out().outputs
            labels = self._optimum_with_data().problem.labels
            self._temperature = choose_temperature(outputs, labels, self.target_scale)
        return self._temperature

    def predictive_covariance(self, images: Any) -> Tensor:
        """``J(x) A⁻¹ J(x)ᵀ`` with ``A = JᵀJ + μI``: how little the training set says about x.

        Under independent noise of variance σ² in the targets and the prior ``δ ~ N(0, σ²/μ I)``,
        σ² times this is the posterior covariance of f(x).

        Args:
            images: M × 3 × H × W, or a pair or Dataset whose labels are not used.

        Returns:
            M × C × C, symmetric and positive semi-definite, float64.
        """
        optimum = self._optimum_with_data()
        pictures = self._images_of(images)
        with full_precision(pictures.device):
            return optimum.predictive_covariance(pictures)

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
            A new model; this one is untouched.  Its ``certificate_`` states the passes and seconds
            it took beside those of the fit.
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
            count = len(old.labels) + len(marks)
            if isinstance(optimum, ExactOptimum) and not fits(optimum.rows.plan, images, count):
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
        write_model(self, path, training_set)

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
        return read_model(cls, path, network, device)

    def __sklearn_is_fitted__(self) -> bool:
        """Whether `fit` has been called.

        Returns:
            True after `fit` or `load`.
        """
        return hasattr(self, "delta_")

    def _show(
        self,
        linearized: Linearized,
        delta: Tensor,
        mu: float,
        certificate: Certificate,
        choice: RidgeChoice | None,
    ) -> None:
        self._linearized, self.network_ = linearized, linearized.network
        self.delta_, self.mu_, self.ridge_choice_ = delta, mu, choice
        self.certificate_, self.classes_ = certificate, torch.arange(self.classes)

    def _take(self, optimum: Optimum, frozen: list[str]) -> None:
        self._optimum = optimum
        self._frozen = frozen
        self._temperature = None
        self.exact_ = isinstance(optimum, ExactOptimum)
        problem, delta = optimum.problem, optimum.delta
        self._show(problem.linearized, delta, optimum.mu, optimum.certificate, optimum.choice)

    def _copy_with(self, optimum: Optimum) -> LQF:
        other = type(self)(**self.get_params(deep=False))
        other._take(optimum, self._frozen)
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
        pictures = _plain(read_images(images), self.delta_.device, _dtype(self.network_))
        trial_outputs(self.network_, pictures, self.classes)
        return pictures

    def _images_of(self, data: Any) -> Tensor:
        return self._images(images_only(data))


def _dtype(network: nn.Module) -> torch.dtype:
    return next(network.parameters()).dtype


def _plain(images: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Images that can be differentiated through, whatever mode they were made in."""
    images = images.to(device, dtype)
    with torch.inference_mode(False):
        return images.clone() if images.is_inference() else images

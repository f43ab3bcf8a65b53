"""Linear Quadratic Fine-Tuning with the habits of scikit-learn.

The model is ``f(x) = f0(x) + J(x) δ``, the network's first-order expansion at its pre-trained
weights w0 (LQF eq. 1), and δ the unique minimiser of ``Σ_i ‖αy_i − f(x_i)‖² + μ δᵀMδ`` (LQF eq. 3 with
the preconditioner's metric M as the prior; sum over samples and classes).  There is no learning rate,
and the effect of every training sample on the model is known.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from torch import Tensor, nn

from lqf.fitted.calibration import choose_temperature
from lqf.fitted.inputs import check_independence, images_only, read_samples
from lqf.fitted.labels import checked_weights, joined, positions, same_pictures, taken
from lqf.fitted.model_file import read_model, write_model
from lqf.fitted.module import FittedModule
from lqf.fitted.options import check_options, choose_device
from lqf.fitted.prepare import Prepared, prepare, trained_names
from lqf.fitted.targets import Targets
from lqf.fitted.watch import check_products, trial_run
from lqf.jacobian import Linearized
from lqf.jacobian.modes import full_precision
from lqf.optimum import Certificate, Choice, LeftOut, Optimum, Problem, fit

log = logging.getLogger(__name__)

_BATCH = 64


@dataclass(frozen=True)
class LeaveOneOut(LeftOut):
    """Every training sample under the model without it, at the same μ and metric.

    Attributes:
        residuals: ``αy_i − f₋ᵢ(x_i)``, N × C, float64.
        exact: whether they are exact to rounding; otherwise estimates.
        level: mean and standard deviation, over some samples that were solved for, of the factor that estimated
            variances were multiplied by; (1, 0) where they are exact.
        outputs: ``f₋ᵢ(x_i)``, N × C, float64.
        error: how many are predicted wrongly, in %; NaN for labels that are not classes.
    """

    outputs: Tensor
    error: float


class LQF(ClassifierMixin, BaseEstimator):
    """Linear Quadratic Fine-Tuning of an image classifier.

    Small problems (up to 4,096 rows of J) are solved directly, and every question about samples is answered
    exactly.  Larger ones are solved by conjugate gradients to a stated residual; what is said about
    their samples is estimated, calibrated on some that are solved for, and `exact_` says so.

    >>> model = LQF("resnet18").fit(images, labels)  # doctest: +SKIP
    >>> print(model.certificate_)  # doctest: +SKIP
    >>> model.predict(test_images)  # doctest: +SKIP

    Args:
        network: a torchvision name (with its ImageNet weights) or any module from images to
            outputs; a module is copied, never changed.  Parameters with ``requires_grad=False``
            stay at w0.
        classes: C; None takes the labels that occur.
        head: ``random`` puts a new layer in the place of the one that makes the outputs, with PyTorch's
            initialisation; ``keep`` leaves it.
        activation: what every ReLU becomes, ``leaky_relu`` or ``relu``; None leaves them.
        slope: slope of the leaky ReLU.
        pooling: ``average`` (the network's own) or ``covariance`` (LQF §4.2; networks that average a map).
        trained: ``all`` parameters, the ``head`` alone (LQF-FC), or how many of the last stages.
        target_scale: α.
        metric: M: ``curvature``, the EKFAC curvature at w0 + ε, or ``euclidean``, the identity (LQF eq. 3).
            None is the curvature where the ridge is chosen, and the identity where μ is given as a number
            (which means nothing in a metric that nobody named) or the head alone is trained.
        ridge: μ > 0, or ``loo``, which chooses μ, ε and the weight of the head by leave-one-out.
        centred: whether f0 is left out, so that f(x) = J(x) δ.  The outputs of a random head are noise; None
            leaves them out where the head is random.
        class_weight: ``balanced`` weights samples by the inverse frequency of their class.
        tolerance: ``‖R − Jδ − μa‖/‖R‖`` at which conjugate gradients stop.
        max_passes: budget in passes over the data.
        fold_batch_norm: put each batch norm into the convolution before it: the same outputs at w0 with
            fewer parameters, in other coordinates.  None folds in the curvature metric, which hardly
            depends on them.
        seed: of the head and everything random; torch's own generator is not touched.
        device: ``auto`` (CUDA's current device if there is one), or a torch device.

    Attributes:
        network_: the network at w0 that is linearised.
        delta_: δ = w − w0, P.
        mu_: μ.
        epsilon_: ε in the unit of the curvature; infinite in the Euclidean metric.
        head_scale_: what the prior variance of the head is multiplied by.
        choice_: the candidates and their leave-one-out errors; None where μ was given.
        certificate_: residual, duality gap, passes, seconds, and whether the tolerance was met.
        exact_: whether answers about samples are exact.
        classes_: the classes, as numpy holds them.
    """

    network_: nn.Module
    delta_: Tensor
    mu_: float
    epsilon_: float
    head_scale_: float
    choice_: Choice | None
    certificate_: Certificate
    exact_: bool
    _linearized: Linearized
    _prepared: Prepared
    _targets: Targets
    _optimum: Optimum | None
    _labels: Any
    _offset: Tensor
    _temperature: float | None

    def __init__(
        self,
        network: str | nn.Module,
        classes: int | None = None,
        *,
        head: str = "random",
        activation: str | None = "leaky_relu",
        slope: float = 0.1,
        pooling: str = "average",
        trained: str | int = "all",
        target_scale: float = 15.0,
        metric: str | None = None,
        ridge: float | str = "loo",
        centred: bool | None = None,
        class_weight: str | None = None,
        tolerance: float = 1e-2,
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
        self.trained = trained
        self.target_scale = target_scale
        self.metric = metric
        self.ridge = ridge
        self.centred = centred
        self.class_weight = class_weight
        self.tolerance = tolerance
        self.max_passes = max_passes
        self.fold_batch_norm = fold_batch_norm
        self.seed = seed
        self.device = device

    def fit(
        self, train: Any, labels: Any = None, *, sample_weight: Any = None, groups: Any = None
    ) -> LQF:
        """Solve for δ; deterministic for given options and data.

        Args:
            train: images N × 3 × H × W, a pair (images, labels), a Dataset, or a DataLoader.
            labels: where ``train`` is the images: one label a sample of any type, one-hot or soft rows, rows of
                zeros and ones (several labels), or numbers.
            sample_weight: ω ≥ 0, N.
            groups: samples that belong together (a patient, copies of an image), N; when μ is chosen they
                leave together.

        Returns:
            This estimator.

        Raises:
            ValueError: if an option, the network or the data cannot be used; says which and why.
        """
        options = check_options(self.get_params(deep=False))
        images, marks = read_samples(train, labels)
        targets = Targets.of(marks, options["classes"])
        encoded = targets.encode(marks, len(images))
        noise, together = checked_weights(
            targets, marks, len(images), sample_weight, groups, options["class_weight"]
        )
        device = choose_device(self.device)
        with full_precision(device):
            prepared = prepare(self.network, options, images, targets.outputs, self._folds(options))
            network = prepared.network.to(device)
            images = _plain(images, device, _dtype(network))
            trial_run(network, images, targets.outputs)
            check_independence(network, images)
            linearized = Linearized(network, trained_names(network, images))
            check_products(linearized, images)
            offset = encoded.mean(0) if targets.kind == "numbers" else torch.zeros(targets.outputs)
            problem = Problem(
                linearized,
                images,
                self._target(linearized, images, targets, encoded, offset),
                None if noise is None else noise.to(images),
                prepared.head_names,
                self._metric(options),
                None if options["ridge"] == "loo" else options["ridge"],
                None if together is None else together.to(device),
                options["tolerance"],
                options["max_passes"],
                options["seed"],
            )
            optimum = fit(problem)
            if options["ridge"] == "loo" and together is None:
                same_pictures(images)
        self._offset, self._targets, self._labels = offset.to(images), targets, marks
        self._take(optimum, prepared)
        return self

    def _folds(self, options: dict[str, Any]) -> bool:
        if options["fold_batch_norm"] is not None:
            return bool(options["fold_batch_norm"])
        kept = options["head"] == "keep" and options["activation"] is None
        return self._metric(options) == "curvature" and not kept

    @staticmethod
    def _metric(options: dict[str, Any]) -> str:
        if options["metric"] is not None:
            return str(options["metric"])
        chosen = options["ridge"] == "loo" and options["trained"] != "head"
        return "curvature" if chosen else "euclidean"

    def _scale(self, targets: Targets) -> float:
        return 1.0 if targets.kind == "numbers" else float(self.target_scale)

    def _leaves_f0(self) -> bool:
        return self.head == "random" if self.centred is None else bool(self.centred)

    def _target(
        self,
        linearized: Linearized,
        images: Tensor,
        targets: Targets,
        encoded: Tensor,
        offset: Tensor,
    ) -> Tensor:
        """``R = αY − f0``, or αY where f0 is left out; N × C."""
        wanted = (self._scale(targets) * encoded - offset.to(encoded)).to(images)
        if self._leaves_f0():
            return wanted
        return wanted - torch.cat([linearized.outputs(part) for part in images.split(_BATCH)])

    def decision_function(self, images: Any) -> Tensor:
        """``f(x) = f0(x) + J(x) δ``; f0 is left out where `centred` says so.

        Args:
            images: M × 3 × H × W, or a pair, Dataset or DataLoader whose labels are not used.

        Returns:
            M × C.
        """
        module = self.to_module()
        pictures = self._images(images)
        with full_precision(pictures.device):
            outputs = torch.cat([module(part) for part in pictures.split(_BATCH)])
        return outputs.to(images.device) if isinstance(images, Tensor) else outputs.cpu()

    def predict(self, images: Any) -> Any:
        """The class with the largest output; for several labels those above α/2, for numbers the outputs.

        Args:
            images: as in `decision_function`.

        Returns:
            M; a tensor, or a numpy array where labels are texts.
        """
        outputs = self.decision_function(images)
        return self._targets.decode(outputs, self.target_scale)

    def predict_proba(self, images: Any) -> Tensor:
        """``softmax(f(x)/T)`` with one temperature T, chosen on leave-one-out outputs.

        The squared loss fits αy and not logits, so the outputs' own softmax is far too sure.  T is
        the temperature under which the training labels are likeliest where each is predicted
        without its own sample; no validation set is used.  It is found at the first call.

        Args:
            images: as in `decision_function`.

        Returns:
            M × C, rows sum to one.
        """
        return (self.decision_function(images) / self.temperature_).softmax(1)

    @property
    def temperature_(self) -> float:
        """T of `predict_proba`, in the unit of the outputs.

        Raises:
            ValueError: if the labels are not classes.
        """
        self._fitted()
        if self._temperature is None:
            if self._targets.kind not in ("classes", "soft labels"):
                raise ValueError(
                    f"the labels are {self._targets.kind}, which have no probabilities that sum to one; use "
                    "decision_function."
                )
            outputs = self.leave_one_out().outputs
            labels = self._targets.numbers(self._labels).to(outputs.device)
            self._temperature = choose_temperature(outputs, labels, self.target_scale)
        return self._temperature

    def predictive_covariance(self, images: Any) -> Tensor:
        """``J(x) A⁻¹ J(x)ᵀ`` with ``A = JᵀJ + μM``: how little the training set says about x.

        Under independent noise of variance σ² in the targets and the prior ``δ ~ N(0, σ²/μ M⁻¹)``,
        σ² times this is the posterior covariance of f(x).

        Args:
            images: as in `decision_function`.

        Returns:
            M × C × C, symmetric and positive semi-definite, float64.
        """
        return self._asked(images, lambda optimum, part: optimum.covariance(part))

    def score(self, test: Any, labels: Any = None, sample_weight: Any = None) -> float:
        """Accuracy, between 0 and 1; for labels that are not classes R², as in scikit-learn.

        Args:
            test: as ``train`` in `fit`.
            labels: as in `fit`.
            sample_weight: weights of the samples, M.

        Returns:
            The fraction of right predictions.
        """
        self._fitted()
        images, marks = read_samples(test, labels)
        outputs = self.decision_function(images).cpu().double()
        wanted = self._targets.encode(marks, len(images))
        weight = torch.ones(len(images), dtype=torch.float64)
        if sample_weight is not None:
            weight = torch.as_tensor(sample_weight, dtype=torch.float64)
        if self._targets.kind == "numbers":
            how = {"sample_weight": weight, "multioutput": "variance_weighted"}
            return float(r2_score(wanted, outputs, **how))
        if self._targets.kind == "several labels":
            right = ((outputs > self.target_scale / 2) == (wanted > 0.5)).double().mean(1)
        else:
            right = (outputs.argmax(1) == wanted.argmax(1)).double()
        return float((right * weight).sum() / weight.sum())

    def leave_one_out(self, groups: Any = None) -> LeaveOneOut:
        """Outputs and error (%) of every training sample under the model without it.

        Args:
            groups: samples that leave together, N; None for those of `fit`, or each by itself.

        Returns:
            Residuals, outputs and error; ``exact`` says whether they are exact.
        """
        optimum = self._optimum_with_data()
        together = optimum.problem.group_positions()
        if groups is not None:
            marks = torch.as_tensor(Targets.of(groups, None).numbers(groups))
            together = [(marks == value).nonzero().squeeze(1) for value in marks.unique()]
        with full_precision(optimum.delta.device):
            found = optimum.leave_one_out(together)
        encoded = self._targets.encode(self._labels, len(found.residuals)).to(found.residuals)
        outputs = self._scale(self._targets) * encoded - found.residuals
        error = float("nan")
        if self._targets.kind in ("classes", "soft labels"):
            error = 100 * float((outputs.argmax(1) != encoded.argmax(1)).double().mean())
        return LeaveOneOut(found.residuals, found.exact, found.level, outputs, error)

    def influence(self, test: Any) -> Tensor:
        """``f(x_t) − f₋ᵢ(x_t)``: what test output t owes to training sample i.

        Args:
            test: as in `decision_function`.

        Returns:
            M × N × C.
        """
        return self._asked(test, Optimum.influence)

    def informativeness(self, validation: Any) -> Tensor:
        """F-SI of every training sample (LQF eq. 9): its mean squared effect on the outputs.

        Args:
            validation: as in `decision_function`.

        Returns:
            N.
        """
        return self._asked(validation, Optimum.informativeness)

    def forget(self, indices: Any, *, metric: str = "kept") -> LQF:
        """The model at the optimum without some training samples, at the same μ.

        The metric M was estimated from all training images (never from labels), so what a model keeps of
        a forgotten image is its share of about 1/N in M.

        Args:
            indices: a position in the training set, several, a slice, or a mask.
            metric: ``kept`` leaves M as it is, and the answer is exact at that M; ``without`` estimates M
                from the remaining images and solves again, so that nothing of the forgotten ones is left.

        Returns:
            A new model; this one is untouched.  Its ``certificate_`` states the passes and seconds
            it took beside those of the fit.

        Raises:
            ValueError: if a position is none, or nothing could be told apart without the samples.
        """
        optimum = self._optimum_with_data()
        if metric not in ("kept", "without"):
            raise ValueError(f"metric is {metric!r}; it must be 'kept' or 'without'.")
        device = optimum.delta.device
        kept, gone = (part.to(device) for part in positions(indices, len(optimum.problem.target)))
        labels = taken(self._labels, kept)
        if self._targets.kind == "classes":
            Targets.of(self._targets.numbers(labels), None)
        with full_precision(device):
            if metric == "kept" or optimum.metric.euclidean:
                found = optimum.forget(kept, gone)
            else:
                constants = optimum.metric.epsilon, optimum.metric.head_scale
                problem = optimum.problem.select(kept)
                found = fit(replace(problem, mu=optimum.mu), constants=constants)
        return self._copy_with(found, labels)

    def relabel(self, labels: Any) -> LQF:
        """The model of the same training images with other labels, at the same μ and metric.

        Neither depends on what is fitted to, so that no row of J is computed again.

        Args:
            labels: those of all training images, N, as in `fit`, of classes that the model knows.

        Returns:
            A new model; this one is untouched.

        Raises:
            ValueError: if there are not N labels, or fewer than two classes are left.
        """
        optimum = self._optimum_with_data()
        target = optimum.problem.target
        new = self._targets.encode(labels, len(target))
        if self._targets.kind == "classes":
            Targets.of(self._targets.numbers(labels), None)
        change = new - self._targets.encode(self._labels, len(target))
        with full_precision(optimum.delta.device):
            found = optimum.relabel(target + self._scale(self._targets) * change.to(target))
        return self._copy_with(found, labels)

    def refit(self, train: Any, labels: Any = None, *, sample_weight: Any = None) -> LQF:
        """The model of other training samples at this one's network, μ and metric, from nothing.

        What `forget` and `extend` compute without a new fit can be held against it.

        Args:
            train: as in `fit`.
            labels: as in `fit`, of classes that the model knows.
            sample_weight: as in `fit`.

        Returns:
            A new model; this one is untouched.
        """
        optimum = self._optimum_with_data()
        images, target, noise, marks = self._further(train, labels, sample_weight)
        problem = replace(
            optimum.problem, images=images, target=target, noise=noise, mu=optimum.mu, groups=None
        )
        with full_precision(images.device):
            constants = optimum.metric.epsilon, optimum.metric.head_scale
            found = fit(problem, optimum.curvature, constants=constants)
        return self._copy_with(found, marks)

    def extend(self, more: Any, labels: Any = None, *, sample_weight: Any = None) -> LQF:
        """The model at the optimum with further training samples, at the same μ and metric.

        Args:
            more: as ``train`` in `fit`.
            labels: as in `fit`, of classes that the model knows.
            sample_weight: ω of the new samples.

        Returns:
            A new model; this one is untouched.  The new samples come last in its training set.

        Raises:
            ValueError: if the images have another shape, or a label is of no class that is known.
        """
        optimum = self._optimum_with_data()
        shape = tuple(optimum.problem.images.shape[1:])
        images, target, noise, marks = self._further(more, labels, sample_weight, shape)
        with full_precision(images.device):
            found = optimum.extend(images, target, noise)
        return self._copy_with(found, joined(self._labels, marks))

    def named_delta(self) -> dict[str, Tensor]:
        """δ by parameter of `network_`, in its shape."""
        return self._fitted().layout.split(self.delta_)

    def to_module(self) -> nn.Module:
        """The fitted model as a module from images to outputs, without the training set."""
        return FittedModule(self._fitted(), self.delta_, self._offset, self._leaves_f0())

    def save(self, path: str | os.PathLike[str], *, training_set: bool = True) -> None:
        """Write the model as safetensors; the file appears whole or not at all.

        Args:
            path: the file.
            training_set: keep images and labels too, without which a loaded model predicts but
                cannot answer questions about samples.

        Raises:
            ValueError: if there is no folder of that name.
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
            ValueError: if the file is no saved model, damaged, or the network is missing or another one.
        """
        return read_model(cls, path, network, device)

    def __sklearn_is_fitted__(self) -> bool:
        """Whether `fit` has been called.

        Returns:
            True after `fit` or `load`.
        """
        return hasattr(self, "delta_")

    @property
    def classes_(self) -> Any:
        """The classes, C; numpy."""
        self._fitted()
        return self._targets.names

    def _take(self, optimum: Optimum, prepared: Prepared) -> None:
        self._optimum, self._prepared, self._temperature = optimum, prepared, None
        self._linearized = optimum.problem.linearized
        self.network_, self.delta_ = self._linearized.network, optimum.delta
        self.mu_, self.choice_ = optimum.mu, optimum.choice
        self.epsilon_, self.head_scale_ = optimum.metric.epsilon, optimum.metric.head_scale
        self.certificate_, self.exact_ = optimum.certificate, optimum.exact
        if not optimum.certificate.met:
            log.warning(
                "the optimum is not reached: %s; raise max_passes or the ridge", optimum.certificate
            )

    def _copy_with(self, optimum: Optimum, labels: Any) -> LQF:
        other = type(self)(**self.get_params(deep=False))
        other._offset, other._targets, other._labels = self._offset, self._targets, labels
        other._take(optimum, self._prepared)
        return other

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
        return self._here(images_only(images))

    def _here(self, images: Tensor) -> Tensor:
        """Images that the network can take, in its precision and where it is."""
        images = _plain(images, self.delta_.device, _dtype(self.network_))
        with full_precision(images.device):
            trial_run(self.network_, images, self._targets.outputs)
        return images

    def _further(
        self, data: Any, labels: Any, sample_weight: Any, shape: tuple[int, ...] | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None, Any]:
        # Images (of that shape), R, 1/ω and labels of other samples than those of the fit.
        images, marks = read_samples(data, labels)
        encoded = self._targets.encode(marks, len(images))
        noise, _ = checked_weights(self._targets, marks, len(images), sample_weight, None, None)
        if shape not in (None, images.shape[1:]):
            raise ValueError(
                f"the new images are {tuple(images.shape[1:])} and the training images {shape}; resize "
                "them to the same shape."
            )
        images = self._here(images)
        with full_precision(images.device):
            target = self._target(
                self._linearized, images, self._targets, encoded.to(images), self._offset
            )
        return images, target, None if noise is None else noise.to(images), marks

    def _asked(self, images: Any, question: Callable[[Optimum, Tensor], Tensor]) -> Tensor:
        """What the optimum answers about images."""
        optimum, pictures = self._optimum_with_data(), self._images(images)
        with full_precision(pictures.device):
            return question(optimum, pictures)


def _dtype(network: nn.Module) -> torch.dtype:
    return next(network.parameters()).dtype


def _plain(images: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Images that can be differentiated through, whatever mode they were made in."""
    images = images.to(device, dtype)
    with torch.inference_mode(False):
        return images.clone() if images.is_inference() else images

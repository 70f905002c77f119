"""What both estimators share: from scikit-learn's arguments to `nnxp.train` and back."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from nnxp import backends
from nnxp.arrays import Array, is_array, namespace, to_numpy
from nnxp.backends import Backend
from nnxp.concurrency import warnings_ignored
from nnxp.data import checks
from nnxp.errors import DivergenceError
from nnxp.history import History
from nnxp.names import ActivationName
from nnxp.nested import leaves
from nnxp.network import MLP
from nnxp.regularization import Regularization
from nnxp.sklearn import arrays, initial, lbfgs, parameters
from nnxp.sklearn.convergence import Convergence, Progress
from nnxp.training import train

SEEDS = 2**31 - 1
"""One more than the largest seed that is drawn of a random state."""
NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed."
)


class Samples(NamedTuple):
    """Features, targets and weights of the same samples."""

    X: Any
    """In its own library, or a sparse matrix."""
    y: Any
    """A NumPy array."""
    weight: Any = None
    """A NumPy array, (samples,); None if all are equal."""


class BaseMLP(BaseEstimator, ABC):  # type: ignore[misc, unused-ignore]
    """An estimator over `nnxp.MLP`, whose parameters, methods and attributes are scikit-learn's.

    Attributes:
        network_: the `nnxp.MLP`, which can be saved.
        history_: the `nnxp.History` of the last training by sgd or adam.
        converged_: whether the last training met its criterion, before `max_iter`.
        coefs_, intercepts_: the weights and biases, one of each per layer: the network's.
    """

    network_: MLP
    history_: History
    _progress: Progress
    random_state: Any
    scoring: Any
    class_weight: Any = None

    @property
    def coefs_(self) -> list[Array]:
        """The weights of each layer, (fan_in, fan_out)."""
        return [self._shown(weight) for weight, _ in self._fitted_network("coefs_").parameters]

    @coefs_.setter
    def coefs_(self, coefs: list[Array]) -> None:
        self.network_.parameters = list(zip(coefs, self.intercepts_, strict=True))

    @property
    def intercepts_(self) -> list[Array]:
        """The biases of each layer, (fan_out,)."""
        return [self._shown(bias) for _, bias in self._fitted_network("intercepts_").parameters]

    @intercepts_.setter
    def intercepts_(self, intercepts: list[Array]) -> None:
        self.network_.parameters = list(zip(self.coefs_, intercepts, strict=True))

    @abstractmethod
    def _check_targets(self, X: Any, y: Any, *, first: bool, incremental: bool) -> Any:
        """Check features and targets; return X in its own library, and y as a NumPy array."""

    @abstractmethod
    def _encode(self, y: np.ndarray) -> np.ndarray:
        """Return checked targets in the form that `nnxp.train` takes."""

    @abstractmethod
    def _output(self, y: np.ndarray) -> tuple[int, ActivationName]:
        """Return the number of outputs for the targets y, and their activation in nnxp."""

    def _out_activation(self, p: SimpleNamespace, output: str) -> str:
        """Return scikit-learn's name of the output activation."""
        return "logistic" if output == "sigmoid" else output

    def _loss_offset(
        self, p: SimpleNamespace, targets: np.ndarray, weight: np.ndarray | None
    ) -> float:
        """Return the constant by which scikit-learn's loss is larger than nnxp's."""
        return 0.0

    def _check_solver(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. "
                f"{self.solver} is not stochastic."
            )
        return True

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation: Samples,
        *,
        incremental: bool = False,
    ) -> Any:
        p = parameters.check(self.get_params(deep=False))
        known = hasattr(self, "network_") and (self.warm_start or incremental)
        X, y = self._check_targets(X, y, first=not known, incremental=incremental)
        data = Samples(X, y, _weights(sample_weight, y))
        rng = check_random_state(self.random_state)
        outputs, output = self._output(y)
        self.network_ = network = self._network(p, X, outputs, output, rng, known)
        self._fitted_on = arrays.place(X)
        self._keeps_library = is_array(X) and namespace(X) is network.backend.xp
        if not known and hasattr(self, "history_"):
            del self.history_
        if not known or self._progress.early_stopping != p.early_stopping:
            self._progress = Progress(p.early_stopping)
        self.n_outputs_, self.n_layers_ = network.sizes[-1], len(network.sizes)
        self.out_activation_ = self._out_activation(p, output)
        if p.solver == "lbfgs":
            self._fit_lbfgs(p, data)
        else:
            self._fit_stochastic(p, data, validation, rng, incremental)
        if not all(np.isfinite(to_numpy(each)).all() for each in leaves(network.parameters)):
            raise ValueError(NOT_FINITE)
        return self

    def _fit_lbfgs(self, p: SimpleNamespace, data: Samples) -> None:
        for name in ("dropout", "augment", "callbacks"):
            if np.any(getattr(p, name)):
                raise ValueError(f"{name} needs solver='sgd' or 'adam', not 'lbfgs'")
        weight, targets = self._with_class_weights(data, False), self._encode(data.y)
        total = len(targets) if weight is None else float(weight.sum())
        result = lbfgs.minimize(
            self.network_,
            arrays.dense(data.X, self.network_.dtype),
            targets,
            loss=p.loss,
            sample_weight=weight,
            l2=p.alpha / total if total else 0.0,
            scale_targets=self._scale_targets(p),
            tol=p.tol,
            max_iter=p.max_iter,
            max_fun=p.max_fun,
            verbose=p.verbose,
        )
        self.n_iter_ = min(result.nit, p.max_iter)
        self.loss_ = float(result.fun) + self._loss_offset(p, targets, weight)
        self.t_ = self._progress.samples_seen
        self.converged_ = result.status == 0
        if not self.converged_:
            more = (
                "\nIncrease the number of iterations to improve the convergence "
                f"(max_iter={p.max_iter})."
            )
            warnings.warn(
                f"lbfgs failed to converge after {self.n_iter_} iteration(s) "
                f"(status={result.status}):\n{result.message}\n"
                f"{more if self.n_iter_ == p.max_iter else ''}\n"
                "You might also want to scale the data as shown in:\n"
                "    https://scikit-learn.org/stable/modules/preprocessing.html",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _fit_stochastic(
        self,
        p: SimpleNamespace,
        data: Samples,
        validation: Samples,
        rng: np.random.RandomState,
        incremental: bool,
    ) -> None:
        network, progress = self.network_, self._progress
        resumes = incremental and hasattr(self, "history_")
        self.history_ = self.history_ if resumes else History()
        if not resumes:
            progress.rate = p.learning_rate_init
        data, held_out = self._held_out(p, data, validation, rng)
        weight, targets = self._with_class_weights(data, incremental), self._encode(data.y)
        samples = len(targets)
        batch_size = min(200, samples) if p.batch_size == "auto" else p.batch_size
        if batch_size > samples:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. "
                "It is going to be clipped",
                stacklevel=4,
            )
        evaluated = None
        if held_out is not None:
            evaluated = arrays.dense(held_out.X, network.dtype), self._encode(held_out.y)
        score = partial(self._score, held_out)
        offset = self._loss_offset(p, targets, weight)
        convergence = Convergence(progress, p, samples, score, offset)
        mean_weight = 1.0 if weight is None else float(weight.mean())
        diverged: DivergenceError | None = None
        try:
            train(
                network,
                arrays.dense(data.X, network.dtype),
                targets,
                loss=p.loss,
                optimizer=parameters.optimizer(p),
                epochs=1 if incremental else p.max_iter,
                batch_size=min(batch_size, samples),
                seed=rng.randint(SEEDS) if np.any(p.dropout) or p.augment else 0,
                shuffle=_shuffle(rng) if p.shuffle else False,
                validation=evaluated,
                callbacks=[convergence, *p.callbacks],
                sample_weight=weight,
                schedule=convergence.rate,
                regularization=Regularization(
                    l2=p.alpha / mean_weight if mean_weight else 0.0,
                    dropout=p.dropout,
                    per_batch=True,
                ),
                augment=p.augment,
                scale_targets=self._scale_targets(p),
                resume=self.history_,
                assume_finite=True,  # scikit-learn checked it
            )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        except DivergenceError as error:
            diverged = error
        self._end(p, convergence, diverged, incremental)

    def _end(
        self,
        p: SimpleNamespace,
        convergence: Convergence,
        diverged: DivergenceError | None,
        incremental: bool,
    ) -> None:
        """Set the attributes of a training by sgd or adam, and warn of what went wrong."""
        progress = self._progress
        self.n_iter_, self.t_ = convergence.epochs, progress.samples_seen
        self.converged_ = convergence.converged
        self.loss_curve_ = progress.loss_curve
        if self.loss_curve_:
            self.loss_ = self.loss_curve_[-1]
        if diverged is not None:
            if not p.early_stopping or not progress.best_parameters:
                raise ValueError(NOT_FINITE) from diverged
            progress.validation_scores.append(math.nan)
            warnings.warn(
                f"{diverged}. The parameters with the best validation score are kept.",
                ConvergenceWarning,
                stacklevel=5,
            )
        elif convergence.epochs == p.max_iter and not convergence.converged and not incremental:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({p.max_iter}) reached and the "
                "optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=5,
            )
        stopping = p.early_stopping
        self.best_loss_ = None if stopping else progress.best_loss
        self.validation_scores_ = progress.validation_scores if stopping else None
        self.best_validation_score_ = progress.best_score if stopping else None
        if stopping and (convergence.converged or not incremental):
            convergence.restore(self.network_)
            if incremental:  # another call begins to count anew
                progress.no_improvement = 0

    def _network(
        self,
        p: SimpleNamespace,
        X: Any,
        outputs: int,
        output: ActivationName,
        rng: np.random.RandomState,
        known: bool,
    ) -> MLP:
        """Return a new network, with drawn parameters or those of the last one."""
        sizes = (X.shape[1], *p.hidden_layer_sizes, outputs)
        backend = self._backend(p, X)
        options: dict[str, Any] = {
            "dtype": p.dtype or arrays.dtype_name(X, backend),
            "backend": backend,
        }
        if known:
            options["parameters"] = self.network_.parameters
        elif p.initializer == "auto":
            options["parameters"] = initial.draw(rng, sizes, p.activation)
        else:
            options |= {"initializer": p.initializer, "seed": rng.randint(SEEDS)}
        network = MLP(sizes, p.activation, output, **options)
        if known:
            network.target_scaling = self.network_.target_scaling
        return network

    def _backend(self, p: SimpleNamespace, X: Any) -> Backend:
        """Return the backend that was asked for; without any, that of X."""
        if p.backend is None and p.device is None and is_array(X) and not isinstance(X, np.ndarray):
            return backends.of(X)
        backend = backends.get(p.backend, p.device)
        if backend.name != "numpy" or isinstance(p.backend, Backend):
            return backend
        # As many threads as in scikit-learn: those of BLAS, which joblib divides among processes.
        return type(backend)(backend.device_name, backend.executor, threads="all")

    def _scale_targets(self, p: SimpleNamespace) -> Any:
        """Return `scale_targets` of `nnxp.train`: a scaling stays while a training goes on."""
        scales = getattr(p, "scale_targets", False)
        return "auto" if scales and self.network_.target_scaling is not None else scales

    def _with_class_weights(self, data: Samples, incremental: bool) -> np.ndarray | None:
        """Return the weight of each sample in the loss, (samples,); None if all are equal."""
        return data.weight

    def _held_out(
        self, p: SimpleNamespace, data: Samples, validation: Samples, rng: np.random.RandomState
    ) -> tuple[Samples, Samples | None]:
        """Return the samples to train on, and those to validate on, if any."""
        if (validation.X is None) != (validation.y is None):
            raise ValueError("X_val and y_val must be given together.")
        if validation.X is not None:
            X, y = self._check_targets(validation.X, validation.y, first=False, incremental=True)
            return data, Samples(X, y, _weights(validation.weight, y))
        if validation.weight is not None:
            raise ValueError("sample_weight_val is given without X_val and y_val.")
        if not p.early_stopping:
            return data, None
        parts = train_test_split(
            np.arange(data.y.shape[0]),
            random_state=rng,
            test_size=p.validation_fraction,
            stratify=self._strata(data.y),
        )
        if len(parts[1]) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        kept, held_out = (
            Samples(
                arrays.take(data.X, rows),
                data.y[rows],
                None if data.weight is None else data.weight[rows],
            )
            for rows in parts
        )
        return kept, held_out

    def _strata(self, y: np.ndarray) -> np.ndarray | None:
        """Return the label by which a validation share is stratified; None for no strata."""
        return None

    def _score(self, held_out: Samples | None, history: History) -> float:
        """Return the score on the samples held out, whose metrics are in the history."""
        assert held_out is not None
        X, y, weight = held_out
        if self.scoring is None and weight is None and history.metric == self._metric:
            score = history.epochs[-1].validation_metric
            assert score is not None
            return score
        scorer = check_scoring(self, self.scoring)
        weights = {} if weight is None else {"sample_weight": arrays.like(weight, X)}
        with warnings_ignored("X does not have valid feature names"):
            return float(scorer(self, X, arrays.like(y, X), **weights))

    def _predict(self, method: str, X: Any, predict: Callable[..., Array]) -> Array:
        """Return predict(network, X, assume_finite=True) for a method, on the device of X."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", reset=False, dtype=arrays.float_dtypes(X))
        if (place := arrays.place(X)) != self._fitted_on:
            raise ValueError(
                f"Inputs passed to {type(self).__name__}.{method}() must use the same namespace "
                f"and device as those passed to fit(): {' on '.join(self._fitted_on)}, not "
                f"{' on '.join(place)}"
            )
        predict = partial(predict, self.network_, assume_finite=True)  # scikit-learn checked it
        if not hasattr(X, "toarray"):
            return predict(X)
        return np.concatenate(list(map(predict, arrays.dense_blocks(X, self.network_))))

    def _outputs(self, method: str, X: Any) -> Array:
        """Return the outputs for a method's X, (samples, outputs), in X's dtype."""
        return self._predict(method, X, _outputs)

    def _validate(self, X: Any, y: Any, *, first: bool, **options: Any) -> Any:
        return validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            multi_output=True,
            dtype=arrays.float_dtypes(X),
            reset=first,
            **options,
        )

    def _fitted_network(self, attribute: str) -> MLP:
        """Return the network; without one, the attribute is missing, too."""
        try:
            return vars(self)["network_"]
        except KeyError:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {attribute!r}"
            ) from None

    def _shown(self, parameter: Array) -> Array:
        """Return a parameter in the library that the estimator was fitted on."""
        return parameter if getattr(self, "_keeps_library", False) else to_numpy(parameter)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags


def set_parameters(estimator: BaseEstimator, given: dict[str, Any]) -> None:
    """Set a constructor's arguments as attributes, unchanged: scikit-learn clones by them."""
    for name, value in given.items():
        if value is not estimator:
            setattr(estimator, name, value)


def _weights(sample_weight: Any, y: np.ndarray) -> np.ndarray | None:
    """Return the checked weight of each sample, (samples,), from one for each or one for all."""
    if sample_weight is None:
        return None
    weight = to_numpy(sample_weight)
    if weight.ndim == 0:
        weight = np.full(y.shape[0], weight)
    return checks.sample_weight(weight, y.shape[0])


def _outputs(network: MLP, X: Array, assume_finite: bool) -> Array:
    y = network.predict(X, assume_finite=assume_finite)
    return namespace(y).astype(y, X.dtype, copy=False)


def _shuffle(rng: np.random.RandomState) -> Callable[[int, int], np.ndarray]:
    """Return a function for `shuffle` of `nnxp.train`: each order is that before it, shuffled."""
    order = np.arange(0)

    def shuffled(samples: int, epoch: int) -> np.ndarray:
        nonlocal order
        # As `sklearn.utils.shuffle`, whose checks take longer than an epoch of a small data set.
        positions = np.arange(samples)
        rng.shuffle(positions)
        order = order[positions] if len(order) else positions
        return order

    return shuffled

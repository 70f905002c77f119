"""Optimizers: what a gradient does to the parameters.

An optimizer is hyper-parameters and two pure functions. `init(parameters)` makes its state;
`update(parameters, state, gradients, learning_rate)` returns the new parameters and state.
`update` owns what it is given and may write into it, as a step of training does: keep only
what it returns. Parameters and gradients are lists of (weight, bias) pairs. The state is
nested lists and tuples of arrays, so that any backend can carry it through a compiled loop.
`learning_rate` is a number or a 0-d array: a compiled step can then follow a schedule.

Weight decay shrinks weights, not biases.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol

from nnxp.arrays import Array, device, namespace
from nnxp.errors import InputError, unknown_name

Parameters = list[tuple[Array, Array]]


class Optimizer(Protocol):
    """What the trainer asks of an optimizer. It must be hashable: compiled steps are kept by it."""

    def __hash__(self) -> int: ...

    @property
    def learning_rate(self) -> float:
        """The step size, where no schedule says otherwise."""
        ...

    def init(self, parameters: Parameters) -> Any:
        """The state before the first step."""
        ...

    def update(
        self, parameters: Parameters, state: Any, gradients: Parameters, learning_rate: Any
    ) -> tuple[Parameters, Any]:
        """The parameters and the state after a step along `gradients`."""
        ...


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent: w <- w - learning_rate (g + weight_decay w).

    With momentum m, the velocity v takes the gradient's place:

        v <- m v + g + weight_decay w        w <- w - learning_rate v

    and with `nesterov`, w <- w - learning_rate (g + weight_decay w + m v).

    Args:
        learning_rate: positive.
        momentum: in [0, 1).
        nesterov: look ahead along the velocity; needs momentum.
        weight_decay: the L2 penalty 1/2 weight_decay ||w||^2 as a gradient; not negative.

    Raises:
        InputError: a value is out of its range.

    Source: Sutskever et al., On the importance of initialization and momentum in deep
    learning, 2013, in the form that PyTorch uses.
    """

    learning_rate: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_numbers(self)
        _check("momentum", self.momentum, 0 <= self.momentum < 1, "in [0, 1)")
        if self.nesterov and not self.momentum:
            raise InputError("nesterov needs momentum: set it to 0.9, say")

    def init(self, parameters: Parameters) -> Any:
        """The velocities, zero; nothing without momentum."""
        return _zeros_like(parameters) if self.momentum else []

    def update(
        self, parameters: Parameters, state: Any, gradients: Parameters, learning_rate: Any
    ) -> tuple[Parameters, Any]:
        """One step; see the class for the formula."""
        new_parameters, new_state = [], []
        for layer, ((weight, bias), (dweight, dbias)) in enumerate(
            zip(parameters, gradients, strict=True)
        ):
            if self.weight_decay:
                dweight += self.weight_decay * weight
            if self.momentum:
                weight_velocity, bias_velocity = state[layer]
                weight_velocity, dweight = self._accelerate(weight_velocity, dweight)
                bias_velocity, dbias = self._accelerate(bias_velocity, dbias)
                new_state.append((weight_velocity, bias_velocity))
            weight -= learning_rate * dweight
            bias -= learning_rate * dbias
            new_parameters.append((weight, bias))
        return new_parameters, new_state

    def _accelerate(self, velocity: Array, gradient: Array) -> tuple[Array, Array]:
        """The new velocity, and the direction to step along."""
        velocity *= self.momentum
        velocity += gradient
        return velocity, gradient + self.momentum * velocity if self.nesterov else velocity


@dataclass(frozen=True)
class Adam:
    """Adam: steps along a running mean of the gradient, scaled by its running magnitude.

        m <- b1 m + (1 - b1) g        v <- b2 v + (1 - b2) g^2
        w <- w - learning_rate (m / c1) / (sqrt(v / c2) + epsilon)

    c1 and c2 correct for m and v starting at zero: they are what the same running means make
    of the constant 1, that is 1 - b1^t and 1 - b2^t after t steps. Weight decay is decoupled
    from the gradient (AdamW): w <- w - learning_rate weight_decay w first.

    Args:
        learning_rate: positive.
        beta1, beta2: in [0, 1).
        epsilon: positive.
        weight_decay: not negative.

    Raises:
        InputError: a value is out of its range.

    Source: Kingma and Ba, Adam, 2015; Loshchilov and Hutter, Decoupled weight decay
    regularization, 2019.
    """

    learning_rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_numbers(self)
        _check("beta1", self.beta1, 0 <= self.beta1 < 1, "in [0, 1)")
        _check("beta2", self.beta2, 0 <= self.beta2 < 1, "in [0, 1)")
        _check("epsilon", self.epsilon, self.epsilon > 0, "positive")

    def init(self, parameters: Parameters) -> Any:
        """(means, magnitudes, c1, c2), all zero."""
        like = parameters[0][1]
        # Two arrays, not one twice: a backend may give each buffer of the state away for reuse.
        c1, c2 = (
            namespace(like).zeros((), dtype=like.dtype, device=device(like)) for _ in range(2)
        )
        return _zeros_like(parameters), _zeros_like(parameters), c1, c2

    def update(
        self, parameters: Parameters, state: Any, gradients: Parameters, learning_rate: Any
    ) -> tuple[Parameters, Any]:
        """One step; see the class for the formula."""
        means, magnitudes, c1, c2 = state
        xp = namespace(parameters[0][1])
        c1 = self.beta1 * c1 + (1 - self.beta1)
        c2 = self.beta2 * c2 + (1 - self.beta2)
        # (m / c1) / (sqrt(v / c2) + eps) with the 0-d arithmetic taken out of the big arrays.
        root = xp.sqrt(c2)
        rate, epsilon = learning_rate * root / c1, self.epsilon * root
        new_parameters, new_means, new_magnitudes = [], [], []
        for layer, gradient, mean, magnitude in zip(
            parameters, gradients, means, magnitudes, strict=True
        ):
            if self.weight_decay:
                weight, bias = layer
                weight *= 1.0 - learning_rate * self.weight_decay
                layer = weight, bias
            new_layer, new_mean, new_magnitude = [], [], []
            for w, g, m, v in zip(layer, gradient, mean, magnitude, strict=True):
                m *= self.beta1
                m += (1 - self.beta1) * g
                v *= self.beta2
                v += (1 - self.beta2) * (g * g)
                w -= rate * m / (xp.sqrt(v) + epsilon)
                new_layer.append(w)
                new_mean.append(m)
                new_magnitude.append(v)
            new_parameters.append(tuple(new_layer))
            new_means.append(tuple(new_mean))
            new_magnitudes.append(tuple(new_magnitude))
        return new_parameters, (new_means, new_magnitudes, c1, c2)


OPTIMIZERS: dict[str, type] = {"sgd": SGD, "adam": Adam}


def optimizer(name: str, **hyperparameters: Any) -> Optimizer:
    """The optimizer called `name`, "sgd" or "adam", with these hyper-parameters.

    Raises:
        InputError: no optimizer has this name, or it does not take one of the hyper-parameters.
    """
    if name not in OPTIMIZERS:
        raise unknown_name("optimizer", name, OPTIMIZERS)
    known = [field.name for field in dataclasses.fields(OPTIMIZERS[name])]
    for key in hyperparameters:
        if key not in known:
            raise InputError(f"{name} has no {key.replace('_', ' ')}; it takes {', '.join(known)}")
    made: Optimizer = OPTIMIZERS[name](**hyperparameters)
    return made


def _zeros_like(parameters: Parameters) -> Parameters:
    return [
        (namespace(weight).zeros_like(weight), namespace(bias).zeros_like(bias))
        for weight, bias in parameters
    ]


def _check_numbers(hyperparameters: Any) -> None:
    """Every field a Python number (a NumPy scalar would upcast float32 arrays), then its range."""
    for field in dataclasses.fields(hyperparameters):
        if field.name == "nesterov":
            continue
        value = getattr(hyperparameters, field.name)
        try:
            object.__setattr__(hyperparameters, field.name, float(value))
        except (TypeError, ValueError):
            raise InputError(f"{field.name} must be a number, not {value!r}") from None
    rate, decay = hyperparameters.learning_rate, hyperparameters.weight_decay
    _check("learning_rate", rate, 0 <= rate < float("inf"), "finite and not negative")
    _check("weight_decay", decay, 0 <= decay < float("inf"), "finite and not negative")


def _check(name: str, value: float, valid: bool, range_: str) -> None:
    if not valid:
        raise InputError(f"{name} must be {range_}, not {value:g}")

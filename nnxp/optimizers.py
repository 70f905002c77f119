"""Optimizers: the update of the parameters from their gradients.

An optimizer has hyper-parameters and two functions. `init(parameters)` returns its state;
`update(parameters, state, gradients, learning_rate)` returns the new parameters and state.
`update` owns its arguments and may write into them, as a training step does: use only the arrays
that it returns. Parameters and gradients are lists of (weight, bias) pairs. The state is
nested lists and tuples of arrays, so that any backend can pass it through a compiled loop.
`learning_rate` is a number or a 0-d array, so that a compiled step can follow a schedule.

Weight decay applies to weights and not to biases.
"""

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any, Protocol

from nnxp import options
from nnxp.arrays import Array, device, namespace
from nnxp.errors import InputError, shown, unknown_name
from nnxp.registry import Registry

Parameters = list[tuple[Array, Array]]


class Optimizer(Protocol):
    """The interface of an optimizer. It must be hashable: it is a key for compiled steps.

    Example:
        >>> import nnxp
        >>> optimizer = nnxp.SGD(0.1)
        >>> optimizer.learning_rate, optimizer.is_plain
        (0.1, True)
    """

    def __hash__(self) -> int: ...

    @property
    def learning_rate(self) -> float:
        """The learning rate from which a schedule computes that of each epoch."""
        ...

    @property
    def is_plain(self) -> bool:
        """Whether an update is only w <- w - learning_rate g."""
        ...

    def init(self, parameters: Parameters) -> Any:
        """Return the state before the first step."""
        ...

    def update(
        self, parameters: Parameters, state: Any, gradients: Parameters, learning_rate: Any
    ) -> tuple[Parameters, Any]:
        """Return the parameters and the state after one step. May overwrite its arguments."""
        ...


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent: w <- w - learning_rate (g + weight_decay w).

    With momentum m, the velocity v replaces the gradient:

        v <- m v + g + weight_decay w        w <- w - learning_rate v

    and with `nesterov`, w <- w - learning_rate (g + weight_decay w + m v). With `rate_in_velocity`,
    learning_rate g replaces g in these formulas, and no factor learning_rate is left before v. At a
    constant rate both are the same; after a change of the rate, earlier steps keep theirs.

    Args:
        learning_rate: finite, not negative.
        momentum: in [0, 1).
        nesterov: whether to look ahead along the velocity, which needs momentum.
        weight_decay: not negative; adds the gradient of 1/2 weight_decay ||w||^2.
        rate_in_velocity: whether the velocity sums steps, as in Keras and scikit-learn, and not
            gradients, as in PyTorch.

    Raises:
        InputError: a value is out of its range, or `nesterov` is True without momentum.

    Source: Sutskever et al., On the importance of initialization and momentum in deep
    learning, 2013, who have the rate in the velocity.

    Example:
        >>> import nnxp
        >>> data = nnxp.datasets.load("digits")
        >>> network, optimizer = nnxp.MLP([64, 32, 10]), nnxp.SGD(0.1, momentum=0.9, nesterov=True)
        >>> history = nnxp.train(
        ...     network, data.x, data.y, optimizer=optimizer, epochs=3, batch_size=32
        ... )
        >>> network.evaluate(data.x_test, data.y_test)["accuracy"] > 0.9
        True
    """

    learning_rate: float = 0.1
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    rate_in_velocity: bool = False

    def __post_init__(self) -> None:
        options.check_fields(
            self,
            learning_rate=options.NOT_NEGATIVE,
            momentum=options.SHARE,
            nesterov=options.TRUTH,
            weight_decay=options.NOT_NEGATIVE,
            rate_in_velocity=options.TRUTH,
        )
        if self.nesterov and not self.momentum:
            raise InputError("nesterov needs momentum: set it to 0.9, say")

    @property
    def is_plain(self) -> bool:
        """True without momentum and weight decay."""
        return not self.momentum and not self.weight_decay

    def init(self, parameters: Parameters) -> Any:
        """Return the velocities, zero; an empty list without momentum."""
        return _zeros_like(parameters) if self.momentum else []

    def update(
        self, parameters: Parameters, state: Any, gradients: Parameters, learning_rate: Any
    ) -> tuple[Parameters, Any]:
        """Take one step by the formula of the class."""
        steps, new_state = [], []
        for layer, ((weight, _), (dweight, dbias)) in enumerate(
            zip(parameters, gradients, strict=True)
        ):
            if self.weight_decay:
                dweight += self.weight_decay * weight
            step = dweight, dbias
            if self.rate_in_velocity:
                step = _scaled(step, learning_rate)
            if self.momentum:
                (weight_velocity, dweight), (bias_velocity, dbias) = map(
                    self._accelerate, state[layer], step
                )
                new_state.append((weight_velocity, bias_velocity))
                step = dweight, dbias
            steps.append(step if self.rate_in_velocity else _scaled(step, learning_rate))
        return apply_updates(parameters, steps), new_state

    def _accelerate(self, velocity: Array, gradient: Array) -> tuple[Array, Array]:
        """Return the new velocity and the direction of the step. Overwrites the velocity."""
        velocity = _added(velocity, self.momentum, gradient)
        return velocity, gradient + self.momentum * velocity if self.nesterov else velocity


@dataclass(frozen=True)
class Adam:
    """Adam: steps along a running mean of the gradient, divided by its running magnitude.

        m <- b1 m + g        v <- b2 v + g^2        c1 <- b1 c1 + 1        c2 <- b2 c2 + 1
        w <- w - learning_rate (m / c1) / (sqrt(v / c2) + epsilon)

    m / c1 and v / c2 are the bias-corrected means of the paper. Unlike the paper's, m and v have
    no factors 1 - b1 and 1 - b2: these would cancel against those of c1 and c2. Weight decay is
    decoupled from the gradient (AdamW): each step starts with
    w <- w - learning_rate weight_decay w. With `raw_epsilon`, epsilon is added to the root of
    (1 - b2) v, which has no bias correction, as in Keras and scikit-learn; the update is
    learning_rate sqrt((1 - b2) c2) (m / c1) / (sqrt((1 - b2) v) + epsilon).

    Args:
        learning_rate: finite, not negative.
        beta1, beta2: in [0, 1).
        epsilon: positive.
        weight_decay: not negative.
        raw_epsilon: which of the paper's two formulas has epsilon: the one before section 2.1, if
            True, or that of algorithm 1.

    Raises:
        InputError: a value is out of its range.

    Source: Kingma and Ba, Adam, 2015; Loshchilov and Hutter, Decoupled weight decay
    regularization, 2019.

    Example:
        >>> import nnxp
        >>> network = nnxp.MLP([2, 4, 1], "tanh", "sigmoid")
        >>> x, t = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
        >>> adam = nnxp.Adam(0.1)
        >>> history = nnxp.train(network, x, t, optimizer=adam, epochs=100, batch_size=None)
        >>> network.predict_classes(x)
        array([0, 1, 1, 0])
    """

    learning_rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    raw_epsilon: bool = False

    def __post_init__(self) -> None:
        options.check_fields(
            self,
            learning_rate=options.NOT_NEGATIVE,
            beta1=options.SHARE,
            beta2=options.SHARE,
            epsilon=options.POSITIVE,
            weight_decay=options.NOT_NEGATIVE,
            raw_epsilon=options.TRUTH,
        )

    @property
    def is_plain(self) -> bool:
        """False."""
        return False

    def init(self, parameters: Parameters) -> Any:
        """Return the state (m, v, c1, c2), all zero."""
        like = parameters[0][1]
        # c1 and c2 are separate arrays because a backend may reuse each buffer of the state.
        c1, c2 = (
            namespace(like).zeros((), dtype=like.dtype, device=device(like)) for _ in range(2)
        )
        return _zeros_like(parameters), _zeros_like(parameters), c1, c2

    def update(
        self, parameters: Parameters, state: Any, gradients: Parameters, learning_rate: Any
    ) -> tuple[Parameters, Any]:
        """Take one step by the formula of the class."""
        ms, vs, c1, c2 = state
        xp = namespace(parameters[0][1])
        c1 = self.beta1 * c1 + 1.0
        c2 = self.beta2 * c2 + 1.0
        # This is (m / c1) / (sqrt(v / c2) + epsilon) with fewer operations on large arrays.
        root = xp.sqrt(c2)
        rate = learning_rate * root / c1
        epsilon = self.epsilon / sqrt(1.0 - self.beta2) if self.raw_epsilon else self.epsilon * root
        new_parameters, new_ms, new_vs = [], [], []
        for layer, gradient, layer_m, layer_v in zip(parameters, gradients, ms, vs, strict=True):
            if self.weight_decay:
                weight, bias = layer
                weight *= 1.0 - learning_rate * self.weight_decay
                layer = weight, bias
            new_layer, new_m, new_v = [], [], []
            for w, g, m, v in zip(layer, gradient, layer_m, layer_v, strict=True):
                m = _added(m, self.beta1, g)
                g *= g
                v = _added(v, self.beta2, g)
                step = xp.sqrt(v)
                step += epsilon
                step = m / step
                step *= rate
                w -= step
                new_layer.append(w)
                new_m.append(m)
                new_v.append(v)
            new_parameters.append(tuple(new_layer))
            new_ms.append(tuple(new_m))
            new_vs.append(tuple(new_v))
        return new_parameters, (new_ms, new_vs, c1, c2)


@dataclass(frozen=True)
class AdamW(Adam):
    """`Adam` with a weight decay of 0.01 unless another one is given.

    Example:
        >>> import nnxp
        >>> nnxp.AdamW(0.001).weight_decay, nnxp.Adam(0.001).weight_decay
        (0.01, 0.0)
    """

    weight_decay: float = 0.01


@dataclass(frozen=True)
class RMSprop:
    """RMSprop: steps along the gradient, divided by its running magnitude.

        g <- g + weight_decay w        v <- rho v + (1 - rho) g^2
        w <- w - learning_rate g / (sqrt(v) + epsilon)

    With momentum m, the velocity u <- m u + g / (sqrt(v) + epsilon) replaces the quotient.

    Args:
        learning_rate: finite, not negative.
        rho: in [0, 1).
        epsilon: positive.
        momentum: in [0, 1).
        weight_decay: not negative; adds the gradient of 1/2 weight_decay ||w||^2.

    Raises:
        InputError: a value is out of its range.

    Source: Tieleman and Hinton, Lecture 6.5, Coursera: Neural networks for machine learning, 2012.

    Example:
        >>> import nnxp
        >>> nnxp.RMSprop(0.01, momentum=0.9)
        RMSprop(learning_rate=0.01, rho=0.9, epsilon=1e-08, momentum=0.9, weight_decay=0.0)
    """

    learning_rate: float = 0.001
    rho: float = 0.9
    epsilon: float = 1e-8
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        options.check_fields(
            self,
            learning_rate=options.NOT_NEGATIVE,
            rho=options.SHARE,
            epsilon=options.POSITIVE,
            momentum=options.SHARE,
            weight_decay=options.NOT_NEGATIVE,
        )

    @property
    def is_plain(self) -> bool:
        """False."""
        return False

    def init(self, parameters: Parameters) -> Any:
        """Return the state (v, u), zero; u is an empty list without momentum."""
        return _zeros_like(parameters), _zeros_like(parameters) if self.momentum else []

    def update(
        self, parameters: Parameters, state: Any, gradients: Parameters, learning_rate: Any
    ) -> tuple[Parameters, Any]:
        """Take one step by the formula of the class."""
        squares, velocities = state
        steps, new_squares, new_velocities = [], [], []
        for layer, ((weight, _), (dweight, dbias)) in enumerate(
            zip(parameters, gradients, strict=True)
        ):
            if self.weight_decay:
                dweight += self.weight_decay * weight
            v_weight, dweight = self._normalize(squares[layer][0], dweight)
            v_bias, dbias = self._normalize(squares[layer][1], dbias)
            new_squares.append((v_weight, v_bias))
            if self.momentum:
                dweight = _added(velocities[layer][0], self.momentum, dweight)
                dbias = _added(velocities[layer][1], self.momentum, dbias)
                new_velocities.append((dweight, dbias))
            steps.append(_scaled((dweight, dbias), learning_rate))
        return apply_updates(parameters, steps), (new_squares, new_velocities)

    def _normalize(self, v: Array, g: Array) -> tuple[Array, Array]:
        """Return the new v and g / (sqrt(v) + epsilon). Overwrites v."""
        square = g * g
        square *= 1.0 - self.rho
        v = _added(v, self.rho, square)
        root = namespace(v).sqrt(v)
        root += self.epsilon
        return v, g / root


@dataclass(frozen=True)
class ClipNorm:
    """Clip the gradient to a norm before the update of another optimizer.

        g <- g max_norm / max(||g||_2, max_norm)

    The norm is that of the gradient with respect to all parameters. If it overflows, the parameters
    become NaN, which ends training with an error.

    Args:
        optimizer: takes the steps.
        max_norm: positive.

    Raises:
        InputError: `max_norm` is out of its range.

    Source: Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks,
    2013.

    Example:
        >>> import numpy as np
        >>> import nnxp
        >>> clipped = nnxp.ClipNorm(nnxp.SGD(1.0), max_norm=1.0)
        >>> parameters = [(np.zeros((2, 1)), np.zeros(1))]
        >>> gradients = [(np.array([[3.0], [4.0]]), np.zeros(1))]  # of norm 5
        >>> new, _ = clipped.update(parameters, clipped.init(parameters), gradients, 1.0)
        >>> new[0][0][:, 0]
        array([-0.6, -0.8])
    """

    optimizer: Optimizer
    max_norm: float

    def __post_init__(self) -> None:
        options.check_fields(self, max_norm=options.POSITIVE)

    @property
    def learning_rate(self) -> float:
        """That of the optimizer."""
        return self.optimizer.learning_rate

    @property
    def is_plain(self) -> bool:
        """False."""
        return False

    def init(self, parameters: Parameters) -> Any:
        """Return the optimizer's state."""
        return self.optimizer.init(parameters)

    def update(
        self, parameters: Parameters, state: Any, gradients: Parameters, learning_rate: Any
    ) -> tuple[Parameters, Any]:
        """Clip the gradients, then take the optimizer's step."""
        xp = namespace(gradients[0][0])
        # Flat, because a sum over two axes has an order that depends on how the array lies.
        flat = [xp.reshape(each * each, (-1,)) for layer in gradients for each in layer]
        squares = [xp.sum(each) for each in flat]
        norm = xp.sqrt(sum(squares[1:], start=squares[0]))
        factor = self.max_norm / xp.clip(norm, min=self.max_norm)
        factor += norm - norm  # 0, or NaN for a norm that overflowed
        clipped = []
        for dweight, dbias in gradients:
            dweight *= factor
            dbias *= factor
            clipped.append((dweight, dbias))
        return self.optimizer.update(parameters, state, clipped, learning_rate)


def without_rate(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer with learning rate 0, so that one compiled step serves all rates.

    A step has the rate as an argument. A user's own optimizer is returned unchanged.
    """
    if isinstance(optimizer, ClipNorm):
        return dataclasses.replace(optimizer, optimizer=without_rate(optimizer.optimizer))
    if type(optimizer) in (SGD, Adam, AdamW, RMSprop):
        return dataclasses.replace(optimizer, learning_rate=0.0)  # type: ignore[type-var]
    return optimizer


def apply_updates(parameters: Parameters, steps: Parameters) -> Parameters:
    """w <- w - step for every parameter. Overwrites the parameters."""
    updated = []
    for (weight, bias), (weight_step, bias_step) in zip(parameters, steps, strict=True):
        weight -= weight_step
        bias -= bias_step
        updated.append((weight, bias))
    return updated


OPTIMIZERS = Registry(
    "optimizer",
    {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop},
    "a class or function that makes an optimizer",
    callable,
)
"""What makes each optimizer from its hyper-parameters, by name."""


def get(name: str | Callable[..., Optimizer], **hyperparameters: Any) -> Optimizer:
    """Return the optimizer called `name`, one of `OPTIMIZERS`, with these hyper-parameters.

    `name` may also be what makes the optimizer, such as its class.

    Raises:
        InputError: no optimizer has this name, or it does not take one of the hyper-parameters.
    """
    if isinstance(name, str) and name not in OPTIMIZERS:
        raise unknown_name("optimizer", name, OPTIMIZERS)
    make = OPTIMIZERS[name] if isinstance(name, str) else name
    parameters = inspect.signature(make).parameters
    if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        for key in (key for key in hyperparameters if key not in parameters):
            raise InputError(
                f"{name} has no {key.replace('_', ' ')}; it takes {', '.join(parameters)}"
            )
    optimizer: Optimizer = make(**hyperparameters)
    if not is_optimizer(optimizer):
        raise InputError(f"optimizer {shown(name)} makes {shown(optimizer)}, which is no optimizer")
    return optimizer


def is_optimizer(value: Any) -> bool:
    """Return whether an object is an optimizer, by its methods."""
    return not isinstance(value, type) and hasattr(value, "update") and hasattr(value, "init")


def _optimizer(value: Any) -> Any:
    if is_optimizer(value):
        return value
    if not callable(value) and not isinstance(value, str):
        raise TypeError
    return get(value)


OPTIMIZER = options.Rule(
    "an optimizer, nnxp.SGD(0.1) or nnxp.Adam(), or the name or the class of one", _optimizer
)
"""The rule for arguments called `optimizer`."""


def _scaled(pair: tuple[Array, Array], factor: Any) -> tuple[Array, Array]:
    return factor * pair[0], factor * pair[1]


def _added(total: Array, decay: float, term: Array) -> Array:
    """total <- decay total + term. Overwrites the total."""
    total *= decay
    total += term
    return total


def _zeros_like(parameters: Parameters) -> Parameters:
    return [
        (namespace(weight).zeros_like(weight), namespace(bias).zeros_like(bias))
        for weight, bias in parameters
    ]

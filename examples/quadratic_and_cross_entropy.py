"""A badly wrong sigmoid neuron learns slowly from the quadratic cost, and fast from cross-entropy.

One neuron with weight 2 and bias 2 is to turn the input 1 into 0, at a learning rate of 0.15. Under
the quadratic cost the slope carries a factor y (1 - y), which is next to nothing where y is near 1:
the more wrong, the slower. Cross-entropy's slope is the error itself.

python examples/quadratic_and_cross_entropy.py [BACKEND]     (Nielsen, chapter 3)
"""

import sys

import nnxp

EPOCHS, SHOWN = 300, range(0, 301, 25)
backend = nnxp.backends.get(sys.argv[1] if len(sys.argv) > 1 else None)


def outputs(loss):
    """The neuron's output before training and after every epoch."""
    neuron = nnxp.MLP([1, 1], output="sigmoid", backend=backend, parameters=[([[2.0]], [2.0])])
    seen = [float(neuron.predict([[1.0]])[0, 0])]
    nnxp.train(
        neuron, [[1.0]], [0.0], loss=loss, optimizer=nnxp.SGD(0.15), epochs=EPOCHS, batch_size=None,
        callbacks=[lambda n, history: seen.append(float(n.predict([[1.0]])[0, 0])) or False],
    )  # fmt: skip
    return seen


quadratic, entropy = outputs("quadratic"), outputs("binary_cross_entropy")
print(f"The output of the neuron, on {backend.describe()}; it should become 0\n")
print("epoch   quadratic                             cross-entropy")
for epoch in SHOWN:
    bars = (f"{y:.3f} {'#' * round(30 * y):<31}" for y in (quadratic[epoch], entropy[epoch]))
    print(f"{epoch:5}   {' '.join(bars)}".rstrip())

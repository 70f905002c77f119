"""A badly wrong sigmoid neuron learns slowly from the quadratic cost, and fast from cross-entropy.

One neuron with weight 2 and bias 2 learns to turn the input 1 into 0, at a learning rate of 0.15.
The slope of the quadratic cost has a factor y (1 - y), which is almost zero where y is near 1: the
larger the error, the slower the neuron learns. The slope of cross-entropy is the error itself.

python examples/quadratic_and_cross_entropy.py [BACKEND [PICTURE]]     (Nielsen, chapter 3)
"""

import sys

from matplotlib.figure import Figure

import nnxp

EPOCHS = 300
backend = nnxp.backends.get(sys.argv[1] if len(sys.argv) > 1 else None)
picture = sys.argv[2] if len(sys.argv) > 2 else "costs.png"
figure = Figure(figsize=(7, 4), layout="constrained")
panel = figure.subplots()
print(f"The output of the neuron, on {backend.describe()}; it should become 0\n")
print("epoch            " + "".join(f"{epoch:>7}" for epoch in range(0, EPOCHS + 1, 50)))
for loss, line in (("quadratic", "-"), ("binary_cross_entropy", "--")):
    neuron = nnxp.MLP([1, 1], output="sigmoid", backend=backend, parameters=[([[2.0]], [2.0])])
    outputs = [float(neuron.predict([[1.0]])[0, 0])]
    nnxp.train(
        neuron, [[1.0]], [0.0], loss=loss, optimizer=nnxp.SGD(0.15), epochs=EPOCHS, batch_size=None,
        callbacks=[lambda n, _, seen=outputs: seen.append(float(n.predict([[1.0]])[0, 0]))],
    )  # fmt: skip
    name = loss.replace("binary_", "").replace("_", "-")
    print(f"{name:<17}" + "".join(f"{y:>7.3f}" for y in outputs[::50]))
    panel.plot(outputs, line, label=f"{name} cost")
panel.set(xlabel="epoch", ylabel="output of the neuron (target 0)", ylim=(0, 1))
panel.set_title("A sigmoid neuron that starts badly wrong: weight 2, bias 2, rate 0.15")
panel.legend()
figure.savefig(picture, dpi=150)
print(f"\nsaved {picture}")

"""One neuron learns AND, OR and NAND but cannot learn XOR; a network of two layers can.

python examples/perceptron.py [BACKEND]
"""

import sys

import nnxp

backend = nnxp.backends.get(sys.argv[1] if len(sys.argv) > 1 else None)
x = [[0, 0], [0, 1], [1, 0], [1, 1]]
gates = {"AND": [0, 0, 0, 1], "OR": [0, 1, 1, 1], "NAND": [1, 1, 1, 0], "XOR": [0, 1, 1, 0]}

print(f"The perceptron rule on {backend.describe()}\n")
print("gate   epochs   weights   threshold   outputs for 00 01 10 11")
for gate, t in gates.items():
    neuron = nnxp.Perceptron(2, backend=backend)
    try:
        epochs = neuron.train(x, t)
    except nnxp.NotSeparableError as error:
        print(f"{gate}: {error}")
        continue
    weights = " ".join(f"{float(neuron.weight[i]):g}" for i in range(2))
    outputs = " ".join(str(y) for y in neuron.predict(x))
    print(f"{gate:5}  {epochs:6}   {weights:7}   {0 - float(neuron.bias):9g}   {outputs}")

network = nnxp.MLP([2, 4, 1], hidden="tanh", output="sigmoid", backend=backend, seed=0)
optimizer = nnxp.SGD(1.0)
nnxp.train(network, x, gates["XOR"], optimizer=optimizer, epochs=100, batch_size=None)
print("\nXOR by two layers, 2-4-1, after 100 epochs:")
for row, y in zip(x, network.predict(x), strict=True):
    print(f"  {row} -> {y[0]:.3f}")

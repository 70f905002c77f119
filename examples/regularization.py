"""What keeps a network from learning its training data by heart, and how its weights may start.

Only 100 digits to train on, and all the test digits to compare with.

python examples/regularization.py [BACKEND]
"""

import sys

import nnxp
from nnxp.schedules import schedule

backend = nnxp.backends.get(sys.argv[1] if len(sys.argv) > 1 else None)
data = nnxp.datasets.load("digits")
x, y, held_out = data.x[:100], data.y[:100], (data.x_test, data.y_test)


def compare(what, initializer="auto", **options):
    """Train 64-64-10 one way, and print how well it does on what it has seen and on the rest."""
    network = nnxp.MLP([64, 64, 10], initializer=initializer, backend=backend)
    options = {"optimizer": nnxp.SGD(0.3), "epochs": 20, "batch_size": 10} | options
    history = nnxp.train(network, x, y, validation=held_out, **options)
    seen, new = network.evaluate(x, y), network.evaluate(*held_out)
    print(
        f"{what:<24} {len(history.epochs):>6} {seen['loss']:>10.4f} {new['loss']:>10.4f}"
        f" {new['accuracy']:>10.3f}"
    )


print(f"64-64-10 on 100 of the bundled digits, on {backend.describe()}\n")
print(f"{'':<24} {'epochs':>6} {'loss, seen':>10} {'loss, new':>10} {'accuracy':>10}")
compare("nothing")
compare("L1 0.0005", regularization=nnxp.Regularization(l1=0.0005))
compare("L2 0.002", regularization=nnxp.Regularization(l2=0.002))
compare("max-norm 2", regularization=nnxp.Regularization(max_norm=2.0))
compare("dropout 0.5", regularization=nnxp.Regularization(dropout=0.5))
compare("early stopping", callbacks=[nnxp.EarlyStopping(patience=5)])
compare("cosine with warm-up", schedule=schedule("cosine,warmup=5"))
for initializer in ("normal", "xavier", "he", "orthogonal"):
    compare(f"{initializer} weights", initializer)

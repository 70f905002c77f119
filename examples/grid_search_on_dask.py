"""Search for the best parameters of nnxp.sklearn.MLPClassifier on a cluster of dask.

python examples/grid_search_on_dask.py [BACKEND]     (pip install "nnxp[sklearn]" distributed)

Here the cluster is two processes on this machine. For one of many machines, give the client the
address of the scheduler, Client("tcp://scheduler:8786"); nnxp must be installed there, too.
"""

import os
import sys

import joblib
import numpy as np
from distributed import Client, LocalCluster
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nnxp import backends
from nnxp.sklearn import MLPClassifier

GRID = {
    "mlpclassifier__hidden_layer_sizes": [(32,), (64,)],
    "mlpclassifier__alpha": [1e-4, 1e-2],
}


def main(backend=None):
    """Print the mean score of each combination, as the workers computed it, and test the best."""
    x, x_test, t, t_test = train_test_split(*load_digits(return_X_y=True), random_state=0)
    network = MLPClassifier(
        learning_rate_init=0.02, max_iter=60, tol=0.02, random_state=0, backend=backend
    )
    search = GridSearchCV(make_pipeline(StandardScaler(), network), GRID, cv=3)

    # A worker has one thread, and dask lets BLAS use one: cores are divided, not shared.
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        processes = client.run(os.getpid)
        print(f"{len(processes)} workers, {backends.get(backend).describe()}\n")
        with joblib.parallel_config("dask", wait_for_workers_timeout=60):
            search.fit(x, t)

    order = np.argsort(search.cv_results_["rank_test_score"])
    for i in order:
        values = ", ".join(
            f"{name.removeprefix('mlpclassifier__')}={value}"
            for name, value in search.cv_results_["params"][i].items()
        )
        print(f"{values:40} accuracy {search.cv_results_['mean_test_score'][i]:.4f}")
    print(f"\nthe best, on {len(t_test)} other digits: {search.score(x_test, t_test):.4f}")


if __name__ == "__main__":  # dask starts its workers by importing this file
    main(*sys.argv[1:])

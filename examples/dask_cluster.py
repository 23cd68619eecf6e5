"""Many trainings on a cluster: a sweep whose networks train in the processes of Dask, here on this machine.

What one sees: a table of widths and learning rates, each trained from three seeds; and that the best network has the
same bits as when everything is trained in threads of this process. `LocalCluster` starts processes on this machine.
With `Client("tcp://scheduler:8786")` the same lines use a cluster: its machines need gdcore, and get the data once
each. A worker that dies costs the trainings that it was at.

Data: scikit-learn's 1,797 digits of 8 x 8 pixels.
"""

import gdcore as gd
import numpy as np
from distributed import Client, LocalCluster
from sklearn.datasets import load_digits

x, y = load_digits(return_X_y=True)
x, xv, y, yv = gd.train_validation_split(x / 16, y, fraction=0.25, seed=0, stratify=True)


def build(seed: int, width: int) -> gd.Sequential:
    return gd.Sequential(gd.Dense(64, width), gd.ReLU(), gd.Dense(width, 10), seed=seed)


def sweep(**where: object) -> gd.Sweep:
    return gd.sweep(
        build,
        {"width": [8, 32], "rate": [1e-3, 1e-2]},
        x,
        y,
        validation=(xv, yv),
        loss=gd.CrossEntropy(),
        optimizer=lambda rate: gd.Adam(rate),
        metrics=["accuracy"],
        monitor="val_accuracy",
        seeds=3,
        epochs=10,
        progress=False,
        **where,
    )


def main() -> None:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        result = sweep(executor=client)
    print(result)
    here = sweep().best.flat_parameters()
    print(f"the same bits as in threads: {np.array_equal(result.best.flat_parameters(), here)}")
    print(f"best validation accuracy: {result.best_start.value:.3f}")


if __name__ == "__main__":  # processes that start others import this file
    main()

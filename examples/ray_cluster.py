"""Many trainings on Ray: a sweep whose networks train in Ray's processes, here on this machine.

What one sees: the mean accuracy of each setting, and that the best network has the same bits as when everything is
trained in threads of this process. `ray.init()` starts processes on this machine; with an address it uses a cluster.
gdcore reaches Ray through joblib's backend for it, so that a dead worker's trainings are repeated by Ray.

Data: scikit-learn's 1,797 digits of 8 x 8 pixels. Needs ``pip install "gdcore[ray]"``.
"""

import gdcore as gd
import joblib
import numpy as np
import ray
from ray.util.joblib import register_ray
from sklearn.datasets import load_digits

x, y = load_digits(return_X_y=True)
x, xv, y, yv = gd.train_validation_split(x / 16, y, fraction=0.25, seed=0, stratify=True)


def build(seed: int, width: int) -> gd.Sequential:
    return gd.Sequential(gd.Dense(64, width), gd.ReLU(), gd.Dense(width, 10), seed=seed)


def sweep(**where: object) -> gd.Sweep:
    settings = {"width": [8, 32]}
    common = {"loss": gd.CrossEntropy(), "optimizer": gd.Adam(1e-2), "metrics": ["accuracy"], "progress": False}
    given = {"validation": (xv, yv), "monitor": "val_accuracy", "seeds": 3, "epochs": 5}
    return gd.sweep(build, settings, x, y, **given, **common, **where)


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    register_ray()
    with joblib.parallel_config("ray", n_jobs=2):
        result = sweep(within="joblib")
    ray.shutdown()
    print(result)
    same = np.array_equal(result.best.flat_parameters(), sweep().best.flat_parameters())
    print(f"the same bits as in threads: {same}")

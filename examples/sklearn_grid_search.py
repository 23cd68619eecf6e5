"""Search good settings with scikit-learn's tools: gdcore's classifier in a pipeline, in a grid search.

What one sees: the cross-validated accuracy of six settings on tumours that are benign or malignant, the test accuracy
of the best one, and a network trained by gdcore and by scikit-learn with the same loss curve. The network of the best
pipeline is saved to a file that can be read without scikit-learn.

Data: scikit-learn's 569 tumours with 30 measurements each.
"""

import warnings

import gdcore as gd
import numpy as np
from gdcore.sklearn import MLPClassifier
from sklearn import neural_network
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

warnings.simplefilter("ignore", ConvergenceWarning)  # 40 epochs are enough here
data = load_breast_cancer(as_frame=True)
labels = np.where(data.target == 1, "benign", "malignant")
x, x_test, y, y_test = train_test_split(data.data, labels, test_size=0.25, random_state=0, stratify=labels)

network = MLPClassifier(hidden_layer_sizes=(32,), learning_rate_init=0.01, max_iter=40, random_state=0)
pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), network)
settings = {"mlpclassifier__alpha": [1e-4, 1e-1, 10.0], "mlpclassifier__dropout": [0.0, 0.3]}
search = GridSearchCV(pipeline, settings, cv=4).fit(x, y)
for chosen, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
    print(f"alpha {chosen['mlpclassifier__alpha']:g}, dropout {chosen['mlpclassifier__dropout']}: accuracy {score:.3f}")
print(f"best: {search.best_params_}; test accuracy {search.score(x_test, y_test):.3f}")

scaled = StandardScaler().fit_transform(x)
options = {"hidden_layer_sizes": (32,), "solver": "sgd", "learning_rate_init": 0.01, "max_iter": 40, "random_state": 0}
ours, theirs = MLPClassifier(**options), neural_network.MLPClassifier(**options)
curves = [model.fit(scaled, y).loss_curve_ for model in (ours, theirs)]
print(f"largest difference to scikit-learn's loss curve: {np.abs(np.subtract(*curves)).max():.1e}")

search.best_estimator_[-1].model_.save("tumours.safetensors")
model = gd.load("tumours.safetensors")
first = search.best_estimator_[:-1].transform(x_test[:1])  # a frame: the file has the names of its columns
print(f"loaded again: the first test tumour is {model.predict_classes(first)[0]}; it was {y_test[0]}")

"""A frame with everything in it, to a calibrated classifier with a picture.

What one sees: how the columns are read, the test accuracy and log loss of the classifier, those of two guesses that are
perfect and blind, how well its probabilities hold, the most important columns, and predictions for customers whose city
is new and whose age is missing. `customers.png` has the importances; the saved model needs no scikit-learn.

Data: made here; whether a customer leaves depends on age, city, spending, plan, and the month of joining.
"""

import gdcore as gd
import numpy as np
import pandas as pd
from gdcore.sklearn import TabularClassifier
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.metrics import log_loss

random, n = np.random.default_rng(0), 3000
frame = pd.DataFrame(
    {
        "customer": [f"C{i:05}" for i in range(n)],  # never repeats: not used
        "age": np.where(random.random(n) < 0.1, np.nan, random.uniform(18, 80, n).round()),
        "city": pd.Categorical(random.choice([f"city {i}" for i in range(20)], n)),
        "plan": random.choice(["basic", "family", "business", None], n, p=[0.5, 0.3, 0.1, 0.1]),
        "spending": np.exp(random.normal(3, 1.5, n)),
        "newsletter": random.random(n) < 0.5,
        "joined": pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 2000, n), unit="D"),
    }
)
effect = np.random.default_rng(1).normal(0, 1, 20)[frame["city"].cat.codes] + 1.5 * (frame["plan"] == "basic")
effect += (
    np.log(frame["spending"]) * -0.6 + np.abs(frame["age"].fillna(80) - 45) / 15 + (frame["joined"].dt.month == 12)
)
chance = 1 / (1 + np.exp(-(effect - effect.median())))
leaves = np.where(random.random(n) < chance, "leaves", "stays")
train, test = np.arange(n) < 2000, np.arange(n) >= 2000

model = TabularClassifier(ensemble=4, random_state=0).fit(frame[train], leaves[train])
print(model.model_.columns())
calibrated = CalibratedClassifierCV(TabularClassifier(ensemble=2, random_state=0), cv=3).fit(
    frame[train], leaves[train]
)
blind, perfect = np.full(1000, (leaves[train] == "leaves").mean()), chance[test]
found = {"blind guess": blind, "network": model.predict_proba(frame[test])[:, 0]}
found |= {"calibrated": calibrated.predict_proba(frame[test])[:, 0], "true probability": perfect}
for name, probability in found.items():
    share, mean = calibration_curve(leaves[test] == "leaves", probability, n_bins=5, strategy="quantile")
    accuracy = ((probability > 0.5) == (leaves[test] == "leaves")).mean()
    loss, off = log_loss(leaves[test] == "leaves", probability), np.abs(share - mean).mean()
    print(f"{name}: accuracy {accuracy:.3f}, log loss {loss:.3f}, probabilities off by {off:.3f}")
importances = model.importances(frame[test], leaves[test], metric="roc_auc", random_state=0)
print(importances)
importances.plot("customers.png")

model.model_.save("customers.safetensors")
odd = frame[test][:3].assign(city="a new city", age=None)
print("new city, unknown age:", gd.load("customers.safetensors").predict_proba(odd)[:, 0].round(3))

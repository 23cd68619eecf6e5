"""A frame with everything in it, to a calibrated classifier with a picture.

What one sees: how the columns are read; the log loss on test rows of a blind guess, of the true probability and,
between the two, of the networks, alone and calibrated; how important each column is. `calibration.png` shows which
share of the customers leaves where the predicted probability is about 0.1, 0.3, ...

Data: made here; whether a customer leaves depends on age, city, spending, plan, and the month of joining.
"""

import numpy as np
import pandas as pd
from gdcore.sklearn import TabularClassifier
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

random, n = np.random.default_rng(0), 3000
frame = pd.DataFrame({"customer": [f"C{i:05}" for i in range(n)]})  # never repeats: not used
frame["age"] = np.where(random.random(n) < 0.1, np.nan, random.integers(18, 80, n))
frame["city"] = pd.Categorical([f"city {i}" for i in random.integers(0, 20, n)])
frame["plan"] = random.choice(["basic", "family", "business", None], n, p=[0.5, 0.3, 0.1, 0.1])
frame["spending"] = random.lognormal(3, 1.5, n)
frame["newsletter"] = random.random(n) < 0.5
frame["joined"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 2000, n), unit="D")

effect = random.normal(0, 1, 20)[frame["city"].cat.codes] + 1.5 * (frame["plan"] == "basic")
effect += np.abs(frame["age"].fillna(80) - 45) / 15 - 0.6 * np.log(frame["spending"]) + (frame["joined"].dt.month == 12)
chance = 1 / (1 + np.exp(effect.median() - effect))
leaves = np.where(random.random(n) < chance, "leaves", "stays")
x, x_test, y, y_test, _, truth = train_test_split(frame, leaves, chance, test_size=1000, random_state=0)

model = TabularClassifier(ensemble=4, random_state=0).fit(x, y)
calibrated = CalibratedClassifierCV(TabularClassifier(ensemble=2, random_state=0), cv=3).fit(x, y)
print(model.model_.columns())
shown = CalibrationDisplay.from_estimator(model, x_test, y_test, pos_label="leaves", name="networks")
CalibrationDisplay.from_estimator(calibrated, x_test, y_test, pos_label="leaves", name="calibrated", ax=shown.ax_)
shown.figure_.savefig("calibration.png")
guesses = {"blind guess": np.full(len(truth), (y == "leaves").mean()), "true probability": truth}
guesses |= {"networks": model.predict_proba(x_test)[:, 0], "calibrated": calibrated.predict_proba(x_test)[:, 0]}
for name, probability in guesses.items():
    print(f"{name}: log loss {log_loss(y_test == 'leaves', probability):.3f}")
print(model.importances(x_test, y_test, metric="roc_auc", random_state=0))

"""Train with a custom loss: predict a range instead of a number.

What one sees: the share of test patients whose outcome is in the predicted range, which should be near 80 %, and how
wide the ranges are. The network has three outputs, the 10 %, 50 % and 90 % quantiles of the outcome, and learns them
from the quantile (or pinball) loss (Koenker & Bassett 1978), of each row

    l = mean over the quantiles q of  max(q (t - y), (q - 1) (t - y)),

which gdcore does not have. Training needs the value of a loss and its gradient by the outputs, for each row:
`gd.CustomLoss` takes a function that returns both.

Data: scikit-learn's 442 diabetes patients, as in regression.py.
"""

import gdcore as gd
import numpy as np
from sklearn.datasets import load_diabetes

QUANTILES = np.array([0.1, 0.5, 0.9])


def quantile_loss(y: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return l (N,) for outputs y (N, 3) and targets t (N, 1), and the gradient of each l by its y, (N, 3)."""
    missing = t - y
    slope = np.where(missing > 0, -QUANTILES, 1 - QUANTILES)
    return np.mean(-slope * missing, axis=1), slope / y.shape[1]


x, y = load_diabetes(return_X_y=True, scaled=False)
x, x_test, y, y_test = gd.train_validation_split(x, y, fraction=0.25, seed=0)
scores = gd.Standardizer().fit(y[:, None])

model = gd.Sequential(gd.Standardizer().fit(x), gd.Dense(10, 32), gd.Tanh(), gd.Dense(32, 3), seed=0)
loss = gd.CustomLoss(quantile_loss, outputs="numbers", check_gradient=True)
trainer = gd.Trainer(model, loss, optimizer=gd.Adam(lr=2e-3, weight_decay=1e-2))
stopping = gd.EarlyStopping(patience=30)
trainer.fit(
    x, scores.transform(y[:, None]), epochs=1000, batch_size=32, validation=0.25, callbacks=[stopping, gd.Progress()]
)
print(f"best epoch: {stopping.best_epoch}, validation loss {stopping.best:.4f}")

low, middle, high = (model.predict(x_test) * scores.std + scores.mean).T  # in points again
inside = np.mean((low <= y_test) & (y_test <= high))
print(f"outcome inside the range from the 10 % to the 90 % quantile: {inside:.0%} of {len(x_test)} test patients")
print(f"width of the range: {np.mean(high - low):.0f} points on average, {np.ptp(y):.0f} points between all outcomes")
print(f"mean error of the 50 % quantile: {np.mean(np.abs(middle - y_test)):.1f} points")
for patient in range(3):
    print(f"patient {patient}: {low[patient]:.0f} to {high[patient]:.0f} points; it was {y_test[patient]:.0f}")

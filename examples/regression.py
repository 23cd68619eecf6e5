"""Predict a number instead of a class: how far diabetes will have progressed after a year.

What one sees: R² (1 is perfect, 0 no better than always answering the mean) and the mean error in the unit of the data,
once for a straight line (a single Dense layer) and once for a small network, on patients that were not used in
training. With so few patients and so much noise in the outcome the results are close.

Data: scikit-learn's 442 patients with 10 measurements each; the target is a score from 25 to 346.
"""

import gdcore as gd
from sklearn.datasets import load_diabetes

x, y = load_diabetes(return_X_y=True, scaled=False)  # years, kg/m², mmHg, ...: each feature has its own unit
x, x_test, y, y_test = gd.train_validation_split(x, y, fraction=0.25, seed=0)
x, x_val, y, y_val = gd.train_validation_split(x, y, fraction=0.25, seed=0)

# The model's first layer scales the inputs. The targets are scaled here, so that the initial outputs, near 0,
# are near the mean, and usual learning rates work; predictions are scaled back to the score.
scores = gd.Standardizer().fit(y[:, None])
inputs = gd.Standardizer().fit(x)

models = {
    "straight line": gd.Sequential(inputs, gd.Dense(10, 1), seed=0),
    "network": gd.Sequential(inputs, gd.Dense(10, 32), gd.Tanh(), gd.Dense(32, 1), seed=0),
}
for name, model in models.items():
    trainer = gd.Trainer(model, loss=gd.MeanSquaredError(), optimizer=gd.Momentum(lr=3e-3, weight_decay=1e-2))
    history = trainer.fit(
        x,
        scores.transform(y[:, None]),
        epochs=500,
        batch_size=32,
        validation=(x_val, scores.transform(y_val[:, None])),
        callbacks=[gd.EarlyStopping(patience=50), gd.Progress()],
    )
    predicted = scores.inverse_transform(model.predict(x_test))[:, 0]
    r2 = gd.metrics.r2(y_test, predicted)
    error = gd.metrics.mean_absolute_error(y_test, predicted)
    print(f"{name}: best epoch {history.best_epoch()}, test R² {r2:.3f}, mean error {error:.1f} points")

always_mean = gd.metrics.mean_absolute_error(y_test, scores.mean.repeat(len(y_test)))
print(f"always the mean: error {always_mean:.1f} points")

models["network"].save("regression.safetensors")
model = gd.load("regression.safetensors")
score = scores.inverse_transform(model.predict(x_test[:1]))[0, 0]
print(f"loaded again: the first test patient is predicted {score:.0f} points; it was {y_test[0]:.0f}")

"""Write the training loop by hand: mini-batches, steps, early stopping.

What one sees: the losses every few epochs, the epoch in which the loop stopped, and the test accuracy. `Trainer.fit`
does the same in one call and spends less time between the steps; a custom loop is for everything that `fit` does not
support. With the same seed and batch size both train on the same batches in the same order, so the last line finds the
same weights to the last bit.

Data: scikit-learn's 1,797 digits of 8 x 8 pixels.
"""

import gdcore as gd
import numpy as np
from sklearn.datasets import load_digits

x, y = load_digits(return_X_y=True)
x, x_test, y, y_test = gd.train_validation_split(x, y, fraction=0.2, seed=0, stratify=True)
x, x_val, y, y_val = gd.train_validation_split(x, y, fraction=0.2, seed=0, stratify=True)


def new_trainer() -> gd.Trainer:
    model = gd.Sequential(gd.Standardizer().fit(x), gd.Dense(64, 64), gd.ReLU(), gd.Dense(64, 10), seed=1)
    optimizer = gd.Momentum(lr=0.02, momentum=0.9, weight_decay=1e-3)
    return gd.Trainer(model, loss=gd.CrossEntropy(), optimizer=optimizer, metrics=["accuracy"])


trainer = new_trainer()
batches = gd.MiniBatches(x, y, batch_size=32, seed=1)  # a new order in each iteration
stopping = gd.EarlyStopping(patience=5, min_delta=1e-3)

for epoch in range(1, 201):
    losses = [trainer.step(xb, yb) for xb, yb in batches]  # each step returns the loss of its batch
    validation = trainer.evaluate(x_val, y_val)
    if epoch % 5 == 0:
        print(f"epoch {epoch:3}: training loss {np.mean(losses):.4f}, validation loss {validation['loss']:.4f}")
    if stopping.update(validation["loss"], trainer.model):  # keeps a copy of the best weights
        break
stopping.restore(trainer.model)
print(f"stopped after epoch {epoch}; the weights are those of epoch {stopping.best_epoch}")
print(f"test accuracy: {trainer.evaluate(x_test, y_test)['accuracy']:.4f}")

by_fit = new_trainer()
by_fit.fit(
    x, y, epochs=200, batch_size=32, validation=(x_val, y_val), callbacks=[gd.EarlyStopping(patience=5, min_delta=1e-3)]
)
same = np.array_equal(by_fit.model.flat_parameters(), trainer.model.flat_parameters())
print(f"fit finds the same weights, bit for bit: {same}")

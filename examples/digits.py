"""Recognise handwritten digits: from the data to a saved network, in a second or two.

What one sees: a progress line; the epoch with the smallest validation loss, whose weights are kept; the accuracy on
images that neither training nor early stopping has used; and the learning curve, saved as digits.png. The network is
saved as digits.safetensors, including the scaling of the pixels, loaded again, and used for one prediction.

Data: scikit-learn's 1,797 digits of 8 x 8 pixels.
"""

import gdcore as gd
from sklearn.datasets import load_digits

# 64 % of the images for training, 16 % for early stopping, 20 % for the test at the end.
x, y = load_digits(return_X_y=True)
x, x_test, y, y_test = gd.train_validation_split(x, y, fraction=0.2, seed=0, stratify=True)
x, x_val, y, y_val = gd.train_validation_split(x, y, fraction=0.2, seed=0, stratify=True)

model = gd.Sequential(
    gd.Standardizer().fit(x),  # mean and spread of the training images, saved with the model
    gd.Dense(64, 256),
    gd.BatchNorm(256),
    gd.ReLU(),
    gd.Dense(256, 10),
    seed=0,
)
print(model.summary())

trainer = gd.Trainer(
    model,
    loss=gd.CrossEntropy(label_smoothing=0.1),  # targets of 0.91 and 0.01: the loss cannot fall below 0.50
    optimizer=gd.Adam(lr=2e-3, weight_decay=1e-4),
    metrics=["accuracy"],
)
history = trainer.fit(
    x,
    y,
    epochs=200,
    batch_size=64,
    validation=(x_val, y_val),
    measure_training=True,  # at the end of the epoch, like the validation data, so that the curves are comparable
    callbacks=[gd.EarlyStopping(patience=20), gd.Progress()],
)
print(f"best epoch: {history.best_epoch()} of {history.epochs}; its weights are kept")

history.plot("digits.png")
print("learning curve: digits.png")

print(f"test accuracy: {trainer.evaluate(x_test, y_test)['accuracy']:.4f} on {len(x_test)} images")

model.save("digits.safetensors")
model = gd.load("digits.safetensors")
chance = model.predict_proba(x_test[:1])[0]
print(f"loaded again: the first test image is a {chance.argmax()} (p = {chance.max():.2f}); it is a {y_test[0]}")

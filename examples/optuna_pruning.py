"""Hyperparameters chosen by Optuna, which stops trainings early that are worse than others were at the same epoch.

What one sees: the best width, learning rate and batch size of 20 trials, and how many trainings were stopped early.
The callback `gd.OptunaPruning` tells Optuna the validation loss of each epoch, and ends the training if Optuna says so.
Two trials run at a time, each in a thread with one thread of gdcore: Optuna's own `n_jobs`.

Data: scikit-learn's 1,797 digits of 8 x 8 pixels.
"""

import gdcore as gd
import optuna
from sklearn.datasets import load_digits

EPOCHS = 12
x, y = load_digits(return_X_y=True)
x, xv, y, yv = gd.train_validation_split(x / 16, y, fraction=0.25, seed=0, stratify=True)


def objective(trial: optuna.Trial) -> float:
    width = trial.suggest_int("width", 4, 64, log=True)
    rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    model = gd.Sequential(gd.Dense(64, width), gd.ReLU(), gd.Dense(width, 10), seed=trial.number)
    trainer = gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.Adam(rate), metrics=["accuracy"])
    batch = trial.suggest_categorical("batch_size", [16, 32, 64])
    pruning = gd.OptunaPruning(trial)
    with gd.thread_limit(1):
        history = trainer.fit(x, y, epochs=EPOCHS, batch_size=batch, validation=(xv, yv), callbacks=[pruning])
    trial.set_user_attr("accuracy", history["val_accuracy"][-1])
    return history["val_loss"][-1]


optuna.logging.set_verbosity(optuna.logging.WARNING)
pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2)
study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0), pruner=pruner)
study.optimize(objective, n_trials=20, n_jobs=2)

pruned = study.get_trials(states=[optuna.trial.TrialState.PRUNED])
print(f"stopped early: {len(pruned)} of {len(study.trials)}")
print(f"best: {study.best_params}, validation loss {study.best_value:.3f}")
print(f"its validation accuracy: {study.best_trial.user_attrs['accuracy']:.3f}")

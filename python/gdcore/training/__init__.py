"""How `Trainer.fit` works: checked data, where batches come from, the loop over epochs, what is measured."""

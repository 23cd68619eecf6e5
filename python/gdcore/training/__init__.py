"""Implementation of `Trainer.fit`: data checks, batch sources, the loop over epochs, measurements."""

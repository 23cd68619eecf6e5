"""Parts of `Sequential`: layer checks and copies, predictions, scaling, frozen parameters, summary."""

"""Several models that predict together: their mean, their training, the choice among them."""

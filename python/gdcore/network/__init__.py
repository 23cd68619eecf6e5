"""What a `Sequential` is made of: its layers checked and copied, predictions, what is frozen, its summary."""

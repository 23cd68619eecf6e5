"""What leaves the process and comes back: safetensors files, models, checkpoints, parameters by name, PyTorch."""

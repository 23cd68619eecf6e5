"""Input and output: safetensors files, models, checkpoints, parameters by name, PyTorch."""

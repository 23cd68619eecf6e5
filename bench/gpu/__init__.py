"""How fast gdcore trains on a GPU, against the machine's limits and against other libraries: see bench/README.md."""

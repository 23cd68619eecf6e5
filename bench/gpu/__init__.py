"""Speed of gdcore on a GPU, compared with the machine's limits and with other libraries: see bench/README.md."""

"""Tools around training: restarts, the learning rate range test, weight decay that fits the scaling of the inputs."""

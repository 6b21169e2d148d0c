"""Speed of the environment and of training."""

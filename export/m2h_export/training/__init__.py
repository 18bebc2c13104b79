"""Training of the M2H networks: losses, balance of tasks, the trainer and its experiments."""

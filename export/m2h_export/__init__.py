"""The PyTorch side of M2H: networks, checkpoints, the deploy graph, engine building and parity."""

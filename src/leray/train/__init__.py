"""Training: texts and tokens, the state that the driver keeps, checkpoints, evaluation."""

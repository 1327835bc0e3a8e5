"""Trackers of a training: console, TensorBoard, Weights & Biases. The only importers of wandb and tensorboard."""

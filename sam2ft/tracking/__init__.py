"""Experiment trackers (logging of a training): console, TensorBoard, Weights & Biases. Only this package imports wandb
and tensorboard.
"""

"""Training: training loop, optimizer, learning rate schedule, EMA, early stopping, validation, checkpoints. The model
is in model/, samples are in data/samples, the job that runs a training is in jobs/.
"""

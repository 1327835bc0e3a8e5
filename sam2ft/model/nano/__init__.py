"""The nano SAM 2 model for tests and demos: configuration, weights and model card, written by tools/nano_train.py."""

"""The nano SAM 2 of tests and demos: its configuration, weights and model card. tools/nano_train.py makes them."""

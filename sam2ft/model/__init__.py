"""SAM 2 as a module: building it, what of it trains, losses, LoRA, weights, faster layers. `sam2` is imported in
segmenter.py and propagator.py alone. The training loop is in training/, prediction in evaluation/prediction.
"""

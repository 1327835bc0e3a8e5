"""SAM 2 as a torch module: model building, trainable parameters, losses, LoRA, pretrained weights, faster layers. Only
segmenter.py and propagator.py import `sam2`. The training loop is in training/, prediction in evaluation/prediction.
"""

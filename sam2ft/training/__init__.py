"""Training: the loop and all it is made of. The model is in model/, samples in data/samples, the job around it in
jobs/.
"""

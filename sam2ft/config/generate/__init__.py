"""Generators of signatures.json (constructor signatures of torch and MONAI) and of the JSON Schemas for editors. They
import torch and MONAI, which the loader must not; `make schema` runs them.
"""

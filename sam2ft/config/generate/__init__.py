"""Generated files: constructor signatures of torch and MONAI, and JSON Schemas for editors. They import what the
loader must not; `make schema` runs them.
"""

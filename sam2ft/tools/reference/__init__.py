"""Generator of docs/reference/: every key of experiment, dataset and site files from the schema, every command from its
parser. `make schema` writes the pages; tests check that every example loads.
"""

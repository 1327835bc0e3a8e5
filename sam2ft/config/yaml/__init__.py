"""Reading of YAML files into plain values with line numbers: scalars, `extends:`, overrides and validation messages."""

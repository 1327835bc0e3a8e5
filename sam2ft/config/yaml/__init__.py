"""YAML files as plain values with line numbers: scalars, `extends:`, overrides, and validation errors as sentences."""

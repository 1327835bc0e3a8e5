"""Command-line interface: one module per command, `sam2ft.cli.sweep` for `launch/sweep.py`. A command parses arguments,
calls one function and prints; code for other callers is in the other packages.
"""

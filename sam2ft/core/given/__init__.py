"""Paths that users give: what a file or folder is, and what to give instead where something else is expected."""

"""Files of volumes: one module per kind, and the table of readers by which a file is recognised and read."""

"""Failures of the operating system: failed reads and writes as messages, output streams that cannot be written."""

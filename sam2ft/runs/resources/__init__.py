"""What a point asks for (GPUs, cores, memory, hours), and which runs have comparable timings."""

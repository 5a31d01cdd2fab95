"""A simulation of the engine: the real workers on a fake clock, a fake machine and a real database, driven by a seed."""

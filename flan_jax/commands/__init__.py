"""The arguments of each command; imports nothing slow."""

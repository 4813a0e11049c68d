"""The network in memory, its faults, and the proxy that has the same."""

"""The test kit: a virtual clock, a network in memory, faults, and scenarios that replay.

For whoever tests timeouts without sleeping, netio's own tests first.
"""

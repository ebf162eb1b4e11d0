"""HAMi-core's shared-region file format.

- ``layouts``: the released layouts of the C structure, as ctypes, and how to tell them apart
- ``model``: what a region says, as values, and the reasons why a file can't be used
- ``reader``: reads a file that a hostile container may be writing
- ``control``: stores the two fields by which feedback steers a container
- ``writer``: writes a file as HAMi-core does, for the simulator and the tests

Names here are those of HAMi-core's sources (``hostpid``, ``sm_util``); everything right of here
uses our own.
"""

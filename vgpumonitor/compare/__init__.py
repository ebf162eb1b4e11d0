"""What two exporters serve differently, as ``vgpumonitor compare`` shows it:

- ``fetch``: both /metrics, asked again while they differ
- ``exposition``: a text as series
- ``kinds``: how far apart the values of a kind may be
- ``matching``: which series are the same, and whether they agree
- ``causes``: what differences have in common
- ``report``: the text for people
"""

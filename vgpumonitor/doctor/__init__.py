"""``vgpumonitor doctor``: what is wrong on this node, or on that of a running exporter.

``command`` is the command; ``node`` asks the sources once, as an exporter does at a scrape;
``traces`` looks at what an exporter can't or should not look at; ``exporter`` asks the one that
runs here; ``report`` is what comes out.
"""

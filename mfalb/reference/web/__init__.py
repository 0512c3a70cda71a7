"""What do the services that people meet in a browser have in common? Forms, the proof of their origin, and pages.

Pages are plain HTML that works without scripts: a language, one heading for each part, labels, a visible focus, colours
with contrast. It may not know any service.
"""

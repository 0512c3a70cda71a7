"""The sample relying party: what does an application do with a token of the AD FS farm?

It sends browsers to the farm, and takes in who comes back with a token that the farm signed, for this application, not
too old, begun by the same browser, and never shown before. It may not import other reference services: it knows the
farm's address and nothing else.
"""

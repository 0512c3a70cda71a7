"""What are the settings of each reference service? Frozen values, and the JSON file that each service reads.

The estate writes these files (mode 0600: they hold throw-away secrets) and starts each service as a process of its own,
so that "in this process's memory only" means what it says and a server can really be killed. One file for each
service, `values.py` for what several of them have in common, and `files.py` for the files themselves.
"""

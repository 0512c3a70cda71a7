"""Who opens connections to whom: what must a firewall between the hosts let through?

Core. Each tower tells of its own settings which doors they open and which calls they make (`values`); here that is
joined to one matrix (`matrix`) and written as rules (`nftables`). It stands below both towers because neither may know
the other, and a matrix needs both. May not: look up a name (a matrix is the same wherever it is printed; who is where is
told by a hosts file), open a file, or know what a service does.
"""

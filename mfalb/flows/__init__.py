"""Who opens connections to whom: what must a firewall between the hosts let through?

Core. Each tower tells which doors its own settings open and which calls they make (`values`); here that is joined to a
matrix (`matrix`) and written as rules (`nftables`). It stands below both towers because neither may know the other, and
a matrix needs both. May not: look up a name (a matrix is the same wherever it is printed; a hosts file tells who is
where), open a file, or know what a service does.
"""

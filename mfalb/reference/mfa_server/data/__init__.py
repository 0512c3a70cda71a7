"""What does the group know of its users? `PhoneFactor.pfdata`: one SQLite file on each server, written on one of them.

The master commits each change together with its changeset (SQLite's session extension) and its place in the order of
all changes, in one transaction; a slave applies a changeset and takes its place in one transaction as well. So whatever
moment a server dies at, its file says exactly how far it is, and going on from there is all that recovery is.

A place in the order is a sequence number that never goes back, and the epoch in which it was written: every promotion
begins an epoch. Two servers whose histories part show it by these numbers alone.
"""

"""The User Portal: a web site whose sessions live in this process's memory, so it needs stickiness."""

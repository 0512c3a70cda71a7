"""The User Portal: what does a web site look like that needs stickiness, and what happens without it?

Its sessions live in this process's memory only, as ASP.NET's do by default: a request that reaches another portal
finds no session there and is shown the login page again. Everything it knows of users it asks for, and has changed,
through the (balanced) Web Service SDK, as the real portal does; so it is a client of the balancer as well as a backend
behind it.

It may not import other reference services, and keeps nothing outside its process.
"""

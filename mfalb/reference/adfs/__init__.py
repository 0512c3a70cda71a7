"""A node of the AD FS farm: how do stateless servers sign somebody in whose code only one MFA Server knows?

No node keeps anything: what a sign-in has come to stands in its form, encrypted with the farm's key, so that the second
page may be answered by another node than the first. Each node asks the MFA Servers at the one balanced URL of the Web
Service SDK; that the code gets to the MFA Server that sent it is the balancer's work, and nobody else can do it:
the two calls come from two nodes, without cookies. Nodes speak TLS themselves: proxies before them only pass it on.

What comes out is a signed token (OpenID Connect's implicit flow with form_post), which a relying party checks with the
farm's public key. It may not import other reference services.
"""

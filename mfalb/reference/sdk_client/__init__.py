"""The caller's side of the Web Service SDK: how do portal, mobile app service and AD FS ask the MFA Servers?

All of them know one URL, the balanced one. This room turns each of its operations into a call: SOAP out, a value back,
and one of three errors, which say whose fault it is: the SDK gave no usable answer (at which of the four levels that
support looks at, MFA facts section 5.2), or the change needs a master that is away.

It keeps no cookies, as .NET's SOAP proxies do not; so what ties two calls is in their bodies. Nothing is ever sent
twice: a call may have rung a phone. It may not import services.
"""

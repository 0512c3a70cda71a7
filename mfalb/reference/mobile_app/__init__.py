"""The Mobile App Web Service: how does a phone's app become a second factor, and why must it meet one server twice?

An activation takes two calls: ActivateNew hands out a confirmation code, ConfirmActivation brings it back and stays
open until the answer to a test push has come, by PushAnswer, over a connection of its own. What is between them lives
in this process's memory only: another server does not know the code. The app is no browser and keeps no cookies, so a
balancer has nothing but the code to go by.

Everything that lasts is done by the MFA Servers, through the (balanced) Web Service SDK. It may not import other
reference services.
"""

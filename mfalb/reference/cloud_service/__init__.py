"""The cloud MFA Service: sends the texts, and counts every one: the oracle "the phone rang exactly once"."""

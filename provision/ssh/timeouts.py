"""How long the toolkit waits for a host that it connects to."""

CONNECT_TIMEOUT = 10.0  # seconds for TCP
LOGIN_TIMEOUT = 15.0  # seconds for each of key exchange, authentication, channel and command
SEND_TIMEOUT = 60.0  # seconds until a host has taken what is sent at once, 256 KiB at most

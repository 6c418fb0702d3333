"""How long the toolkit waits for a host that it connects to."""

CONNECT_TIMEOUT = 10.0  # seconds for TCP
LOGIN_TIMEOUT = 15.0  # seconds for each of banner, authentication and channel

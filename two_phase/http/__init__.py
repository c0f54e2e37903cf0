"""The protocol over HTTP: paths, the client, and the endpoints of both sides."""

"""HTTP/2 for one server-streaming call: frames and states without a socket (`frames`, `call`), and the socket
(`transport`)."""

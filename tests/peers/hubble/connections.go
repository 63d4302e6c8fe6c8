package main

import (
	"net"
	"sync"

	"github.com/cilium/cilium/pkg/hubble/server/serveroption"
)

// connections is a listener that knows its open connections, to cut them below TLS and gRPC.
type connections struct {
	net.Listener
	mutex sync.Mutex
	open  map[*connection]struct{}
}

// wrapListener puts a connections between the listener set by an earlier option and the server.
func wrapListener(c *connections) serveroption.Option {
	return func(options *serveroption.Options) error {
		c.Listener, c.open = options.Listener, map[*connection]struct{}{}
		options.Listener = c
		return nil
	}
}

// Accept implements net.Listener.
func (c *connections) Accept() (net.Conn, error) {
	raw, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	accepted := &connection{Conn: raw, of: c}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.open[accepted] = struct{}{}
	return accepted, nil
}

// cut closes every open connection without a word of TLS or HTTP/2, TCP ones with a reset, and gives
// how many there were.  New ones are accepted as before.
func (c *connections) cut() int {
	c.mutex.Lock()
	var cutting []*connection
	for one := range c.open {
		cutting = append(cutting, one)
	}
	c.mutex.Unlock()
	for _, one := range cutting {
		if tcp, ok := one.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // fails only on a closed connection
		}
		_ = one.Close()
	}
	return len(cutting)
}

func (c *connections) count() int {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return len(c.open)
}

// connection is one of them.
type connection struct {
	net.Conn
	of *connections
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.of.mutex.Lock()
	delete(c.of.open, c)
	c.of.mutex.Unlock()
	return c.Conn.Close()
}

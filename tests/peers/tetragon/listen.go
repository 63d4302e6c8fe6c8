package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

const unixScheme = "unix://"

// socketMode is the mode the daemon gives its socket.
const socketMode = 0o660

// listener remembers its connections, so that they can be cut.
type listener struct {
	net.Listener
	name  string // what a client connects to
	path  string // of the unix socket, if it is one
	inode os.FileInfo
	mu    sync.Mutex
	conns map[*conn]struct{}
}

type conn struct {
	net.Conn
	owner *listener
}

// listen opens `unix:///abs/path` or `host:port`.
func listen(address string) (*listener, error) {
	l := &listener{conns: map[*conn]struct{}{}}
	path, isUnix := strings.CutPrefix(address, unixScheme)
	if !isUnix {
		inner, err := net.Listen("tcp", address)
		if err != nil {
			return nil, err
		}
		l.Listener, l.name = inner, inner.Addr().String()
		return l, nil
	}
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("%s: not an absolute path", address)
	}
	l.name, l.path = address, path
	return l, l.listenUnix()
}

// listenUnix makes the socket under a temporary name and renames it, as the daemon does: the path never
// names a socket nobody listens on, and a restart replaces the file rather than reusing it.
func (l *listener) listenUnix() error {
	temporary := filepath.Join(filepath.Dir(l.path), fmt.Sprintf(".tp%d", os.Getpid()))
	if err := os.Remove(temporary); err != nil && !os.IsNotExist(err) {
		return err
	}
	inner, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return err
	}
	inner.SetUnlinkOnClose(false)
	l.Listener = inner
	if err = os.Chmod(temporary, socketMode); err == nil {
		if err = os.Rename(temporary, l.path); err == nil {
			l.inode, err = os.Stat(l.path)
			return err
		}
	}
	os.Remove(temporary)
	return err
}

// removeFile takes the unix socket away, unless a successor has put its own there.
func (l *listener) removeFile() {
	if l.path == "" {
		return
	}
	if now, err := os.Stat(l.path); err == nil && os.SameFile(now, l.inode) {
		os.Remove(l.path)
	}
}

func (l *listener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, owner: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
	return c, nil
}

func (c *conn) Close() error {
	c.owner.mu.Lock()
	delete(c.owner.conns, c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}

// cut closes every connection under gRPC's feet: no GOAWAY, no trailers, and a reset where there is TCP.
func (l *listener) cut() int {
	l.mu.Lock()
	conns := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	for _, c := range conns {
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		c.Close()
	}
	return len(conns)
}

// tlsConfig reads the files for every new handshake, so that a test can rotate them; once now, too, so
// that a wrong path is an error at start.
func tlsConfig(o serveOptions) (*tls.Config, error) {
	load := func() (*tls.Config, error) {
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return nil, err
		}
		config := &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}
		if o.clientCA != "" {
			pem, err := os.ReadFile(o.clientCA)
			if err != nil {
				return nil, err
			}
			config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
			if !config.ClientCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("%s: no certificate in it", o.clientCA)
			}
		}
		return config, nil
	}
	config, err := load()
	if err != nil {
		return nil, err
	}
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return load() }
	return config, nil
}

package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"

	"github.com/cilium/cilium/pkg/hubble/parser"
	"github.com/cilium/cilium/pkg/hubble/parser/getters"
	"github.com/cilium/cilium/pkg/hubble/testutils"
	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/ipcache"
	"github.com/cilium/cilium/pkg/labels"
)

// nameCache stands in for the DNS cache the agent keeps per endpoint, filled by its DNS proxy: only
// from here do flows get destination_names.
type nameCache struct {
	mutex sync.RWMutex
	names map[nameKey][]string
}

type nameKey struct {
	endpoint uint32
	address  netip.Addr
}

func newNameCache() *nameCache { return &nameCache{names: map[nameKey][]string{}} }

// learn notes that the endpoint resolved name to address; names are kept without the trailing dot.
func (c *nameCache) learn(endpoint uint16, address netip.Addr, name string) {
	key := nameKey{uint32(endpoint), address}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.names[key] = []string{strings.TrimSuffix(name, ".")}
}

// GetNamesOf implements getters.DNSGetter.
func (c *nameCache) GetNamesOf(endpoint uint32, address netip.Addr) []string {
	c.mutex.RLock()
	defer c.mutex.RUnlock()
	return c.names[nameKey{endpoint, address}]
}

// links names the host side of a pod's veth pair.
type links struct{}

// Name implements getters.LinkGetter.
func (links) Name(index uint32) string { return fmt.Sprintf("lxc%08x", index) }

// GetIfNameCached implements getters.LinkGetter.
func (l links) GetIfNameCached(index int) (string, bool) { return l.Name(uint32(index)), true }

// newParser is Cilium's parser, looking up endpoints, identities and addresses in our inventory.
//
// It knows no Services: none of the recorded flows of real clusters we hold names one, since packets
// carry the backend's address by the time they are traced.
func newParser(log *slog.Logger, names *nameCache) (*parser.Parser, error) {
	endpoints := map[string]getters.EndpointInfo{}
	endpointsByID := map[uint16]getters.EndpointInfo{}
	identities := map[uint32]*identity.Identity{}
	byAddress := map[string]pod{}
	for _, p := range pods {
		byAddress[p.ip] = p
		identities[p.identity] = identity.NewIdentity(
			identity.NumericIdentity(p.identity), labels.NewLabelsFromModel(p.labels()))
		if p.local {
			endpoint := p.endpoint()
			endpoints[p.ip], endpointsByID[p.id] = endpoint, endpoint
		}
	}
	endpointGetter := &testutils.FakeEndpointGetter{
		OnGetEndpointInfo: func(address netip.Addr) (getters.EndpointInfo, bool) {
			endpoint, found := endpoints[address.String()]
			return endpoint, found
		},
		OnGetEndpointInfoByID: func(id uint16) (getters.EndpointInfo, bool) {
			endpoint, found := endpointsByID[id]
			return endpoint, found
		},
	}
	identityGetter := &testutils.FakeIdentityGetter{
		OnGetIdentity: func(id uint32) (*identity.Identity, error) {
			if known, found := identities[id]; found {
				return known, nil
			}
			if reserved := identity.LookupReservedIdentity(identity.NumericIdentity(id)); reserved != nil {
				return reserved, nil
			}
			return nil, fmt.Errorf("identity %d not found", id)
		},
	}
	addressGetter := &testutils.FakeIPGetter{
		OnGetK8sMetadata: func(address netip.Addr) *ipcache.K8sMetadata {
			if p, found := byAddress[address.String()]; found {
				return &ipcache.K8sMetadata{Namespace: p.namespace, PodName: p.name}
			}
			return nil
		},
		OnLookupSecIDByIP: func(address netip.Addr) (ipcache.Identity, bool) {
			if p, found := byAddress[address.String()]; found {
				return ipcache.Identity{ID: identity.NumericIdentity(p.identity)}, true
			}
			return ipcache.Identity{ID: identity.ReservedIdentityWorld}, true
		},
	}
	return parser.New(log, endpointGetter, identityGetter, names, addressGetter,
		&testutils.NoopServiceGetter, links{}, &testutils.NoopPodMetadataGetter)
}

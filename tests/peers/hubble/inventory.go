package main

import (
	"fmt"
	"net"
	"strings"

	"github.com/cilium/cilium/pkg/hubble/testutils"
	"github.com/cilium/cilium/pkg/identity"
	ciliumutils "github.com/cilium/cilium/pkg/k8s/apis/cilium.io/utils"
	slim_corev1 "github.com/cilium/cilium/pkg/k8s/slim/k8s/api/core/v1"
	slim_metav1 "github.com/cilium/cilium/pkg/k8s/slim/k8s/apis/meta/v1"
	"github.com/cilium/cilium/pkg/labels"
	"github.com/cilium/cilium/pkg/option"
	policytypes "github.com/cilium/cilium/pkg/policy/types"
)

// pod is one endpoint of the cluster the peer pretends to see.
//
// A pod of this node (local) has an endpoint id and a workload.  A pod of another node is known to an
// agent only by identity and address, so its flows carry labels and a name but no id and no workload.
type pod struct {
	namespace, name string
	label           string // the label that names the application, key=value
	ownerKind       string // StatefulSet or ReplicaSet
	ownerName       string // for a ReplicaSet: <deployment>-<hash>
	ip              string
	id              uint16
	identity        uint32
	local           bool
}

var (
	notebook = pod{"apps", "notebook-0", "app=notebook",
		"StatefulSet", "notebook", "10.0.1.10", 1001, 20001, true}
	litellm = pod{"llm", "litellm-7d4b9c6f5d-x8k2p", "app.kubernetes.io/name=litellm",
		"ReplicaSet", "litellm-7d4b9c6f5d", "10.0.1.11", 1002, 20002, true}
	vllm = pod{"models", "vllm-0", "app=vllm",
		"StatefulSet", "vllm", "10.0.1.12", 1003, 20003, true}
	coredns = pod{"kube-system", "coredns-6f6b679f8f-ddddd", "k8s-app=kube-dns",
		"ReplicaSet", "coredns-6f6b679f8f", "10.0.2.20", 0, 20004, false}

	pods = []pod{notebook, litellm, vllm, coredns}
)

const (
	litellmPort = 4000
	vllmPort    = 8000
	httpsPort   = 443
	dnsPort     = 53
)

// podNamed gives the pod whose "namespace/name" starts with prefix.
func podNamed(prefix string) (pod, error) {
	for _, p := range pods {
		if strings.HasPrefix(p.namespace+"/"+p.name, prefix) {
			return p, nil
		}
	}
	return pod{}, fmt.Errorf("no pod of the inventory starts with %q", prefix)
}

// labels are what the agent derives from pod, namespace and service account.
func (p pod) labels() []string {
	return []string{
		"k8s:" + p.label,
		"k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=" + p.namespace,
		"k8s:io.cilium.k8s.policy.cluster=" + option.Config.ClusterName,
		"k8s:io.cilium.k8s.policy.serviceaccount=default",
		"k8s:io.kubernetes.pod.namespace=" + p.namespace,
	}
}

// object is the part of the Pod from which Cilium guesses the workload: kind and name of the owner.
func (p pod) object() *slim_corev1.Pod {
	isController := true
	key, value, _ := strings.Cut(p.label, "=")
	object := &slim_corev1.Pod{ObjectMeta: slim_metav1.ObjectMeta{
		Namespace: p.namespace, Name: p.name, GenerateName: p.ownerName + "-",
		Labels: map[string]string{key: value},
		OwnerReferences: []slim_metav1.OwnerReference{{
			Kind: p.ownerKind, Name: p.ownerName, Controller: &isController,
		}},
	}}
	if p.ownerKind == "ReplicaSet" {
		hash := p.ownerName[strings.LastIndex(p.ownerName, "-")+1:]
		object.Labels["pod-template-hash"] = hash
	}
	return object
}

// endpoint is the pod as the agent's endpoint manager holds it.
func (p pod) endpoint() *testutils.FakeEndpointInfo {
	return &testutils.FakeEndpointInfo{
		ID: uint64(p.id), Identity: identity.NumericIdentity(p.identity), IPv4: net.ParseIP(p.ip),
		PodNamespace: p.namespace, PodName: p.name, Labels: p.labels(), Pod: p.object(),
		PolicyMap: p.policies(), PolicyRevision: 7,
	}
}

// policies says which rule allowed what, so that forwarded verdicts name it in *_allowed_by: HTTPS to the
// world from every pod, anybody to the model server's port.  A verdict of default deny matches none.
func (p pod) policies() map[policytypes.Key]labels.LabelArrayListString {
	rule := func(name string) labels.LabelArrayListString {
		const uid = "5d0e3a52-0000-4000-8000-000000000000"
		kind := ciliumutils.ResourceTypeCiliumNetworkPolicy
		return labels.LabelArrayList{ciliumutils.GetPolicyLabels(p.namespace, name, uid, kind)}.ArrayListString()
	}
	toWorld := policytypes.EgressKey().WithIdentity(identity.ReservedIdentityWorld).WithTCPPort(httpsPort)
	allowed := map[policytypes.Key]labels.LabelArrayListString{toWorld: rule("https-out")}
	if p.name == vllm.name {
		allowed[policytypes.IngressKey().WithTCPPort(vllmPort)] = rule("serve-models")
	}
	return allowed
}

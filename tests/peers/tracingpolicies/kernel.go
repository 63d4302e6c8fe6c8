package main

import (
	"errors"
	"fmt"
	"strings"

	ebtf "github.com/cilium/ebpf/btf"
	"github.com/cilium/tetragon/pkg/api/tracingapi"
	"github.com/cilium/tetragon/pkg/arch"
	"github.com/cilium/tetragon/pkg/btf"
	"github.com/cilium/tetragon/pkg/k8s/apis/cilium.io/v1alpha1"
	"github.com/cilium/tetragon/pkg/ksyms"
)

// kernel is what a kernel says of its own types (BTF).
type kernel struct {
	types *ebtf.Spec
	task  ebtf.Type
}

func kernelOf(file string) (*kernel, error) {
	types, err := ebtf.LoadSpec(file)
	if err != nil {
		return nil, err
	}
	named, err := types.AnyTypesByName("task_struct")
	if err != nil {
		return nil, err
	}
	for _, one := range named { // the daemon, too, takes the first
		if _, ok := one.(*ebtf.Struct); ok {
			return &kernel{types, one}, nil
		}
	}
	return nil, errors.New("no task_struct")
}

// examine asks what the daemon asks before it loads a hook. It says "fits", "missing" for a function that may be missing,
// or that of which the daemon only warns. What the daemon would go on with, and no warning is, is refused here.
func (k *kernel) examine(probe *v1alpha1.KProbeSpec) (string, error) {
	for _, data := range probe.Data {
		if err := k.find(data); err != nil {
			return "", err
		}
	}
	call := probe.Call
	if probe.Syscall {
		prefixed, err := arch.AddSyscallPrefix(call)
		if err != nil {
			return "", err
		}
		call = prefixed
	}
	// Functions of loadable modules are looked up in their own types; there is none among ours that must be one.
	err := btf.ValidateKprobeSpec(k.types, call, probe, &ksyms.Ksyms{})
	var warning *btf.ValidationWarnError
	switch {
	case err == nil:
		return "fits", nil
	case errors.As(err, &warning):
		return warning.Unwrap().Error(), nil
	case probe.Ignore != nil && probe.Ignore.CallNotFound && errors.Is(err, ebtf.ErrNotFound):
		return "missing", nil
	}
	return "", err
}

// find follows a path from the current task, and compares the type at its end.
func (k *kernel) find(data v1alpha1.KProbeArg) error {
	if data.Source != "current_task" {
		return fmt.Errorf("data of %q", data.Source)
	}
	var steps [tracingapi.MaxBTFArgDepth]tracingapi.ConfigBTFArg
	path := strings.Split(data.Resolve, ".")
	if len(path) > len(steps) {
		return fmt.Errorf("%s: more than %d steps", data.Resolve, len(steps))
	}
	found, err := btf.ResolveBTFPath(&steps, k.task, path, 0)
	if err != nil {
		return err
	}
	// The daemon knows no type by the name of this one and takes ours, so the size is compared.
	if number, ok := (*found).(*ebtf.Int); !ok || number.Size != 4 || data.Type != "uint32" {
		return fmt.Errorf("%s is %v and no %s", data.Resolve, *found, data.Type)
	}
	return nil
}

// Compiles the selectors of TracingPolicies by Tetragon's own code, as the daemon does before it loads a hook: types,
// operators, values, limits. With a kernel's description of its types (BTF) it also asks whether that kernel has the
// functions, and whether their arguments are what the policy takes them for. Nothing is loaded.
//
//	tracingpolicies [-btf /sys/kernel/btf/vmlinux] FILE.yaml ...
//
// One line of JSON for each hook; the first mistake ends it.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"

	gt "github.com/cilium/tetragon/pkg/generictypes"
	"github.com/cilium/tetragon/pkg/idtable"
	"github.com/cilium/tetragon/pkg/k8s/apis/cilium.io/v1alpha1"
	"github.com/cilium/tetragon/pkg/selectors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// The daemon takes no more arguments of a hook, and none beyond the fifth.
const mostArguments = 5

type policy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		PodSelector *metav1.LabelSelector `json:"podSelector,omitempty"`
		KProbes     []v1alpha1.KProbeSpec `json:"kprobes,omitempty"`
	} `json:"spec"`
}

type hook struct {
	Policy    string `json:"policy"`
	Call      string `json:"call"`
	Arguments int    `json:"arguments"`
	Selectors int    `json:"selectors"`
	Kernel    string `json:"kernel,omitempty"`
}

func checkArguments(probe *v1alpha1.KProbeSpec) error {
	all := slices.Concat(probe.Args, probe.Data)
	if len(all) > mostArguments {
		return fmt.Errorf("%d arguments", len(all))
	}
	for _, argument := range all {
		isKnown := gt.GenericTypeFromString(argument.Type) != gt.GenericInvalidType ||
			gt.GenericUserTypeFromString(argument.Type) != gt.GenericInvalidType
		if !isKnown || argument.Index >= mostArguments {
			return fmt.Errorf("argument %d of type %q", argument.Index, argument.Type)
		}
	}
	return nil
}

func compile(probe *v1alpha1.KProbeSpec) error {
	if err := checkArguments(probe); err != nil {
		return err
	}
	_, err := selectors.InitKernelSelectorState(&selectors.KernelSelectorArgs{
		Selectors:      probe.Selectors,
		Args:           probe.Args,
		Data:           probe.Data,
		ActionArgTable: &idtable.Table{},
		Maps:           &selectors.KernelSelectorMaps{},
		CelExprs:       &selectors.CelExprFunctions{},
	})
	return err
}

func read(file string) (*policy, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var found policy
	if err := yaml.UnmarshalStrict(text, &found); err != nil {
		return nil, err
	}
	if found.APIVersion != "cilium.io/v1alpha1" || found.Kind != "TracingPolicy" {
		return nil, fmt.Errorf("is %s %s", found.APIVersion, found.Kind)
	}
	return &found, nil
}

func examine(file string, in *kernel, out *json.Encoder) error {
	found, err := read(file)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for i := range found.Spec.KProbes {
		probe := &found.Spec.KProbes[i]
		if seen[probe.Call] {
			return fmt.Errorf("%s: twice, which kprobe_multi refuses", probe.Call)
		}
		seen[probe.Call] = true
		if err := compile(probe); err != nil {
			return fmt.Errorf("%s: %w", probe.Call, err)
		}
		told := ""
		if in != nil {
			if told, err = in.examine(probe); err != nil {
				return fmt.Errorf("%s: %w", probe.Call, err)
			}
		}
		if err := out.Encode(hook{found.Name, probe.Call, len(probe.Args), len(probe.Selectors), told}); err != nil {
			return err
		}
	}
	return nil
}

func run(types string, files []string) error {
	var in *kernel
	if types != "" {
		var err error
		if in, err = kernelOf(types); err != nil {
			return fmt.Errorf("%s: %w", types, err)
		}
	}
	out := json.NewEncoder(os.Stdout)
	for _, file := range files {
		if err := examine(file, in, out); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

func main() {
	types := flag.String("btf", "", "a kernel's description of its types")
	flag.Parse()
	if err := run(*types, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

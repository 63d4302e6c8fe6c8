// Prints the objects that a kustomization or a Helm chart makes, as YAML, by the projects' own code and without a cluster.
//
//	manifests kustomize DIRECTORY
//	manifests helm CHART [VALUES.yaml ...]
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// The release is named as the README names it.
var release = chartutil.ReleaseOptions{Name: "reeve", Namespace: "reeve-system", Revision: 1, IsInstall: true}

func kustomize(directory string) (string, error) {
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), directory)
	if err != nil {
		return "", err
	}
	text, err := made.AsYaml()
	return string(text), err
}

func helm(directory string, files []string) (string, error) {
	found, err := loader.LoadDir(directory)
	if err != nil {
		return "", err
	}
	given := map[string]interface{}{}
	for _, file := range files {
		one, err := chartutil.ReadValuesFile(file)
		if err != nil {
			return "", err
		}
		given = chartutil.CoalesceTables(one, given) // a later file over the former
	}
	// Also checks them against values.schema.json.
	values, err := chartutil.ToRenderValues(found, given, release, chartutil.DefaultCapabilities)
	if err != nil {
		return "", err
	}
	rendered, err := engine.Engine{Strict: true}.Render(found, values)
	if err != nil {
		return "", err
	}
	names := make([]string, 0, len(rendered))
	for name := range rendered {
		if strings.HasSuffix(name, ".yaml") {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	var text strings.Builder
	for _, name := range names {
		fmt.Fprintf(&text, "---\n# %s\n%s\n", name, rendered[name])
	}
	return text.String(), nil
}

func main() {
	var text string
	err := fmt.Errorf("usage: manifests kustomize DIRECTORY | manifests helm CHART [VALUES.yaml ...]")
	if len(os.Args) == 3 && os.Args[1] == "kustomize" {
		text, err = kustomize(os.Args[2])
	} else if len(os.Args) >= 3 && os.Args[1] == "helm" {
		text, err = helm(os.Args[2], os.Args[3:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(text)
}

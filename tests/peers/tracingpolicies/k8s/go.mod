module github.com/cilium/tetragon/pkg/k8s

go 1.26.0

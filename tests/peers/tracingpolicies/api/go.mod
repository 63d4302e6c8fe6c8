module github.com/cilium/tetragon/api

go 1.26.0

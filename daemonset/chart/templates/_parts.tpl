{{- define "reeve.labels" -}}
app.kubernetes.io/name: reeve
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "reeve.image" -}}
{{- $probes := ternary "-ebpf" "" .Values.components.ebpf.enabled -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default (print .Chart.AppVersion $probes) }}
{{- end }}

{{- /* The fragments of the configuration, by file name. */ -}}
{{- define "reeve.fragments" -}}
{{- $names := list "10-agent.yaml" -}}
{{- with .Values.components -}}
{{- if .ebpf.enabled }}{{ $names = append $names "20-ebpf.yaml" }}{{ end -}}
{{- if and .ebpf.enabled .ebpf.plaintext }}{{ $names = append $names "30-plaintext.yaml" }}{{ end -}}
{{- if and .tetragon.enabled .tetragon.tracingPolicies.enabled }}{{ $names = append $names "30-tracing-policies.yaml" }}{{ end -}}
{{- range $name := list "tetragon" "hubble" "openreports" "alertmanager" -}}
{{- if (get $.Values.components $name).enabled }}{{ $names = append $names (printf "20-%s.yaml" $name) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- range $index, $name := $names }}
{{- if $index }}
{{ end }}{{ $name }}: |
{{ $.Files.Get (printf "files/config/%s" $name) | trimSuffix "\n" | indent 2 }}
{{- end }}
{{- $tetragon := .Values.components.tetragon }}
{{- $isElsewhere := and $tetragon.enabled (ne $tetragon.namespace "kube-system") }}
{{- if or $isElsewhere (ne .Release.Namespace "reeve-system") }}
40-chart.yaml: |
  apiVersion: reeve.dev/v1alpha1
  kind: AgentConfig
  sources:
    containerlogs:
      exclude_namespaces: [{{ .Release.Namespace }}]
    {{- if $isElsewhere }}
    tetragon:
      metrics_url: http://reeve-tetragon-metrics.{{ $tetragon.namespace }}.svc:2112/metrics
    {{- end }}
{{- end }}
{{- with .Values.config }}
50-values.yaml: |
{{ merge (dict "apiVersion" "reeve.dev/v1alpha1" "kind" "AgentConfig") . | toYaml | indent 2 }}
{{- end }}
{{- end }}

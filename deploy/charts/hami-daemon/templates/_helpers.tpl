{{/* Names and labels are those of Koordinator's hami-daemon 0.2.0: a DaemonSet's selector can't
change, and `helm upgrade` from that chart has to work. */}}
{{- define "hami-daemon.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "hami-daemon.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "hami-daemon.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "hami-daemon.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The full name with a suffix, of 63 characters at most and with the suffix whole:
(list $ "vgpu-node") */}}
{{- define "hami-daemon.suffixed" -}}
{{- $suffix := index . 1 }}
{{- $room := sub 62 (len $suffix) | int }}
{{- printf "%s-%s" (include "hami-daemon.fullname" (index . 0) | trunc $room | trimSuffix "-") $suffix }}
{{- end }}

{{- define "hami-daemon.namespace" -}}
{{ .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{/* Name and namespace of an object that may be in another namespace than the pods, where releases
of one name in two namespaces would meet: (list $ name namespace) */}}
{{- define "hami-daemon.placed" -}}
{{- $own := include "hami-daemon.namespace" (index . 0) }}
{{- $namespace := index . 2 | default $own -}}
name: {{ ternary (index . 1) (printf "%s-%s" (index . 1) $own) (eq $namespace $own) | quote }}
namespace: {{ $namespace | quote }}
{{- end }}

{{/* Of what the chart makes beside the account, whatever the account is called. */}}
{{- define "hami-daemon.monitorName" -}}
{{ include "hami-daemon.fullname" . }}-vgpu-monitor
{{- end }}

{{- define "hami-daemon.serviceAccountName" -}}
{{- with .Values.daemon.serviceAccount }}
{{- .name | default (ternary (include "hami-daemon.monitorName" $) "default" .create) }}
{{- end }}
{{- end }}

{{/* Of objects without a namespace: releases of one name in two namespaces have two. */}}
{{- define "hami-daemon.clusterName" -}}
{{ include "hami-daemon.monitorName" . }}:{{ include "hami-daemon.namespace" . }}
{{- end }}

{{- define "hami-daemon.selectorLabels" -}}
koord-app: hami-daemon
app.kubernetes.io/name: {{ include "hami-daemon.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "hami-daemon.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "hami-daemon.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* "true" where the API server has the kind: (list $ "PodMonitor") */}}
{{- define "hami-daemon.hasOperator" -}}
{{- $root := index . 0 }}
{{- if or $root.Values.assumePrometheusOperator ($root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" (index . 1))) }}true{{ end }}
{{- end }}

{{/* Every template starts with this. `helm upgrade --reuse-values` brings the values of the chart
that was installed before, without those that this one added: they get their defaults. A map or a
list that was removed with null stays removed, where nothing needs it. */}}
{{- define "hami-daemon.prepare" -}}
{{- $defaults := .Files.Get "files/values.yaml" | fromYaml }}
{{- $daemon := $defaults.daemon }}
{{- $_ := unset $daemon "affinity" }}
{{- $_ := unset $daemon "tolerations" }}
{{- $_ := unset $daemon.hamiCore "containerSecurityContext" }}
{{- $_ := unset $daemon.hamiCore "resources" }}
{{- if hasKey (get (.Values.daemon | default dict) "vgpuMonitor" | default dict) "feedback" }}
{{- /* The values are this chart's own. */}}
{{- $_ := unset $daemon.vgpuMonitor "resources" }}
{{- $_ := unset $daemon "updateStrategy" }}
{{- $_ := unset $defaults.dashboards "labels" }}
{{- end }}
{{- include "hami-daemon.fill" (list .Values $defaults) }}
{{- end }}

{{- define "hami-daemon.fill" -}}
{{- $values := index . 0 }}
{{- range $key, $default := index . 1 }}
{{- if or (not (hasKey $values $key)) (kindIs "invalid" (get $values $key)) }}
{{- $_ := set $values $key $default }}
{{- else if and (kindIs "map" $default) (kindIs "map" (get $values $key)) }}
{{- include "hami-daemon.fill" (list (get $values $key) $default) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The keys, a line each, that Koordinator's chart took and that have no effect here. One that
differs in a letter or in its letters' order from a key that has is taken for a misspelling. */}}
{{- define "hami-daemon.unknownValues" -}}
{{- $defaults := .Files.Get "files/values.yaml" | fromYaml }}
{{- $free := dict "daemon.vgpuMonitor" (list "type") }}
{{- range $section := list "" "daemon" "daemon.hamiCore" "daemon.hamiCore.image" "daemon.vgpuMonitor" "daemon.vgpuMonitor.image" "daemon.vgpuMonitor.env" }}
{{- $known := $defaults }}
{{- $given := $.Values }}
{{- range splitList "." $section }}
{{- if . }}
{{- $known = get $known . }}
{{- $given = get $given . }}
{{- end }}
{{- end }}
{{- range $key, $_ := $given }}
{{- if not (or (hasKey $known $key) (has $key (get $free $section | default list))) }}
{{- $path := trimPrefix "." (printf "%s.%s" $section $key) }}
{{- range $meant, $_ := $known }}
{{- if include "hami-daemon.alike" (list $key $meant) }}
{{- fail (printf "unknown value %s: did you mean %s?" $path (trimPrefix "." (printf "%s.%s" $section $meant))) }}
{{- end }}
{{- end }}
{{ $path }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* "true" for words of the same letters, or where one letter is too many, missing or wrong. */}}
{{- define "hami-daemon.alike" -}}
{{- $one := index . 0 | lower }}
{{- $other := index . 1 | lower }}
{{- if eq (splitList "" $one | sortAlpha | join "") (splitList "" $other | sortAlpha | join "") }}true
{{- else if le (int (sub (max (len $one) (len $other)) (min (len $one) (len $other)))) 1 }}
{{- $without := list $one }}
{{- range $at := until (len $one) }}
{{- $without = append $without (printf "%s%s" (trunc $at $one) (substr (int (add1 $at)) (len $one) $one)) }}
{{- end }}
{{- $found := has $other $without }}
{{- range $at := until (len $other) }}
{{- $found = or $found (has (printf "%s%s" (trunc $at $other) (substr (int (add1 $at)) (len $other) $other)) $without) }}
{{- end }}
{{- if $found }}true{{ end }}
{{- end }}
{{- end }}

{{/* A container's securityContext with what the user adds to it: (dict "own" … "added" …) */}}
{{- define "hami-daemon.securityContext" -}}
{{- $context := mergeOverwrite (deepCopy .own) (deepCopy .added) }}
{{- if and $context.privileged (not (hasKey .added "allowPrivilegeEscalation")) }}
{{- /* The API server refuses one without the other. */}}
{{- $_ := set $context "allowPrivilegeEscalation" true }}
{{- end }}
{{- toYaml $context }}
{{- end }}

{{/* "true" where a container with this securityContext has SYS_ADMIN. */}}
{{- define "hami-daemon.isAdmin" -}}
{{- $added := dig "capabilities" "add" list . }}
{{- if or .privileged (has "SYS_ADMIN" $added) (has "CAP_SYS_ADMIN" $added) (has "ALL" $added) }}true{{ end }}
{{- end }}

{{/* An image, from global.imageRegistry where that is set: (list $ repository tag) */}}
{{- define "hami-daemon.image" -}}
{{- $repository := index . 1 }}
{{- with (index . 0).Values.global.imageRegistry }}
{{- $parts := splitList "/" $repository }}
{{- if and (gt (len $parts) 1) (or (regexMatch "[.:]" (first $parts)) (eq (first $parts) "localhost")) }}
{{- $parts = rest $parts }}
{{- end }}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (join "/" $parts) }}
{{- end }}
{{- printf "%s:%v" $repository (index . 2) }}
{{- end }}

{{- define "hami-daemon.hamiCoreImage" -}}
{{- $core := .Values.daemon.hamiCore }}
{{- include "hami-daemon.image" (list . $core.image.repository ($core.image.tag | default $core.libvgpuSoVersion)) }}
{{- end }}

{{- define "hami-daemon.monitorImage" -}}
{{- $image := .Values.daemon.vgpuMonitor.image }}
{{- /* Only a real API server, not `helm template`, names its kinds. */}}
{{- if and (not (or $image.repository .Values.global.imageRegistry)) (.Capabilities.APIVersions.Has "apps/v1/DaemonSet") }}
{{- fail "daemon.vgpuMonitor.image.repository is not set. The image of vgpumonitor is not published yet: build it (docker build -t REGISTRY/vgpumonitor:VERSION .), push it where the nodes can pull it, and give --set daemon.vgpuMonitor.image.repository=REGISTRY/vgpumonitor" }}
{{- end }}
{{- include "hami-daemon.image" (list . ($image.repository | default "vgpumonitor") ($image.tag | default .Chart.AppVersion)) }}
{{- end }}

{{/* A regular expression for the names that Prometheus gives the release's jobs. */}}
{{- define "hami-daemon.jobs" -}}
{{- if .Values.prometheusRule.jobs }}
{{- .Values.prometheusRule.jobs }}
{{- else }}
{{- $name := include "hami-daemon.fullname" . }}
{{- $labels := include "hami-daemon.labels" . | fromYaml }}
{{- $jobs := list }}
{{- if .Values.serviceMonitor.enabled }}
{{- $jobs = append $jobs (get $labels .Values.serviceMonitor.jobLabel | default $name) }}
{{- end }}
{{- if .Values.podMonitor.enabled }}
{{- $labels := merge (include "hami-daemon.selectorLabels" . | fromYaml) .Values.daemon.podLabels }}
{{- $placed := include "hami-daemon.placed" (list . $name .Values.podMonitor.namespace) | fromYaml }}
{{- $jobs = append $jobs (get $labels .Values.podMonitor.jobLabel | default (printf "%s/%s" $placed.namespace $placed.name)) }}
{{- end }}
{{- $jobs | default (list $name) | uniq | join "|" }}
{{- end }}
{{- end }}

{{/* An endpoint of a ServiceMonitor or a PodMonitor, from its section of the values. The exporter's
namespace, pod and container are the workload's: rules need them kept. Its target's node stands in
for the node's name while NVML does not answer. */}}
{{- define "hami-daemon.endpoint" -}}
{{- $node := dict "sourceLabels" (list "__meta_kubernetes_pod_node_name") "targetLabel" "node" }}
{{- $more := deepCopy .endpoint }}
{{- $endpoint := dict "port" "metrics" "path" "/metrics" "honorLabels" .honorLabels "interval" .interval }}
{{- $_ := set $endpoint "relabelings" (concat (list $node) (.relabelings | default list) (get $more "relabelings" | default list)) }}
{{- with concat (.metricRelabelings | default list) (get $more "metricRelabelings" | default list) }}
{{- $_ := set $endpoint "metricRelabelings" . }}
{{- end }}
{{- with .scrapeTimeout }}
{{- $_ := set $endpoint "scrapeTimeout" . }}
{{- end }}
{{- merge (omit $more "relabelings" "metricRelabelings") $endpoint | toYaml }}
{{- end }}

{{/* "true" where the notes look at the cluster: where whoever installs may not read an object, helm
ends with an error, and nothing can ask before. One without rights in the whole cluster can't make
the ClusterRole either. */}}
{{- define "hami-daemon.looks" -}}
{{- if and .Values.notes.lookup .Values.rbac.create }}true{{ end }}
{{- end }}

{{/* An object of the cluster as YAML, for the notes. An error names this template, so that it says
what to do. */}}
{{- define "hami-daemon.found (notes.lookup=false does without)" -}}
{{- $root := index . 0 }}
{{- if include "hami-daemon.looks" $root }}
{{- lookup (index . 1) (index . 2) (index . 3) (index . 4) | toYaml }}
{{- end }}
{{- end }}

{{/* The command lines of the containers of a workload of Koordinator's; empty where there is none:
(list $ "DaemonSet" "koordlet") */}}
{{- define "hami-daemon.commandLines" -}}
{{- $workload := include "hami-daemon.found (notes.lookup=false does without)" (list (index . 0) "apps/v1" (index . 1) "koordinator-system" (index . 2)) | fromYaml }}
{{- range dig "spec" "template" "spec" "containers" list $workload }}
{{ concat (.command | default list) (.args | default list) | join " " }}
{{- end }}
{{- end }}

{{/* "true" where command lines switch an alpha feature gate of Koordinator's on, itself or through
AllAlpha: (list $lines "GPUEnvInject"). What is said of a gate last holds, and goes before what is
said of all. */}}
{{- define "hami-daemon.hasGate" -}}
{{- $said := regexFindAll (printf "\\b%s=\\w+" (index . 1)) (index . 0) -1 | default (regexFindAll "\\bAllAlpha=\\w+" (index . 0) -1) }}
{{- if regexMatch "=(1|t|T|true|True|TRUE)$" ($said | join " ") }}true{{ end }}
{{- end }}

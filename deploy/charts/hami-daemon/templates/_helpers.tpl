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

{{- define "hami-daemon.serviceAccountName" -}}
{{ include "hami-daemon.fullname" . }}-vgpu-monitor
{{- end }}

{{- define "hami-daemon.selectorLabels" -}}
koord-app: hami-daemon
app.kubernetes.io/name: {{ include "hami-daemon.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "hami-daemon.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "hami-daemon.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* "true" where the API server has the kind: (list $ "monitoring.coreos.com/v1/PodMonitor") */}}
{{- define "hami-daemon.has" -}}
{{- if (index . 0).Capabilities.APIVersions.Has (index . 1) }}true{{ end }}
{{- end }}
